"""Letters and colours of pictures."""

import functools
from dataclasses import dataclass

from PIL import ImageFont

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Theme:
    """Colours on one ground.

    Attributes:
        ground: Behind everything.
        plain: Of text.
        muted: Of smaller text and axes.
        right: Of a prediction that is right.
        wrong: Of one that is not.
        lines: Of classes in a chart, told apart by most colour-blind people as well.
    """

    ground: Colour
    plain: Colour
    muted: Colour
    right: Colour
    wrong: Colour
    lines: tuple[Colour, ...]


DARK = Theme(
    ground=(18, 18, 20),
    plain=(240, 240, 240),
    muted=(165, 165, 170),
    right=(110, 220, 130),
    wrong=(255, 125, 110),
    lines=((86, 180, 233), (230, 159, 0), (240, 228, 66), (204, 121, 167)),
)
LIGHT = Theme(
    ground=(255, 255, 255),
    plain=(20, 20, 20),
    muted=(105, 105, 110),
    right=(0, 120, 60),
    wrong=(190, 40, 30),
    lines=((0, 114, 178), (213, 94, 0), (0, 158, 115), (204, 121, 167)),
)


@functools.cache
def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """The font that Pillow brings along, so that text looks alike on every machine; `size` in px."""
    return ImageFont.load_default(size)


def text_width(text: str, size: int) -> int:
    """Width of a line in px."""
    return round(font(size).getlength(text))


def printable(text: str) -> str:
    """Text without control characters and what is no Unicode, which file names may hold."""
    return "".join(character if character.isprintable() else "?" for character in text)


def fitted(text: str, size: int, room: int) -> str:
    """A line cut with an ellipsis to so many px; what cannot be printed is a question mark."""
    text = printable(text)
    if text_width(text, size) <= room:
        return text
    while text and text_width(text + "...", size) > room:
        text = text[:-1]
    return text + "..."


def verdict_colour(correct: bool | None, theme: Theme) -> Colour:
    """Colour of a prediction: right, wrong, or neither where the truth is not known."""
    return theme.plain if correct is None else theme.right if correct else theme.wrong
