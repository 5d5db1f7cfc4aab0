import numpy as np
import pytest
from looks import made_look, noise_frames, predicting

from attnrec.drawing.light import attended_frame
from attnrec.drawing.outlines import outlined
from attnrec.drawing.text import LIGHT
from attnrec.pictures.strip import (
    GAP_PX,
    HEAD_PX,
    LINE_PX,
    MARGIN_PX,
    NOTE_LINE_PX,
    StripRow,
    png_bytes,
    stacked,
    strip,
)
from attnrec.settings import PictureConfig

WIDTH, HEIGHT = 120, 90
TOP = MARGIN_PX + HEAD_PX


def row(steps: list[int], **changes: object) -> StripRow:
    look = made_look(6, size=(WIDTH, HEIGHT), **changes)
    return StripRow(look, np.array(steps), noise_frames(len(steps), HEIGHT, WIDTH))


def colours(area: np.ndarray) -> set[tuple[int, ...]]:
    return {tuple(pixel) for pixel in area.reshape(-1, 3).tolist()}


@pytest.mark.parametrize("style", ["paper", "heat", "contour", "grid"])
@pytest.mark.parametrize("scale", ["frame", "clip", "fixed"])
def test_frames_above_and_the_same_frames_attended_below(style, scale):
    config = PictureConfig(style=style, scale=scale)
    first = row([0, 2, 5])
    picture = strip([first], config)
    full = first.look.full(style, scale)
    for column, step in enumerate(first.steps):
        x = MARGIN_PX + column * (WIDTH + GAP_PX)
        np.testing.assert_array_equal(picture[TOP : TOP + HEIGHT, x : x + WIDTH], first.frames[column])
        below = TOP + HEIGHT + GAP_PX + LINE_PX
        expected = attended_frame(first.frames[column], first.look.attention[step], style=style, full=float(full[step]))
        np.testing.assert_array_equal(picture[below : below + HEIGHT, x : x + WIDTH], expected)


def test_every_run_has_a_row_of_its_own():
    one, two = row([0, 3], label="lambda 0"), row([0, 3], label="lambda 1", seed=1)
    pictures = [strip(rows, PictureConfig()) for rows in ([one], [two], [one, two])]
    block = pictures[2].shape[0] - pictures[0].shape[0]
    own = TOP + HEIGHT + GAP_PX
    np.testing.assert_array_equal(pictures[2][own : own + block - GAP_PX], pictures[0][own : own + block - GAP_PX])
    np.testing.assert_array_equal(pictures[2][own + block :][: block - GAP_PX], pictures[1][own:][: block - GAP_PX])


def test_each_row_has_its_own_note_below_its_prediction():
    plain, noted, other = row([0, 3]), row([0, 3], note="it looks nowhere"), row([0, 3], label="lambda 1", seed=1)
    pictures = [strip(rows, PictureConfig()) for rows in ([plain], [noted], [noted, other], [plain, other])]
    more = pictures[1].shape[0] - pictures[0].shape[0]
    line = TOP + HEIGHT + GAP_PX + LINE_PX
    assert more == NOTE_LINE_PX
    assert LIGHT.plain in colours(pictures[1][line : line + more])
    for without, with_ in ((pictures[0], pictures[1]), (pictures[3], pictures[2])):
        np.testing.assert_array_equal(with_[:line], without[:line])
        np.testing.assert_array_equal(with_[line + more :], without[line:])


def test_each_column_has_the_boxes_of_its_step():
    boxes = {3: [(12, 9, 60, 45)], 4: [(0, 0, 9, 9)]}
    without, with_ = (strip([row([0, 3], **has)], PictureConfig()).copy() for has in ({}, {"boxes": boxes}))
    left = MARGIN_PX + WIDTH + GAP_PX
    for top in (TOP, TOP + HEIGHT + GAP_PX + LINE_PX):
        area = np.s_[top : top + HEIGHT, left : left + WIDTH]
        np.testing.assert_array_equal(with_[area], outlined(without[area], boxes[3]))
        with_[area] = without[area]
    np.testing.assert_array_equal(with_, without)


