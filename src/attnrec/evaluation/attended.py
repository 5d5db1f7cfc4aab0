"""What a run says of a clip: its prediction, and where it looks.

Legend: S drawn samples, K grid side, C classes, n chosen samples, H and W of a frame in px.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from attnrec.settings import PictureScale, PictureStyle, Resize
from attnrec.video.decode import probe, seen_region
from attnrec.video.frames import fitted_size, frames_at

SHOWN_STEPS, SHOWN_PX = 6, 160  # samples of a clip that a notebook shows, and their width
SHOWN_CLASSES = 5


@dataclass(frozen=True)
class Prediction:
    """Class probabilities of a clip.

    Attributes:
        path: Path of the clip.
        predicted: The most probable class.
        probability: Probability of that class.
        labels: The most probable class; if a clip may have several, all with a probability of at least 0.5, if any.
        probs: Probability of every class.
        num_blocks: Number of blocks that the prediction is made from.
        status: `ok`, or what is wrong with the video.
    """

    path: str
    predicted: str
    probability: float
    labels: list[str]
    probs: dict[str, float]
    num_blocks: int
    status: str

    def __str__(self) -> str:
        """The labels with their probabilities; the most probable class if there is no label."""
        names = sorted(self.labels or [self.predicted], key=lambda name: -self.probs[name])
        return ", ".join(f"{name} {self.probs[name]:.0%}" for name in names)

    def _repr_html_(self) -> str:
        from attnrec.drawing.notebook import bars_html, heading_html, line_html

        likeliest = sorted(self.probs.items(), key=lambda item: -item[1])[:SHOWN_CLASSES]
        status = "" if self.status == "ok" else line_html(self.status)
        return heading_html(self.path) + bars_html(likeliest) + status


@dataclass(frozen=True)
class AttendedClip:
    """Where a run looks in a clip.

    Attributes:
        prediction: Prediction of the clip.
        frames: Index of each sample among the clip's kept frames, rising, shape (S,).
        times: Time of each sample in seconds from the first frame, shape (S,).
        attention: Location probabilities as seen in the frame, shape (S, K, K), each map summing to 1; of several
            layers all that they say of a place.
        layers: What each layer's own locations got of it, shape (S, K_m, K_m), by the layer's name.
        frame_probs: Class probabilities of each time-step, shape (S, C).
        end: End of the clip, in seconds from its first frame.
        own_fps: Frame rate of the clip itself.
        is_variable_rate: Whether the clip's frame intervals vary, so that frame numbers do not give times.
        looked_at: Share of the passes in which hard attention looked at each cell, shape (S, K, K); None for soft.
        sample_fps: Most frames a second that are kept of a clip; None keeps all.
        resize: How frames are brought to the network's size, `stretch` or `crop`.
    """

    prediction: Prediction
    frames: NDArray[np.int64] = field(repr=False)
    times: NDArray[np.float64] = field(repr=False)
    attention: NDArray[np.float32] = field(repr=False)
    layers: dict[str, NDArray[np.float32]] = field(repr=False)
    frame_probs: NDArray[np.float32] = field(repr=False)
    end: float
    own_fps: float
    is_variable_rate: bool
    looked_at: NDArray[np.float32] | None = field(default=None, repr=False)
    sample_fps: float | None = None
    resize: Resize = "stretch"

    def __len__(self) -> int:
        return len(self.times)

    def pictures(self, steps: Sequence[int] | None = None, *, width: int = 224) -> NDArray[np.uint8]:
        """Decode the frames of samples.

        Args:
            steps: Indices of the samples, in any order; None for all.
            width: Most px of a frame's width.

        Returns:
            RGB frames at the clip's own aspect, shape (n, H, W, 3).

        Raises:
            VideoError: The clip cannot be decoded.
        """
        clip = Path(self.prediction.path)
        info = probe(clip)
        wide, high = fitted_size((info.width, info.height), width)
        chosen = self.frames if steps is None else self.frames[list(steps)]
        found = frames_at(clip, sorted(chosen.tolist()), width=wide, height=high, max_fps=self.sample_fps)
        frames = np.empty((len(chosen), high, wide, 3), np.uint8)
        for place, frame in zip(np.argsort(chosen, kind="stable"), found, strict=True):
            frames[place] = frame
        return frames

    def overlays(
        self,
        steps: Sequence[int] | None = None,
        *,
        width: int = 224,
        style: PictureStyle = "paper",
        scale: PictureScale = "clip",
    ) -> NDArray[np.uint8]:
        """Draw the attention over the frames of samples; arguments, result and errors as of `pictures`.

        Args:
            steps: Indices of the samples, in any order; None for all.
            width: Most px of a frame's width.
            style: How attention is drawn, as in `visualize`.
            scale: What full strength stands for, as in `visualize`.
        """
        from attnrec.drawing.light import attended_frame, full_levels, peaks_of

        frames = self.pictures(steps, width=width)
        _, high, wide, _ = frames.shape
        info = probe(Path(self.prediction.path))
        x0, y0, x1, y1 = seen_region(info.width, info.height, self.resize)
        across, down = wide / info.width, high / info.height
        region = x0 * across, y0 * down, x1 * across, y1 * down
        full = full_levels(self.attention, peaks_of(self.attention, style), scale)
        drawn = [
            attended_frame(frame, self.attention[step], style=style, full=float(full[step]), region=region)
            for frame, step in zip(frames, range(len(self)) if steps is None else steps, strict=True)
        ]
        return np.array(drawn, np.uint8).reshape(frames.shape)

    def _repr_html_(self) -> str:
        from attnrec.drawing.notebook import image_html, line_html

        steps: list[int] = np.unique(np.linspace(0, len(self) - 1, SHOWN_STEPS).round().astype(int)).tolist()
        rows = [np.concatenate(list(of(steps, width=SHOWN_PX)), axis=1) for of in (self.pictures, self.overlays)]
        words = f"{self.prediction.path}: frames, and below them where the model looks"
        times = ", ".join(f"{self.times[step]:.2f}" for step in steps)
        picture = image_html(cast(NDArray[np.uint8], np.concatenate(rows)), words)
        return self.prediction._repr_html_() + picture + line_html(f"{len(self)} steps; these are at {times} s")
