"""Videos in and out, through ffmpeg as a process of ours that pipes raw RGB.

Every video is hostile until decoded: only whitelisted formats and codecs are opened, only the named file is read, and
a decode that stalls or runs on is killed.
"""

import contextlib
import math
import os
import re
import signal
import stat
import subprocess
import tempfile
import threading
import time
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from attnrec.config import Resize
from attnrec.data.ffmpeg import Log, ffmpeg_path, input_arguments
from attnrec.errors import AttnrecError, VideoError
from attnrec.runtime import atomic_path

VIDEO_SUFFIXES = frozenset(
    [
        ".3gp",
        ".asf",
        ".avi",
        ".flv",
        ".gif",
        ".m2ts",
        ".m4v",
        ".mkv",
        ".mov",
        ".mp4",
        ".mpeg",
        ".mpg",
        ".mts",
        ".ogg",
        ".ogv",
        ".ts",
        ".webm",
        ".wmv",
    ]
)
REASONS = (
    "empty-file",
    "no-frames",
    "no-video-stream",
    "not-a-file",
    "not-a-video",
    "timed-out",
    "too-large",
    "truncated",
    "unreadable",
)
_SCALER = "bicubic+accurate_rnd+full_chroma_int+full_chroma_inp"
_UNKNOWN_PTS = -(2**63)


@dataclass(frozen=True)
class DecodeLimits:
    """What a single video may cost before its decoding is given up."""

    decode_seconds: float = 6 * 3600
    stall_seconds: float = 30
    frames: int = 2_000_000


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
    """

    status: str
    num_decoded: int
    duration_seconds: float
    declared_fps: float
    effective_fps: float


def probe(path: Path) -> VideoInfo:
    """Read a video's header.

    Raises:
        VideoError: It is no video that can be opened.
    """
    _require_regular_file(path)
    command = [ffmpeg_path(), "-nostdin", "-hide_banner", "-loglevel", "level+info", *input_arguments(path)]
    try:
        done = subprocess.run(command, capture_output=True, timeout=DecodeLimits.stall_seconds)
    except subprocess.TimeoutExpired:
        raise VideoError("timed-out", f"{path}: timed-out: its header was not read in time") from None
    log = Log(done.stderr, path)
    stream = log.video_stream
    if stream is None:
        reason = "no-video-stream" if log.has_streams else log.failure_reason(_head(path))
        raise VideoError(reason, f"{path}: {reason}: {log.first_error}")
    size = re.search(r"\b([1-9]\d*)x([1-9]\d*)\b", stream)
    if size is None:
        raise VideoError("no-frames", f"{path}: no-frames: its header gives no picture size")
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

    def __iter__(self) -> Generator[tuple[NDArray[np.uint8], float], None, None]:
        frames = self._decoded()
        return frames if self.max_fps is None else _thinned(frames, self.max_fps)

    def check(self) -> None:
        """Look at the file without decoding it.

        Raises:
            VideoError: It is missing, empty, unreadable or no regular file.
        """
        _require_regular_file(self.path)

    def _decoded(self) -> Generator[tuple[NDArray[np.uint8], float], None, None]:
        self.check()
        times: list[float] = []
        with _Decode(self._command_tail(), self.path, self.limits) as decode:
            while data := decode.read_frame(self.width * self.height * 3):
                times.append(_plausible_time(_parse_pts(decode.times.readline()), times))
                if len(times) > self.limits.frames:
                    raise VideoError(
                        "too-large", f"{self.path}: too-large: more than {self.limits.frames} frames; cut it into parts"
                    )
                frame = np.frombuffer(data, np.uint8).reshape(self.height, self.width, 3)
                yield frame, times[-1] - times[0]
            exit_code, log = decode.finish()
        self.summary = _summarise(self.path, times, exit_code, log)

    def _command_tail(self) -> list[str]:
        w, h = self.width, self.height
        if self.resize == "stretch":
            scale = f"scale={w}:{h}:flags={_SCALER}"
        else:
            scale = f"scale=w='max({w},round({h}*dar))':h='max({h},round({w}/dar))':flags={_SCALER},crop={w}:{h}"
        return ["-map", "0:v:0", "-vf", scale, "-fps_mode", "passthrough", "-pix_fmt", "rgb24", "-f", "rawvideo"]


def write_video(path: Path, frames: Iterable[NDArray[np.uint8]], fps: float, *, overwrite: bool = True) -> None:
    """Encode frames as an MP4 (H.264) or a GIF (palette of its own), by the suffix of `path`, atomically.

    Args:
        path: Ends in `.mp4` or `.gif`.
        frames: (H, W, 3) uint8 RGB arrays of one size; even sizes for MP4.
        fps: Frames per second, over 0. A GIF holds whole centiseconds: single delays are rounded, their sum is kept.
        overwrite: Replace a file that is there.

    Raises:
        ValueError: No frames, or another suffix.
        AttnrecError: The file cannot be written.
    """
    if path.suffix.lower() not in (".mp4", ".gif"):
        raise ValueError(f"cannot encode {path.suffix!r}, only .mp4 and .gif")
    stream = iter(frames)
    first = next(stream, None)
    if first is None:
        raise ValueError("no frames to encode")
    height, width, _ = first.shape
    if path.suffix.lower() == ".gif":
        output = [
            "-filter_complex",
            "split[a][b];[a]palettegen=stats_mode=full[p];[b][p]paletteuse=dither=bayer:bayer_scale=4",
        ]
    else:
        output = ["-c:v", "libx264", "-crf", "18", "-pix_fmt", "yuv420p", "-movflags", "+faststart"]
    source = [
        "-f",
        "rawvideo",
        "-pix_fmt",
        "rgb24",
        "-s",
        f"{width}x{height}",
        "-framerate",
        f"{fps:.6f}",
        "-i",
        "pipe:0",
    ]
    with atomic_path(path, overwrite=overwrite) as temporary, tempfile.TemporaryFile() as log:
        command = [
            ffmpeg_path(),
            "-hide_banner",
            "-loglevel",
            "error",
            "-y",
            *source,
            *output,
            "file:" + os.fspath(temporary),
        ]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=log) as process:
            assert process.stdin is not None
            try:
                with contextlib.suppress(BrokenPipeError):  # ffmpeg's own message below says why
                    process.stdin.write(first.tobytes())
                    for frame in stream:
                        process.stdin.write(frame.tobytes())
                    process.stdin.close()
            except BaseException:
                process.kill()
                raise
        if process.returncode:
            log.seek(0)
            cause = log.readline().decode("utf-8", "replace").strip()
            raise AttnrecError(f"{path}: ffmpeg could not write it: {cause}")


class _Decode:
    """A running ffmpeg with its frames, their times and its messages each on a pipe, and a watchdog over it."""

    times: IO[bytes]

    def __init__(self, arguments: list[str], path: Path, limits: DecodeLimits) -> None:
        self._arguments = arguments
        self._path = path
        self._limits = limits
        self._log = bytearray()
        self._ended = threading.Event()
        self._overrun = ""

    def __enter__(self) -> "_Decode":
        reading, writing = os.pipe()
        times = ["-stats_enc_pre", f"pipe:{writing}", "-stats_enc_pre_fmt", "{ptsi} {tbi}"]
        head = [ffmpeg_path(), "-nostdin", "-hide_banner", "-nostats", "-loglevel", "level+info"]
        command = [*head, *input_arguments(self._path), *self._arguments, *times, "pipe:1"]
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                pass_fds=(writing,),
                start_new_session=True,
            )
        except BaseException:
            os.close(reading)
            raise
        finally:
            os.close(writing)
        assert self._process.stdout is not None
        self._frames, self.times = self._process.stdout, os.fdopen(reading, "rb")
        self._waiting_since: float | None = None
        self._waited = 0.0
        self._threads = [threading.Thread(target=job, daemon=True) for job in (self._drain, self._watch)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._kill()
        self._process.wait()
        for thread in self._threads:
            thread.join()
        for pipe in (self._frames, self.times, self._process.stderr):
            if pipe is not None:
                pipe.close()

    def read_frame(self, num_bytes: int) -> bytes:
        """The next frame, or nothing at the end. Only this waiting counts against the limits, not the caller's work."""
        self._waiting_since = start = time.monotonic()
        data = self._frames.read(num_bytes)
        self._waiting_since = None
        self._waited += time.monotonic() - start
        return data if len(data) == num_bytes else b""

    def finish(self) -> tuple[int, Log]:
        """Exit status and messages, once the frames have ended.

        Raises:
            VideoError: The watchdog ended it.
        """
        exit_code = self._process.wait()
        self._threads[0].join()
        if self._overrun:
            raise VideoError("timed-out", f"{self._path}: timed-out: {self._overrun}")
        return exit_code, Log(bytes(self._log), self._path)

    def _drain(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            if len(self._log) < 1_000_000:
                self._log += line

    def _watch(self) -> None:
        while not self._ended.wait(0.5):
            since = self._waiting_since
            waiting = time.monotonic() - since if since is not None else 0.0
            if self._waited + waiting > self._limits.decode_seconds:
                self._overrun = f"not decoded in {self._limits.decode_seconds:g} s"
            elif waiting > self._limits.stall_seconds:
                self._overrun = f"no frame in {self._limits.stall_seconds:g} s"
            if self._overrun:
                self._kill()
                return

    def _kill(self) -> None:
        if self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)


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


