"""Does a recogniser rest on where it looks, and does it look where it should? Arrays in, floats out.

Legend: V videos, M blocks, T time-steps, L locations, K grid side with L = K * K, C classes, P points of a curve.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnrec.evaluation.intervals import Statistic

LEAST_FALL = 0.01  # of a probability, below which a curve has no shape to speak of
_CENTRE_WIDTH = 0.25  # standard deviation of the centre prior, as a share of the frame's side

# Figures of annotated boxes, by the names that they have in files. The mass of uniform attention is the share of the
# frame's area. The last two are known where training videos have boxes.
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
        others: Others of the same videos.
        multilabel: Every class is a question of its own, and the distance a mean over them.

    Returns:
        In [0, 1].
    """
    distances = np.abs(probs - others)
    return float((distances.mean(axis=1) if multilabel else distances.sum(axis=1) / 2).mean())


def donors(kinds: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """Another video for each video, each taken once, of another kind wherever that is possible.

    Args:
        kinds: What must differ, such as classes, shape (V,).
        rng: Source of the draw.

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
    # Kinds side by side, moved on by the largest of them: no kind meets itself unless it is more than half of all.
    largest = int(np.unique(kinds, return_counts=True)[1].max())
    chosen = np.empty(V, np.int64)
    chosen[order] = np.roll(order, -largest if largest < V else -1)
    return chosen


def removal_ranks(attention: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.int64]:
    """Rank of every location by its attention, 0 for the most attended; equal ones in random order.

    Args:
        attention: Location probabilities, shape (..., L).
        rng: Source of the order of equal ones.

    Returns:
        Shape (..., L), each row a permutation.
    """
    order = np.lexsort((rng.random(attention.shape), -attention), axis=-1)
    return np.argsort(order, axis=-1)


def curve_area(curves: NDArray[np.float64], shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """Area under curves that are brought to 1 where no cell is removed and to 0 where all are.

    Args:
        curves: Probability of the predicted class, shape (..., P).
        shares: Of the cells that are removed, rising from 0 to 1, shape (P,).

    Returns:
        Shape (...); NaN where the probability does not fall by `LEAST_FALL` from the first to the last.
    """
    areas = ((curves[..., 1:] + curves[..., :-1]) / 2 * np.diff(shares)).sum(axis=-1)
    falls = curves[..., 0] - curves[..., -1]
    normal: NDArray[np.float64] = np.full(falls.shape, np.nan)
    np.divide(areas - curves[..., -1], falls, out=normal, where=falls >= LEAST_FALL)
    return normal


def area_statistic(curves: NDArray[np.float64], shares: NDArray[np.float64]) -> Statistic:
    """`curve_area` of the mean curve of resampled videos, from the curves of each (V, P)."""
    return lambda weights: curve_area(weights @ curves / weights.sum(axis=1, keepdims=True), shares)


def jensen_shannon(attention: NDArray[Any], other: NDArray[Any]) -> NDArray[np.float64]:
    """Jensen-Shannon divergence of location probabilities in bits: 0 where they are equal, 1 where they are apart.

    Args:
        attention: Shape (..., L).
        other: Of the same shape.

    Returns:
        Shape (...).
    """
    from scipy.special import entr

    # Not scipy's own `jensenshannon`: its root is NaN where rounding brings the divergence of like maps below zero.
    p, q = attention.astype(np.float64), other.astype(np.float64)
    nats = (entr((p + q) / 2) - (entr(p) + entr(q)) / 2).sum(axis=-1)
    return np.asarray(np.maximum(nats / np.log(2), 0), np.float64)


def rank_correlation(attention: NDArray[Any], other: NDArray[Any]) -> NDArray[np.float64]:
    """Spearman's correlation of location probabilities.

    Args:
        attention: Shape (..., L).
        other: Of the same shape.

    Returns:
        Shape (...); NaN where either is uniform.
    """
    from scipy.stats import rankdata

    ranks = [rankdata(values, axis=-1) - (values.shape[-1] + 1) / 2 for values in (attention, other)]
    norms = np.sqrt([np.square(rank).sum(axis=-1) for rank in ranks]).prod(axis=0)
    correlation: NDArray[np.float64] = np.full(norms.shape, np.nan)
    np.divide((ranks[0] * ranks[1]).sum(axis=-1), norms, out=correlation, where=norms > 0)
    return correlation


def centre_prior(grid_size: int) -> NDArray[np.float64]:
    """A Gaussian in the middle of the frame, a quarter of its side wide (standard deviation), shape (L,)."""
    offsets = (2 * np.arange(grid_size) + 1 - grid_size) / (2 * grid_size)  # of one size left and right, to the digit
    profile = np.exp(-np.square(offsets / _CENTRE_WIDTH) / 2)
    prior = np.outer(profile, profile).ravel()
    normal: NDArray[np.float64] = prior / prior.sum()
    return normal


def most_frequent_cell(coverage: NDArray[Any]) -> NDArray[np.float64]:
    """All attention on the one cell that targets touch most often.

    Args:
        coverage: Share of each cell that is target, shape (F, L), of at least one frame. Of cells that are touched as
            often the one that is covered most counts, and of several such the first.

    Returns:
        1 for that cell and 0 for the others, shape (L,).
    """
    touched, covered = (coverage > 0).sum(axis=0), coverage.sum(axis=0, dtype=np.float64)
    cell = max(range(coverage.shape[1]), key=lambda i: (touched[i], covered[i]))
    frequent: NDArray[np.float64] = np.eye(coverage.shape[1])[cell]
    return frequent


def pointing_hits(attention: NDArray[Any], coverage: NDArray[Any]) -> NDArray[np.float64]:
    """Whether the most attended cell touches the target; of several as attended, the share that does.

    Args:
        attention: Location probabilities, shape (..., L).
        coverage: Share of each cell that is target, of a shape that broadcasts with it.

    Returns:
        In [0, 1], shape (...).
    """
    peaks = attention == attention.max(axis=-1, keepdims=True)
    hits: NDArray[np.float64] = (peaks & (coverage > 0)).sum(axis=-1) / peaks.sum(axis=-1)
    return hits


def mass_inside(attention: NDArray[Any], coverage: NDArray[Any]) -> NDArray[np.float64]:
    """Attention on the target, each cell's spread evenly over it; arguments as in `pointing_hits`."""
    mass: NDArray[np.float64] = (attention.astype(np.float64) * coverage).sum(axis=-1)
    return mass
