"""Text in pictures: font, colours, and fitting text into space."""

import functools
import re
from dataclasses import dataclass
from pathlib import Path

import matplotlib
from matplotlib.ft2font import FT2Font
from PIL import ImageFont, features

Colour = tuple[int, int, int]

_LEFT_TO_RIGHT_MARK = "\u200e"
_RIGHT_TO_LEFT = re.compile(r"{0}+(?:[ _-]+{0}+)*".format(r"[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]"))


@dataclass(frozen=True)
class Theme:
    """Colours for one background."""

    ground: Colour  # background
    plain: Colour  # text
    muted: Colour  # smaller text and axes
    right: Colour  # right predictions
    wrong: Colour  # wrong predictions
    lines: tuple[Colour, ...]  # classes in a chart, distinct for most colour-blind people as well


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
def font(size: int) -> ImageFont.FreeTypeFont:
    """DejaVu Sans of a size in px; it comes with matplotlib, so that text looks alike on every machine."""
    return ImageFont.truetype(_font_path(), size)


def _font_path() -> str:
    return str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf")


@functools.cache
def _letters() -> frozenset[str]:
    """The characters that the font can draw."""
    return frozenset(map(chr, FT2Font(_font_path()).get_charmap()))


def text_width(text: str, size: int) -> int:
    """Width of a line of text in px."""
    return round(font(size).getlength(text))


def printable(text: str) -> str:
    """Replace control characters and invalid Unicode, which file names may hold, by question marks."""
    return "".join(character if character.isprintable() else "?" for character in text)


def drawable(text: str) -> str:
    """Replace every character that the font cannot draw by an escape."""
    known = _letters()
    return "".join(c if c.isprintable() and c in known else _escape(c) for c in text)


def _escape(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")


def _in_order(text: str) -> str:
    """Order the words of a text from left to right, even with names in Hebrew or Arabic letters."""
    if not features.check("raqm"):  # without raqm nothing orders or joins letters
        return _RIGHT_TO_LEFT.sub(lambda name: name[0][::-1], text)
    # Without marks a line that begins with such a name runs from right to left, which would swap the prediction and
    # the true class.
    mark = _LEFT_TO_RIGHT_MARK
    marked, names = _RIGHT_TO_LEFT.subn(lambda name: name[0] + mark, text)
    return mark + marked if names else text


def fitted(text: str, size: int, room: int) -> str:
    """Cut a line with an ellipsis to `room` px, in left-to-right order, with escapes for what cannot be drawn."""
    text = _in_order(drawable(text))
    if text_width(text, size) <= room:
        return text
    while text and text_width(text + "...", size) > room:
        text = text[:-1]
    return text + "..."


def wrapped(text: str, size: int, room: int) -> list[str]:
    """Wrap plain words into lines of at most `room` px; a longer word is on its own line."""
    lines: list[str] = []
    for word in text.split():
        if lines and text_width(f"{lines[-1]} {word}", size) <= room:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


def verdict_colour(correct: bool | None, theme: Theme) -> Colour:
    """Colour of a prediction: right, wrong, or plain if the truth is unknown."""
    return theme.plain if correct is None else theme.right if correct else theme.wrong