def test_names_of_rows_can_be_told_apart():
    texts = ["lambda 0", "lambda 1", "6 fps", "content attention"]
    assert len({strip([row([0, 3], label=text)], PictureConfig()).tobytes() for text in texts}) == len(texts)


@pytest.mark.parametrize("predicted", ["jump", "a class of so long a name that nothing is left of its line"])
def test_the_clip_is_named_above_whatever_is_below(predicted):
    one, other, moved = (
        strip([row([0], prediction=predicting(predicted), clip=clip)], PictureConfig())
        for clip in ("/videos/one.mp4", "/videos/other.mp4", "/elsewhere/one.mp4")
    )
    head = slice(0, MARGIN_PX + LINE_PX)
    assert (one[head] != other[head]).any()
    np.testing.assert_array_equal(one[head.stop :], other[head.stop :])
    np.testing.assert_array_equal(one, moved)


@pytest.mark.parametrize("predicted", ["jump", "a class with a long name"])
def test_a_label_is_whole_whatever_the_prediction(predicted):
    labels = ["attention-lambda1-fps6-" + number for number in "12"]
    one, other = (strip([row([0], prediction=predicting(predicted), label=label)], PictureConfig()) for label in labels)
    assert (one != other).any()


def test_label_and_prediction_that_do_not_fit_a_line_take_several():
    given = [row([0], prediction=predicting(name), label="attention-lambda1-fps6") for name in ("jump", "a " * 60)]
    one, several = (strip([each], PictureConfig()) for each in given)
    assert (several.shape[0] - one.shape[0]) % LINE_PX == 0
    assert several.shape[0] > one.shape[0]


@pytest.mark.parametrize(("correct", "colour"), [(True, LIGHT.right), (False, LIGHT.wrong), (None, LIGHT.plain)])
def test_right_and_wrong_have_their_colours(correct, colour):
    truth = None if correct is None else "jump" if correct else "run"
    given = row([0, 3], correct=correct, truth=truth)
    line = TOP + HEIGHT + GAP_PX
    seen = colours(strip([given], PictureConfig())[line : line + LINE_PX])
    assert colour in seen
    assert not seen & ({LIGHT.right, LIGHT.wrong} - {colour})


def test_brightness_goes_by_the_whole_clip():
    # The steps shown are not those of the clip's peak.
    look = made_look(6, size=(WIDTH, HEIGHT))
    strong = look.attention.copy()
    strong[4] = 0
    strong[4, 3, 3] = 1
    frames = noise_frames(2, HEIGHT, WIDTH)
    dim, bright = (
        strip([StripRow(made_look(6, attention=attention, size=(WIDTH, HEIGHT)), np.array([0, 2]), frames)],
              PictureConfig(scale="clip")) for attention in (strong, look.attention)
    )  # fmt: skip
    area = slice(TOP + HEIGHT + GAP_PX + LINE_PX, TOP + 2 * HEIGHT + GAP_PX + LINE_PX)
    assert dim[area].mean() < bright[area].mean() - 10


def test_rows_of_different_lengths_are_refused():
    with pytest.raises(ValueError, match="one number of steps"):
        strip([row([0, 1]), row([0])], PictureConfig())


def test_sections_stand_below_one_another_under_their_titles():
    one, two = strip([row([0])], PictureConfig()), strip([row([0, 3, 5])], PictureConfig())
    picture = stacked(["Right", "Wrong"], [[one], [two, one]])
    head = LINE_PX + MARGIN_PX
    assert picture.shape == (2 * head + 2 * one.shape[0] + two.shape[0], two.shape[1], 3)
    np.testing.assert_array_equal(picture[head : head + one.shape[0], : one.shape[1]], one)
    top = 2 * head + one.shape[0]
    np.testing.assert_array_equal(picture[top : top + two.shape[0]], two)
    assert len(colours(picture[:head])) > 1


def test_png_bytes_are_a_png():
    import io

    from PIL import Image

    picture = strip([row([0])], PictureConfig())
    with Image.open(io.BytesIO(png_bytes(picture))) as opened:
        assert opened.format == "PNG"
        np.testing.assert_array_equal(np.asarray(opened), picture)
