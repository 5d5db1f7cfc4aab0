import numpy as np
import pytest
from looks import made_look, noise_frames, predicting

from attnrec.drawing.light import LETTERS_PX, attended_frame
from attnrec.drawing.outlines import outlined
from attnrec.drawing.text import DARK, fitted, text_width, wrapped
from attnrec.pictures.card import (
    CAPTION_PX,
    CHART_PX,
    CURVES,
    GAP_PX,
    LEAST_RIGHT_PX,
    LEAST_WIDTH_PX,
    LEFT_PX,
    MARGIN_PX,
    NOTE_PX,
    PROBS_PX,
    cards,
    timeline,
)
from attnrec.settings import PictureConfig

CONFIG = PictureConfig()


def drawn(height: int = 120, width: int = 160, config: PictureConfig = CONFIG, **changes: object) -> np.ndarray:
    look = made_look(3, **changes)
    return np.stack(list(cards(look, noise_frames(3, height, width), config)))


def below(pictures: np.ndarray, height: int = 120) -> np.ndarray:
    return pictures[:, height:]


def colours(area: np.ndarray) -> set[tuple[int, ...]]:
    return {tuple(pixel) for pixel in area.reshape(-1, 3).tolist()}


@pytest.mark.parametrize(("height", "width"), [(40, 64), (120, 160), (427, 240), (99, 201)])
def test_frames_stand_beside_themselves_attended(height, width):
    look, frames = made_look(3), noise_frames(3, height, width)
    pictures = list(cards(look, frames, CONFIG))
    full = look.full("paper", "clip")
    for step, picture in enumerate(pictures):
        assert picture.dtype == np.uint8
        assert picture.shape[0] % 2 == picture.shape[1] % 2 == 0
        assert picture.shape[1] >= max(LEAST_WIDTH_PX, 2 * width + GAP_PX)
        left = (picture.shape[1] - 2 * width - GAP_PX) // 2
        np.testing.assert_array_equal(picture[:height, left : left + width], frames[step])
        lit = attended_frame(frames[step], look.attention[step], style="paper", full=float(full[step]))
        right = left + width + GAP_PX
        np.testing.assert_array_equal(picture[:height, right : right + width], lit)


def test_a_prediction_that_does_not_fit_goes_on_in_the_next_line():
    short, long = (drawn(prediction=predicting(" ".join(["word"] * count))) for count in (1, 20))
    assert short.shape[2] == long.shape[2]
    assert long.shape[1] >= short.shape[1] + CAPTION_PX


@pytest.mark.parametrize(
    ("correct", "colour", "other"), [(True, DARK.right, DARK.wrong), (False, DARK.wrong, DARK.right)]
)
def test_right_and_wrong_have_their_colours(correct, colour, other):
    seen = colours(below(drawn(correct=correct, truth="jump" if correct else "run")))
    assert colour in seen
    assert other not in seen


def test_an_unknown_truth_has_neither_colour():
    assert not colours(below(drawn())) & {DARK.right, DARK.wrong}


def test_the_true_class_and_the_verdict_are_written():
    look = made_look(correct=False, truth="run")
    assert look.verdict == "jump 93%, wrong: is run"
    assert made_look(correct=True, truth="jump").verdict == "jump 93%, right"
    assert made_look().verdict == "jump 93%"
    texts = {below(drawn(correct=False, truth=truth)).tobytes() for truth in ("run", "bend", "walk")}
    assert len(texts) == 3


@pytest.mark.parametrize(("field", "value"), [("style", "heat"), ("scale", "frame"), ("scale", "fixed")])
def test_the_legend_says_style_and_scale(field, value):
    assert (below(drawn()) != below(drawn(config=PictureConfig(**{field: value})))).any()


def test_the_cursor_moves_from_left_to_right():
    look = made_look(4, end=1.0, entropy=np.full(4, 0.5))
    pictures = np.stack(list(cards(look, noise_frames(4), CONFIG))).astype(int)
    chart = pictures[:, -80:-10, :190]  # without the figures beside it
    still = np.median(chart, axis=0)
    places = []
    for picture in chart:
        columns = np.flatnonzero((np.abs(picture - still).sum(axis=2) > 30).mean(axis=0) > 0.9)
        assert len(columns) == 1
        places.append(int(columns[0]))
    # Samples are at 0, 1/4, 2/4 and 3/4 of the time that is drawn.
    assert np.diff(places).tolist() == pytest.approx([(places[3] - places[0]) / 3] * 3, abs=1)


@pytest.mark.parametrize(
    ("text", "escape"),
    [
        ("\n", r"\n"),
        ("\t", r"\t"),
        ("\0", r"\x00"),
        ("\x1b", r"\x1b"),
        ("\u202e", r"\u202e"),
        ("\udce9", r"\udce9"),
        ("\u8155", r"\u8155"),  # Chinese, which the font lacks
    ],
)
def test_what_cannot_be_drawn_is_an_escape(text, escape):
    odd = drawn(prediction=predicting(f"a{text}b"), classes=(f"c{text}d", "x", "y"))
    np.testing.assert_array_equal(odd, drawn(prediction=predicting(f"a{escape}b"), classes=(f"c{escape}d", "x", "y")))


def test_each_clip_is_named():
    one, other = drawn(clip="/videos/one.mp4"), drawn(clip="/videos/other.mp4")
    assert (one != other).any()
    np.testing.assert_array_equal(one, drawn(clip="/elsewhere/one.mp4"))


