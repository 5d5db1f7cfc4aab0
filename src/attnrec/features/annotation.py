"""The boxes that `extract` puts into a store: from a CSV file, or from J-HMDB's puppet masks."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from attnrec.datasets.dataset import Dataset, Findings, Problem, VideoEntry, found_problems
from attnrec.errors import DataError
from attnrec.features.boxes import Box, BoxTable, Clip, boxes_of, displayed_size, placed_boxes, read_boxes
from attnrec.features.hdf5 import decoded
from attnrec.features.matlab import read_uint8_array
from attnrec.features.pack import VideoRow, times_of
from attnrec.features.parts import FeatureSource
from attnrec.features.store import FeatureStore
from attnrec.features.stored_boxes import Size, StoredBoxes

_BOXES_NAME, _MASK_NAME = "boxes.csv", "puppet_mask.mat"
_MASK_VARIABLE = "part_mask"


@dataclass(frozen=True)
class BoxSummary:
    """Summary of the boxes of a dataset."""

    source: str  # file or folder that the boxes come from
    num_videos: int  # videos with boxes
    num_boxes: int
    num_absent: int  # annotated videos that the dataset lacks
    problems: list[Problem]  # problems found in the annotation


class Mask(NamedTuple):
    """The shape of a video's mask."""

    size: Size  # width and height in px
    num_frames: int


@dataclass(frozen=True)
class Annotation:
    """The boxes of a dataset's videos, read before the videos are decoded."""

    table: BoxTable
    num_absent: int = 0  # annotated videos that the dataset lacks
    problems: Sequence[Problem] = ()  # problems found in the annotation
    masks: Mapping[str, Mask] | None = None  # masks that the boxes enclose, by video; None for boxes of a file
    is_found: bool = False  # whether the file was found, not named by the user, and so may be anything

    def summary(self) -> BoxSummary:
        """Summarise the annotation."""
        videos = self.table.videos
        num_boxes = sum(map(len, videos.values()))
        return BoxSummary(str(self.table.path), len(videos), num_boxes, self.num_absent, list(self.problems))


def read_annotation(data: Dataset, boxes: str | None) -> Annotation | None:
    """Read the boxes of a dataset: from a given file, a `boxes.csv` in its folder, or its masks; None without any.

    Raises:
        DataError: The given file is malformed, or names no video of the dataset. For a file that was only found,
            this is a problem and not an error.
    """
    if boxes is not None:
        return _of_file(Path(boxes), data)
    found = data.root / _BOXES_NAME
    if found.is_file():
        try:
            return replace(_of_file(found, data), is_found=True)
        except DataError as error:
            return _unusable(found, error)
    return None if data.masks is None else read_masks(data.masks, data.entries)


def _of_file(path: Path, data: Dataset) -> Annotation:
    table, absent = boxes_of(read_boxes(path), [str(entry.path) for entry in data.entries], str(data.root))
    return Annotation(table, len(absent))


def _unusable(path: Path, error: DataError) -> Annotation:
    problem = Problem("boxes", "files of boxes that cannot be used, left out", 1, (str(error),))
    return Annotation(BoxTable(path, True, {}), problems=[problem])


def read_masks(folder: Path, entries: Iterable[VideoEntry]) -> Annotation:
    """Boxes around people, by frame number, from J-HMDB's masks in `<class>/<clip>/puppet_mask.mat`."""
    videos: dict[str, list[Box]] = {}
    masks: dict[str, Mask] = {}
    findings = Findings()
    for entry in entries:
        name = str(entry.path)
        path = folder / (entry.label or entry.path.parent.name) / entry.path.stem / _MASK_NAME
        if not path.is_file():
            findings.add("mask", "videos without a puppet mask", [name])
            continue
        try:
            mask = read_mask(path)
        except DataError as error:
            findings.add("mask", "puppet masks that cannot be used, left out", [str(error)])
            continue
        masks[name] = Mask((mask.shape[1], mask.shape[0]), mask.shape[2])
        if boxes := mask_boxes(mask):
            videos[name] = boxes
    return Annotation(BoxTable(folder, False, videos), problems=findings.problems(), masks=masks)


def read_mask(path: Path) -> NDArray[np.uint8]:
    """Read a video's mask, not 0 where the person is, shape (height, width, frames).

    Raises:
        DataError: The file cannot be read or holds no such mask.
    """
    mask = read_uint8_array(path, _MASK_VARIABLE)
    if mask.ndim > 3:
        raise DataError(f"{path}: {_MASK_VARIABLE} is of shape {mask.shape}, not height, width and frames")
    return mask.reshape(*mask.shape[:2], -1)  # MATLAB drops the last axis of a single frame


