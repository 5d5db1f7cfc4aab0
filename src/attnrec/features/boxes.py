"""Where things are in videos, as users annotate them: boxes or points per frame, and the grid cells that they cover."""

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
_FINENESS = 32  # points along a cell's side: of 7 x 7 cells over 224 px each is a pixel


class Box(NamedTuple):
    """A box or a point in a frame."""

    line: int  # of the file
    when: float  # seconds from the video's first frame, or the frame's number from 0
    corners: Region  # x0, y0, x1, y1 in px of the displayed video, half-open; a point is a box without extent


@dataclass(frozen=True)
class BoxTable:
    """A file of boxes."""

    path: Path
    by_seconds: bool  # whether frames are named by time, else by number
    videos: Mapping[str, list[Box]]  # of each video by its path, as in the store, in order of time


def read_boxes(path: Path) -> BoxTable:
    """Boxes of a CSV file with the columns `path`, `seconds` or `frame`, and `x0,y0,x1,y1` or `x,y`.

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
    """A video of a store, as far as boxes need to know it."""

    video: int  # index in the store
    path: str  # in the store
    fps: float  # rate of its own frames, by which the times of numbered ones are told
    is_variable_rate: bool  # whether they come at uneven times


def displayed_size(path: Path) -> Size:
    """Width and height of a displayed video in px, as its file says. Raises VideoError where it cannot be opened."""
    info = probe(path)
    return info.width, info.height


def boxes_of(table: BoxTable, paths: Sequence[str], videos_dir: str) -> tuple[BoxTable, list[str]]:
    """The boxes of a dataset's videos, by their paths there, and the annotated videos that are not in it.

    Args:
        table: A file of boxes, which may be of more videos.
        paths: Of the dataset's videos.
        videos_dir: Folder that they are relative to.

    Raises:
        DataError: None of the annotated videos is in it.
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
    """The boxes of one clip, by its path as it is given here; None where it has none.

    A name in the file means the clip when the clip's path ends in it; suffixes and the spelling of accents may differ.

    Args:
        table: A file of boxes, which may be of more videos.
        clip: A video, anywhere.
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
        raise bad_line(path, row.line, f"{column} is no number: {row.cells[column]!r}")
    return value


def require_inside(table: BoxTable, video: str, width: int, height: int) -> None:
    """Refuse boxes of a video that have nothing of its frame; what stands out a little is cut off later.

    Raises:
        DataError: One lies outside.
    """
    for box in table.videos[video]:
        x0, y0, x1, y1 = box.corners
        if x0 >= width or y0 >= height or x1 < 0 or y1 < 0 or (x0 < x1 and (x1 == 0 or y1 == 0)):
            what = f"{x0:g},{y0:g}" + (f",{x1:g},{y1:g}" if x0 < x1 else "")
            raise bad_line(table.path, box.line, f"{what} is outside of {video}, which is {width} x {height} px")


def placed_boxes(
    table: BoxTable, clips: Iterable[Clip], num_videos: int, size_of: Callable[[Clip], Size]
) -> StoredBoxes:
    """A file's boxes of some videos as a store holds them: by the time of their frames, with the videos' sizes.

    Args:
        table: A file of boxes, by the videos' paths in the store.
        clips: The videos to look at; those without a box are passed over.
        num_videos: Videos of the store.
        size_of: Width and height of a displayed video in px.

    Raises:
        DataError: A box lies outside of its frame or at a time that no video has, or frames are numbered where numbers
            tell no time.
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
    """Boxes of the frames that are annotated.

    Args:
        times: Corners of a video's boxes by the time of their frame in seconds; at least one.
        pts: Times of its stored frames in seconds, rising, shape (N,).
        tolerance: Seconds by which an annotation may miss its frame.

    Returns:
        Of each stored frame with an annotation near enough, the corners of all boxes at the nearest such time.
    """
    known = np.array(list(times))
    nearest = known[nearest_frames(known, pts)]
    near = np.flatnonzero(np.abs(nearest - pts) <= tolerance + 1e-6)
    return {int(frame): times[float(nearest[frame])] for frame in near}


def cell_coverage(boxes: list[Region], seen: Region, grid_size: int) -> NDArray[np.float32]:
    """Share of each grid cell that boxes cover together.

    Args:
        boxes: Corners in px. A point covers the cell that holds it.
        seen: The part of the frame that the grid spans, in px.
        grid_size: K.

    Returns:
        In [0, 1], rows from the top, shape (K * K,); exact to a 32nd of a cell's side.
    """
    K = grid_size
    raster = np.zeros((K * _FINENESS, K * _FINENESS), np.bool_)
    for x0, y0, x1, y1 in boxes:
        columns, rows = (_covered(*ends, K) for ends in ((x0, x1, seen[0], seen[2]), (y0, y1, seen[1], seen[3])))
        raster |= np.outer(rows, columns)
    coverage: NDArray[np.float32] = raster.reshape(K, _FINENESS, K, _FINENESS).mean(axis=(1, 3), dtype=np.float32)
    return coverage.ravel()


def _covered(low: float, high: float, start: float, end: float, K: int) -> NDArray[np.bool_]:
    """Which points along a side of the grid, `_FINENESS` for each cell, an interval holds."""
    low, high = ((value - start) / (end - start) * K for value in (low, high))
    if low == high:
        low, high = math.floor(low), math.floor(low) + 1
    points = (np.arange(K * _FINENESS) + 0.5) / _FINENESS
    return (points >= low) & (points < high)
