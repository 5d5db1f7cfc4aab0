"""Letters and colours of pictures."""

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
    """Colours on one ground."""

    ground: Colour  # behind everything
    plain: Colour  # of text
    muted: Colour  # of smaller text and axes
    right: Colour  # of a prediction that is right
    wrong: Colour  # of one that is not
    lines: tuple[Colour, ...]  # of classes in a chart, told apart by most colour-blind people as well


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
    """DejaVu Sans, which comes with matplotlib, so that text looks alike on every machine; `size` in px."""
    return ImageFont.truetype(_font_path(), size)


def _font_path() -> str:
    return str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf")


@functools.cache
def _letters() -> frozenset[str]:
    """What the font can draw."""
    return frozenset(map(chr, FT2Font(_font_path()).get_charmap()))


def text_width(text: str, size: int) -> int:
    """Width of a line in px."""
    return round(font(size).getlength(text))


def printable(text: str) -> str:
    """Text without control characters and what is no Unicode, which file names may hold."""
    return "".join(character if character.isprintable() else "?" for character in text)


def drawable(text: str) -> str:
    """Text with an escape for every character that the font cannot draw."""
    known = _letters()
    return "".join(c if c.isprintable() and c in known else _escape(c) for c in text)


def _escape(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")


def _in_order(text: str) -> str:
    """Text whose words stand from left to right, names in Hebrew or Arabic letters among them."""
    if not features.check("raqm"):  # nothing orders letters, or joins them
        return _RIGHT_TO_LEFT.sub(lambda name: name[0][::-1], text)
    # Without marks a line that begins with such a name runs from right to left: what it is taken for would stand at the
    # right, and what it is at the left.
    mark = _LEFT_TO_RIGHT_MARK
    marked, names = _RIGHT_TO_LEFT.subn(lambda name: name[0] + mark, text)
    return mark + marked if names else text


def fitted(text: str, size: int, room: int) -> str:
    """A line cut with an ellipsis to so many px, that reads from left to right; what cannot be drawn is an escape."""
    text = _in_order(drawable(text))
    if text_width(text, size) <= room:
        return text
    while text and text_width(text + "...", size) > room:
        text = text[:-1]
    return text + "..."


def wrapped(text: str, size: int, room: int) -> list[str]:
    """Plain words in lines of at most so many px; a word that is longer stands alone."""
    lines: list[str] = []
    for word in text.split():
        if lines and text_width(f"{lines[-1]} {word}", size) <= room:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


def verdict_colour(correct: bool | None, theme: Theme) -> Colour:
    """Colour of a prediction: right, wrong, or neither where the truth is not known."""
    return theme.plain if correct is None else theme.right if correct else theme.wrong
