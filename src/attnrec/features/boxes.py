"""Boxes or points that users annotate in the frames of videos, and the grid cells that they cover."""

import math
import posixpath
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from attnrec.datasets.folders import Finder
from attnrec.datasets.lists import bad_line
from attnrec.datasets.tables import TableRow, read_table
from attnrec.errors import DataError
from attnrec.features.blocks import nearest_frames
from attnrec.features.stored_boxes import MOST_SECONDS, Size, StoredBoxes, stored_boxes
from attnrec.video.decode import Region, probe

_BOX, _POINT = ("x0", "y0", "x1", "y1"), ("x", "y")
_FINENESS = 32  # sample points along a cell's side: one per pixel for 7 x 7 cells over 224 px


class Box(NamedTuple):
    """A box or a point in a frame."""

    line: int  # line of the file
    when: float  # seconds from the video's first frame, or the frame's number from 0
    corners: Region  # x0, y0, x1, y1 in px of the displayed video, half-open; a point is a box without extent


@dataclass(frozen=True)
class BoxTable:
    """The boxes of a file, by video."""

    path: Path
    by_seconds: bool  # whether frames are given by time, not by number
    videos: Mapping[str, list[Box]]  # boxes by the video's path, as in the store, in order of time


def read_boxes(path: Path) -> BoxTable:
    """Read the boxes of a CSV file with the columns `path`, `seconds` or `frame`, and `x0,y0,x1,y1` or `x,y`.

    Paths are relative to the folder of the dataset. A frame may have several boxes.

    Raises:
        DataError: The file is malformed.
    """
    rows = read_table(path, ["path"])
    columns = rows[0].cells
    when = _one_of(path, columns, (("seconds",), ("frame",)))[0]
    place = _one_of(path, columns, (_BOX, _POINT))
    boxes = [(posixpath.normpath(row.cells["path"]), _box(path, row, when, place)) for row in rows]
    boxes.sort(key=lambda item: (item[0], item[1].when))
    videos = {name: [box for _, box in items] for name, items in groupby(boxes, key=lambda item: item[0])}
    return BoxTable(path, when == "seconds", videos)


class Clip(NamedTuple):
    """The properties of a stored video that placing boxes needs."""

    video: int  # index in the store
    path: str  # path in the store
    fps: float  # frame rate of the video, which turns frame numbers into times
    is_variable_rate: bool  # whether the frame intervals vary


def displayed_size(path: Path) -> Size:
    """Width and height of a displayed video in px, from its header. Raises VideoError if it cannot be opened."""
    info = probe(path)
    return info.width, info.height


def boxes_of(table: BoxTable, paths: Sequence[str], videos_dir: str) -> tuple[BoxTable, list[str]]:
    """The boxes of a dataset's videos, by their paths there, and the annotated videos that the dataset lacks.

    Args:
        table: Boxes of a file, which may have other videos as well.
        paths: Paths of the dataset's videos.
        videos_dir: Folder that the paths are relative to.

    Raises:
        DataError: None of the annotated videos is in the dataset.
    """
    finder = Finder([Path(path) for path in paths])
    known: dict[str, list[Box]] = {}
    unknown = []
    for name, boxes in table.videos.items():
        if (index := finder.find(name)) is None:
            unknown.append(name)
        else:
            known.setdefault(paths[index], []).extend(boxes)
    if not known:
        line, name = min((boxes[0].line, name) for name, boxes in table.videos.items())
        raise bad_line(table.path, line, f"no video {name!r} among the dataset's; paths are relative to {videos_dir}")
    videos = {name: sorted(boxes, key=lambda box: box.when) for name, boxes in known.items()}
    return replace(table, videos=videos), unknown


def boxes_of_clip(table: BoxTable, clip: Path) -> BoxTable | None:
    """The boxes of one clip, by its path as given here; None if it has none.

    A path in the file means the clip if the clip's path ends in it; suffixes and the encoding of accents may differ.

    Args:
        table: Boxes of a file, which may have other videos as well.
        clip: Path of a video, in any folder.
    """
    parts = Path(posixpath.normpath(clip.absolute())).parts
    finder = Finder([Path(*parts[start:]) for start in range(1, len(parts))])
    found = [box for name, boxes in table.videos.items() if finder.find(name) is not None for box in boxes]
    return replace(table, videos={str(clip): sorted(found, key=lambda box: box.when)}) if found else None


def _one_of(path: Path, columns: Mapping[str, str], choices: tuple[tuple[str, ...], ...]) -> tuple[str, ...]:
    found = [names for names in choices if all(name in columns for name in names)]
    if len(found) != 1:
        wanted = " or ".join(",".join(names) for names in choices)
        raise bad_line(path, 1, f"{'both' if found else 'no'} {wanted} among its columns; give one of them")
    return found[0]


