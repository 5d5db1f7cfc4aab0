"""Whether a run looks at annotated boxes: the pointing game, and the attention mass inside the boxes.

Legend: N stored frames, F frames with a box, M blocks, T time-steps, L locations, V videos.
"""

import contextlib
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from attnrec.errors import DataError, VideoError
from attnrec.evaluation.measures import centre_prior, mass_inside, most_frequent_cell, pointing_hits
from attnrec.evaluation.on_frame import on_frame
from attnrec.features.blocks import stored_rate
from attnrec.features.boxes import Clip, boxes_at, boxes_of, cell_coverage, displayed_size, placed_boxes, read_boxes
from attnrec.features.store import FeatureStore
from attnrec.features.stored_boxes import StoredBoxes
from attnrec.specs import LayerGrid
from attnrec.video.decode import seen_region


class Targets(NamedTuple):
    """The annotated boxes of stored frames, as shares of grid cells."""

    row: NDArray[np.int64]  # row of each stored frame in `coverage`, -1 without a box, shape (N,)
    coverage: NDArray[np.float32]  # share of each cell that its frame's boxes cover, shape (F, L)
    # Attention on only the cell that training videos' boxes touch most often, shape (L,); None if none has a box.
    frequent: NDArray[np.float64] | None
    unknown: list[str]  # annotated videos that the store lacks
    grids: tuple[LayerGrid, ...]  # layers whose attention is asked for; cells are those of the finest grid


def read_targets(
    path: Path, store: FeatureStore, videos: NDArray[np.int64], training: NDArray[np.int64] | None = None
) -> Targets:
    """Read the boxes of a file for some videos of a store, as far as the network saw them.

    Args:
        path: A file of boxes, see `features.boxes.read_boxes`.
        store: The feature store.
        videos: Indices of the videos, shape (V,).
        training: Indices of the training videos; those that can no longer be opened, or whose boxes are unusable, are
            ignored.

    Raises:
        DataError: The file is malformed, names no video of the store, or has no box in a frame of these videos.
        VideoError: A video whose size is needed cannot be opened.
    """
    paths = [store.path_of(video) for video in range(len(store.videos))]
    table, unknown = boxes_of(read_boxes(path), paths, store.videos_dir)

    @functools.cache
    def size_of(clip: Clip) -> tuple[int, int]:
        known = store.boxes.size_of(clip.video) if store.boxes is not None else None
        return known or displayed_size(Path(store.videos_dir) / clip.path)

    def covered(clips: Sequence[Clip]) -> Covered:
        return _covered(placed_boxes(table, clips, len(paths), size_of), store, [clip.video for clip in clips])

    found = covered(_clips(store, videos))
    if not found:
        raise DataError(f"{path}: no box in a frame of the {len(videos)} videos of this part")
    trained: Covered = {}
    for clip in _clips(store, [] if training is None else training):
        with contextlib.suppress(VideoError, DataError):  # a training video is not scored, so its errors do not matter
            trained |= covered([clip])
    return _targets(found, trained, store, unknown)


def stored_targets(
    store: FeatureStore, videos: NDArray[np.int64], training: NDArray[np.int64] | None = None
) -> Targets | None:
    """Like `read_targets`, from the boxes in the store; None if it has none in a frame of these videos."""
    if store.boxes is None or not (found := _covered(store.boxes, store, videos)):
        return None
    trained = _covered(store.boxes, store, [] if training is None else training)
    return _targets(found, trained, store, [])


def _clips(store: FeatureStore, videos: Sequence[int] | NDArray[np.int64]) -> list[Clip]:
    columns = store.videos
    return [
        Clip(int(i), store.path_of(i), float(columns.effective_fps[i]), bool(columns.is_variable_rate[i]))
        for i in videos
    ]


Covered = dict[int, NDArray[np.float32]]  # share of each cell (L,) that boxes cover, by stored frame


def _covered(boxes: StoredBoxes, store: FeatureStore, videos: Sequence[int] | NDArray[np.int64]) -> Covered:
    """Coverage of the cells in the annotated frames of videos, without frames whose boxes the network did not see."""
    covered: Covered = {}
    for video in videos:
        size, pts = boxes.size_of(video), store.pts_of(video)
        if size is None or not (times := boxes.by_time(video)):
            continue
        seen = seen_region(*size, store.spec.resize)
        tolerance = 0.5 / min(float(store.videos.effective_fps[video]), stored_rate(pts))
        for frame, regions in boxes_at(times, pts, tolerance).items():
            cells = cell_coverage(regions, seen, store.spec.grid_size)
            if cells.any():
                covered[int(store.videos.first_frame[video]) + frame] = cells
    return covered


def _targets(found: Covered, trained: Covered, store: FeatureStore, unknown: list[str]) -> Targets:
    row = np.full(len(store.pts), -1, np.int64)
    row[list(found)] = np.arange(len(found))
    frequent = most_frequent_cell(np.stack(list(trained.values()))) if trained else None
    return Targets(row, np.stack(list(found.values())), frequent, unknown, store.spec.grids)


def block_sums(
    attention: NDArray[np.float32], frames: NDArray[np.int64], targets: Targets
) -> dict[str, NDArray[np.float64]]:
    """Sum hits and mass of the learned attention over blocks, and those of baselines that ignore the frame.

    Args:
        attention: Location probabilities, shape (M, T, locations of all layers).
        frames: Stored frame of each step, shape (M, T).
        targets: Boxes of the stored frames.

    Returns:
        Sums over the annotated steps of each block, shape (M,), by the names of `BOX_FIGURES`, and the number of these
        steps as `steps`.
    """
    rows = targets.row[frames]
    block, step = np.nonzero(rows >= 0)
    coverage, L = targets.coverage[rows[block, step]], targets.coverage.shape[1]
    maps = {
        "": on_frame(attention[block, step], targets.grids),
        "_uniform": np.full((1, L), 1 / L),
        "_centre": centre_prior(round(L**0.5))[None],
    }
    if targets.frequent is not None:
        maps["_frequent"] = targets.frequent[None]
    values = {"steps": np.ones(len(block))}
    for of, each in maps.items():
        values |= {f"pointing{of}": pointing_hits(each, coverage), f"mass{of}": mass_inside(each, coverage)}
    return {name: np.bincount(block, value, len(frames)).astype(np.float64) for name, value in values.items()}


def localization(sums: Mapping[str, NDArray[np.float64]], owner: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
    """Mean pointing hits and mass in the boxes over the annotated steps of each video.

    Args:
        sums: `block_sums` of all blocks.
        owner: Video of each block, shape (M,).

    Returns:
        Figures by the names of `BOX_FIGURES`, shape (V,), in the order of the videos' indices; NaN without a box.

    Raises:
        DataError: No annotated frame is in a block.
    """
    place = np.unique(owner, return_inverse=True)[1]
    totals = {name: np.bincount(place, column).astype(np.float64) for name, column in sums.items()}
    steps = totals.pop("steps")
    if not steps.any():
        raise DataError("no annotated frame is in a block; lower --stride")
    with np.errstate(invalid="ignore"):
        return {name: total / steps for name, total in totals.items()}
