"""Frames to video files, through ffmpeg as a process of ours."""

import contextlib
import os
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from attnrec.errors import AttnrecError, ConfigError
from attnrec.files import atomic_path
from attnrec.video.ffmpeg import ffmpeg_path

VIDEO_FORMATS = (".gif", ".mp4")
_GIF_TICK, _MP4_TICK = 0.01, 1e-6  # seconds
_LEAST_GIF_TICKS = 2  # viewers slow down shorter delays: at most 50 frames a second
_MOST_GIF_TICKS = 65535
_MAKE_PALETTE = "split[a][b];[a]palettegen=stats_mode=full[p]"
_USE_PALETTE = "paletteuse=dither=bayer:bayer_scale=4"
# Of Matroska, which carries raw frames with a time each through a pipe.
_UNKNOWN_SIZE = b"\x01" + b"\xff" * 7  # of a segment that is still being written
_FIRST_TRACK = b"\x81\0\0\0"  # its number, no offset to the cluster's time, no flags

Frame = NDArray[np.uint8]
_Stream = Iterator[tuple[Frame, int, int]]  # frame, its tick, for how many ticks


def write_video(path: Path, frames: Iterable[Frame], fps: float, *, overwrite: bool = True) -> None:
    """Encode the frames of a short clip at a constant rate of `fps` frames per second, over 0.

    The rest, and the errors, as in `write_timed_video`, which suits long ones.
    """
    given = list(frames)  # their number is needed before the first is written
    write_timed_video(path, given, np.arange(len(given)) / fps, len(given) / fps, overwrite=overwrite)


def write_timed_video(
    path: Path, frames: Iterable[Frame], times: Sequence[float] | NDArray[np.float64], end: float, *, overwrite: bool
) -> int:
    """Encode frames at their times as an MP4 (H.264) or a GIF with its own palette, by the suffix, atomically.

    Memory does not grow with the number of frames.

    A GIF holds whole centiseconds: every time is rounded to the nearest, so that errors do not add up, and frames that
    would stay for less than two of them are left out.

    Args:
        path: Ends in `.mp4` or `.gif`.
        frames: (H, W, 3) uint8 RGB arrays of one size; even sizes for MP4.
        times: Of each frame in seconds, rising.
        end: Of the last frame, in seconds.
        overwrite: Replace a file that is there.

    Returns:
        Frames in the file.

    Raises:
        ValueError: No frames, or another suffix.
        ConfigError: A GIF cannot hold a pause.
        AttnrecError: The file cannot be written.
    """
    suffix = path.suffix.lower()
    if suffix not in VIDEO_FORMATS:
        raise ValueError(f"cannot encode {path.suffix!r}, only .mp4 and .gif")
    if len(times) == 0:
        raise ValueError("no frames to encode")
    ticks = np.rint((np.append(times, end) - times[0]) / (_GIF_TICK if suffix == ".gif" else _MP4_TICK)).astype(int)
    with atomic_path(path, overwrite=overwrite) as temporary:
        if suffix == ".gif":
            kept = gif_frames(ticks)
            shown = np.maximum(np.diff(np.append(ticks[kept], ticks[-1])), _LEAST_GIF_TICKS)
            if shown.max() > _MOST_GIF_TICKS:
                raise ConfigError(f"{path}: a GIF cannot hold a pause of over 655 s; write an .mp4")
            _write_gif(temporary, _selected(frames, kept, ticks, shown), int(shown[-1]), path)
        else:
            kept = np.arange(len(times))
            shown = np.maximum(np.diff(ticks), 1)
            _write_mp4(temporary, _selected(frames, kept, ticks, shown), path)
    return len(kept)


def gif_frames(ticks: NDArray[np.int64]) -> NDArray[np.int64]:
    """Frames of a GIF: the first, and each that comes two ticks or more after the last one kept and before the end.

    Args:
        ticks: Of every frame in centiseconds, rising, and of the end.

    Returns:
        Indices, rising.
    """
    kept = [0]
    for index, tick in enumerate(ticks[:-1]):
        if tick - ticks[kept[-1]] >= _LEAST_GIF_TICKS:
            kept.append(index)
    if len(kept) > 1 and ticks[-1] - ticks[kept[-1]] < _LEAST_GIF_TICKS:
        kept.pop()
    return np.array(kept)


def _selected(
    frames: Iterable[Frame], kept: NDArray[np.int64], ticks: NDArray[np.int64], shown: NDArray[np.int64]
) -> _Stream:
    place = {int(index): k for k, index in enumerate(kept)}
    for index, frame in enumerate(frames):
        if (k := place.get(index)) is not None:
            yield frame, int(ticks[index]), int(shown[k])


