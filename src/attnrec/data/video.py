"""Videos in: frames as raw RGB at the size that is asked for, each with its exact time.

Every video is hostile until decoded: only whitelisted formats and codecs are opened, only the named file is read, and
a decode that stalls, runs on or grows is killed.
"""

import math
import os
import re
import stat
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from attnrec.config import Resize
from attnrec.data.decoder import DecodeLimits, Decoder, read_header
from attnrec.data.ffmpeg import Log
from attnrec.errors import VideoError

VIDEO_SUFFIXES = frozenset(
    ".3gp .asf .avi .flv .gif .m2ts .m4v .mkv .mov .mp4 .mpeg .mpg .mts .ogg .ogv .ts .webm .wmv".split()  # noqa: SIM905
)
# Why a video is left out; the last two only where damage counts as failure.
REASONS = (
    "decoder-crashed",
    "empty-file",
    "no-frames",
    "no-video-stream",
    "not-a-file",
    "not-a-video",
    "timed-out",
    "too-large",
    "too-long",
    "unreadable",
    "unsupported-codec",
    "damaged",
    "truncated",
)
# Bicubic as in Pillow, a = -0.5; ffmpeg's own kernel has -0.6.
_SCALER = "flags=bicubic+accurate_rnd+full_chroma_int+full_chroma_inp:param0=0:param1=0.5"
_MAX_ENLARGED = 16  # sides of a frame to crop, as multiples of what remains
_LEAST_FRAME_BYTES = 4  # with its entry in the index
_UNKNOWN_PTS = -(2**63)


@dataclass(frozen=True)
class VideoInfo:
    """What a video's header says.

    Attributes:
        width: Displayed width in px, after rotation and with square pixels.
        height: Displayed height in px.
        fps: Declared frames per second; NaN where the header does not say.
        duration_seconds: Declared duration; NaN where the header does not say.
        codec: Name of the video codec.
    """

    width: int
    height: int
    fps: float
    duration_seconds: float
    codec: str


@dataclass(frozen=True)
class DecodeSummary:
    """How a decode ended.

    Attributes:
        status: `ok`, `damaged` (decoder errors) or `truncated` (ends well before its declared duration).
        num_decoded: Frames in the video, before thinning.
        duration_seconds: From the first frame to the end of the last.
        declared_fps: Rate in the header, NaN where unknown.
        effective_fps: Rate of the decoded frames by their times; the declared one for a single frame.
        is_variable_rate: Whether the intervals between frames differ by more than half of their mean.
    """

    status: str
    num_decoded: int
    duration_seconds: float
    declared_fps: float
    effective_fps: float
    is_variable_rate: bool


def probe(path: Path) -> VideoInfo:
    """Read a video's header.

    Raises:
        VideoError: It is no video that can be opened.
    """
    _require_regular_file(path)
    exit_code, log = read_header(path, DecodeLimits())
    stream = log.video_stream
    if stream is None or log.refused_codec:
        raise _failure(path, exit_code, log)
    size = re.search(r"\b([1-9]\d*)x([1-9]\d*)\b", stream)
    if size is None:
        raise _failure(path, exit_code, log)
    width, height = int(size[1]), int(size[2])
    if sar := re.search(r"SAR (\d+):(\d+)", stream):
        width = max(1, round(width * int(sar[1]) / max(1, int(sar[2]))))
    if round(log.rotation_degrees / 90) % 2:
        width, height = height, width
    codec = re.search(r"Video: (\w+)", stream)
    return VideoInfo(width, height, log.fps, log.duration_seconds, codec[1] if codec else "unknown")