def mask_boxes(mask: NDArray[np.uint8]) -> list[Box]:
    """The box around the non-zero pixels of each frame, by frame number; frames of zeros have none.

    Args:
        mask: Mask of a video, shape (height, width, frames).
    """
    boxes = []
    for frame in range(mask.shape[2]):
        rows, columns = (np.flatnonzero(mask[:, :, frame].any(axis=axis)) for axis in (1, 0))
        if len(rows):
            corners = (float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1))
            boxes.append(Box(0, float(frame), corners))
    return boxes


def packed_boxes(
    annotation: Annotation,
    root: Path,
    rows: Sequence[VideoRow],
    sources: Sequence[FeatureSource],
    earlier: FeatureStore | None,
    jobs: int,
) -> tuple[StoredBoxes | None, BoxSummary]:
    """The boxes of the videos that go into a store, and a summary of them.

    Args:
        annotation: Annotation of the dataset.
        root: Folder of the videos.
        rows: The videos.
        sources: Where the features and times of each video are.
        earlier: The store that is replaced; videos whose size it knows need not be opened.
        jobs: Number of videos to open at once.

    Raises:
        DataError: In a file that the user named, a box lies outside its frame, or a box of a variable-rate video is
            given by frame number.
        VideoError: A video can no longer be opened.
    """
    clips = [
        Clip(video, row.path, source.summary.effective_fps, source.summary.is_variable_rate)
        for video, (row, source) in enumerate(zip(rows, sources, strict=True))
    ]
    known = _known_sizes(earlier)
    boxed = [clip for clip in clips if clip.path in annotation.table.videos]
    with ThreadPoolExecutor(jobs, thread_name_prefix="sizes") as pool:
        found = pool.map(
            lambda clip: known.get(rows[clip.video].fingerprint) or displayed_size(root / clip.path), boxed
        )
        sizes = dict(zip([clip.video for clip in boxed], found, strict=True))
    if annotation.masks is not None:
        annotation = _timed(annotation, annotation.masks, boxed, sources, sizes)
    try:
        boxes = placed_boxes(annotation.table, boxed, len(rows), lambda clip: sizes[clip.video])
    except DataError as error:
        if annotation.is_found:
            return None, _unusable(annotation.table.path, error).summary()
        raise
    summary = replace(annotation.summary(), num_videos=boxes.num_videos, num_boxes=len(boxes))
    return boxes if len(boxes) else None, summary


def _known_sizes(store: FeatureStore | None) -> dict[str, Size]:
    """Display sizes of the videos that a store has boxes of, by the fingerprint of their content."""
    if store is None or store.boxes is None:
        return {}
    sizes = ((decoded(content), store.boxes.size_of(i)) for i, content in enumerate(store.videos.fingerprint))
    return {content: size for content, size in sizes if size is not None}


def _timed(
    annotation: Annotation,
    masks: Mapping[str, Mask],
    clips: Sequence[Clip],
    sources: Sequence[FeatureSource],
    sizes: dict[int, Size],
) -> Annotation:
    """Turn the frame numbers of masks into times; masks that do not fit their video, or have no times, are problems."""
    videos, misfits, timeless = {}, [], []
    for clip in clips:
        size, num_frames = masks[clip.path]
        seconds = _seconds_of(clip, num_frames, sources[clip.video])
        if size != sizes[clip.video]:
            misfits.append(clip.path)
        elif seconds is None:
            timeless.append(clip.path)
        else:
            boxes = annotation.table.videos[clip.path]
            videos[clip.path] = [box._replace(when=seconds(int(box.when))) for box in boxes]
    problems = [
        *annotation.problems,
        *found_problems("mask", "masks of another shape than their video's, left out", misfits),
        *found_problems("mask", "masks that tell no time in a video of variable rate, left out", timeless),
    ]
    return replace(annotation, table=replace(annotation.table, by_seconds=True, videos=videos), problems=problems)


def _seconds_of(clip: Clip, num_frames: int, source: FeatureSource) -> Callable[[int], float] | None:
    """Function from masked frame to time: its stored time if all frames are stored, else by a constant frame rate."""
    if num_frames == source.num_frames:
        times = times_of(source)
        return lambda frame: float(times[frame])
    return None if clip.is_variable_rate else lambda frame: frame / clip.fps