def _write_mp4(target: Path, stream: _Stream, path: Path) -> None:
    # Without B-frames: with them the file declares too short a duration where the rate varies.
    encoder = ("-c:v", "libx264", "-crf", "18", "-bf", "0", "-pix_fmt", "yuv420p", "-movflags", "+faststart")
    _run([*_timed("1/90000"), *encoder, _name(target)], path, stream, _MP4_TICK)


def _write_gif(target: Path, stream: _Stream, last_ticks: int, path: Path) -> None:
    """Two passes: a palette needs all frames before the first can be written, too many to keep in memory."""
    with tempfile.TemporaryDirectory() as folder:
        frames, palette = Path(folder, "frames.mkv"), Path(folder, "palette.png")
        lossless = ["-map", "[b]", *_timed("1/100"), "-c:v", "ffvhuff", "-pix_fmt", "rgb24", _name(frames)]
        colours = ["-map", "[p]", "-frames:v", "1", "-update", "1", _name(palette)]
        _run(["-filter_complex", _MAKE_PALETTE, *lossless, *colours], path, stream, _GIF_TICK)
        delays = [*_timed("1/100"), "-final_delay", str(last_ticks)]
        inputs = ["-i", _name(frames), "-i", _name(palette)]
        _run([*inputs, "-filter_complex", _USE_PALETTE, *delays, _name(target)], path)


def _timed(time_base: str) -> tuple[str, ...]:
    return ("-fps_mode", "passthrough", "-enc_time_base", time_base)


def _name(path: Path) -> str:
    return "file:" + os.fspath(path)


def _run(arguments: list[str], path: Path, stream: _Stream | None = None, tick_seconds: float = 1.0) -> None:
    """Run ffmpeg, with a stream of frames as its first input where one is given."""
    source = [] if stream is None else ["-f", "matroska", "-i", "pipe:0"]
    command = [ffmpeg_path(), "-hide_banner", "-loglevel", "error", "-y", *source, *arguments]
    with tempfile.TemporaryFile() as log:
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=log) as process:
            _feed(process, stream or iter(()), tick_seconds)
        if process.returncode:
            log.seek(0)
            cause = log.readline().decode("utf-8", "replace").strip()
            raise AttnrecError(f"{path}: ffmpeg could not write it: {cause}")


def _feed(process: "subprocess.Popen[bytes]", stream: _Stream, tick_seconds: float) -> None:
    assert process.stdin is not None
    try:
        with contextlib.suppress(BrokenPipeError):  # ffmpeg's own message says why
            for index, (frame, tick, num_ticks) in enumerate(stream):
                if index == 0:
                    height, width, _ = frame.shape
                    process.stdin.write(stream_header(width, height, tick_seconds))
                process.stdin.write(stream_frame(frame, tick, num_ticks))
            process.stdin.close()
    except BaseException:
        process.kill()
        raise


def stream_header(width: int, height: int, tick_seconds: float) -> bytes:
    """The head of a stream of RGB frames.

    Args:
        width: In px.
        height: In px.
        tick_seconds: Unit of the frames' times, at least a nanosecond.
    """
    video = _element("B0", _uint(width)) + _element("BA", _uint(height)) + _element("2EB524", b"RGB\x18")
    kind = _element("83", _uint(1)) + _element("86", b"V_UNCOMPRESSED") + _element("E0", video)
    track = _element("AE", _element("D7", _uint(1)) + _element("73C5", _uint(1)) + kind)
    info = _element("2AD7B1", _uint(round(tick_seconds * 1e9)))
    return b"".join(
        (
            _element("1A45DFA3", _element("4282", b"matroska")),
            bytes.fromhex("18538067") + _UNKNOWN_SIZE,
            _element("1549A966", info),
            _element("1654AE6B", track),
        )
    )


def stream_frame(frame: NDArray[np.uint8], tick: int, num_ticks: int) -> bytes:
    """One frame of the stream.

    Args:
        frame: RGB, shape (H, W, 3).
        tick: When it is shown, from 0.
        num_ticks: For how long.
    """
    block = _element("A1", _FIRST_TRACK + frame.tobytes()) + _element("9B", _uint(num_ticks))
    return _element("1F43B675", _element("E7", _uint(tick)) + _element("A0", block))


def _element(identity: str, content: bytes) -> bytes:
    return bytes.fromhex(identity) + b"\x01" + len(content).to_bytes(7, "big") + content


def _uint(number: int) -> bytes:
    return number.to_bytes(8, "big")
