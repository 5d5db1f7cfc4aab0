"""Whether a run looks where the annotated things are: the pointing game, and attention inside the boxes.

Legend: N stored frames, F frames with a box, M blocks, T time-steps, L locations, V videos.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from attnrec.data.blocks import BlockTable, stored_rate
from attnrec.data.boxes import BoxTable, boxes_at, boxes_of, cell_coverage, read_boxes, require_inside
from attnrec.data.geometry import seen_region
from attnrec.data.store import FeatureStore
from attnrec.data.video import probe
from attnrec.errors import DataError
from attnrec.faithfulness import centre_prior, mass_inside, pointing_hits

# The mass of uniform attention is the share of the frame's area.
FIGURES = ("pointing", "mass", "pointing_uniform", "mass_uniform", "pointing_centre", "mass_centre")


class Targets(NamedTuple):
    """Where the annotated things are.

    Attributes:
        row: Row of each stored frame in `coverage`, -1 where it has no box, shape (N,).
        coverage: Share of each cell that its frame's boxes cover, shape (F, L).
        unknown: Annotated videos that are not in the store.
    """

    row: NDArray[np.int64]
    coverage: NDArray[np.float32]
    unknown: list[str]


def read_targets(path: Path, store: FeatureStore, videos: NDArray[np.int64]) -> Targets:
    """Annotated frames of some videos of a store, as the network saw them.

    Args:
        path: A file of boxes, see `data.boxes.read_boxes`.
        store: The store.
        videos: Indices of the videos, shape (V,).

    Raises:
        DataError: The file is malformed, names no video of the store, or has no box in a frame of these videos.
        VideoError: A video whose size is needed cannot be opened.
    """
    paths = [store.path_of(video) for video in range(len(store.videos))]
    table, unknown = boxes_of(read_boxes(path), paths, store.videos_dir)
    row = np.full(len(store.pts), -1, np.int64)
    coverage: list[NDArray[np.float32]] = []
    for video in videos:
        if store.path_of(video) in table.videos:
            for frame, cells in _targets_of(table, store, int(video)).items():
                row[store.videos.first_frame[video] + frame] = len(coverage)
                coverage.append(cells)
    if not coverage:
        raise DataError(f"{path}: no box in a frame of the {len(videos)} videos of this part")
    return Targets(row, np.stack(coverage), unknown)


def _targets_of(table: BoxTable, store: FeatureStore, video: int) -> dict[int, NDArray[np.float32]]:
    """Coverage of the cells in each annotated frame of a video; frames whose boxes the network did not see are out."""
    path, pts, fps = store.path_of(video), store.pts_of(video), float(store.videos.effective_fps[video])
    if not table.by_seconds and store.videos.is_variable_rate[video]:
        raise DataError(f"{table.path}: {path} is of variable rate, numbers of frames tell no time; give `seconds`")
    info = probe(Path(store.videos_dir) / path)
    require_inside(table, path, info.width, info.height)
    seen = seen_region(info.width, info.height, store.spec.resize)
    found = boxes_at(table, path, pts, fps, 0.5 / min(fps, stored_rate(pts)))
    covered = {frame: cell_coverage(boxes, seen, store.spec.grid_size) for frame, boxes in found.items()}
    return {frame: cells for frame, cells in covered.items() if cells.any()}


def block_sums(attention: NDArray[np.float32], frames: NDArray[np.int64], targets: Targets) -> NDArray[np.float64]:
    """Hits and mass of the learned attention in blocks, and of two that know nothing of the frame.

    Args:
        attention: Location probabilities, shape (M, T, L).
        frames: Stored frame of each step, shape (M, T).
        targets: Of the stored frames.

    Returns:
        Sums over the annotated steps of a block, shape (M, 7): their number, then hits and mass as in `FIGURES`.
    """
    rows = targets.row[frames]
    block, step = np.nonzero(rows >= 0)
    coverage, learned = targets.coverage[rows[block, step]], attention[block, step]
    L = coverage.shape[1]
    values = [np.ones(len(block))]
    for maps in (learned, np.full((1, L), 1 / L), centre_prior(round(L**0.5))[None]):
        values += [pointing_hits(maps, coverage), mass_inside(maps, coverage)]
    return np.stack([np.bincount(block, value, len(frames)) for value in values], axis=1)


class Localization(NamedTuple):
    """Figures of the videos that have boxes.

    Attributes:
        videos: Their indices, shape (V,).
        num_frames: Annotated frames among those that the blocks show.
        figures: Of each video by their names in `FIGURES`, each shape (V,).
    """

    videos: NDArray[np.int64]
    num_frames: int
    figures: dict[str, NDArray[np.float64]]


def localization(sums: NDArray[np.float64], table: BlockTable, targets: Targets) -> Localization:
    """The pointing game and the mass in the boxes, means over the annotated steps of each video.

    Args:
        sums: `block_sums` of all blocks, shape (M, 7).
        table: The blocks.
        targets: Of the stored frames.

    Raises:
        DataError: No annotated frame is in a block.
    """
    boxed = sums[:, 0] > 0
    if not boxed.any():
        raise DataError("no annotated frame is in a block; lower --stride")
    videos, owner = np.unique(table.video[boxed], return_inverse=True)
    number, *totals = (np.bincount(owner, column) for column in sums[boxed].T)
    num_frames = int((targets.row[np.unique(table.frames)] >= 0).sum())
    return Localization(videos, num_frames, {name: total / number for name, total in zip(FIGURES, totals, strict=True)})
