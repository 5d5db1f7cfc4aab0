"""Frames to video files, through ffmpeg as a process of ours."""

import contextlib
import os
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from attnrec.data.ffmpeg import ffmpeg_path
from attnrec.errors import AttnrecError
from attnrec.runtime import atomic_path

_GIF_FILTERS = "split[a][b];[a]palettegen=stats_mode=full[p];[b][p]paletteuse=dither=bayer:bayer_scale=4"


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
    with atomic_path(path, overwrite=overwrite) as temporary, tempfile.TemporaryFile() as log:
        command = _encode_command(temporary, first.shape, fps)
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=log) as process:
            _feed(process, first, stream)
        if process.returncode:
            log.seek(0)
            cause = log.readline().decode("utf-8", "replace").strip()
            raise AttnrecError(f"{path}: ffmpeg could not write it: {cause}")


def _encode_command(target: Path, shape: tuple[int, ...], fps: float) -> list[str]:
    height, width, _ = shape
    if target.suffix.lower() == ".gif":
        output = ["-filter_complex", _GIF_FILTERS]
    else:
        output = ["-c:v", "libx264", "-crf", "18", "-pix_fmt", "yuv420p", "-movflags", "+faststart"]
    return [
        *(ffmpeg_path(), "-hide_banner", "-loglevel", "error", "-y"),
        *("-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}"),
        *("-framerate", f"{fps:.6f}", "-i", "pipe:0"),
        *output,
        "file:" + os.fspath(target),
    ]


def _feed(process: "subprocess.Popen[bytes]", first: NDArray[np.uint8], rest: Iterator[NDArray[np.uint8]]) -> None:
    assert process.stdin is not None
    try:
        with contextlib.suppress(BrokenPipeError):  # ffmpeg's own message says why
            process.stdin.write(first.tobytes())
            for frame in rest:
                process.stdin.write(frame.tobytes())
            process.stdin.close()
    except BaseException:
        process.kill()
        raise