@pytest.mark.parametrize(("width", "is_whole"), [(320, False), (700, True)])
def test_class_names_are_cut_only_where_half_of_the_width_does_not_hold_them(width, is_whole):
    names = ("wave_one_hand_above_the_head", "arms_sweep", "hands_raise")
    chart = timeline(made_look(3, classes=names), width, DARK)
    room = width - chart.plot - 3 * LEFT_PX - text_width("100%", LETTERS_PX)
    assert (fitted(names[0], LETTERS_PX, room) == names[0]) is is_whole
    assert chart.plot >= width // 2


def test_both_pictures_have_the_boxes_of_their_step():
    boxes = {1: [(8, 6, 16, 24), (40, 12, 64, 48)]}  # in px of 64 x 48
    without, with_ = drawn(), drawn(boxes=boxes)
    for step in (0, 2):
        np.testing.assert_array_equal(with_[step], without[step])
    for left in (0, 160 + GAP_PX):
        frame = without[1, :120, left : left + 160]
        expected = outlined(frame, [(20, 15, 40, 60), (100, 30, 160, 120)])
        np.testing.assert_array_equal(with_[1, :120, left : left + 160], expected)
    np.testing.assert_array_equal(with_[1, 120:], without[1, 120:])


NOTE = "attention is close to uniform: this run looks nowhere in particular"


@pytest.mark.parametrize(("width", "num_lines"), [(64, 2), (240, 1)])
def test_a_note_stands_below_the_name_in_as_many_lines_as_it_takes(width, num_lines):
    plain, noted = drawn(width=width), drawn(width=width, note=NOTE)
    more = noted.shape[1] - plain.shape[1]
    assert more >= num_lines * NOTE_PX
    top = plain.shape[1] - CHART_PX - MARGIN_PX  # of the chart
    np.testing.assert_array_equal(noted[:, :top], plain[:, :top])
    np.testing.assert_array_equal(noted[:, top + more :], plain[:, top:])
    note = noted[0, top : top + more]
    assert DARK.plain in colours(note)
    assert (note[:, -MARGIN_PX:] == DARK.ground).all()  # none of it is cut off
    assert len(wrapped(NOTE, NOTE_PX, noted.shape[2] - 3 * MARGIN_PX)) == num_lines


def height_of(picture: np.ndarray, colour: tuple[int, int, int], x: int) -> float:
    """Row in px at which a curve of a colour passes a column."""
    column = np.abs(picture[:, x].astype(int) - colour).sum(axis=1)
    rows = np.flatnonzero(column < 60)
    assert len(rows), column.min()
    return float(rows.mean())


@pytest.mark.parametrize("prob", [0.1, 0.3, 0.6, 0.9])
def test_curves_show_probabilities(prob):
    probs = np.tile(np.array([0, 1 - prob, prob], np.float32), (5, 1))
    look = made_look(5, frame_probs=probs, entropy=np.full(5, 0.2))
    chart = timeline(look, 400, DARK)
    first = DARK.lines[chart.classes.index(2)]
    assert height_of(chart.picture[:PROBS_PX], first, 130) == pytest.approx((1 - prob) * (PROBS_PX - 1), abs=2)


def test_steps_lie_at_their_times():
    # A class that is certain up to 0.3 s of 1.2 s, then impossible.
    times, sure = np.array([0.0, 0.3, 0.31, 1.0]), np.array([1, 1, 0, 0], np.float32)
    look = made_look(4, times=times, end=1.2, frame_probs=np.stack([sure, 1 - sure, 0 * sure], axis=1))
    chart = timeline(look, 400, DARK)
    colour = DARK.lines[chart.classes.index(0)]
    plot = 400 - LEAST_RIGHT_PX - LEFT_PX
    before, after = (LEFT_PX + round(share * plot) for share in (0.2, 0.32))
    assert height_of(chart.picture[:PROBS_PX], colour, before) < 4
    assert height_of(chart.picture[:PROBS_PX], colour, after) > PROBS_PX - 5


def test_the_surest_classes_are_shown_and_the_true_one_in_any_case():
    probs = np.tile(np.array([0.4, 0.05, 0.25, 0.2, 0.09, 0.01], np.float32), (3, 1))
    names = tuple("abcdef")
    look = made_look(3, classes=names, frame_probs=probs)
    assert timeline(look, 320, DARK).classes == (0, 2, 3, 4)
    assert timeline(made_look(3, classes=names, frame_probs=probs, truth="f"), 320, DARK).classes == (0, 2, 3, 5)
    assert len(timeline(look, 320, DARK).classes) == CURVES


def test_figures_are_those_of_the_step():
    one = made_look(3, frame_probs=np.tile(np.array([0.5, 0.3, 0.2], np.float32), (3, 1)), entropy=np.full(3, 0.5))
    same = timeline(one, 320, DARK)
    beside = [np.asarray(same.at(step))[:, -LEAST_RIGHT_PX + 2 :] for step in range(3)]
    np.testing.assert_array_equal(beside[0], beside[1])
    probs = one.frame_probs.copy()
    probs[1] = (0.6, 0.3, 0.1)
    other = timeline(made_look(3, frame_probs=probs, entropy=np.array([0.5, 0.5, 0.9])), 320, DARK)
    beside = [np.asarray(other.at(step))[:, -LEAST_RIGHT_PX + 2 :] for step in range(3)]
    assert (beside[0] != beside[1]).any()
    assert (beside[0] != beside[2]).any()


def test_a_single_step_is_a_line_to_the_end():
    look = made_look(1, frame_probs=np.array([[0, 0.5, 0.5]], np.float32), entropy=np.array([0.2]))
    chart = timeline(look, 320, DARK)
    colour = DARK.lines[0]
    for x in (20, 100, 180):
        assert height_of(chart.picture[:PROBS_PX], colour, x) == pytest.approx(PROBS_PX / 2, abs=2)
