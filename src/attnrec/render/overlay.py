"""Attention over a frame: upsampled as light, laid over the darkened picture.

Legend: K grid side, H and W of a picture in px.
"""

import functools

import numpy as np
from numpy.typing import NDArray

SIGMA_CELLS = 20 / 32  # the authors smooth with 20 px where a cell is 32 px wide
ALPHA = 0.7  # share of the light, the rest is the picture
LEAST_WHITE = 2.0  # in multiples of uniform attention: a model that looks nowhere must not fill a frame with light


def upsample(attention: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """Bring attention to a picture's size: linear interpolation between cell centres, then Gaussian smoothing.

    Args:
        attention: Location probabilities, rows from the top, shape (K, K).
        height: In px.
        width: In px.

    Returns:
        Shape (H, W). A uniform map stays uniform.
    """
    rows, columns = _axis_weights(len(attention), height), _axis_weights(attention.shape[1], width)
    return np.asarray(rows @ attention @ columns.T, np.float32)


def white_level(attention: NDArray[np.float32]) -> float:
    """Attention that is drawn as full light: the median of the frames' peaks, but at least `LEAST_WHITE` x uniform.

    Peaks are those of the smoothed map. The median, as the first step after Eq. 6 is often far sharper than all others.
    One level for a whole clip keeps the brightness of its frames comparable, and shows how peaked they are.

    Args:
        attention: Location probabilities of a clip's samples, shape (S, K, K).

    Returns:
        A probability of one location, over 0.
    """
    K = attention.shape[1]
    weights: NDArray[np.float32] = _axis_weights(K, 8 * K)
    peaks = (weights @ attention @ weights.T).max(axis=(1, 2))
    return float(max(np.median(peaks), LEAST_WHITE / K**2))


def attended_frame(
    frame: NDArray[np.uint8],
    attention: NDArray[np.float32],
    *,
    white: float,
    region: tuple[int, int, int, int] | None = None,
) -> NDArray[np.uint8]:
    """Lay attention over a frame: white light where the model looks, the rest darkened.

    Args:
        frame: RGB, shape (H, W, 3).
        attention: Location probabilities, shape (K, K).
        white: Attention that is drawn as full light, see `white_level`.
        region: x0, y0, x1, y1 in px of the part of the frame that the model sees, half-open; None: all of it. What
            lies outside gets no light.

    Returns:
        RGB, shape (H, W, 3).
    """
    x0, y0, x1, y1 = region or (0, 0, frame.shape[1], frame.shape[0])
    light = np.zeros(frame.shape[:2], np.float32)
    light[y0:y1, x0:x1] = upsample(attention, y1 - y0, x1 - x0) / white
    mixed = (1 - ALPHA) * frame + ALPHA * 255 * np.minimum(light, 1)[..., None]
    return np.asarray(np.clip(np.round(mixed), 0, 255), np.uint8)


@functools.lru_cache(maxsize=16)
def _axis_weights(num_cells: int, length: int) -> NDArray[np.float32]:
    """Weight of each cell at each pixel of one axis, shape (length, num_cells); rows sum to 1."""
    positions = (np.arange(length) + 0.5) * num_cells / length - 0.5  # of pixel centres, in cells
    cells = np.arange(num_cells)
    clipped = np.clip(positions, 0, num_cells - 1)
    linear = np.maximum(0, 1 - np.abs(clipped[:, None] - cells[None]))
    blur = np.exp(-0.5 * ((positions[:, None] - positions[None]) / SIGMA_CELLS) ** 2)
    weights = blur / blur.sum(axis=1, keepdims=True) @ linear
    return np.asarray(weights, np.float32)