class FrameReader:
    """Decodes one video frame by frame: `for frame, pts in FrameReader(...)`, then `summary`.

    Frames are decoded as they are, never repeated, and thinned by their times: of the frames nearest to each
    k / max_fps the nearest is kept. Frames are (height, width, 3) uint8 RGB arrays, times are in seconds from the
    first frame.

    Args:
        path: A local, regular file.
        width: Of the frames, in px.
        height: Of the frames, in px.
        resize: `stretch` to the size, or `crop` the middle that has the size's aspect.
        max_fps: Most frames to keep for each second; None keeps all.
        limits: When to give up.

    Raises:
        VideoError: While iterating: it cannot be decoded, with a reason of `REASONS`.
    """

    def __init__(
        self,
        path: Path,
        *,
        width: int,
        height: int,
        resize: Resize = "stretch",
        max_fps: float | None = None,
        limits: DecodeLimits | None = None,
    ) -> None:
        self.path = path
        self.width = width
        self.height = height
        self.resize = resize
        self.max_fps = max_fps
        self.limits = limits or DecodeLimits()
        self.summary: DecodeSummary | None = None
        self._decoder: Decoder | None = None

    def __iter__(self) -> Generator[tuple[NDArray[np.uint8], float], None, None]:
        frames = self._decoded()
        return frames if self.max_fps is None else _thinned(frames, self.max_fps)

    def cancel(self) -> None:
        """End a decode that another thread waits for; that thread gets a `VideoError`."""
        if self._decoder is not None:
            self._decoder.cancel()

    def check(self) -> None:
        """Look at the file without decoding it.

        Raises:
            VideoError: It is missing, empty, unreadable or no regular file.
        """
        _require_regular_file(self.path)

    def _decoded(self) -> Generator[tuple[NDArray[np.uint8], float], None, None]:
        num_bytes = _require_regular_file(self.path)
        timeline = _Timeline()
        with Decoder(self.path, self._output_arguments(), self.limits) as decoder:
            self._decoder = decoder
            while True:
                data, time_line = decoder.read_frame(self.width * self.height * 3)
                if not data:
                    break
                time = timeline.add(_parse_pts(time_line))
                self._require_within_limits(timeline, num_bytes)
                yield np.frombuffer(data, np.uint8).reshape(self.height, self.width, 3), time
            exit_code, log = decoder.finish()
        if not timeline.num_frames:
            raise _failure(self.path, exit_code, log)
        self.summary = timeline.summary(exit_code, log, is_cut=_is_cut_riff(self.path))

    def _require_within_limits(self, timeline: "_Timeline", num_bytes: int) -> None:
        if timeline.num_frames > num_bytes / _LEAST_FRAME_BYTES:
            raise VideoError("too-large", f"{self.path}: too-large: it repeats its frames without end")
        if timeline.num_frames > self.limits.frames:
            raise VideoError(
                "too-large", f"{self.path}: too-large: more than {self.limits.frames} frames; cut it into parts"
            )
        if timeline.span > self.limits.duration_seconds:
            hours = self.limits.duration_seconds / 3600
            raise VideoError(
                "too-long", f"{self.path}: too-long: by its frames' times it lasts over {hours:g} h; cut it into parts"
            )

    def _output_arguments(self) -> list[str]:
        w, h = self.width, self.height
        if self.resize == "stretch":
            scale = f"scale={w}:{h}:{_SCALER}"
        else:
            # Bounded: a strip, or pixels that are declared to be one, would cost gigabytes to enlarge.
            wide, high = (
                f"min({_MAX_ENLARGED}*{a},max({a},round({b})))" for a, b in ((w, f"{h}*dar"), (h, f"{w}/dar"))
            )
            scale = f"scale=w='{wide}':h='{high}':{_SCALER},crop={w}:{h}"
        # `V`: a cover picture is no video. Without the input's tags all of the output's description is ffmpeg's own.
        return [
            "-map",
            "0:V:0",
            "-map_metadata",
            "-1",
            "-vf",
            scale,
            "-fps_mode",
            "passthrough",
            "-pix_fmt",
            "rgb24",
            "-f",
            "rawvideo",
        ]


def _thinned(
    frames: Iterable[tuple[NDArray[np.uint8], float]], max_fps: float
) -> Generator[tuple[NDArray[np.uint8], float], None, None]:
    best: tuple[NDArray[np.uint8], float] | None = None
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


