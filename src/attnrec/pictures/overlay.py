"""Attention brought to a picture's size, and how strong it must be to be drawn at full strength.

Legend: S samples of a clip, K grid side, H and W of a picture in px.
"""

import functools

import numpy as np
from numpy.typing import NDArray

from attnrec.settings import PictureScale

CELL_PX, SIGMA_PX = 32, 20  # the authors enlarge each cell to 32 px and smooth with 20
LEAST_FULL = 2.0  # times uniform: a model that looks nowhere must not fill a clip with light
FIXED_FULL = 4.0  # times uniform, for brightness that is the same in all pictures

Region = tuple[float, float, float, float]


def upsample(
    attention: NDArray[np.float32], height: int, width: int, region: Region | None = None
) -> NDArray[np.float32]:
    """Smooth attention at a picture's size, as the authors do: linear between cell centres, then Gaussian.

    Args:
        attention: Location probabilities, rows from the top, shape (K, K).
        height: In px.
        width: In px.
        region: x0, y0, x1, y1 in px of the part of the picture that the model sees, half-open; None: all of it.

    Returns:
        Shape (H, W), 0 outside the region. A uniform map stays uniform.
    """
    x0, y0, x1, y1 = region or (0, 0, width, height)
    rows = axis_weights(len(attention), height, y0, y1)
    columns = axis_weights(attention.shape[1], width, x0, x1)
    return np.asarray(rows @ attention @ columns.T, np.float32)


def cells_at(num_cells: int, length: int, begin: float, end: float) -> NDArray[np.int64]:
    """Cell that covers each pixel's centre on one axis whose seen part is `begin` to `end` in px; -1 outside it."""
    cells = np.floor((np.arange(length) + 0.5 - begin) * num_cells / (end - begin))
    return np.where((cells < 0) | (cells >= num_cells), -1, cells).astype(np.int64)


def smooth_peaks(attention: NDArray[np.float32]) -> NDArray[np.float64]:
    """Largest value of each smoothed map, shape (S,).

    Args:
        attention: Shape (S, K, K).
    """
    weights = _fine_weights(attention.shape[1])
    return np.array([(weights @ cells @ weights.T).max() for cells in attention], np.float64)


def full_levels(attention: NDArray[np.float32], peaks: NDArray[np.float64], scale: PictureScale) -> NDArray[np.float64]:
    """Attention of one location that is drawn at full strength, for each sample, shape (S,).

    Args:
        attention: Location probabilities of a clip's samples, shape (S, K, K).
        peaks: Largest value that is drawn of each sample, shape (S,).
        scale: `frame` takes each sample's peak, as the authors do; `clip` the clip's, but at least `LEAST_FULL` times
            uniform; `fixed` `FIXED_FULL` times uniform.
    """
    S, K, _ = attention.shape
    if scale == "frame":
        return np.maximum(peaks, 1e-12)
    full = FIXED_FULL / K**2 if scale == "fixed" else max(float(peaks.max()), LEAST_FULL / K**2)
    return np.full(S, full)


@functools.lru_cache(maxsize=16)
def axis_weights(num_cells: int, length: int, begin: float, end: float) -> NDArray[np.float32]:
    """Weight of each cell at each pixel of an axis, shape (length, num_cells); rows sum to 1, or to 0 outside."""
    fine = _fine_weights(num_cells)
    cells = (np.arange(length) + 0.5 - begin) * num_cells / (end - begin)
    positions = np.clip(cells * CELL_PX - 0.5, 0, len(fine) - 1)
    below = np.minimum(positions.astype(int), len(fine) - 2)
    share = (positions - below)[:, None]
    weights = (1 - share) * fine[below] + share * fine[below + 1]
    weights[(cells < 0) | (cells >= num_cells)] = 0
    return np.asarray(weights, np.float32)


@functools.lru_cache(maxsize=16)
def _fine_weights(num_cells: int) -> NDArray[np.float32]:
    """Weight of each cell at each of 32 points across every cell, shape (32 K, K); rows sum to 1."""
    positions = (np.arange(CELL_PX * num_cells) + 0.5) / CELL_PX - 0.5  # in cells
    near = np.clip(positions, 0, num_cells - 1)
    linear = np.maximum(0, 1 - np.abs(near[:, None] - np.arange(num_cells)))
    reach = 4 * SIGMA_PX
    blur = np.exp(-0.5 * (np.arange(-reach, reach + 1) / SIGMA_PX) ** 2)
    mirrored = np.pad(linear, ((reach, reach), (0, 0)), mode="symmetric")
    smooth = [np.convolve(column, blur / blur.sum(), mode="valid") for column in mirrored.T]
    return np.asarray(np.stack(smooth, axis=1), np.float32)
