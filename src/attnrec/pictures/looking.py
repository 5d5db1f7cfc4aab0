"""A run and a clip to a `Look`, and the frames that belong to it."""

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from attnrec.datasets.folders import label_of
from attnrec.errors import AttnrecError, ConfigError, VideoError
from attnrec.evaluation.gaze import gaze_note
from attnrec.evaluation.predict import AttendedClip, Recognizer
from attnrec.metrics import attention_entropy
from attnrec.pictures.look import Look
from attnrec.pictures.shown_boxes import BoxSource, sample_boxes
from attnrec.settings import PictureConfig
from attnrec.video.decode import FrameReader, probe, seen_region


def look_at(
    recognizer: Recognizer,
    clip: Path,
    config: PictureConfig,
    *,
    label: str = "",
    truth: Sequence[str] = (),
    boxes: BoxSource | None = None,
) -> tuple[Look, AttendedClip]:
    """Let a run look at a clip. The prediction is of the whole clip, the look of the part that is to be drawn.

    Args:
        recognizer: A run with attention.
        clip: A video.
        config: Which part of the clip.
        label: Of the run in the picture.
        truth: The clip's true classes; where there are none they are read off its name or folder.
        boxes: What was annotated, in this clip or others.

    Returns:
        The look, and what it was made from.

    Raises:
        RunError: The run has no attention.
        VideoError: The clip cannot be decoded.
        ConfigError: The clip has ended before the part to draw.
        DataError: Its boxes cannot be used.
    """
    attended = recognizer.attend(clip)
    info, spec = probe(clip), recognizer.run.manifest.features
    if not truth and not recognizer.run.manifest.model.multilabel:
        # Where clips have several labels, no folder or name tells them all.
        truth = [name] if (name := label_of(clip, recognizer.classes)) is not None else []
    x0, y0, x1, y1 = seen_region(info.width, info.height, spec.resize)
    chosen, end = _drawn_part(attended, clip, config)
    attention, times, size = attended.attention[chosen], attended.times[chosen], (info.width, info.height)
    entropy = np.array([attention_entropy(cells.ravel()) for cells in attention])
    look = Look(
        clip=str(clip),
        run=str(recognizer.run.path),
        label=label,
        predicted=str(attended.prediction),
        truth="; ".join(truth) if truth else None,
        correct=attended.prediction.predicted in truth if truth else None,
        classes=tuple(recognizer.classes),
        sample_fps=spec.sample_fps,
        frames=attended.frames[chosen],
        times=times,
        end=end,
        attention=attention,
        frame_probs=attended.frame_probs[chosen],
        entropy=entropy,
        size=size,
        region=(x0 / info.width, y0 / info.height, x1 / info.width, y1 / info.height),
        boxes={} if boxes is None else sample_boxes(boxes, clip, attended, times, size, spec.sample_fps),
        note=gaze_note(float(entropy.mean())),
    )
    return look, attended


def reason_of(error: AttnrecError) -> str:
    """Why a clip is left out, in a word where a video has one."""
    return error.reason if isinstance(error, VideoError) else str(error)


def shown_frames(look: Look, width: int, steps: NDArray[np.int64] | None = None) -> Iterator[NDArray[np.uint8]]:
    """Frames of a look's samples, decoded one by one at the clip's own aspect.

    Args:
        look: At the clip.
        width: Of the box that they fit into, see `Look.shown_size`.
        steps: Indices of the samples that are wanted, not falling; None: all.

    Yields:
        RGB, shape (H, W, 3); the same again where a sample is wanted twice.

    Raises:
        VideoError: The clip cannot be decoded.
    """
    wide, high = look.shown_size(width)
    wanted = Counter((look.frames if steps is None else look.frames[steps]).tolist())
    reader = FrameReader(Path(look.clip), width=wide, height=high, max_fps=look.sample_fps)
    for index, (frame, _) in enumerate(reader):
        yield from itertools.repeat(frame, wanted.pop(index, 0))
        if not wanted:
            return


def equal_steps(look: Look, number: int) -> NDArray[np.int64]:
    """So many equally spaced samples of a look from its first to its last, or all where there are fewer."""
    return np.unique(np.rint(np.linspace(0, len(look) - 1, number)).astype(np.int64))


def _drawn_part(attended: AttendedClip, clip: Path, config: PictureConfig) -> tuple[NDArray[np.int64], float]:
    """Samples to draw, by index, and the second at which the last one's time is over."""
    end = attended.end if config.duration is None else min(attended.end, config.start + config.duration)
    # Times are exact, the user's decimals are not.
    chosen = np.flatnonzero((attended.times >= config.start - 1e-6) & (attended.times < end - 1e-6))
    if len(chosen) == 0:
        raise ConfigError(
            f"{clip}: nothing to draw from {config.start:g} s on; its last sample is at {attended.times[-1]:.2f} s"
        )
    return chosen, max(end, float(attended.times[chosen[-1]]) + 0.01)