def _parse_pts(line: bytes) -> float | None:
    try:
        count, base = line.split()
        return None if int(count) == _UNKNOWN_PTS else float(int(count) * Fraction(base.decode()))
    except (ValueError, ZeroDivisionError):
        return None


class _Timeline:
    """Times of the decoded frames, as far as a summary needs them: its size does not grow with the video."""

    def __init__(self) -> None:
        self.num_frames = 0
        self._first = self._last = 0.0
        self._interval = 1 / 30
        self._shortest, self._longest = math.inf, 0.0

    @property
    def span(self) -> float:
        """Seconds from the first frame to the last."""
        return self._last - self._first

    def add(self, pts: float | None) -> float:
        """Seconds of one more frame since the first.

        A frame without a time, or with one that goes back, follows the last by the last interval.
        """
        if not self.num_frames:
            self._first = self._last = pts or 0.0
        else:
            if pts is None or pts <= self._last:
                pts = self._last + self._interval
            self._interval, self._last = pts - self._last, pts
            self._shortest, self._longest = min(self._shortest, self._interval), max(self._longest, self._interval)
        self.num_frames += 1
        return self.span

    def summary(self, exit_code: int, log: Log, *, is_cut: bool) -> DecodeSummary:
        """How the decode ended."""
        fallback_fps = log.fps if log.fps > 0 else 30.0
        effective_fps = (self.num_frames - 1) / self.span if self.span > 0 else fallback_fps
        duration = self.span + 1 / effective_fps
        status = "ok"
        if exit_code or log.errors:
            status = "damaged"
        if is_cut or log.cut_short or log.duration_seconds - duration > max(1.0, 0.2 * log.duration_seconds):
            status = "truncated"
        is_variable = self._longest - self._shortest > 0.5 / effective_fps
        return DecodeSummary(status, self.num_frames, duration, log.fps, effective_fps, is_variable)


def _failure(path: Path, exit_code: int, log: Log) -> VideoError:
    """Why a video gave no frames."""
    if exit_code < 0:
        return VideoError("decoder-crashed", f"{path}: decoder-crashed: ffmpeg ended by signal {-exit_code}")
    if exit_code and not log.says_anything:  # the system's loader may have had no memory for it
        return VideoError("decoder-crashed", f"{path}: decoder-crashed: ffmpeg did not start ({exit_code})")
    reason, cause = log.failure(_head(path)[0])
    if reason == "no-frames" and _is_cut_riff(path):
        reason = "truncated"
    return VideoError(reason, f"{path}: {reason}: {cause}")


def _head(path: Path) -> tuple[bytes, int]:
    """The first bytes of a file and its size; nothing of one that went away or was replaced meanwhile."""
    try:
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
            return file.read(16) or b"", os.fstat(file.fileno()).st_size
    except OSError:
        return b"", 0


def _is_cut_riff(path: Path) -> bool:
    """Whether an AVI declares to be longer than it is: ffmpeg takes what is there of one without an index for all."""
    head, num_bytes = _head(path)
    declared = int.from_bytes(head[4:8], "little")
    # The size is all ones where the writer could not go back to set it.
    return head[:4] == b"RIFF" and declared != 0xFFFFFFFF and declared + 8 > num_bytes


def _require_regular_file(path: Path) -> int:
    """Size of a file in bytes."""
    try:
        status = path.stat()
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        cause = error.strerror if isinstance(error, OSError) else error
        raise VideoError("unreadable", f"{path}: unreadable: {cause}") from None
    if not stat.S_ISREG(status.st_mode):
        raise VideoError("not-a-file", f"{path}: not-a-file: it is not a regular file")
    if status.st_size == 0:
        raise VideoError("empty-file", f"{path}: empty-file: it holds no bytes")
    if not os.access(path, os.R_OK):
        raise VideoError("unreadable", f"{path}: unreadable: permission denied")
    return status.st_size
