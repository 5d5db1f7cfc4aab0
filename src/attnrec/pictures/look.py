"""One run's look at one clip: everything that a picture of it needs, and the clip's frames.

Legend: S drawn samples, K grid side, C classes.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from attnrec.datasets.folders import label_of
from attnrec.drawing.light import full_levels, peaks_of
from attnrec.errors import AttnrecError, ConfigError, VideoError
from attnrec.evaluation.attended import AttendedClip, Prediction
from attnrec.evaluation.gaze import gaze_note
from attnrec.evaluation.predict import Recognizer
from attnrec.features.boxes import BoxTable
from attnrec.metrics import attention_entropy
from attnrec.pictures.boxes import BoxSource, sample_boxes
from attnrec.runtime import OnProgress, Progress, no_progress
from attnrec.settings import PictureConfig, PictureScale, PictureStyle
from attnrec.specs import LayerGrid
from attnrec.video.decode import Region, probe, seen_region
from attnrec.video.frames import fitted_size, frames_at

_PER_SAMPLE = ("frames", "times", "attention", "frame_probs", "entropy", "looked_at")


@dataclass(frozen=True)
class Look:
    """Where a run looks in a clip, and its prediction."""

    clip: str
    run: str  # folder of the run
    label: str  # label that tells this run from others in the picture, such as `lambda 1`
    prediction: Prediction  # prediction of the whole clip
    truth: str | None  # true class; None if unknown
    correct: bool | None  # whether the prediction is the true class; None if that is unknown
    classes: tuple[str, ...]
    sample_fps: float | None  # most frames a second that the run's features keep of a clip; None keeps all
    frames: NDArray[np.int64]  # index of each sample among the kept frames, rising, shape (S,)
    times: NDArray[np.float64]  # time of each sample in seconds from the clip's first frame, rising, shape (S,)
    end: float  # end of the last sample, in seconds
    attention: NDArray[np.float32]  # location probabilities, rows from the top, shape (S, K, K), each summing to 1
    frame_probs: NDArray[np.float32]  # class probabilities of each sample, shape (S, C)
    entropy: NDArray[np.float64]  # entropy of each sample's attention, 1 for uniform, shape (S,)
    size: tuple[int, int]  # width and height of the clip's displayed frames in px
    region: Region  # x0, y0, x1, y1 of the part of the frame that the run sees, as shares of width and height
    boxes: Mapping[int, Sequence[Region]] = field(default_factory=dict)
    """Corners x0, y0, x1, y1 of the boxes in a sample's frame, in px of `size`, half-open, by the sample's index;
    samples without boxes are left out."""
    layers: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    """What the locations of each of several layers got of the attention, shape (S, K_m, K_m); empty for one layer."""
    note: str = ""  # notes on the attention: where hard attention looked, that it is even, how layers share it
    looked_at: NDArray[np.bool_] | None = None  # cells that hard attention looked at, shape (S, K, K); None for soft

    def __len__(self) -> int:
        return len(self.times)

    @property
    def verdict(self) -> str:
        """The prediction and whether it is right, as text, so that the colour is not needed."""
        if self.correct is None:
            return str(self.prediction)
        return f"{self.prediction}, right" if self.correct else f"{self.prediction}, wrong: is {self.truth}"

    def likeliest(self, most: int) -> list[int]:
        """At most `most` classes of the highest mean probability, highest first, always with the true class."""
        order: list[int] = np.argsort(-self.frame_probs.mean(axis=0), kind="stable").tolist()
        shown = order[:most]
        if self.truth in self.classes and (true := self.classes.index(self.truth)) not in shown:
            shown[-1] = true
        return shown

    def full(self, style: PictureStyle, scale: PictureScale) -> NDArray[np.float64]:
        """Attention of one location that is drawn at full strength, for each sample, shape (S,)."""
        return full_levels(self.attention, peaks_of(self.attention, style), scale)

    def region_in(self, width: int, height: int) -> Region:
        """The part that the run sees of a frame of this size, in px."""
        x0, y0, x1, y1 = self.region
        return x0 * width, y0 * height, x1 * width, y1 * height

    def boxes_in(self, step: int, width: int, height: int) -> list[Region]:
        """The boxes of a sample in a frame of this size, in px."""
        across, down = width / self.size[0], height / self.size[1]
        return [(x0 * across, y0 * down, x1 * across, y1 * down) for x0, y0, x1, y1 in self.boxes.get(step, ())]

    def cells_in(self, step: int, width: int, height: int) -> list[Region]:
        """The cells that hard attention looked at in a sample, in a frame of this size, in px."""
        if self.looked_at is None:
            return []
        K, (x0, y0, x1, y1) = self.looked_at.shape[1], self.region_in(width, height)
        across, down = (x1 - x0) / K, (y1 - y0) / K
        return [
            (x0 + column * across, y0 + row * down, x0 + (column + 1) * across, y0 + (row + 1) * down)
            for row, column in np.argwhere(self.looked_at[step]).tolist()
        ]

    def equal_steps(self, number: int) -> NDArray[np.int64]:
        """Indices of `number` equally spaced samples from the first to the last; all if there are fewer."""
        return np.unique(np.rint(np.linspace(0, len(self) - 1, number)).astype(np.int64))

    def nearest_steps(self, times: NDArray[np.float64]) -> NDArray[np.int64]:
        """Index of the sample nearest to each time."""
        return np.asarray(np.abs(self.times[:, None] - times).argmin(axis=0), np.int64)

    def every(self, step: int) -> "Look":
        """The look thinned to its first sample and every `step`-th after it."""
        columns = {name: column[::step] for name in _PER_SAMPLE if (column := getattr(self, name)) is not None}
        boxes = {index // step: found for index, found in self.boxes.items() if index % step == 0}
        layers = {layer: maps[::step] for layer, maps in self.layers.items()}
        return replace(self, boxes=boxes, layers=layers, **columns)

    def shown_size(self, width: int) -> tuple[int, int]:
        """Width and height in px of a frame, see `fitted_size`."""
        return fitted_size(self.size, width)


def look_at(
    recognizer: Recognizer,
    clip: Path,
    config: PictureConfig,
    *,
    label: str = "",
    truth: Sequence[str] = (),
    boxes: BoxSource | None = None,
) -> Look:
    """Let a run look at a clip. The prediction is of the whole clip, the look of the part to draw.

    Args:
        recognizer: A run with attention.
        clip: A video.
        config: Settings that give the part of the clip to draw.
        label: Label of the run in the picture.
        truth: The clip's true classes; if empty, the class is read from its name or folder.
        boxes: Source of boxes, of this clip or others.

    Raises:
        RunError: The run has no attention.
        VideoError: The clip cannot be decoded.
        ConfigError: The clip ends before the part to draw.
        DataError: The clip's boxes cannot be used.
    """
    attended = recognizer.attend(clip)
    info, spec = probe(clip), recognizer.run.manifest.features
    if not truth and not recognizer.run.manifest.model.multilabel:
        # If clips may have several labels, no folder or name gives them all.
        truth = [name] if (name := label_of(clip, recognizer.classes)) is not None else []
    x0, y0, x1, y1 = seen_region(info.width, info.height, spec.resize)
    chosen, end = _drawn_part(attended, clip, config)
    attention, times, size = attended.attention[chosen], attended.times[chosen], (info.width, info.height)
    entropy = np.array([attention_entropy(cells.ravel()) for cells in attention])
    layers = {layer: maps[chosen] for layer, maps in attended.layers.items()} if len(attended.layers) > 1 else {}
    looks = _looks_note(attended, spec.grids, recognizer.samples)
    notes = (looks, gaze_note(float(entropy.mean())), _shares_note(layers))
    return Look(
        clip=str(clip),
        run=str(recognizer.run.path),
        label=label,
        prediction=attended.prediction,
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
        note="; ".join(filter(None, notes)),
        layers=layers,
        looked_at=None if attended.looked_at is None else attended.looked_at[chosen] > 0,
    )


def _looks_note(attended: AttendedClip, grids: Sequence[LayerGrid], samples: int) -> str:
    """Note that hard attention looks at the outlined cells only; empty for soft attention."""
    if attended.looked_at is None:
        return ""
    sizes = " or ".join(dict.fromkeys(f"{K} x {K}" for _, K, _ in grids))
    often = f"drawn {samples} times, all outlined" if samples else "outlined"
    return f"looks at one cell of {sizes} at a time ({often}); the light is where it might have looked"


def _shares_note(layers: Mapping[str, NDArray[np.float32]]) -> str:
    """How much of the attention each of several layers got in the drawn samples, as text; empty for one layer."""
    listed = ", ".join(f"{layer} {maps.sum(axis=(1, 2)).mean():.0%}" for layer, maps in layers.items())
    return f"attention by layer: {listed}" if layers else ""


def _drawn_part(attended: AttendedClip, clip: Path, config: PictureConfig) -> tuple[NDArray[np.int64], float]:
    """Indices of the samples to draw, and the time at which the last one ends, in seconds."""
    end = attended.end if config.duration is None else min(attended.end, config.start + config.duration)
    # Times are exact, the user's decimals are not.
    chosen = np.flatnonzero((attended.times >= config.start - 1e-6) & (attended.times < end - 1e-6))
    if len(chosen) == 0:
        raise ConfigError(
            f"{clip}: nothing to draw from {config.start:g} s on; its last sample is at {attended.times[-1]:.2f} s"
        )
    return chosen, max(end, float(attended.times[chosen[-1]]) + 0.01)


def note_unboxed(looks: Sequence[Look], source: BoxSource | None, on_progress: OnProgress) -> None:
    """Report that a given file of boxes has none for the part of a clip that is shown."""
    if isinstance(source, BoxTable) and not any(look.boxes for look in looks):
        message = f"{looks[0].clip}: {source.path} has no box of what is shown; its paths are those in the data set"
        on_progress(Progress("look", message=message))


def reason_of(error: AttnrecError) -> str:
    """Why a clip is left out: the short reason of a VideoError, or the message of another error."""
    return error.reason if isinstance(error, VideoError) else str(error)


def shown_frames(
    look: Look, width: int, steps: NDArray[np.int64] | None = None, on_progress: OnProgress = no_progress
) -> Iterator[NDArray[np.uint8]]:
    """Decode the frames of a look's samples one by one, at the clip's own aspect.

    Args:
        look: The look at the clip.
        width: Maximum width of the frames, see `Look.shown_size`.
        steps: Indices of the samples to decode, not falling; None for all.
        on_progress: Called for every frame.

    Yields:
        RGB frames, shape (H, W, 3); a sample that is given twice is yielded twice.

    Raises:
        VideoError: The clip cannot be decoded.
    """
    wide, high = look.shown_size(width)
    indices = look.frames if steps is None else look.frames[steps]
    frames = frames_at(Path(look.clip), indices.tolist(), width=wide, height=high, max_fps=look.sample_fps)
    for done, frame in enumerate(frames, start=1):
        on_progress(Progress("draw", done, len(indices)))
        yield frame
