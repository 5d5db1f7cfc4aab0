import numpy as np
import pytest
from looks import made_look

from attnrec.pictures.legend import legend_text
from attnrec.settings import PictureConfig


@pytest.mark.parametrize(
    ("scale", "multiples", "text"),
    [
        ("clip", [3.25, 3.25], "3.2 x uniform, the clip's peak"),
        ("clip", [2.0, 2.0], "2.0 x uniform, over the clip's peak"),
        ("frame", [1.04, 6.2], "1.0 to 6.2 x uniform, the frame's peak"),
        ("fixed", [4.0], "4.0 x uniform, fixed"),
    ],
)
def test_full_strength_is_said_in_multiples_of_uniform(scale, multiples, text):
    assert legend_text(np.array(multiples), PictureConfig(scale=scale)) == text
    with_cells = legend_text(np.array(multiples), PictureConfig(style="grid", scale=scale))
    assert with_cells == f"{text}; numbers in %"


def test_a_look_without_preference_is_said_to_be_below_full_strength():
    look = made_look(attention=np.full((4, 7, 7), 1 / 49, np.float32))
    for style in ("paper", "grid"):
        text = legend_text(49 * look.full(style, "clip"), PictureConfig(style=style))
        assert text.startswith("2.0 x uniform, over the clip's peak")
