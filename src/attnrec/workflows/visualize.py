"""A clip to a picture of where a run looks, at the clip's own speed."""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from attnrec.config import Resize
from attnrec.data.encode import write_video
from attnrec.data.folders import label_of
from attnrec.data.video import FrameReader, VideoInfo, probe
from attnrec.errors import ConfigError
from attnrec.metrics import attention_entropy
from attnrec.render.overlay import attended_frame, white_level
from attnrec.render.strip import Caption, pair
from attnrec.runtime import OnProgress, Progress, no_progress, require_free
from attnrec.workflows.predict import AttendedClip, Recognizer

FORMATS = (".gif", ".mp4")
MAX_GIF_FPS = 50  # viewers slow down shorter delays


@dataclass(frozen=True)
class VisualizeReport:
    """What was drawn.

    Attributes:
        out: The picture.
        run: Folder of the run.
        predicted: Most probable class of the clip.
        probability: Of that class.
        status: `ok`, or what is wrong with the video.
        truth: True class by the clip's name or folder; None where it is not known.
        num_frames: Drawn.
        fps: Of the picture: what the clip's own times give.
        attention_entropy: Mean over the frames, 1 for uniform attention.
        seconds: Taken.
    """

    out: str
    run: str
    predicted: str
    probability: float
    status: str
    truth: str | None
    num_frames: int
    fps: float
    attention_entropy: float
    seconds: float


def visualize(
    recognizer: Recognizer,
    clip: str | Path,
    out: str | Path,
    *,
    width: int = 240,
    overwrite: bool = False,
    on_progress: OnProgress = no_progress,
) -> VisualizeReport:
    """Draw a clip beside itself with the run's attention over it.

    Args:
        recognizer: A run with attention.
        clip: A video.
        out: Ends in `.gif` or `.mp4`.
        width: Of each of the two pictures, in px.
        overwrite: Replace a file that is there.
        on_progress: Told of every frame.

    Returns:
        What was drawn.

    Raises:
        ConfigError: `out` has another suffix, or `width` is out of range.
        RunError: The run has no attention.
        VideoError: The clip cannot be decoded.
        AttnrecError: `out` is there already or cannot be written.
    """
    started = time.monotonic()
    clip, out = Path(clip), Path(out)
    require_format(out)
    require_free(out, overwrite=overwrite)
    if not 64 <= width <= 1920:
        raise ConfigError(f"--width {width}: must be from 64 to 1920 px")
    on_progress(Progress("look", 0, 1, clip.name))
    attended = recognizer.attend(clip)
    if out.suffix.lower() == ".gif":
        attended = _thinned(attended, MAX_GIF_FPS)
    # Where clips have several labels, no folder or name tells them all.
    several = recognizer.run.manifest.model.multilabel
    truth = None if several else label_of(clip, recognizer.classes)
    fps = _mean_rate(attended.times)
    frames = _drawn_frames(recognizer, clip, attended, truth, width, on_progress)
    write_video(out, frames, fps, overwrite=overwrite)
    return VisualizeReport(
        out=str(out),
        run=str(recognizer.run.path),
        predicted=attended.prediction.predicted,
        probability=attended.prediction.probability,
        status=attended.prediction.status,
        truth=truth,
        num_frames=len(attended.frames),
        fps=fps,
        attention_entropy=attention_entropy(attended.attention.reshape(len(attended.frames), -1)),
        seconds=time.monotonic() - started,
    )


def require_format(out: Path) -> None:
    """Check the suffix of a picture before any work is done.

    Raises:
        ConfigError: It is not one of `FORMATS`.
    """
    if out.suffix.lower() not in FORMATS:
        raise ConfigError(f"{out}: cannot draw {out.suffix or 'a file without suffix'}; use {' or '.join(FORMATS)}")


def seen_region(info: VideoInfo, width: int, height: int, resize: Resize) -> tuple[int, int, int, int]:
    """Part of a displayed frame that the network sees, x0, y0, x1, y1 in px, half-open.

    Args:
        info: Of the clip.
        width: Of the displayed frame, in px.
        height: Of the displayed frame, in px.
        resize: How frames were brought to the network's square.
    """
    if resize == "stretch":
        return 0, 0, width, height
    side = min(info.width, info.height)
    w, h = round(width * side / info.width), round(height * side / info.height)
    x0, y0 = (width - w) // 2, (height - h) // 2
    return x0, y0, x0 + w, y0 + h


def _drawn_frames(
    recognizer: Recognizer,
    clip: Path,
    attended: AttendedClip,
    truth: str | None,
    width: int,
    on_progress: OnProgress,
) -> Iterator[NDArray[np.uint8]]:
    info, spec = probe(clip), recognizer.run.manifest.features
    height = max(2, round(width * info.height / info.width))
    region = seen_region(info, width, height, spec.resize)
    reader = FrameReader(clip, width=width, height=height, max_fps=spec.sample_fps)
    white = white_level(attended.attention)
    uniform = 1 / spec.num_locations
    sample_of = {int(frame): sample for sample, frame in enumerate(attended.frames)}
    for index, (frame, _) in enumerate(reader):
        if (sample := sample_of.get(index)) is None:
            continue
        attention = attended.attention[sample]
        lit = attended_frame(frame, attention, white=white, region=region)
        on_progress(Progress("draw", sample + 1, len(sample_of)))
        peak = float(attention.max()) / uniform
        note = f"{attended.times[sample]:.2f} s   white: {white / uniform:.1f} x uniform, peak here {peak:.1f}"
        yield pair(frame, lit, _caption(attended, truth, note))


def _thinned(attended: AttendedClip, max_fps: float) -> AttendedClip:
    """Every sample, or every second, third, ..., so that no more than `max_fps` are left for a second."""
    step = math.ceil(_mean_rate(attended.times) / max_fps - 1e-6)
    return replace(
        attended,
        frames=attended.frames[::step],
        times=attended.times[::step],
        attention=attended.attention[::step],
        frame_probs=attended.frame_probs[::step],
    )


def _caption(attended: AttendedClip, truth: str | None, note: str) -> Caption:
    prediction = attended.prediction
    return Caption(
        predicted=str(prediction),
        truth=truth,
        correct=None if truth is None else truth == prediction.predicted,
        note=note,
    )


def _mean_rate(times: NDArray[np.float64]) -> float:
    """Frames per second that plays samples in the time that they took; one a second for a single sample."""
    return float((len(times) - 1) / (times[-1] - times[0])) if len(times) > 1 else 1.0
