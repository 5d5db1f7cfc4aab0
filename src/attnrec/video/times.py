"""When frames are shown: times that rise, the rate between neighbours, thinning by time, whether the end is missing.

Legend: N frames.
"""

import array
import math
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, TypeVar

import numpy as np
from numpy.typing import NDArray

from attnrec.files import opened_regular

_Frame = TypeVar("_Frame")
_MOST_WAITING = 16  # frames that are held back until one has a later time
_UNKNOWN_INTERVAL = 1 / 30
# Of the chunks of an AVI file.
_UNKNOWN_SIZES = (0, 0xFFFFFFFF)  # of what the writer could not go back to set
_SLACK_BYTES = 16  # by which writers are off
_MOST_CHUNKS = 10_000


def typical_interval(intervals: NDArray[np.float64]) -> float:
    """Seconds between neighbouring frames: the mean of the intervals within half of the median.

    Pauses and repeated times leave it alone, and times that a container rounds average out.

    Args:
        intervals: Between successive frames, over 0, shape (N - 1,), N at least 2.
    """
    median = np.sort(intervals)[(len(intervals) - 1) // 2]
    return float(intervals[np.abs(intervals - median) <= 0.5 * median + 1e-9].mean())


class Timeline:
    """Times of the decoded frames, as far as a summary needs them."""

    def __init__(self) -> None:
        self.num_frames = 0
        self.span = 0.0  # seconds from the first frame to the last
        self._intervals = array.array("d")

    def add(self, seconds: float) -> None:
        """Note one more frame, by its time since the first."""
        if self.num_frames:
            self._intervals.append(seconds - self.span)
        self.num_frames += 1
        self.span = seconds

    @property
    def interval(self) -> float:
        """Typical seconds between neighbouring frames; 0 for a single frame."""
        return typical_interval(np.asarray(self._intervals)) if self._intervals else 0.0

    @property
    def spread(self) -> float:
        """By how many seconds the intervals differ."""
        return max(self._intervals) - min(self._intervals) if self._intervals else 0.0


def rising_times(frames: Iterable[tuple[_Frame, float]]) -> Iterator[tuple[_Frame, float]]:
    """Frames with the seconds since the first, strictly rising.

    A frame keeps the container's time. One whose time repeats or goes back is moved alone, to shortly after the frame
    before it. Only where times go back for good, as in files that were joined, does all that follows go on from there.

    Args:
        frames: In order of presentation, each with the container's time in seconds.
    """
    waiting: list[_Frame] = []  # for a later frame whose time rises
    last, interval = -math.inf, 0.0
    shift: float | None = None  # from the container's times to ours
    for frame, time in frames:
        shift = -time if shift is None else shift
        seconds = time + shift
        if seconds > last:
            gap = seconds - last
            yield from _moved(waiting, last, min(interval or gap, gap))
            waiting, last, interval = [], seconds, gap if last >= 0 else 0.0
            yield frame, seconds
            continue
        waiting.append(frame)
        if len(waiting) == _MOST_WAITING:
            interval = interval or _UNKNOWN_INTERVAL
            yield from _spaced(waiting, last, interval)
            waiting, last = [], last + len(waiting) * interval
            shift += last - seconds
    yield from _moved(waiting, last, interval or _UNKNOWN_INTERVAL)


def _moved(frames: list[_Frame], after: float, interval: float) -> Iterator[tuple[_Frame, float]]:
    return _spaced(frames, after, interval / (8 * max(1, len(frames))))


def _spaced(frames: list[_Frame], after: float, interval: float) -> Iterator[tuple[_Frame, float]]:
    for number, frame in enumerate(frames, start=1):
        yield frame, after + number * interval


def thinned(frames: Iterable[tuple[_Frame, float]], max_fps: float) -> Iterator[tuple[_Frame, float]]:
    """Of the frames that are nearest to each k / max_fps the nearest one.

    Args:
        frames: With their times in seconds, rising.
        max_fps: Most frames to keep for each second, over 0.
    """
    best: tuple[_Frame, float] | None = None
    best_cell, best_offset = -1, math.inf
    for frame, pts in frames:
        # Times are exact to far less than a microsecond; the small term keeps 59.94 -> 29.97 from flickering.
        cell = math.floor(pts * max_fps + 0.5 - 1e-6)
        offset = abs(pts * max_fps - cell)
        if best is not None and cell != best_cell:
            yield best
            best = None
        if best is None or offset < best_offset:
            best, best_cell, best_offset = (frame, pts), cell, offset
    if best is not None:
        yield best


def is_cut_avi(path: Path) -> bool:
    """Whether the header or the frames of an AVI file end behind the end of the file; not so of other files.

    ffmpeg takes what is there for all.
    """
    try:
        with opened_regular(path) as file:
            return _frames_end(file) > os.fstat(file.fileno()).st_size + _SLACK_BYTES
    except OSError:  # went away, or was replaced meanwhile
        return False


def _frames_end(file: BinaryIO) -> int:
    """Where the last list of frames, or the header, ends by its own account; 0 where it is not said."""
    end = place = 0
    for _ in range(_MOST_CHUNKS):
        file.seek(place)
        head = file.read(12)
        kind, size, content = head[:4], int.from_bytes(head[4:8], "little"), head[8:]
        if kind == b"RIFF" and content in (b"AVI ", b"AVIX"):
            place += 12  # its chunks lie inside; another such part may follow them
            continue
        if (not end and not place) or len(head) < 8:
            break
        if kind == b"LIST" and content in (b"hdrl", b"movi"):
            if size in _UNKNOWN_SIZES:
                return 0
            end = place + 8 + size
        place += 8 + size + size % 2
    return end
