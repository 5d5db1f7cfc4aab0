"""Frames of a moving picture: the frame, beside it the attended frame, with caption, legend and timeline.

Legend: S samples, C classes, H and W in px.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from attnrec.drawing.light import LEGEND_PX, LETTERS_PX, Picture, attended_frame, draw_legend
from attnrec.drawing.outlines import outlined, outlined_cells
from attnrec.drawing.text import DARK, Colour, Theme, drawable, fitted, font, text_width, verdict_colour, wrapped
from attnrec.pictures.look import Look
from attnrec.settings import PictureConfig

GAP_PX, MARGIN_PX = 6, 6
LEAST_WIDTH_PX = 320  # narrower cards could not be read
CAPTION_PX, NOTE_PX = 15, 13

CURVES = 4  # more curves cannot be told apart
PROBS_PX, ENTROPY_PX, SPACE_PX = 52, 18, 5
CHART_PX = PROBS_PX + SPACE_PX + ENTROPY_PX
LEFT_PX = 6  # margin
LEAST_RIGHT_PX, MOST_RIGHT = 128, 0.5  # room for names and figures, and its largest share of the width
_FINE = 4  # factor by which lines are drawn larger, then reduced, which smooths them


def cards(look: Look, frames: Iterable[Picture], config: PictureConfig) -> Iterator[Picture]:
    """Draw every step of a clip.

    Args:
        look: The look at the clip.
        frames: RGB frame of each sample, in order, shape (H, W, 3), of one size.
        config: Style and scale.

    Returns:
        RGB pictures of one size, with even width and height.
    """
    card: _Card | None = None
    for step, frame in enumerate(frames):
        card = card or _Card(look, config, frame.shape[0], frame.shape[1])
        yield card.at(step, frame)


class _Card:
    """Draws the steps of a clip on a ground that they share, which is made once."""

    def __init__(self, look: Look, config: PictureConfig, height: int, width: int) -> None:
        self.look, self.config, self.height, self.width = look, config, height, width
        total = max(LEAST_WIDTH_PX, 2 * width + GAP_PX)
        total += total % 2
        self.left = (total - 2 * width - GAP_PX) // 2
        self.ground, self.chart_top = _ground(look, total, height + LEGEND_PX + 2 * MARGIN_PX)
        self.legend_left = 2 * MARGIN_PX + text_width(f"{look.end:.2f} s", LETTERS_PX)
        self.chart, self.region = timeline(look, total, DARK), look.region_in(width, height)
        self.full = look.full(config.style, config.scale)

    def at(self, step: int, frame: Picture) -> Picture:
        canvas, attention, full = self.ground.copy(), self.look.attention[step], float(self.full[step])
        lit = attended_frame(frame, attention, style=self.config.style, full=full, region=self.region)
        boxes, cells = (of(step, self.width, self.height) for of in (self.look.boxes_in, self.look.cells_in))
        for picture, x in ((frame, self.left), (lit, self.left + self.width + GAP_PX)):
            canvas.paste(Image.fromarray(outlined(outlined_cells(picture, cells), boxes)), (x, 0))
        top, left = self.height + MARGIN_PX, self.legend_left
        time = f"{self.look.times[step]:.2f} s"
        ImageDraw.Draw(canvas).text((MARGIN_PX, top), time, fill=DARK.plain, font=font(LETTERS_PX))
        room, multiples = canvas.width - MARGIN_PX - left, np.array([full * attention.size])
        draw_legend(canvas, (left, top), room, multiples, self.config, DARK)
        canvas.paste(self.chart.at(step), (0, self.chart_top))
        return np.asarray(canvas)


def _ground(look: Look, total: int, caption_top: int) -> tuple[Image.Image, int]:
    """A card with only caption, clip name and note, and the top of its timeline in px."""
    room, left = total - 3 * MARGIN_PX, 2 * MARGIN_PX
    captions, caption_px = wrapped(drawable(look.verdict), CAPTION_PX, room), CAPTION_PX + MARGIN_PX // 2
    caption_bottom = caption_top + (len(captions) - 1) * caption_px + CAPTION_PX
    name_top = caption_bottom + MARGIN_PX
    notes, note_px = wrapped(look.note, NOTE_PX, room), NOTE_PX + MARGIN_PX // 2
    notes_top = name_top + LETTERS_PX + MARGIN_PX
    chart_top = notes_top + len(notes) * note_px + (MARGIN_PX if notes else 0)
    bottom = chart_top + CHART_PX + MARGIN_PX
    canvas, colour = Image.new("RGB", (total, bottom + bottom % 2), DARK.ground), verdict_colour(look.correct, DARK)
    draw = ImageDraw.Draw(canvas)
    draw.rectangle([0, caption_top - 2, 3, caption_bottom + 4], fill=colour)
    for line, text in enumerate(captions):
        place = (left, caption_top - 1 + line * caption_px)
        draw.text(place, fitted(text, CAPTION_PX, room), fill=colour, font=font(CAPTION_PX))
    name = fitted(Path(look.clip).name, LETTERS_PX, room)
    draw.text((left, name_top), name, fill=DARK.muted, font=font(LETTERS_PX))
    for line, text in enumerate(notes):
        draw.text((left, notes_top + line * note_px), text, fill=DARK.plain, font=font(NOTE_PX))
    return canvas, chart_top


@dataclass(frozen=True)
class Timeline:
    """A chart of class probabilities and attention entropy, drawn once for all steps of a clip."""

    look: Look
    theme: Theme
    classes: tuple[int, ...]  # class index of each curve
    plot: int  # right end of the curves in px
    picture: Picture  # the chart without cursor and figures, shape (H, W, 3)

    def at(self, step: int) -> Image.Image:
        """The chart with its cursor at a sample, and that sample's figures beside it."""
        canvas = Image.fromarray(self.picture)
        draw = ImageDraw.Draw(canvas)
        x = round(_places(self.look, self.plot)[step])
        draw.line([(x, 0), (x, canvas.height)], fill=self.theme.plain)
        rows = [
            (k * PROBS_PX / CURVES, self.theme.lines[k], self.look.classes[c], f"{self.look.frame_probs[step, c]:.0%}")
            for k, c in enumerate(self.classes)
        ]
        rows.append((PROBS_PX + SPACE_PX + 3, self.theme.muted, "entropy", f"{self.look.entropy[step]:.2f}"))
        letters, left, right = font(LETTERS_PX), self.plot + LEFT_PX, canvas.width - LEFT_PX
        room = right - left - LEFT_PX - text_width("100%", LETTERS_PX)
        for top, colour, name, figure in rows:
            draw.text((left, top), fitted(name, LETTERS_PX, room), fill=colour, font=letters)
            draw.text((right, top), figure, fill=colour, font=letters, anchor="ra")
        return canvas


