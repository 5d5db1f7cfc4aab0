"""Whether a run looks where the annotated things are: the pointing game, and attention inside the boxes.

Legend: N stored frames, F frames with a box, M blocks, T time-steps, L locations, V videos.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from attnrec.errors import DataError, VideoError
from attnrec.evaluation.measures import BOX_FIGURES, centre_prior, mass_inside, most_frequent_cell, pointing_hits
from attnrec.features.blocks import BlockTable, stored_rate
from attnrec.features.boxes import BoxTable, Clip, boxes_at, boxes_of, cell_coverage, placed_boxes, read_boxes
from attnrec.features.store import FeatureStore
from attnrec.features.stored_boxes import StoredBoxes
from attnrec.video.decode import probe, seen_region


class Targets(NamedTuple):
    """Where the annotated things are.

    Attributes:
        row: Row of each stored frame in `coverage`, -1 where it has no box, shape (N,).
        coverage: Share of each cell that its frame's boxes cover, shape (F, L).
        frequent: All attention on the cell that boxes of training videos touch most often, shape (L,); None where no
            training video has a box.
        unknown: Annotated videos that are not in the store.
    """

    row: NDArray[np.int64]
    coverage: NDArray[np.float32]
    frequent: NDArray[np.float64] | None
    unknown: list[str]


def read_targets(
    path: Path, store: FeatureStore, videos: NDArray[np.int64], training: NDArray[np.int64] | None = None
) -> Targets:
    """Annotated frames of some videos of a store, as the network saw them.

    Args:
        path: A file of boxes, see `features.boxes.read_boxes`.
        store: The store.
        videos: Indices of the videos, shape (V,).
        training: Of the videos that were trained on; those that cannot be opened any more, or whose boxes are of no
            use, are passed over.

    Raises:
        DataError: The file is malformed, names no video of the store, or has no box in a frame of these videos.
        VideoError: A video whose size is needed cannot be opened.
    """
    paths = [store.path_of(video) for video in range(len(store.videos))]
    table, unknown = boxes_of(read_boxes(path), paths, store.videos_dir)
    sizes = _Sizes(store)
    boxes = placed_boxes(table, _clips(store, videos), len(paths), sizes.of)
    found = _covered(boxes, store, videos)
    if not found:
        raise DataError(f"{path}: no box in a frame of the {len(videos)} videos of this part")
    others = [clip for clip in _clips(store, [] if training is None else training) if sizes.serve(clip, table)]
    trained = placed_boxes(table, others, len(paths), sizes.of)
    return _targets(found, _covered(trained, store, [clip.video for clip in others]), store, unknown)


def stored_targets(
    store: FeatureStore, videos: NDArray[np.int64], training: NDArray[np.int64] | None = None
) -> Targets | None:
    """As `read_targets`, from the boxes in the store itself; None where it has none in a frame of these videos."""
    if store.boxes is None or not (found := _covered(store.boxes, store, videos)):
        return None
    trained = _covered(store.boxes, store, [] if training is None else training)
    return _targets(found, trained, store, [])


class _Sizes:
    """Sizes of displayed videos: those that the store knows, and for the others what the files say."""

    def __init__(self, store: FeatureStore) -> None:
        self._store = store
        self._known: dict[int, tuple[int, int]] = {}

    def of(self, clip: Clip) -> tuple[int, int]:
        if clip.video not in self._known:
            stored = self._store.boxes.size_of(clip.video) if self._store.boxes is not None else None
            self._known[clip.video] = stored or self._probed(clip)
        return self._known[clip.video]

    def serve(self, clip: Clip, table: BoxTable) -> bool:
        """Whether a video has boxes that lie in it; of one that is not scored, this is nothing to stop for."""
        try:
            return len(placed_boxes(table, [clip], len(self._store.videos), self.of)) > 0
        except (VideoError, DataError):
            return False

    def _probed(self, clip: Clip) -> tuple[int, int]:
        info = probe(Path(self._store.videos_dir) / clip.path)
        return info.width, info.height


def _clips(store: FeatureStore, videos: Sequence[int] | NDArray[np.int64]) -> list[Clip]:
    columns = store.videos
    return [
        Clip(int(i), store.path_of(i), float(columns.effective_fps[i]), bool(columns.is_variable_rate[i]))
        for i in videos
    ]


Covered = dict[int, NDArray[np.float32]]  # share of the cells (L,) that boxes cover, by stored frame


def _covered(boxes: StoredBoxes, store: FeatureStore, videos: Sequence[int] | NDArray[np.int64]) -> Covered:
    """Coverage of the cells in the annotated frames of videos; frames whose boxes the network did not see are out."""
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
    return Targets(row, np.stack(list(found.values())), frequent, unknown)


def block_sums(attention: NDArray[np.float32], frames: NDArray[np.int64], targets: Targets) -> NDArray[np.float64]:
    """Hits and mass of the learned attention in blocks, and of others that know nothing of the frame.

    Args:
        attention: Location probabilities, shape (M, T, L).
        frames: Stored frame of each step, shape (M, T).
        targets: Of the stored frames.

    Returns:
        Sums over the annotated steps of a block, shape (M, 9), or (M, 7) without a most frequent cell: their number,
        then hits and mass as in `BOX_FIGURES`.
    """
    rows = targets.row[frames]
    block, step = np.nonzero(rows >= 0)
    coverage, learned = targets.coverage[rows[block, step]], attention[block, step]
    L = coverage.shape[1]
    others = [np.full(L, 1 / L), centre_prior(round(L**0.5)), *([] if targets.frequent is None else [targets.frequent])]
    values = [np.ones(len(block))]
    for maps in (learned, *(other[None] for other in others)):
        values += [pointing_hits(maps, coverage), mass_inside(maps, coverage)]
    return np.stack([np.bincount(block, value, len(frames)) for value in values], axis=1)


class Localization(NamedTuple):
    """Figures of the videos that have boxes.

    Attributes:
        videos: Their indices, shape (V,).
        num_frames: Annotated frames among those that the blocks show.
        figures: Of each video by their names in `BOX_FIGURES`, each shape (V,).
    """

    videos: NDArray[np.int64]
    num_frames: int
    figures: dict[str, NDArray[np.float64]]


def localization(sums: NDArray[np.float64], table: BlockTable, targets: Targets) -> Localization:
    """The pointing game and the mass in the boxes, means over the annotated steps of each video.

    Args:
        sums: `block_sums` of all blocks.
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
    return Localization(
        videos, num_frames, {name: total / number for name, total in zip(BOX_FIGURES, totals, strict=False)}
    )
