import numpy as np
import pytest
from looks import made_look

from attnrec.pictures.text import DARK
from attnrec.pictures.timeline import CURVES, LEAST_RIGHT_PX, LEFT_PX, PROBS_PX, timeline


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
