"""Videos in: frames as raw RGB at the size that is asked for, each with its exact time, and what part of them is seen.

Every video is hostile until decoded: only whitelisted formats and codecs are opened, only the named file is read, and
a decode that stalls, runs on or grows is killed.
"""

import os
import re
import stat
from collections.abc import Generator, Iterator
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from attnrec.errors import VideoError
from attnrec.files import opened_regular
from attnrec.settings import Resize
from attnrec.video.ffmpeg import NO_OUTPUT, PACKET_OUTPUT, RAW_OUTPUT, Log
from attnrec.video.process import UNKNOWN_TIME, DecodeLimits, Decoder, opened, video_error
from attnrec.video.times import Timeline, is_cut_avi, rising_times, thinned

Region = tuple[float, float, float, float]

_SUFFIXES = """
.3g2 .3gp .asf .avi .divx .f4v .flv .gif .m1v .m2t .m2ts .m2v .m4v .mkv .mov .mp4 .mpe .mpeg .mpg .mts
.ogg .ogm .ogv .qt .ts .vob .webm .wmv
"""
VIDEO_SUFFIXES = frozenset(_SUFFIXES.split())
# Why a video is left out; the last two only where damage counts as failure.
REASONS = (
    *("decoder-crashed", "empty-file", "no-frames", "no-video-stream", "not-a-file", "not-a-video", "timed-out"),
    *("too-large", "too-long", "unreadable", "unsupported-codec", "damaged", "truncated"),
)
# Bicubic as in Pillow, a = -0.5; ffmpeg's own kernel has -0.6.
_SCALER = "flags=bicubic+accurate_rnd+full_chroma_int+full_chroma_inp:param0=0:param1=0.5"
_MAX_ENLARGED = 16  # sides of a frame to crop, as multiples of what remains
_LEAST_FRAME_BYTES = 4  # with its entry in the index
_DURATION_SECONDS = 0.01  # to which ffmpeg rounds the declared duration


@dataclass(frozen=True)
class VideoInfo:
    """What a video's header and its first frame say."""

    width: int  # in px as displayed: after cropping and rotation, with square pixels
    height: int
    fps: float  # declared; NaN where the header does not say
    duration_seconds: float  # declared; NaN where the header does not say
    codec: str


@dataclass(frozen=True)
class DecodeSummary:
    """How a decode ended."""

    status: str  # `ok`, `damaged` (decoder errors) or `truncated` (the end of the video is missing)
    num_decoded: int  # frames in the video, before thinning
    duration_seconds: float  # from the first frame to the end of the last
    declared_fps: float  # in the header, NaN where unknown
    effective_fps: float  # between neighbouring frames, see `typical_interval`; the declared one for a single frame
    is_variable_rate: bool  # the intervals between frames differ by more than half of the typical one


def probe(path: Path) -> VideoInfo:
    """Read a video's header, and its first frame for the shape that it is shown in.

    Raises:
        VideoError: It is no video that can be opened.
    """
    _require_regular_file(path)
    with opened(path, lambda stream: [*stream, "-frames:v", "1", *NO_OUTPUT], DecodeLimits()) as decoder:
        exit_code, log = decoder.finish()
    if log.displayed_size is None:
        raise _failure(path, exit_code, log)
    width, height = log.displayed_size
    return VideoInfo(width, height, log.fps, log.duration_seconds, log.codec or "unknown")


def seen_region(width: float, height: float, resize: Resize) -> Region:
    """Part of a frame that the network sees, x0, y0, x1, y1 in px, half-open.

    Args:
        width: Of the frame, in px.
        height: Of the frame, in px.
        resize: How frames are brought to the network's square.
    """
    if resize == "stretch":
        return 0, 0, width, height
    side = min(width, height)
    x0, y0 = (width - side) / 2, (height - side) / 2
    return x0, y0, x0 + side, y0 + side


