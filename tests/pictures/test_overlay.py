import numpy as np
import pytest
from looks import on_cell, random_attention
from scipy.ndimage import gaussian_filter, zoom

from attnrec.pictures import overlay
from attnrec.pictures.overlay import FIXED_FULL, LEAST_FULL, cells_at, full_levels, smooth_peaks, upsample

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
    weights = overlay.axis_weights(K, length, begin, end)
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
