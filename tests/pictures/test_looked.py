"""The cells that hard attention looked at, outlined in every kind of picture."""

from dataclasses import replace

import numpy as np
import pytest
from looks import made_look, noise_frames, predicting
from pages import Page

from attnrec.drawing.outlines import EDGE, LOOKED
from attnrec.pictures.card import GAP_PX, cards
from attnrec.pictures.look import Look
from attnrec.pictures.page import clip_page
from attnrec.pictures.strip import StripRow, strip
from attnrec.pictures.write import write_raw
from attnrec.settings import PictureConfig

K, WIDTH, HEIGHT = 7, 140, 70  # cells of 20 x 10 px


def hard_look(*cells: tuple[int, int], **changes: object) -> Look:
    """A look of two samples, of which the second looked at these cells, and the first at the top left."""
    looked_at = np.zeros((2, K, K), bool)
    looked_at[0, 0, 0] = True
    for cell in cells:
        looked_at[1][cell] = True
    return made_look(2, K, size=(WIDTH, HEIGHT), looked_at=looked_at, **changes)


def outline(picture: np.ndarray) -> tuple[int, int, int, int] | None:
    """Outermost pixels of the lines in a picture: left, top, right, bottom."""
    rows, columns = np.nonzero((picture == LOOKED).all(axis=2))
    return (columns.min(), rows.min(), columns.max(), rows.max()) if len(rows) else None


def test_a_cell_is_outlined_within_its_edges_in_both_frames_of_a_moving_picture():
    first, second = cards(hard_look((3, 5)), noise_frames(2, HEIGHT, WIDTH), PictureConfig())
    for card, expected in ((first, (0, 0, 19, 9)), (second, (100, 30, 119, 39))):
        left = (card.shape[1] - 2 * WIDTH - GAP_PX) // 2
        for x in (left, left + WIDTH + GAP_PX):
            frame = card[:HEIGHT, x : x + WIDTH]
            assert outline(frame) == expected
            x0, y0, x1, _ = expected
            assert (frame[y0 : y0 + 2, x0 : x1 + 1] == LOOKED).all()
            assert (frame[y0 + 2 : y0 + 4, x0 + 2 : x1 - 1] == EDGE).all()


def test_a_strip_outlines_the_attended_frame_only():
    look = hard_look((3, 5))
    row = StripRow(look, np.array([1]), noise_frames(1, HEIGHT, WIDTH))
    picture = strip([row], PictureConfig())
    x0, y0, x1, y1 = outline(picture)
    assert (x1 - x0, y1 - y0) == (19, 9)
    assert y0 > HEIGHT + 40  # below the plain frame
    assert outline(strip([row._replace(look=made_look(2, K, size=(WIDTH, HEIGHT)))], PictureConfig())) is None


def test_all_cells_of_several_passes_are_outlined():
    _, card = cards(hard_look((0, 0), (6, 6)), noise_frames(2, HEIGHT, WIDTH), PictureConfig())
    left = (card.shape[1] - 2 * WIDTH - GAP_PX) // 2
    assert outline(card[:HEIGHT, left : left + WIDTH]) == (0, 0, WIDTH - 1, HEIGHT - 1)


@pytest.mark.parametrize(("region", "expected"), [((0, 0, 1, 1), (100, 30, 119, 39)), ((0.25, 0, 0.75, 1), None)])
def test_a_page_has_the_cells_of_its_frames(region, expected):
    look = hard_look((3, 5), region=region)
    data = Page(clip_page(look, noise_frames(2, HEIGHT, WIDTH), PictureConfig())).data()
    # In a crop of the middle half cells are 10 px wide, and the sixth begins at 35 + 50 px.
    assert data["looked"][1] == [list(expected or (85, 30, 94, 39))]
    assert [len(cells) for cells in data["looked"]] == [1, 1]
    soft = Page(clip_page(made_look(2), noise_frames(2), PictureConfig())).data()
    assert soft["looked"] == [[], []]


def test_a_thinned_look_keeps_its_cells():
    look = hard_look((3, 5))
    np.testing.assert_array_equal(look.every(2).looked_at, look.looked_at[::2])
    assert made_look(4).every(2).looked_at is None


def test_numbers_have_the_cells(tmp_path):
    probs = dict.fromkeys(made_look().classes, 1 / 3)
    look = hard_look((3, 5), prediction=predicting("jump"))
    look = replace(look, prediction=replace(look.prediction, probs=probs))
    write_raw(tmp_path / "hard.npz", look, overwrite=False)
    with np.load(tmp_path / "hard.npz") as arrays:
        np.testing.assert_array_equal(arrays["looked_at"], look.looked_at)
    write_raw(tmp_path / "soft.npz", replace(look, looked_at=None), overwrite=False)
    with np.load(tmp_path / "soft.npz") as arrays:
        assert "looked_at" not in arrays
