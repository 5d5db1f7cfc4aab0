"""The attention of several layers as one map of the frame.

Legend: M layers, K_m side of the grid of layer m, K that of the finest, L locations of all layers together.
"""

from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnrec.specs import LayerGrid


def on_frame(attention: NDArray[Any], grids: Sequence[LayerGrid]) -> NDArray[Any]:
    """Sum what all layers say of a place: each location's attention is spread evenly over its own part of the frame.

    Args:
        attention: Location probabilities, the layers one after another, shape (..., L).
        grids: Name, K_m and channels of each layer.

    Returns:
        Location probabilities on the finest grid, shape (..., K * K); those of a single layer unchanged.
    """
    if len(grids) == 1:
        return attention
    finest = max(K for _, K, _ in grids)
    total = np.zeros((*attention.shape[:-1], finest, finest))
    for own in layer_maps(attention, grids):
        spread = _spread(own.shape[-1], finest)
        total += spread @ own @ spread.T
    return total.reshape(*attention.shape[:-1], -1).astype(attention.dtype)


def layer_maps(attention: NDArray[Any], grids: Sequence[LayerGrid]) -> list[NDArray[Any]]:
    """Each layer's own part of the attention, (..., K_m, K_m), which sums to its share; arguments as in `on_frame`."""
    ends = accumulate((K * K for _, K, _ in grids), initial=0)
    parts = zip(pairwise(ends), grids, strict=True)
    return [attention[..., first:end].reshape(*attention.shape[:-1], K, K) for (first, end), (_, K, _) in parts]


def _spread(K: int, finest: int) -> NDArray[np.float64]:
    """Share of each of K equal parts of a side that lies in each of `finest` equal parts, shape (finest, K)."""
    low = np.maximum(np.arange(finest)[:, None] / finest, np.arange(K) / K)
    high = np.minimum(np.arange(1, finest + 1)[:, None] / finest, np.arange(1, K + 1) / K)
    shared: NDArray[np.float64] = np.maximum(high - low, 0) * K
    return shared
