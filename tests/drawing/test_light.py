from typing import get_args

import numpy as np
import pytest
from looks import made_look, noise_frames, on_cell, random_attention
from scipy.ndimage import gaussian_filter, zoom

from attnrec.drawing.light import (
    ALPHA,
    FIXED_FULL,
    HEAT_ALPHA,
    LEAST_FULL,
    STYLES,
    attended_frame,
    axis_weights,
    cells_at,
    full_levels,
    heat_colours,
    legend_bar,
    legend_text,
    peaks_of,
    smooth_peaks,
    upsample,
)
from attnrec.settings import PictureConfig, PictureStyle

SIZES = [(96, 128), (128, 96), (224, 224), (50, 33)]


def centre_of_mass(light: np.ndarray) -> tuple[float, float]:
    """Row and column in px, the first pixel covering 0 to 1."""
    rows, columns = (np.arange(length) + 0.5 for length in light.shape)
    return float(light.sum(axis=1) @ rows / light.sum()), float(light.sum(axis=0) @ columns / light.sum())


@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize("K", [1, 2, 7, 13])
def test_uniform_attention_stays_uniform(height, width, K):
    light = upsample(np.full((K, K), 1 / K**2, np.float32), height, width)
    assert light.shape == (height, width)
    np.testing.assert_allclose(light, 1 / K**2, rtol=1e-5)


@pytest.mark.parametrize("K", [1, 2, 7, 13])
def test_maps_are_smoothed_as_in_the_authors_notebook(K):
    # skimage's pyramid_expand(upscale=32, sigma=20) is this: a linear zoom, then a Gaussian, both mirrored at the edge.
    attention = random_attention(K)
    linear = zoom(attention.astype(float), 32, order=1, mode="reflect", grid_mode=True)
    expected = gaussian_filter(linear, 20, mode="reflect", truncate=4)
    np.testing.assert_allclose(upsample(attention, 32 * K, 32 * K), expected, rtol=1e-4)


@pytest.mark.parametrize(("height", "width"), [(96, 128), (150, 49), (301, 300)])
def test_other_sizes_show_the_same_light(height, width):
    attention = random_attention(7)
    linear = zoom(attention.astype(float), 32, order=1, mode="reflect", grid_mode=True)
    reference = gaussian_filter(linear, 20, mode="reflect", truncate=4)
    rows, columns = (((np.arange(n) + 0.5) * 224 / n).astype(int) for n in (height, width))
    np.testing.assert_allclose(upsample(attention, height, width), reference[np.ix_(rows, columns)], rtol=0.03)


@pytest.mark.parametrize("K", [2, 7, 13])
@pytest.mark.parametrize(("length", "begin", "end"), [(5, 0, 5), (64, 0, 64), (225, 0, 225), (64, 10.5, 40.25)])
def test_each_pixel_takes_a_weighted_mean_of_the_cells(K, length, begin, end):
    weights = axis_weights(K, length, begin, end)
    assert weights.shape == (length, K)
    assert (weights >= 0).all()
    centres = np.arange(length) + 0.5
    np.testing.assert_allclose(weights.sum(axis=1), (begin <= centres) & (centres < end), atol=1e-5)


@pytest.mark.parametrize(("height", "width"), [(96, 128), (128, 96), (224, 224)])
@pytest.mark.parametrize("K", [4, 7])
def test_light_lies_on_the_cell_that_is_attended(height, width, K):
    for row, column in np.ndindex(K, K):
        light = upsample(on_cell(row, column, K), height, width)
        y, x = centre_of_mass(light)
        # Mirroring at the edge keeps all of the light, so that its centre moves inward there.
        assert row * height / K - 1 <= y <= (row + 1) * height / K + 1
        assert column * width / K - 1 <= x <= (column + 1) * width / K + 1
        peak_y, peak_x = np.unravel_index(light.argmax(), light.shape)
        assert row * height // K <= peak_y < (row + 1) * height / K
        assert column * width // K <= peak_x < (column + 1) * width / K


@pytest.mark.parametrize("region", [(20, 0, 80, 60), (3.5, 7.25, 41, 33.5)])
def test_a_region_is_lit_as_a_picture_of_its_own_would_be(region):
    attention = random_attention(7)
    x0, y0, x1, y1 = region
    light = upsample(attention, 60, 100, region)
    ys, xs = np.arange(60) + 0.5, np.arange(100) + 0.5
    inside = ((y0 <= ys) & (ys < y1))[:, None] & (x0 <= xs) & (xs < x1)
    assert (light[~inside] == 0).all()
    assert (light[inside] > 0).all()
    alone = upsample(attention, 600, 600)
    rows, columns = ((ys[(y0 <= ys) & (ys < y1)] - y0) / (y1 - y0), (xs[(x0 <= xs) & (xs < x1)] - x0) / (x1 - x0))
    expected = alone[np.ix_((600 * rows).astype(int), (600 * columns).astype(int))]
    np.testing.assert_allclose(light[inside], expected.ravel(), rtol=0.02)


def test_the_cell_of_each_pixel():
    assert cells_at(2, 4, 0, 4).tolist() == [0, 0, 1, 1]
    assert cells_at(2, 6, 1, 5).tolist() == [-1, 0, 0, 1, 1, -1]
    # A pixel belongs to the cell that covers its centre.
    assert cells_at(3, 4, 0, 4).tolist() == [0, 1, 1, 2]
    assert cells_at(1, 3, 0.5, 2.5).tolist() == [0, 0, -1]


@pytest.mark.parametrize("K", [2, 7, 13])
def test_peaks_are_the_largest_values_that_are_drawn(K):
    attention = random_attention(K, 5)
    expected = [upsample(cells, 32 * K, 32 * K).max() for cells in attention]
    np.testing.assert_allclose(smooth_peaks(attention), expected, rtol=1e-5)


def test_the_three_scales():
    attention, peaks = random_attention(7, 3), np.array([0.3, 0.6, 0.1])
    np.testing.assert_allclose(full_levels(attention, peaks, "frame"), peaks)
    np.testing.assert_allclose(full_levels(attention, peaks, "clip"), 0.6)
    np.testing.assert_allclose(full_levels(attention, peaks, "fixed"), FIXED_FULL / 49)


def test_a_clip_without_preference_is_not_drawn_at_full_strength():
    attention = np.full((2, 7, 7), 1 / 49, np.float32)
    np.testing.assert_allclose(full_levels(attention, smooth_peaks(attention), "clip"), LEAST_FULL / 49)
    np.testing.assert_allclose(full_levels(attention, smooth_peaks(attention), "frame"), 1 / 49, rtol=1e-5)


def test_every_style_that_can_be_asked_for_is_drawn():
    assert list(STYLES) == list(get_args(PictureStyle))


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
