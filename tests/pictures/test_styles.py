import numpy as np
import pytest
from looks import noise_frames, on_cell, random_attention
from scipy.ndimage import gaussian_filter, zoom

from attnrec.pictures.styles import ALPHA, HEAT_ALPHA, STYLES, attended_frame, heat_colours, legend_bar, peaks_of


def test_the_paper_style_is_the_picture_of_the_authors_notebook():
    (frame,), attention = noise_frames(1, 224, 224), random_attention(7)
    linear = zoom(attention.astype(float), 32, order=1, mode="reflect", grid_mode=True)
    light = gaussian_filter(linear, 20, mode="reflect", truncate=4)
    grey = (light / light.max() * 255)[..., None]
    expected = 0.8 * grey + 0.2 * frame  # the light "over" the frame with a constant alpha
    (full,) = peaks_of(attention[None], "paper")
    lit = attended_frame(frame, attention, style="paper", full=float(full))
    np.testing.assert_allclose(lit, expected, atol=0.6)


@pytest.mark.parametrize("style", STYLES)
def test_pictures_keep_size_and_frame(style):
    (frame,) = noise_frames(1, 50, 70)
    before = frame.copy()
    lit = attended_frame(frame, random_attention(7), style=style, full=0.05)
    assert lit.shape == frame.shape
    assert lit.dtype == np.uint8
    np.testing.assert_array_equal(frame, before)


@pytest.mark.parametrize("style", ["paper", "heat", "grid"])
def test_more_attention_is_more_light(style):
    black = np.zeros((70, 70, 3), np.uint8)
    levels = [attended_frame(black, np.full((7, 7), x, np.float32), style=style, full=1)[35, 35].mean()
              for x in (0, 0.25, 0.5, 0.75, 1.0)]  # fmt: skip
    assert (np.diff(levels) > 10).all()
    over = attended_frame(black, np.full((7, 7), 1.5, np.float32), style=style, full=1)[35, 35].mean()
    assert over == levels[-1]


def test_no_attention_darkens_the_paper_style_and_leaves_the_contour_alone():
    (frame,) = noise_frames(1)
    nothing = np.zeros((7, 7), np.float32)
    dark = attended_frame(frame, nothing, style="paper", full=0.1)
    np.testing.assert_allclose(dark, (1 - ALPHA) * frame, atol=0.51)
    np.testing.assert_array_equal(attended_frame(frame, nothing, style="contour", full=0.1), frame)


def test_heat_is_the_legends_colour_over_grey():
    frame = np.full((40, 60, 3), 110, np.uint8)
    for x in (0.0, 0.5, 1.0):
        lit = attended_frame(frame, np.full((7, 7), x, np.float32), style="heat", full=1)[20, 30]
        expected = (1 - HEAT_ALPHA) * 110 + HEAT_ALPHA * heat_colours()[round(255 * x)]
        np.testing.assert_allclose(lit, expected, atol=1)
        bar = legend_bar("heat", 101, 5)
        np.testing.assert_allclose(lit, bar[2, round(100 * x)], atol=1)


def lightness(colours: np.ndarray) -> np.ndarray:
    """CIE L* of sRGB colours."""
    linear = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    luminance = linear @ [0.2126, 0.7152, 0.0722]
    return np.where(luminance > 0.008856, 116 * np.cbrt(luminance) - 16, 903.3 * luminance)


def test_heat_rises_in_equal_steps_of_lightness():
    steps = np.diff(lightness(heat_colours()[::15] / 255))
    assert (steps > 0).all()
    assert steps.max() < 1.5 * steps.mean()
    assert steps.min() > 0.5 * steps.mean()


def test_contour_lines_lie_where_the_light_crosses_their_levels():
    # Along a row attention falls evenly from left to right, so its lines are upright.
    ramp = np.tile(np.linspace(1, 0, 7, dtype=np.float32), (7, 1))
    frame = np.full((210, 210, 3), 128, np.uint8)
    lit = attended_frame(frame, ramp, style="contour", full=1)
    changed = np.flatnonzero((lit[105] != 128).any(axis=1))
    groups = np.split(changed, np.flatnonzero(np.diff(changed) > 1) + 1)
    # The level 0.5 is crossed in the middle, the others as far from it on both sides.
    assert len(groups) == 3
    centres = [group.mean() for group in groups]
    assert centres[1] == pytest.approx(104, abs=2)
    assert centres[1] - centres[0] == pytest.approx(centres[2] - centres[1], abs=2)
    # Linear between cell centres, smoothed: the levels lie a quarter of the six steps between the outer cells apart.
    assert centres[2] - centres[1] == pytest.approx(1.5 * 30, abs=4)


@pytest.mark.parametrize("style", ["paper", "heat", "contour", "grid"])
def test_outside_the_region_there_is_no_attention(style):
    frame = np.full((60, 100, 3), 200, np.uint8)
    region = (20, 0, 80, 60)
    one, other = (
        attended_frame(frame, random_attention(7, seed=seed), style=style, full=0.03, region=region) for seed in (0, 1)
    )
    outside = np.ones((60, 100), bool)
    outside[:, 20:80] = False
    np.testing.assert_array_equal(one[outside], other[outside])
    assert one[outside].max() < 100
    assert (one[~outside] != other[~outside]).any()


@pytest.mark.parametrize("height", [280, 136])  # the latter as of a 16:9 clip
def test_the_grid_says_the_weights(height):
    frame = np.full((height, 280, 3), 60, np.uint8)

    def written(weight: float) -> np.ndarray:
        lit = attended_frame(frame, on_cell(1, 2) * np.float32(weight), style="grid", full=1.0)
        cell = lit[height // 7 + 2 : 2 * height // 7 - 2, 85:115].astype(int)
        return np.abs(cell - np.median(cell, axis=(0, 1))).sum(axis=2) > 60

    ink = [written(weight) for weight in (0.12, 0.1204, 0.1304)]
    assert ink[0].sum() > 10
    np.testing.assert_array_equal(ink[0], ink[1])  # 12 both
    assert (ink[0] != ink[2]).any()  # 13


def test_small_cells_have_no_numbers():
    frame = np.full((98, 98, 3), 60, np.uint8)
    lit = attended_frame(frame, on_cell(3, 3), style="grid", full=1.0)
    assert len(np.unique(lit[44:55, 44:55])) == 1


def test_peaks_follow_the_style():
    attention = np.stack([on_cell(3, 3), np.full((7, 7), 1 / 49, np.float32)])
    np.testing.assert_allclose(peaks_of(attention, "grid"), [1, 1 / 49], rtol=1e-5)
    smooth = peaks_of(attention, "heat")
    assert 0.1 < smooth[0] < 0.5
    assert smooth[1] == pytest.approx(1 / 49, rel=1e-4)


@pytest.mark.parametrize("style", ["paper", "heat", "grid"])
@pytest.mark.parametrize(("height", "width"), [(96, 128), (128, 96), (224, 224), (50, 33)])
def test_orientation(style, height, width):
    black = np.zeros((height, width, 3), np.uint8)
    for row in (0, 6):
        for column in (0, 6):
            lit = attended_frame(black, on_cell(row, column), style=style, full=0.5).astype(int).sum(axis=2)
            corners = {(r, c): int(lit[-2 if r else 1, -2 if c else 1]) for r in (0, 6) for c in (0, 6)}
            assert max(corners, key=corners.__getitem__) == (row, column)
