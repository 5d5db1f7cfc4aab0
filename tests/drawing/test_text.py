import numpy as np
import pytest
from PIL import Image, ImageDraw

from attnrec.drawing.text import drawable, fitted, font, text_width, wrapped


@pytest.mark.parametrize("name", ["прыжок", "جري", "πηδώ", "søvn"])
def test_other_scripts_have_letters_of_their_own(name):
    assert drawable(name) == name
    *letters, missing = [bytes(font(20).getmask(letter)) for letter in [*name, "\ufffe"]]
    assert missing not in letters


@pytest.mark.parametrize("name", ["جري", "جري سريع", "ריצה"])
def test_a_line_reads_from_left_to_right_whatever_letters_a_name_has(name):
    """What the clip is taken for stands at the left and what it is at the right, or they would pass for each other."""

    def columns(text: str) -> np.ndarray:
        canvas = Image.new("L", (400, 40))
        ImageDraw.Draw(canvas).text((5, 5), fitted(text, 20, 400), fill=255, font=font(20))
        return np.asarray(canvas)[:, 5:]

    alone, width = columns(name), text_width(fitted(name, 20, 400), 20)
    assert alone[:, :width].any()
    np.testing.assert_array_equal(columns(f"{name} 93 %, wrong: is jump")[:, :width], alone[:, :width])
    before, line = columns("jump 93 %, wrong: is"), columns(f"jump 93 %, wrong: is {name}")
    width = text_width("jump 93 %, wrong: is", 20)
    np.testing.assert_array_equal(line[:, :width], before[:, :width])
    assert line[:, width:].any()


@pytest.mark.parametrize(
    ("text", "room", "lines"),
    [("", 99, []), ("one two", 999, ["one two"]), ("one two", 50, ["one", "two"]), ("one two", 1, ["one", "two"])],
)
def test_words_are_wrapped(text, room, lines):
    assert wrapped(text, 20, room) == lines
