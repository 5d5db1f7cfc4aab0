"""Measures of attention: its effect on predictions, agreement, and localisation. Arrays in, floats out.

Legend: V videos, M blocks, T time-steps, L locations, K grid side with L = K * K, C classes, P points of a curve.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnrec.evaluation.intervals import Statistic

LEAST_FALL = 0.01  # fall in probability below which a curve is too flat to measure
_CENTRE_WIDTH = 0.25  # standard deviation of the centre prior, as a share of the frame's side

# Names in files of the figures of annotated boxes. The mass of uniform attention is the boxes' share of the frame's
# area. The last two are known if training videos have boxes.
BOX_FIGURES = (
    *("pointing", "mass", "pointing_uniform", "mass_uniform", "pointing_centre", "mass_centre"),
    *("pointing_frequent", "mass_frequent"),
)


def changed_share(probs: NDArray[Any], others: NDArray[Any]) -> float:
    """Share of videos whose most probable class differs between two tables of probabilities (V, C)."""
    return float((probs.argmax(axis=1) != others.argmax(axis=1)).mean())


def prediction_shift(probs: NDArray[Any], others: NDArray[Any], *, multilabel: bool) -> float:
    """Mean total variation distance between two predictions of each video.

    Args:
        probs: Class probabilities, shape (V, C).
        others: Other class probabilities of the same videos, shape (V, C).
        multilabel: Treat each class as a separate binary prediction, and average the distance over classes.

    Returns:
        Distance in [0, 1].
    """
    distances = np.abs(probs - others)
    return float((distances.mean(axis=1) if multilabel else distances.sum(axis=1) / 2).mean())


def donors(kinds: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw another video for each video, each once, of another kind wherever possible.

    Args:
        kinds: Kind of each video, such as its class, shape (V,).
        rng: Random generator.

    Returns:
        Indices of videos, shape (V,).

    Raises:
        ValueError: There are fewer than two videos.
    """
    V = len(kinds)
    if V < 2:
        raise ValueError("a video on its own has no other")
    shuffled = rng.permutation(V)
    order = shuffled[np.argsort(kinds[shuffled], kind="stable")]
    # Sort by kind and shift by the size of the largest: no kind meets itself unless it is more than half of all.
    largest = int(np.unique(kinds, return_counts=True)[1].max())
    chosen = np.empty(V, np.int64)
    chosen[order] = np.roll(order, -largest if largest < V else -1)
    return chosen


def removal_ranks(attention: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.int64]:
    """Rank of every location by its attention, 0 for the most attended; ties in random order.

    Args:
        attention: Location probabilities, shape (..., L).
        rng: Random generator for ties.

    Returns:
        Ranks, shape (..., L), each row a permutation.
    """
    order = np.lexsort((rng.random(attention.shape), -attention), axis=-1)
    return np.argsort(order, axis=-1)


def curve_area(curves: NDArray[np.float64], shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """Area under curves, rescaled to 1 with no cell removed and to 0 with all cells removed.

    Args:
        curves: Probability of the predicted class, shape (..., P).
        shares: Share of cells removed at each point, rising from 0 to 1, shape (P,).

    Returns:
        Areas, shape (...); NaN where the probability falls by less than `LEAST_FALL` from first to last point.
    """
    areas = ((curves[..., 1:] + curves[..., :-1]) / 2 * np.diff(shares)).sum(axis=-1)
    falls = curves[..., 0] - curves[..., -1]
    normal: NDArray[np.float64] = np.full(falls.shape, np.nan)
    np.divide(areas - curves[..., -1], falls, out=normal, where=falls >= LEAST_FALL)
    return normal


def area_statistic(curves: NDArray[np.float64], shares: NDArray[np.float64]) -> Statistic:
    """`curve_area` of the mean curve of resampled videos, given each video's curve (V, P)."""
    return lambda weights: curve_area(weights @ curves / weights.sum(axis=1, keepdims=True), shares)


def jensen_shannon(attention: NDArray[Any], other: NDArray[Any]) -> NDArray[np.float64]:
    """Jensen-Shannon divergence of location probabilities in bits: 0 if they are equal, 1 if they are disjoint.

    Args:
        attention: Location probabilities, shape (..., L).
        other: Other location probabilities, of the same shape.

    Returns:
        Divergences, shape (...).
    """
    from scipy.special import entr

    # Not scipy's `jensenshannon`, whose root is NaN where rounding makes the divergence of similar maps negative.
    p, q = attention.astype(np.float64), other.astype(np.float64)
    nats = (entr((p + q) / 2) - (entr(p) + entr(q)) / 2).sum(axis=-1)
    return np.asarray(np.maximum(nats / np.log(2), 0), np.float64)


def rank_correlation(attention: NDArray[Any], other: NDArray[Any]) -> NDArray[np.float64]:
    """Spearman's rank correlation of location probabilities.

    Args:
        attention: Location probabilities, shape (..., L).
        other: Other location probabilities, of the same shape.

    Returns:
        Correlations, shape (...); NaN where either is uniform.
    """
    from scipy.stats import rankdata

    ranks = [rankdata(values, axis=-1) - (values.shape[-1] + 1) / 2 for values in (attention, other)]
    norms = np.sqrt([np.square(rank).sum(axis=-1) for rank in ranks]).prod(axis=0)
    correlation: NDArray[np.float64] = np.full(norms.shape, np.nan)
    np.divide((ranks[0] * ranks[1]).sum(axis=-1), norms, out=correlation, where=norms > 0)
    return correlation


def centre_prior(grid_size: int) -> NDArray[np.float64]:
    """A Gaussian in the centre of the frame, with a standard deviation of a quarter of its side, shape (L,)."""
    offsets = (2 * np.arange(grid_size) + 1 - grid_size) / (2 * grid_size)  # exactly symmetric
    profile = np.exp(-np.square(offsets / _CENTRE_WIDTH) / 2)
    prior = np.outer(profile, profile).ravel()
    normal: NDArray[np.float64] = prior / prior.sum()
    return normal


def most_frequent_cell(coverage: NDArray[Any]) -> NDArray[np.float64]:
    """Attention on only the cell that targets touch most often.

    Args:
        coverage: Share of each cell that is target, shape (F, L), F at least 1. Among cells touched equally often, the
            one covered most is taken; among those, the first.

    Returns:
        1 for that cell and 0 for the others, shape (L,).
    """
    touched, covered = (coverage > 0).sum(axis=0), coverage.sum(axis=0, dtype=np.float64)
    cell = max(range(coverage.shape[1]), key=lambda i: (touched[i], covered[i]))
    frequent: NDArray[np.float64] = np.eye(coverage.shape[1])[cell]
    return frequent


def pointing_hits(attention: NDArray[Any], coverage: NDArray[Any]) -> NDArray[np.float64]:
    """Whether the most attended cell touches the target; with ties, the share of these cells that does.

    Args:
        attention: Location probabilities, shape (..., L).
        coverage: Share of each cell that is target, of a shape that broadcasts with `attention`.

    Returns:
        Hits in [0, 1], shape (...).
    """
    peaks = attention == attention.max(axis=-1, keepdims=True)
    hits: NDArray[np.float64] = (peaks & (coverage > 0)).sum(axis=-1) / peaks.sum(axis=-1)
    return hits


def mass_inside(attention: NDArray[Any], coverage: NDArray[Any]) -> NDArray[np.float64]:
    """Attention mass on the target, spread evenly within each cell; arguments as in `pointing_hits`."""
    mass: NDArray[np.float64] = (attention.astype(np.float64) * coverage).sum(axis=-1)
    return mass
