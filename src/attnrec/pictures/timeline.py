"""Class probabilities and the entropy of attention over a clip, as a chart with a cursor.

Legend: S samples, C classes, H and W in px.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from attnrec.pictures.look import Look
from attnrec.pictures.text import Colour, Theme, drawable, fitted, font, text_width

CURVES = 4  # more cannot be told apart
PROBS_PX, ENTROPY_PX, SPACE_PX = 52, 18, 5
HEIGHT_PX = PROBS_PX + SPACE_PX + ENTROPY_PX
LETTERS_PX = 11
LEFT_PX = 6  # margin
LEAST_RIGHT_PX, MOST_RIGHT = 128, 0.5  # room for names and figures, and the most of it as a share of the width
_FINE = 4  # lines are drawn so many times larger, then reduced, which smooths them


@dataclass(frozen=True)
class Timeline:
    """A chart that is drawn once, for all steps of a clip.

    Attributes:
        look: What it shows.
        theme: Its colours.
        classes: Index of the class of each curve.
        plot: Right end of the curves in px.
        picture: The chart without cursor and figures, shape (H, W, 3).
    """

    look: Look
    theme: Theme
    classes: tuple[int, ...]
    plot: int
    picture: NDArray[np.uint8]

    def at(self, step: int) -> Image.Image:
        """The chart with its cursor at a sample, and the figures of that sample beside it."""
        canvas = Image.fromarray(self.picture)
        draw = ImageDraw.Draw(canvas)
        plot = self.plot
        x = round(_places(self.look, plot)[step])
        draw.line([(x, 0), (x, canvas.height)], fill=self.theme.plain)
        letters, right = font(LETTERS_PX), canvas.width - LEFT_PX
        rows = [
            (self.theme.lines[k], self.look.classes[c], f"{self.look.frame_probs[step, c]:.0%}")
            for k, c in enumerate(self.classes)
        ]
        tops = [k * PROBS_PX / CURVES for k in range(len(rows))] + [PROBS_PX + SPACE_PX + 3]
        rows.append((self.theme.muted, "entropy", f"{self.look.entropy[step]:.2f}"))
        for (colour, name, figure), top in zip(rows, tops, strict=True):
            room = canvas.width - plot - 3 * LEFT_PX - text_width("100%", LETTERS_PX)
            draw.text((plot + LEFT_PX, top), fitted(name, LETTERS_PX, room), fill=colour, font=letters)
            draw.text((right, top), figure, fill=colour, font=letters, anchor="ra")
        return canvas


def timeline(look: Look, width: int, theme: Theme) -> Timeline:
    """Draw the chart of a clip.

    Args:
        look: What it shows.
        width: In px.
        theme: Its colours.
    """
    classes = look.likeliest(CURVES)
    names = max(text_width(drawable(look.classes[c]), LETTERS_PX) for c in classes)
    right = names + 3 * LEFT_PX + text_width("100%", LETTERS_PX)
    plot = width - max(LEAST_RIGHT_PX, min(right, round(MOST_RIGHT * width)))
    canvas = Image.new("RGB", (width * _FINE, HEIGHT_PX * _FINE), theme.ground)
    draw = ImageDraw.Draw(canvas)
    for level in (0, 0.5, 1):
        _polyline(draw, np.array([LEFT_PX, plot]), _height(np.full(2, level)), theme.muted, 0.4)
    places = _places(look, plot)
    for k, c in reversed(list(enumerate(classes))):
        _curve(draw, places, _height(look.frame_probs[:, c]), theme.lines[k], plot)
    base = PROBS_PX + SPACE_PX
    for level in (0, 1):
        y = base + (1 - level) * (ENTROPY_PX - 1) + 0.5
        _polyline(draw, np.array([LEFT_PX, plot]), np.full(2, y), theme.muted, 0.4)
    _curve(draw, places, base + (1 - look.entropy) * (ENTROPY_PX - 1) + 0.5, theme.muted, plot)
    picture = np.asarray(canvas.resize((width, HEIGHT_PX), Image.Resampling.BOX))
    return Timeline(look, theme, tuple(classes), plot, picture)


def _places(look: Look, plot: int) -> NDArray[np.float64]:
    """Of each sample on the axis of time, in px."""
    span = max(look.end - look.times[0], 1e-9)
    return np.asarray(LEFT_PX + (look.times - look.times[0]) / span * (plot - LEFT_PX))


def _height(probs: NDArray[np.float32]) -> NDArray[np.float64]:
    return np.asarray(1.0 + (1 - probs.astype(np.float64)) * (PROBS_PX - 2))


def _curve(draw: ImageDraw.ImageDraw, x: NDArray[np.float64], y: NDArray[np.float64], colour: Colour, end: int) -> None:
    """A line through samples, the last of which stays until the end."""
    _polyline(draw, np.append(x, end), np.append(y, y[-1]), colour, 2.0)


def _polyline(
    draw: ImageDraw.ImageDraw, x: NDArray[np.float64], y: NDArray[np.float64], colour: Colour, px: float
) -> None:
    points = [(float(a) * _FINE, float(b) * _FINE) for a, b in zip(x, y, strict=True)]
    draw.line(points, fill=colour, width=max(1, round(px * _FINE)), joint="curve")
