"""Original and attended frame side by side, with a caption."""

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

GAP_PX = 6
TEXT_PX = 14
MARGIN_PX = 6
BACKGROUND, PLAIN, MUTED, RIGHT, WRONG = (
    (18, 18, 20),
    (240, 240, 240),
    (165, 165, 170),
    (110, 220, 130),
    (255, 125, 110),
)


@dataclass(frozen=True)
class Caption:
    """What stands below a picture.

    Attributes:
        predicted: Class and its probability, for example `jump 93 %`.
        truth: The true class, or None where it is not known.
        correct: Whether they agree; None where the truth is not known.
        note: A smaller second line.
    """

    predicted: str
    truth: str | None
    correct: bool | None
    note: str


def pair(original: NDArray[np.uint8], attended: NDArray[np.uint8], caption: Caption) -> NDArray[np.uint8]:
    """Two frames of one size side by side over a caption.

    Args:
        original: RGB, shape (H, W, 3).
        attended: RGB, shape (H, W, 3).
        caption: Text below them; what does not fit is cut with an ellipsis.

    Returns:
        RGB, shape (H', W', 3), even in both.
    """
    height, width, _ = original.shape
    total_width = _even(2 * width + GAP_PX)
    line = TEXT_PX + MARGIN_PX
    canvas = Image.new("RGB", (total_width, _even(height + 2 * line + MARGIN_PX)), BACKGROUND)
    canvas.paste(Image.fromarray(original), (0, 0))
    canvas.paste(Image.fromarray(attended), (width + GAP_PX, 0))
    draw = ImageDraw.Draw(canvas)
    colour = PLAIN if caption.correct is None else RIGHT if caption.correct else WRONG
    truth = "" if caption.truth is None or caption.correct else f", is {caption.truth}"
    top = height + MARGIN_PX
    room = total_width - 2 * MARGIN_PX
    draw.text((MARGIN_PX, top), _fitted(caption.predicted + truth, TEXT_PX, room), fill=colour, font=_font(TEXT_PX))
    draw.text((MARGIN_PX, top + line), _fitted(caption.note, TEXT_PX - 3, room), fill=MUTED, font=_font(TEXT_PX - 3))
    return np.asarray(canvas)


def _even(length: int) -> int:
    return length + length % 2


@functools.cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    # Pillow brings this font along, so captions look alike on every machine.
    return ImageFont.load_default(size)


def _fitted(text: str, size: int, room: int) -> str:
    text = "".join(character if character.isprintable() else "?" for character in text)
    font = _font(size)
    if font.getlength(text) <= room:
        return text
    while text and font.getlength(text + "...") > room:
        text = text[:-1]
    return text + "..."
