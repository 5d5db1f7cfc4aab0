import numpy as np
import pytest
from looks import made_look

from attnrec.pictures.boxes import EDGE, LINE, outermost, outlined


def places(picture: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    return (picture == colour).all(axis=2)


def ring(left: int, top: int, right: int, bottom: int, shape: tuple[int, int] = (48, 64)) -> np.ndarray:
    """Pixels of a rectangle one px wide."""
    mask = np.zeros(shape, np.bool_)
    mask[top : bottom + 1, left : right + 1] = True
    mask[top + 1 : bottom, left + 1 : right] = False
    return mask


@pytest.mark.parametrize("ground", [0, 90, 255])
def test_a_line_runs_along_the_boxes_outermost_pixels_with_dark_beside_it(ground):
    plain = np.full((48, 64, 3), ground, np.uint8)
    picture = outlined(plain, [(10, 20, 30, 40)])
    line = ring(10, 20, 29, 39)
    rim = line | ring(9, 19, 30, 40) | ring(11, 21, 28, 38)
    np.testing.assert_array_equal(places(picture, LINE), line)
    assert places(picture, EDGE)[rim & ~line].all()
    np.testing.assert_array_equal(picture[~rim], plain[~rim])
    assert (plain == ground).all()


@pytest.mark.parametrize(
    ("box", "pixels"),
    [
        ((0, 0, 64, 48), (0, 0, 63, 47)),
        ((-9, -9, 99, 99), (0, 0, 63, 47)),
        ((10.4, 20.6, 30.4, 40.6), (10, 21, 29, 40)),
        ((50, 40, 80, 60), (50, 40, 63, 47)),
        ((20, 30, 20, 30), (18, 28, 22, 32)),
        ((0, 47.5, 0, 47.5), (0, 45, 2, 47)),
    ],
)
def test_boxes_are_cut_off_at_the_edge_and_points_are_ringed(box, pixels):
    assert outermost(box, 64, 48) == pixels
    picture = outlined(np.zeros((48, 64, 3), np.uint8), [box])
    np.testing.assert_array_equal(places(picture, LINE), ring(*pixels))


@pytest.mark.parametrize(
    ("box", "pixel"),
    [((10.2, 20.2, 10.3, 20.3), (10, 20)), ((63.9, 47.9, 70, 70), (63, 47)), ((-9, 0, 0.2, 1), (0, 0))],
)
def test_a_box_of_less_than_a_pixel_is_seen_all_the_same(box, pixel):
    assert outermost(box, 64, 48) == pixel * 2
    picture = outlined(np.zeros((48, 64, 3), np.uint8), [box])
    assert tuple(picture[pixel[::-1]]) == LINE


def test_no_box_covers_the_line_of_another():
    boxes = [(10, 10, 30, 30), (12, 12, 40, 40), (11, 20, 11, 20)]
    picture = outlined(np.full((48, 64, 3), 200, np.uint8), boxes)
    expected = np.any([ring(*outermost(box, 64, 48)) for box in boxes], axis=0)
    np.testing.assert_array_equal(places(picture, LINE), expected)


def test_a_frame_without_boxes_stays_as_it_is():
    plain = np.full((48, 64, 3), 7, np.uint8)
    np.testing.assert_array_equal(outlined(plain, []), plain)


@pytest.mark.parametrize("step", [1, 2, 3])
def test_samples_keep_their_own_boxes_when_there_are_fewer(step):
    look = made_look(7, boxes={k: [(k, 0, k + 1, 9)] for k in range(1, 7)})
    fewer = look.every(step)
    assert fewer.times.tolist() == look.times[::step].tolist()
    assert fewer.attention.shape == look.attention[::step].shape
    assert fewer.boxes == {k: look.boxes[k * step] for k in range(1, len(fewer))}
