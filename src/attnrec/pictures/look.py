"""One run's look at one clip: all that a picture of it needs, but for the frames.

Legend: S drawn samples, K grid side, C classes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from attnrec.pictures.overlay import Region, full_levels
from attnrec.pictures.styles import peaks_of
from attnrec.settings import PictureScale, PictureStyle

_PER_SAMPLE = ("frames", "times", "attention", "frame_probs", "entropy")


@dataclass(frozen=True)
class Look:
    """Where a run looks in a clip, and what it takes the clip for.

    Attributes:
        clip: Path of the clip.
        run: Folder of the run.
        label: What tells this run from others in the picture, for example `lambda 1`.
        predicted: Class of the whole clip and its probability, for example `jump 93 %`.
        truth: The true class, or None where it is not known.
        correct: Whether they agree; None where the truth is not known.
        classes: Class names.
        sample_fps: Most frames a second that the run's features keep of a clip; None keeps all.
        frames: Index of each sample among the kept frames, rising, shape (S,).
        times: Of each sample in seconds from the clip's first frame, rising, shape (S,).
        end: Of the last sample, in seconds.
        attention: Location probabilities, rows from the top, shape (S, K, K), each map summing to 1.
        frame_probs: Class probabilities of each sample, shape (S, C).
        entropy: Of each sample's attention, 1 for uniform, shape (S,).
        size: Width and height of the clip's frames in px, as they are shown.
        region: x0, y0, x1, y1 of the part of the frame that the run sees, as shares of width and height.
        boxes: By the index of a sample, corners x0, y0, x1, y1 of what was annotated in its frame, in px of `size`,
            half-open; samples without any are left out.
        note: What must be said of the attention in words; empty where the picture says it all.
    """

    clip: str
    run: str
    label: str
    predicted: str
    truth: str | None
    correct: bool | None
    classes: tuple[str, ...]
    sample_fps: float | None
    frames: NDArray[np.int64]
    times: NDArray[np.float64]
    end: float
    attention: NDArray[np.float32]
    frame_probs: NDArray[np.float32]
    entropy: NDArray[np.float64]
    size: tuple[int, int]
    region: Region
    boxes: Mapping[int, Sequence[Region]] = field(default_factory=dict)
    note: str = ""

    def __len__(self) -> int:
        return len(self.times)

    @property
    def verdict(self) -> str:
        """The prediction and whether it is right, in words, so that nobody needs the colour."""
        if self.correct is None:
            return self.predicted
        return f"{self.predicted}, right" if self.correct else f"{self.predicted}, wrong: is {self.truth}"

    def likeliest(self, most: int) -> list[int]:
        """So many classes of the highest mean probability, the highest first, and the true one in any case."""
        order: list[int] = np.argsort(-self.frame_probs.mean(axis=0), kind="stable").tolist()
        shown = order[:most]
        if self.truth in self.classes and (true := self.classes.index(self.truth)) not in shown:
            shown[-1] = true
        return shown

    def full(self, style: PictureStyle, scale: PictureScale) -> NDArray[np.float64]:
        """Attention of one location that is drawn at full strength, for each sample, shape (S,)."""
        return full_levels(self.attention, peaks_of(self.attention, style), scale)

    def region_in(self, width: int, height: int) -> Region:
        """What the run sees of a frame that is shown at a size, in px."""
        x0, y0, x1, y1 = self.region
        return x0 * width, y0 * height, x1 * width, y1 * height

    def boxes_in(self, step: int, width: int, height: int) -> list[Region]:
        """Boxes of a sample in its frame that is shown at a size, in px."""
        across, down = width / self.size[0], height / self.size[1]
        return [(x0 * across, y0 * down, x1 * across, y1 * down) for x0, y0, x1, y1 in self.boxes.get(step, ())]

    def every(self, step: int) -> "Look":
        """The look with its first sample and every `step`-th after it."""
        columns = {name: getattr(self, name)[::step] for name in _PER_SAMPLE}
        boxes = {index // step: found for index, found in self.boxes.items() if index % step == 0}
        return replace(self, boxes=boxes, **columns)

    def shown_size(self, width: int) -> tuple[int, int]:
        """Width and height in px of a frame in a box that is so wide and twice as high, at the clip's aspect, even."""
        wide, high = self.size
        factor = min(width / wide, 2 * width / high)
        return max(2, 2 * round(wide * factor / 2)), max(2, 2 * round(high * factor / 2))