def timeline(look: Look, width: int, theme: Theme) -> Timeline:
    """Draw the chart of a clip.

    Args:
        look: The look at the clip.
        width: Width of the chart in px.
        theme: Colours.
    """
    classes = look.likeliest(CURVES)
    names = max(text_width(drawable(look.classes[c]), LETTERS_PX) for c in classes)
    right = names + 3 * LEFT_PX + text_width("100%", LETTERS_PX)
    plot = width - max(LEAST_RIGHT_PX, min(right, round(MOST_RIGHT * width)))
    canvas = Image.new("RGB", (width * _FINE, CHART_PX * _FINE), theme.ground)
    draw = ImageDraw.Draw(canvas)
    for level in (0, 0.5, 1):
        _polyline(draw, np.array([LEFT_PX, plot]), _prob_height(np.full(2, level)), theme.muted, 0.4)
    places = _places(look, plot)
    for k, c in reversed(list(enumerate(classes))):
        _curve(draw, places, _prob_height(look.frame_probs[:, c]), theme.lines[k], plot)
    for level in (0, 1):
        _polyline(draw, np.array([LEFT_PX, plot]), _entropy_height(np.full(2, level)), theme.muted, 0.4)
    _curve(draw, places, _entropy_height(look.entropy), theme.muted, plot)
    picture = np.asarray(canvas.resize((width, CHART_PX), Image.Resampling.BOX))
    return Timeline(look, theme, tuple(classes), plot, picture)


def _places(look: Look, plot: int) -> NDArray[np.float64]:
    """Position of each sample on the time axis, in px."""
    span = max(look.end - look.times[0], 1e-9)
    return np.asarray(LEFT_PX + (look.times - look.times[0]) / span * (plot - LEFT_PX))


def _prob_height(probs: NDArray[np.float32]) -> NDArray[np.float64]:
    return np.asarray(1.0 + (1 - probs.astype(np.float64)) * (PROBS_PX - 2))


def _entropy_height(entropy: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(PROBS_PX + SPACE_PX + (1 - entropy) * (ENTROPY_PX - 1) + 0.5)


def _curve(draw: ImageDraw.ImageDraw, x: NDArray[np.float64], y: NDArray[np.float64], colour: Colour, end: int) -> None:
    """Draw a line through samples, extending the last value to the end."""
    _polyline(draw, np.append(x, end), np.append(y, y[-1]), colour, 2.0)


def _polyline(
    draw: ImageDraw.ImageDraw, x: NDArray[np.float64], y: NDArray[np.float64], colour: Colour, px: float
) -> None:
    points = [(float(a) * _FINE, float(b) * _FINE) for a, b in zip(x, y, strict=True)]
    draw.line(points, fill=colour, width=max(1, round(px * _FINE)), joint="curve")
