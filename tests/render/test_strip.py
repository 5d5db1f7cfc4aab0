import numpy as np
import pytest

from attnrec.render.strip import BACKGROUND, GAP_PX, MARGIN_PX, RIGHT, WRONG, Caption, pair

PLAIN_CAPTION = Caption("jump 93 %", None, None, "attention 0.2 of uniform")


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def caption_area(caption: Caption, height: int = 40, width: int = 120) -> np.ndarray:
    return pair(picture(height, width), picture(height, width, 1), caption)[height:]


def colours(area: np.ndarray) -> set[tuple[int, ...]]:
    return {tuple(pixel) for pixel in area.reshape(-1, 3).tolist()}


@pytest.mark.parametrize("height", [1, 40, 41, 77])
@pytest.mark.parametrize("width", [1, 2, 63, 64])
def test_sizes_are_even_and_frames_are_untouched(height, width):
    original, attended = picture(height, width), picture(height, width, 1)
    strip = pair(original, attended, PLAIN_CAPTION)
    assert strip.dtype == np.uint8
    assert strip.shape[0] % 2 == strip.shape[1] % 2 == 0
    np.testing.assert_array_equal(strip[:height, :width], original)
    np.testing.assert_array_equal(strip[:height, width + GAP_PX : 2 * width + GAP_PX], attended)
    assert colours(strip[:height, width : width + GAP_PX]) == {BACKGROUND}


def test_captions_do_not_change_the_size():
    sizes = {caption_area(Caption(text, truth, None, note)).shape for text in ("", "x" * 500) for truth in (None, "y")
             for note in ("", "z")}  # fmt: skip
    assert len(sizes) == 1


@pytest.mark.parametrize(("correct", "colour", "other"), [(True, RIGHT, WRONG), (False, WRONG, RIGHT)])
def test_right_and_wrong_have_their_colours(correct, colour, other):
    seen = colours(caption_area(Caption("jump 93 %", "jump" if correct else "run", correct, "")))
    assert colour in seen
    assert other not in seen


def test_an_unknown_truth_has_neither_colour():
    assert not colours(caption_area(PLAIN_CAPTION)) & {RIGHT, WRONG}


def test_the_truth_is_shown_where_it_differs():
    wrong = caption_area(Caption("jump 93 %", "run", False, ""))
    np.testing.assert_array_equal(wrong, caption_area(Caption("jump 93 %, is run", None, False, "")))
    right = caption_area(Caption("jump 93 %", "jump", True, ""))
    np.testing.assert_array_equal(right, caption_area(Caption("jump 93 %", None, True, "")))


@pytest.mark.parametrize("field", ["predicted", "note"])
def test_long_text_is_cut_with_an_ellipsis(field):
    def shown(text: str) -> np.ndarray:
        return caption_area(Caption(**({"predicted": "", "truth": None, "correct": None, "note": ""} | {field: text})))

    long = shown("W" * 500)
    assert any(np.array_equal(long, shown("W" * n + "...")) for n in range(1, 60))
    assert colours(long[:, -MARGIN_PX:]) == {BACKGROUND}
    assert len(colours(shown("W" * 5))) > 1


def test_text_that_fits_is_not_cut():
    assert (caption_area(Caption("jump", None, None, "")) != caption_area(Caption("jum...", None, None, ""))).any()


@pytest.mark.parametrize("character", ["\n", "\t", "\0", "\x1b", "\u202e", "\udce9"])
def test_control_characters_are_replaced(character):
    actual = caption_area(Caption(f"a{character}b", f"c{character}d", False, f"e{character}f"))
    np.testing.assert_array_equal(actual, caption_area(Caption("a?b", "c?d", False, "e?f")))


def test_text_lies_below_the_frames():
    area = caption_area(PLAIN_CAPTION)
    assert colours(area[:MARGIN_PX]) == {BACKGROUND}
    assert colours(area[:, : MARGIN_PX - 1]) == {BACKGROUND}
    assert len(colours(area)) > 2
    assert colours(caption_area(Caption("", None, None, ""))) == {BACKGROUND}


def test_real_letters_are_drawn():
    texts = ["jump", "run", "épée", "jump 93 %", "動画"]
    assert len({caption_area(Caption(text, None, None, "")).tobytes() for text in texts}) == len(texts)
