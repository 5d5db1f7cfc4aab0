"""Small videos made by ffmpeg, how they decode, and what a decode leaves behind."""

import os
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from attnrec.demo.sample import generate_clips
from attnrec.errors import VideoError
from attnrec.video.decode import REASONS, FrameReader, probe
from attnrec.video.ffmpeg import ffmpeg_path

WIDTH, HEIGHT = 64, 48
LOSSLESS = ("-c:v", "libx264rgb", "-qp", "0")


def ffmpeg(*arguments: object, data: bytes | None = None) -> bytes:
    command = [ffmpeg_path(), "-hide_banner", "-loglevel", "error", "-y", *map(str, arguments)]
    return subprocess.run(command, input=data or b"", capture_output=True, check=True).stdout


def noise(num_frames: int, height: int = HEIGHT, width: int = WIDTH) -> NDArray[np.uint8]:
    return np.random.default_rng(num_frames).integers(0, 256, (num_frames, height, width, 3), dtype=np.uint8)


def numbered(num_frames: int) -> NDArray[np.uint8]:
    """Frames whose only grey level, 3 k, is their number."""
    assert num_frames <= 85
    return np.broadcast_to(np.arange(num_frames, dtype=np.uint8)[:, None, None, None] * 3, (num_frames, 16, 16, 3))


def write(path: Path, frames: NDArray[np.uint8], *options: object, fps: object = 30, codec=LOSSLESS) -> Path:
    _, height, width, _ = frames.shape
    source = ("-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-framerate", fps, "-i", "pipe:0")
    ffmpeg(*source, *codec, *options, f"file:{path}", data=np.ascontiguousarray(frames).tobytes())
    return path


def write_timed(path: Path, milliseconds: list[int]) -> Path:
    """A clip of numbered frames at the given times."""
    table = "+".join(rf"eq(N\,{k})*{time}" for k, time in enumerate(milliseconds))
    timing = ("-vf", f"settb=1/1000,setpts={table}", "-fps_mode", "passthrough", "-enc_time_base", "1/1000", "-bf", "0")
    tracks = ("-video_track_timescale", "1000") if path.suffix == ".mp4" else ()
    return write(path, numbered(len(milliseconds)), *timing, *tracks)


def write_actions(folder: Path, **options: int | float) -> list[list[object]]:
    """The demo's clips in class folders, and the rows of a `boxes.csv` for them; options as in `generate_clips`."""
    rows: list[list[object]] = []
    for clip in generate_clips(**options):
        path = folder / clip.action / f"{clip.name}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path, clip.frames, "-pix_fmt", "yuv420p", fps=clip.fps, codec=("-c:v", "libx264", "-threads", "1"))
        name = path.relative_to(folder).as_posix()
        rows += [[name, frame / clip.fps, *map(int, box)] for frame, box in enumerate(clip.boxes)]
    return rows


def decode(path: Path, **options) -> tuple[NDArray[np.uint8], list[float], FrameReader]:
    reader = FrameReader(path, **({"width": WIDTH, "height": HEIGHT} | options))
    frames, times = zip(*reader, strict=True)
    return np.stack(frames), list(times), reader


def failure(path: Path, **options) -> VideoError:
    with pytest.raises(VideoError) as caught:
        decode(path, **options)
    assert caught.value.reason in REASONS
    assert str(caught.value).startswith(f"{path}: {caught.value.reason}: ")
    return caught.value


def probe_failure(path: Path) -> VideoError:
    with pytest.raises(VideoError) as caught:
        probe(path)
    assert caught.value.reason in REASONS
    return caught.value


def outcome(path: Path, **options) -> str:
    """The status of a decode, or the reason why there is none."""
    reader = FrameReader(path, **({"width": WIDTH, "height": HEIGHT} | options))
    try:
        for _ in reader:
            pass
    except VideoError as error:
        return error.reason
    return reader.summary.status


def children() -> set[int]:
    """Processes, zombies among them, that this one has started."""
    if not Path("/proc/self/stat").exists():
        pytest.skip("no /proc")
    found = set()
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            if int(entry.read_text().rpartition(")")[2].split()[1]) == os.getpid():
                found.add(int(entry.parent.name))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def open_files() -> list[str]:
    """What this process has open."""
    found = []
    for entry in Path("/proc/self/fd").iterdir():
        try:
            found.append(str(entry.readlink()))
        except FileNotFoundError:  # that of this look itself
            continue
    return sorted(re.sub(r"\d+", "", name) for name in found)
