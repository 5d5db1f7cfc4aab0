"""Attention over a frame: upsampled as light, laid over the darkened picture.

Legend: K grid side, H and W of a picture in px.
"""

import functools

import numpy as np
from numpy.typing import NDArray

SIGMA_CELLS = 20 / 32  # the authors smooth with 20 px where a cell is 32 px wide
ALPHA = 0.8  # share of the light, the rest is the picture


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
    smooth: NDArray[np.float32] = rows @ attention @ columns.T
    return smooth


def attended_frame(
    frame: NDArray[np.uint8], attention: NDArray[np.float32], region: tuple[int, int, int, int] | None = None
) -> NDArray[np.uint8]:
    """Lay attention over a frame: white light where the model looks, the rest darkened.

    The brightness is relative to the strongest attention of this frame, as in the paper's figures.

    Args:
        frame: RGB, shape (H, W, 3).
        attention: Location probabilities, shape (K, K).
        region: x0, y0, x1, y1 in px of the part of the frame that the model sees, half-open; None: all of it. What
            lies outside gets no light.

    Returns:
        RGB, shape (H, W, 3).
    """
    x0, y0, x1, y1 = region or (0, 0, frame.shape[1], frame.shape[0])
    light = np.zeros(frame.shape[:2], np.float32)
    smooth = upsample(attention, y1 - y0, x1 - x0)
    light[y0:y1, x0:x1] = smooth / max(float(smooth.max()), 1e-12)
    mixed = (1 - ALPHA) * frame + ALPHA * 255 * light[..., None]
    return np.asarray(np.clip(np.round(mixed), 0, 255), np.uint8)


@functools.lru_cache(maxsize=16)
def _axis_weights(num_cells: int, length: int) -> NDArray[np.float32]:
    """Weight of each cell at each pixel of one axis, shape (length, num_cells); rows sum to 1."""
    positions = (np.arange(length) + 0.5) * num_cells / length - 0.5  # of pixel centres, in cells
    cells = np.arange(num_cells)
    clipped = np.clip(positions, 0, num_cells - 1)
    linear = np.maximum(0, 1 - np.abs(clipped[:, None] - cells[None]))
    blur = np.exp(-0.5 * ((positions[:, None] - positions[None]) / SIGMA_CELLS) ** 2)
    weights: NDArray[np.float32] = (blur / blur.sum(axis=1, keepdims=True) @ linear).astype(np.float32)
    return weights