@dataclass(eq=False)
class FrameReader:
    """Decodes one video frame by frame: `for frame, pts in FrameReader(...)`, then `summary`.

    Frames are decoded as they are, never repeated, and thinned by their times: of the frames nearest to each
    k / max_fps the nearest is kept. Frames are (height, width, 3) uint8 RGB arrays, times are in seconds from the
    first frame.

    Raises:
        VideoError: While iterating: it cannot be decoded, with a reason of `REASONS`.
    """

    path: Path  # a local, regular file
    _: KW_ONLY
    width: int  # of the frames, in px
    height: int  # of the frames, in px
    resize: Resize = "stretch"  # to the size, or `crop` the middle that has the size's aspect
    max_fps: float | None = None  # most frames to keep for each second; None keeps all
    limits: DecodeLimits = field(default_factory=DecodeLimits)  # when to give up
    summary: DecodeSummary | None = field(default=None, init=False)  # once the last frame has come
    _decoder: Decoder | None = field(default=None, init=False)

    def __iter__(self) -> Generator[tuple[NDArray[np.uint8], float], None, None]:
        num_bytes = _require_regular_file(self.path)
        timeline = Timeline()
        with opened(self.path, self._output_arguments, self.limits, with_times=True) as decoder:
            self._decoder = decoder
            frames = self._within_limits(rising_times(self._decoded(decoder)), timeline, num_bytes)
            yield from frames if self.max_fps is None else thinned(frames, self.max_fps)
            exit_code, log = decoder.finish()
        if not timeline.num_frames:
            raise _failure(self.path, exit_code, log)
        self.summary = self._summary(timeline, exit_code, log)

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

    def _decoded(self, decoder: Decoder) -> Iterator[tuple[NDArray[np.uint8], float]]:
        while True:
            data, time = decoder.read_frame(self.width * self.height * 3)
            if not data:
                return
            yield np.frombuffer(data, np.uint8).reshape(self.height, self.width, 3), time

    def _within_limits(
        self, frames: Iterator[tuple[NDArray[np.uint8], float]], timeline: Timeline, num_bytes: int
    ) -> Iterator[tuple[NDArray[np.uint8], float]]:
        for frame, seconds in frames:
            timeline.add(seconds)
            if timeline.num_frames > num_bytes / _LEAST_FRAME_BYTES:
                raise video_error(self.path, "too-large", "it repeats its frames without end")
            if timeline.num_frames > self.limits.frames:
                raise video_error(self.path, "too-large", f"more than {self.limits.frames} frames; cut it into parts")
            self._require_short(timeline.span)
            yield frame, seconds

    def _summary(self, timeline: Timeline, exit_code: int, log: Log) -> DecodeSummary:
        """How the decode ended. The last frame lasts as long as the container says, else one typical interval."""
        interval = timeline.interval or 1 / (log.fps if log.fps > 0 else 30.0)
        lasting, missing = interval, 0.0
        unaccounted = log.duration_seconds - timeline.span
        if unaccounted > 0 and abs(unaccounted - interval) > _DURATION_SECONDS:
            # The last frame may stay or be gone soon, the sound go on, or the end be missing: only the packets tell.
            own, others_end = _packet_ends(self.path, self.limits)
            lasting = own or interval
            missing = log.duration_seconds - max(timeline.span + lasting, others_end)
        self._require_short(timeline.span + lasting)
        status = "ok"
        if exit_code or log.errors:
            status = "damaged"
        if log.cut_short or is_cut_avi(self.path) or missing > max(1.0, 0.2 * log.duration_seconds):
            status = "truncated"
        return DecodeSummary(
            status=status,
            num_decoded=timeline.num_frames,
            duration_seconds=timeline.span + lasting,
            declared_fps=log.fps,
            effective_fps=1 / interval,
            is_variable_rate=timeline.spread > 0.5 * interval,
        )

    def _require_short(self, seconds: float) -> None:
        if seconds > self.limits.duration_seconds:
            hours = self.limits.duration_seconds / 3600
            cause = f"by its frames' times it lasts over {hours:g} h; cut it into parts"
            raise video_error(self.path, "too-long", cause)

    def _output_arguments(self, stream: list[str]) -> list[str]:
        w, h = self.width, self.height
        if self.resize == "stretch":
            scale = f"scale={w}:{h}:{_SCALER}"
        else:
            # Bounded: a strip, or pixels that are declared to be one, would cost gigabytes to enlarge.
            wide, high = (
                f"min({_MAX_ENLARGED}*{a},max({a},round({b})))" for a, b in ((w, f"{h}*dar"), (h, f"{w}/dar"))
            )
            scale = f"scale=w='{wide}':h='{high}':{_SCALER},crop={w}:{h}"
        # Without the input's tags all of the output's description is ffmpeg's own.
        kept = ("-map_metadata", "-1", "-fps_mode", "passthrough", "-pix_fmt", "rgb24")
        return [*stream, "-vf", scale, *kept, *RAW_OUTPUT]


def _packet_ends(path: Path, limits: DecodeLimits) -> tuple[float, float]:
    """How long the container shows the last frame, 0 where it does not say, and the end of the longest stream."""
    bases: dict[int, float] = {}
    latest: dict[int, tuple[float, float]] = {}  # time and duration of each stream's last packet
    with opened(path, lambda stream: [*stream, *PACKET_OUTPUT], limits) as decoder:
        for line in decoder.lines():
            if base := re.match(rb"#tb (\d+): (\d+)/([1-9]\d*)$", line):
                bases[int(base[1])] = int(base[2]) / int(base[3])
            elif packet := re.match(rb"(\d+), *(-?\d+), *(-?\d+), *(\d+),", line):
                stream, decoding, presentation, duration = (int(number) for number in packet.groups())
                time = presentation if presentation != UNKNOWN_TIME else decoding
                seconds = (time * bases.get(stream, 0.0), duration * bases.get(stream, 0.0))
                latest[stream] = max(latest.get(stream, seconds), seconds)
    return latest.get(0, (0.0, 0.0))[1], max((time + duration for time, duration in latest.values()), default=0.0)


def _failure(path: Path, exit_code: int, log: Log) -> VideoError:
    """Why a video gave no frames."""
    if exit_code < 0:
        return video_error(path, "decoder-crashed", f"ffmpeg ended by signal {-exit_code}")
    if exit_code and not log.says_anything:  # the system's loader may have had no memory for it
        return video_error(path, "decoder-crashed", f"ffmpeg did not start ({exit_code})")
    reason, cause = log.failure(_head(path))
    if reason == "no-frames" and is_cut_avi(path):
        reason = "truncated"
    return video_error(path, reason, cause)


def _head(path: Path) -> bytes:
    """The first bytes of a file; nothing of one that went away or was replaced meanwhile."""
    try:
        with opened_regular(path) as file:
            return file.read(16)
    except OSError:
        return b""


def _require_regular_file(path: Path) -> int:
    """Size of a file in bytes."""
    try:
        status = path.stat()
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        cause = error.strerror if isinstance(error, OSError) else error
        raise video_error(path, "unreadable", str(cause)) from None
    if not stat.S_ISREG(status.st_mode):
        raise video_error(path, "not-a-file", "it is not a regular file")
    if status.st_size == 0:
        raise video_error(path, "empty-file", "it holds no bytes")
    if not os.access(path, os.R_OK):
        raise video_error(path, "unreadable", "permission denied")
    return status.st_size
