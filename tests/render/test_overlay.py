import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, map_coordinates

from attnrec.render import overlay
from attnrec.render.overlay import ALPHA, LEAST_WHITE, SIGMA_CELLS, attended_frame, upsample, white_level

SIZES = [(96, 128), (128, 96), (224, 224), (50, 33)]


def on_cell(row: int, column: int, K: int = 7) -> np.ndarray:
    attention = np.zeros((K, K), np.float32)
    attention[row, column] = 1
    return attention


def random_attention(K: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.ones(K * K)).reshape(K, K).astype(np.float32)


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


@pytest.mark.parametrize("K", [2, 7, 13])
@pytest.mark.parametrize("length", [5, 64, 225])
def test_each_pixel_takes_a_weighted_mean_of_the_cells(K, length):
    weights = overlay._axis_weights(K, length)
    assert weights.shape == (length, K)
    assert (weights >= 0).all()
    np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(weights, weights[::-1, ::-1], atol=1e-6)


@pytest.mark.parametrize(("height", "width"), [(96, 128), (128, 96), (224, 224)])
@pytest.mark.parametrize("K", [4, 7])
def test_light_lies_on_the_cell_that_is_attended(height, width, K):
    for row in range(K):
        for column in range(K):
            light = upsample(on_cell(row, column, K), height, width)
            y, x = centre_of_mass(light)
            assert row * height / K <= y <= (row + 1) * height / K
            assert column * width / K <= x <= (column + 1) * width / K
            peak_y, peak_x = np.unravel_index(light.argmax(), light.shape)
            assert row * height // K <= peak_y < (row + 1) * height / K
            assert column * width // K <= peak_x < (column + 1) * width / K
            rows, columns = np.arange(height) * K // height, np.arange(width) * K // width
            far = (abs(rows - row) > 2)[:, None] | (abs(columns - column) > 2)
            assert light[far].max(initial=0) < 0.05 * light.max()


@pytest.mark.parametrize(("height", "width"), [(96, 128), (224, 224), (49, 70)])
@pytest.mark.parametrize("K", [2, 7, 13])
def test_upsample_agrees_with_scipy(height, width, K):
    attention = random_attention(K)
    rows, columns = ((np.arange(length) + 0.5) * K / length - 0.5 for length in (height, width))
    linear = map_coordinates(
        attention.astype(float), np.meshgrid(rows, columns, indexing="ij"), order=1, mode="nearest"
    )
    sigma = (SIGMA_CELLS * height / K, SIGMA_CELLS * width / K)
    options = {"sigma": sigma, "mode": "constant", "truncate": 12}
    # Beyond the edge lies nothing, which counts neither as dark nor as light.
    expected = gaussian_filter(linear, **options) / gaussian_filter(np.ones_like(linear), **options)
    np.testing.assert_allclose(upsample(attention, height, width), expected, rtol=1e-3)


def test_smoothing_is_that_of_the_authors():
    # 20 px where a 7 x 7 map lies over 224 px.
    sigma_px = SIGMA_CELLS * 224 / 7
    assert sigma_px == pytest.approx(20)


def test_a_brighter_picture_where_the_model_looks():
    frame = np.full((96, 128, 3), (100, 50, 0), np.uint8)
    lit = attended_frame(frame, on_cell(1, 5), white=0.25)
    assert lit.shape == frame.shape
    assert lit.dtype == np.uint8
    centre = lit[int(1.5 * 96 / 7), int(5.5 * 128 / 7)]
    assert centre == pytest.approx((1 - ALPHA) * frame[0, 0] + ALPHA * 255, abs=1)
    assert lit[80, 10] == pytest.approx((1 - ALPHA) * frame[0, 0], abs=2)
    assert frame.max() == 100


def test_brightness_is_in_proportion_up_to_white():
    frame, attention = np.zeros((60, 80, 3), np.uint8), random_attention(7)
    light = upsample(attention, 60, 80)
    for white in (float(light.max()), float(np.median(light)), 1.0):
        expected = np.repeat((ALPHA * 255 * np.minimum(light / white, 1))[..., None], 3, axis=2)
        np.testing.assert_allclose(attended_frame(frame, attention, white=white), expected, atol=0.51)


def test_light_and_picture_share_the_brightness():
    frame, attention = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8), random_attention(7)
    light = attended_frame(np.zeros_like(frame), attention, white=0.05)
    assert light.max() > 100
    np.testing.assert_allclose(
        attended_frame(frame, attention, white=0.05), light + (1 - ALPHA) * frame.astype(float), atol=1.01
    )


def test_uniform_attention_lights_all_alike_and_not_fully():
    frame, uniform = np.full((40, 60, 3), 10, np.uint8), np.full((7, 7), 1 / 49, np.float32)
    lit = np.unique(attended_frame(frame, uniform, white=white_level(uniform[None])))
    assert lit.tolist() == [round((1 - ALPHA) * 10 + ALPHA * 255 / LEAST_WHITE)]


def test_no_attention_at_all_is_dark():
    lit = attended_frame(np.full((40, 60, 3), 100, np.uint8), np.zeros((7, 7), np.float32), white=0.1)
    assert np.unique(lit).tolist() == [round((1 - ALPHA) * 100)]


@pytest.mark.parametrize("K", [2, 7, 13])
def test_white_level_is_the_median_of_the_peaks(K):
    # Sharp attention on all but a few of the steps: its smoothed peak counts.
    sharp, uniform = on_cell(K // 2, K // 2, K), np.full((K, K), 1 / K**2, np.float32)
    peak = upsample(sharp, 20 * K, 20 * K).max()
    assert white_level(np.stack([sharp, uniform, sharp])) == pytest.approx(max(peak, LEAST_WHITE / K**2), rel=0.03)
    assert white_level(np.stack([sharp, uniform, uniform])) == pytest.approx(LEAST_WHITE / K**2)
    assert white_level(uniform[None]) == pytest.approx(LEAST_WHITE / K**2)


@pytest.mark.parametrize(
    ("shape", "region"), [((60, 100), (20, 0, 80, 60)), ((100, 60), (0, 20, 60, 80)), ((60, 100), (3, 7, 41, 33))]
)
def test_only_the_region_that_the_model_sees_is_lit(shape, region):
    frame = np.random.default_rng(1).integers(0, 256, (*shape, 3), dtype=np.uint8)
    attention = random_attention(7)
    x0, y0, x1, y1 = region
    lit = attended_frame(frame, attention, white=0.05, region=region)
    np.testing.assert_array_equal(lit[y0:y1, x0:x1], attended_frame(frame[y0:y1, x0:x1], attention, white=0.05))
    outside = np.ones(shape, bool)
    outside[y0:y1, x0:x1] = False
    np.testing.assert_allclose(lit[outside], (1 - ALPHA) * frame[outside], atol=0.51)


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_orientation(height, width):
    black = np.zeros((height, width, 3), np.uint8)
    for row in (0, 6):
        for column in (0, 6):
            lit = attended_frame(black, on_cell(row, column), white=0.5)[..., 0]
            corners = {(r, c): int(lit[-1 if r else 0, -1 if c else 0]) for r in (0, 6) for c in (0, 6)}
            assert max(corners, key=corners.__getitem__) == (row, column)
            assert sorted(corners.values())[-2] < 10
