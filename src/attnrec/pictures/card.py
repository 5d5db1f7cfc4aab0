"""One step of a clip for a moving picture: the frame beside itself attended, with caption, legend and timeline."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from attnrec.pictures.boxes import outlined
from attnrec.pictures.legend import LEGEND_PX, LETTERS_PX, draw_legend, legend_text
from attnrec.pictures.look import Look
from attnrec.pictures.styles import attended_frame
from attnrec.pictures.text import DARK, fitted, font, text_width, verdict_colour, wrapped
from attnrec.pictures.timeline import HEIGHT_PX, timeline
from attnrec.settings import PictureConfig

GAP_PX, MARGIN_PX = 6, 6
LEAST_WIDTH_PX = 320  # narrower ones could not be read
CAPTION_PX, NOTE_PX = 15, 13

Picture = NDArray[np.uint8]


def cards(look: Look, frames: Iterable[Picture], config: PictureConfig) -> Iterator[Picture]:
    """Draw every step of a clip.

    Args:
        look: At the clip.
        frames: RGB of each sample, in order, shape (H, W, 3), of one size.
        config: Style and scale.

    Returns:
        RGB pictures of one size, even in both.
    """
    draw_step: Callable[[Picture, int], Picture] | None = None
    for step, frame in enumerate(frames):
        draw_step = draw_step or _drawer(look, frame.shape, config)
        yield draw_step(frame, step)


def _drawer(look: Look, shape: tuple[int, ...], config: PictureConfig) -> Callable[[Picture, int], Picture]:
    """What draws a step, with all that the steps share made once."""
    height, width, _ = shape
    total = max(LEAST_WIDTH_PX, 2 * width + GAP_PX)
    total += total % 2
    left = (total - 2 * width - GAP_PX) // 2
    legend_top = height + MARGIN_PX
    caption_top = legend_top + LEGEND_PX + MARGIN_PX
    name_top = caption_top + CAPTION_PX + MARGIN_PX
    notes = wrapped(look.note, NOTE_PX, total - 3 * MARGIN_PX)
    notes_top, note_height = name_top + LETTERS_PX + MARGIN_PX, NOTE_PX + MARGIN_PX // 2
    chart_top = notes_top + len(notes) * note_height + (MARGIN_PX if notes else 0)
    bottom = chart_top + HEIGHT_PX + MARGIN_PX
    base = Image.new("RGB", (total, bottom + bottom % 2), DARK.ground)
    colour = verdict_colour(look.correct, DARK)
    writing = ImageDraw.Draw(base)
    writing.rectangle([0, caption_top - 2, 3, caption_top + CAPTION_PX + 4], fill=colour)
    caption = fitted(look.verdict, CAPTION_PX, total - 3 * MARGIN_PX)
    writing.text((2 * MARGIN_PX, caption_top - 1), caption, fill=colour, font=font(CAPTION_PX))
    name = fitted(Path(look.clip).name, LETTERS_PX, total - 3 * MARGIN_PX)
    writing.text((2 * MARGIN_PX, name_top), name, fill=DARK.muted, font=font(LETTERS_PX))
    for line, text in enumerate(notes):
        place = (2 * MARGIN_PX, notes_top + line * note_height)
        writing.text(place, text, fill=DARK.plain, font=font(NOTE_PX))
    legend_left = 2 * MARGIN_PX + text_width(f"{look.end:.2f} s", LETTERS_PX)
    chart, region = timeline(look, total, DARK), look.region_in(width, height)
    full, uniform = look.full(config.style, config.scale), 1 / look.attention[0].size

    def draw_step(frame: Picture, step: int) -> Picture:
        canvas = base.copy()
        lit = attended_frame(frame, look.attention[step], style=config.style, full=float(full[step]), region=region)
        boxes = look.boxes_in(step, width, height)
        canvas.paste(Image.fromarray(outlined(frame, boxes)), (left, 0))
        canvas.paste(Image.fromarray(outlined(lit, boxes)), (left + width + GAP_PX, 0))
        writing = ImageDraw.Draw(canvas)
        time = f"{look.times[step]:.2f} s"
        writing.text((MARGIN_PX, legend_top), time, fill=DARK.plain, font=font(LETTERS_PX))
        meaning = legend_text(full[step : step + 1] / uniform, config)
        draw_legend(canvas, (legend_left, legend_top), total - MARGIN_PX - legend_left, meaning, config, DARK)
        canvas.paste(chart.at(step), (0, chart_top))
        return np.asarray(canvas)

    return draw_step