def _plausible_time(pts: float | None, earlier: list[float]) -> float:
    """A time that rises: frames without one, or with one that goes back, follow the last by the last interval."""
    if not earlier:
        return pts or 0.0
    if pts is not None and pts > earlier[-1]:
        return pts
    return earlier[-1] + (earlier[-1] - earlier[-2] if len(earlier) > 1 else 1 / 30)


def _summarise(path: Path, times: list[float], exit_code: int, log: Log) -> DecodeSummary:
    if not times:
        reason = log.failure_reason(_head(path))
        raise VideoError(reason, f"{path}: {reason}: {log.first_error}")
    span = times[-1] - times[0]
    fallback_fps = log.fps if log.fps > 0 else 30.0
    effective_fps = (len(times) - 1) / span if span > 0 else fallback_fps
    duration = span + 1 / effective_fps
    status = "ok"
    if exit_code or log.errors:
        status = "damaged"
    if log.cut_short or log.duration_seconds - duration > max(1.0, 0.2 * log.duration_seconds):
        status = "truncated"
    return DecodeSummary(status, len(times), duration, log.fps, effective_fps)


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(16)


def _require_regular_file(path: Path) -> None:
    try:
        status = path.stat()
    except OSError as error:
        raise VideoError("unreadable", f"{path}: unreadable: {error.strerror}") from None
    if not stat.S_ISREG(status.st_mode):
        raise VideoError("not-a-file", f"{path}: not-a-file: it is not a regular file")
    if status.st_size == 0:
        raise VideoError("empty-file", f"{path}: empty-file: it holds no bytes")
    if not os.access(path, os.R_OK):
        raise VideoError("unreadable", f"{path}: unreadable: permission denied")