def _box(path: Path, row: TableRow, when: str, place: tuple[str, ...]) -> Box:
    values = {name: _number(path, row, name) for name in (when, *place)}
    time, corners = values[when], [values[name] for name in place]
    if time < 0 or (when == "frame" and time != int(time)):
        raise bad_line(path, row.line, f"{when} {time:g} is no {'time' if when == 'seconds' else 'number'} of a frame")
    x0, y0, x1, y1 = corners if place == _BOX else corners * 2
    if place == _BOX and (x1 <= x0 or y1 <= y0):
        raise bad_line(
            path, row.line, f"the box {x0:g},{y0:g},{x1:g},{y1:g} has no area: x1 must be over x0, y1 over y0"
        )
    return Box(row.line, time, (x0, y0, x1, y1))


def _number(path: Path, row: TableRow, column: str) -> float:
    try:
        value = float(row.cells[column])
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise bad_line(path, row.line, f"{column} is not a number: {row.cells[column]!r}")
    return value


def require_inside(table: BoxTable, video: str, width: int, height: int) -> None:
    """Check that every box of a video overlaps its frame; boxes that stick out are cropped later.

    Raises:
        DataError: A box lies outside the frame.
    """
    for box in table.videos[video]:
        x0, y0, x1, y1 = box.corners
        if x0 >= width or y0 >= height or x1 < 0 or y1 < 0 or (x0 < x1 and (x1 == 0 or y1 == 0)):
            what = f"{x0:g},{y0:g}" + (f",{x1:g},{y1:g}" if x0 < x1 else "")
            raise bad_line(table.path, box.line, f"{what} is outside of {video}, which is {width} x {height} px")


def placed_boxes(
    table: BoxTable, clips: Iterable[Clip], num_videos: int, size_of: Callable[[Clip], Size]
) -> StoredBoxes:
    """Convert a file's boxes of some videos to those of a store: by the times of their frames, with the videos' sizes.

    Args:
        table: Boxes of a file, by the videos' paths in the store.
        clips: The videos; those without a box are ignored.
        num_videos: Number of videos in the store.
        size_of: Function that gives the width and height of a displayed video in px.

    Raises:
        DataError: A box lies outside its frame or beyond the end of any video, or a box of a variable-rate video is
            given by frame number.
    """
    boxes: list[tuple[int, float, Region]] = []
    sizes: dict[int, Size] = {}
    for clip in clips:
        if clip.path not in table.videos:
            continue
        if not table.by_seconds and clip.is_variable_rate:
            what = f"{clip.path} is of variable rate, numbers of frames tell no time; give `seconds`"
            raise DataError(f"{table.path}: {what}")
        sizes[clip.video] = size_of(clip)
        require_inside(table, clip.path, *sizes[clip.video])
        rate = 1.0 if table.by_seconds else clip.fps
        for box in table.videos[clip.path]:
            if box.when / rate > MOST_SECONDS:
                raise bad_line(table.path, box.line, f"{box.when:g} is beyond the end of any video")
            (x0, y0, x1, y1), (width, height) = box.corners, sizes[clip.video]
            inside = max(x0, 0.0), max(y0, 0.0), min(x1, float(width)), min(y1, float(height))
            boxes.append((clip.video, box.when / rate, inside))
    return stored_boxes(boxes, sizes, num_videos)


def boxes_at(
    times: Mapping[float, list[Region]], pts: NDArray[np.float64], tolerance: float
) -> dict[int, list[Region]]:
    """The boxes of each annotated frame of a video.

    Args:
        times: Corners of a video's boxes by the time of their frame in seconds; at least one time.
        pts: Times of the video's stored frames in seconds, rising, shape (N,).
        tolerance: Largest distance in seconds between an annotation and its frame.

    Returns:
        For each stored frame with an annotation within the tolerance, the corners of all boxes at the nearest time.
    """
    known = np.array(list(times))
    nearest = known[nearest_frames(known, pts)]
    near = np.flatnonzero(np.abs(nearest - pts) <= tolerance + 1e-6)
    return {int(frame): times[float(nearest[frame])] for frame in near}


def cell_coverage(boxes: list[Region], seen: Region, grid_size: int) -> NDArray[np.float32]:
    """Share of each grid cell that is covered by the union of boxes.

    Args:
        boxes: Corners in px. A point covers the whole cell that it lies in.
        seen: The part of the frame that the grid spans, in px.
        grid_size: K.

    Returns:
        Shares in [0, 1], rows from the top, shape (K * K,); exact to a 32nd of a cell's side.
    """
    K = grid_size
    raster = np.zeros((K * _FINENESS, K * _FINENESS), np.bool_)
    for x0, y0, x1, y1 in boxes:
        columns, rows = (_covered(*ends, K) for ends in ((x0, x1, seen[0], seen[2]), (y0, y1, seen[1], seen[3])))
        raster |= np.outer(rows, columns)
    coverage: NDArray[np.float32] = raster.reshape(K, _FINENESS, K, _FINENESS).mean(axis=(1, 3), dtype=np.float32)
    return coverage.ravel()


def _covered(low: float, high: float, start: float, end: float, K: int) -> NDArray[np.bool_]:
    """Which of the sample points along a side of the grid, `_FINENESS` per cell, lie in an interval."""
    low, high = ((value - start) / (end - start) * K for value in (low, high))
    if low == high:
        low, high = math.floor(low), math.floor(low) + 1
    points = (np.arange(K * _FINENESS) + 0.5) / _FINENESS
    return (points >= low) & (points < high)
