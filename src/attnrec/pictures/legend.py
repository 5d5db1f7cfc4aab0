"""What full strength means in a picture, as a bar with its ends named."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from attnrec.pictures.overlay import LEAST_FULL
from attnrec.pictures.styles import legend_bar
from attnrec.pictures.text import Theme, fitted, font, text_width
from attnrec.settings import PictureConfig

LEGEND_PX = 13
LETTERS_PX = 11
_BAR_PX, _SPACE_PX = 48, 5
_SCALES = {"frame": "the frame's peak", "clip": "the clip's peak", "fixed": "fixed"}


def legend_text(multiples: NDArray[np.float64], config: PictureConfig) -> str:
    """What the end of the bar stands for: attention in multiples of uniform, from the least to the most."""
    low, high = f"{multiples.min():.1f}", f"{multiples.max():.1f}"
    # Where the clip's peak is below the least full strength, saying that this is the peak would be untrue.
    raised = config.scale == "clip" and multiples.max() <= LEAST_FULL * (1 + 1e-6)
    meaning = "over the clip's peak" if raised else _SCALES[config.scale]
    text = f"{low if low == high else f'{low} to {high}'} x uniform, {meaning}"
    return f"{text}; numbers in %" if config.style == "grid" else text


def draw_legend(
    canvas: Image.Image, place: tuple[int, int], room: int, text: str, config: PictureConfig, theme: Theme
) -> None:
    """Draw the legend into a picture.

    Args:
        canvas: The picture.
        place: Left and top in px.
        room: Width in px; what does not fit is cut.
        text: See `legend_text`.
        config: Style and scale.
        theme: Colours.
    """
    draw, letters = ImageDraw.Draw(canvas), font(LETTERS_PX)
    x, y = place
    draw.text((x, y), "0", fill=theme.muted, font=letters)
    bar = x + text_width("0", LETTERS_PX) + _SPACE_PX
    canvas.paste(Image.fromarray(legend_bar(config.style, _BAR_PX, LEGEND_PX - 2)), (bar, y + 1))
    after = bar + _BAR_PX + _SPACE_PX
    draw.text((after, y), fitted(text, LETTERS_PX, x + room - after), fill=theme.muted, font=letters)
