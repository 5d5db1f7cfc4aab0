"""Bootstrap confidence intervals of figures, over groups of videos.

Legend: V videos, G groups, C classes, R resamples.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from attnrec.metrics import top_k_hits

Interval = tuple[float, float]  # lower and upper end
Statistic = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""A figure of resampled videos: maps how often each resample holds each video (R, V) to the figures (R,)."""

CHUNK_RESAMPLES = 100  # resamples at a time, so that weights (R, V) of thousands of videos fit into memory


def bootstrap_interval(
    statistic: Statistic, groups: Sequence[str], *, seed: int, num_resamples: int = 1000, level: float = 0.95
) -> Interval:
    """Percentile bootstrap interval of a figure, resampling groups.

    Videos of one group are alike, so whole groups are drawn with replacement, as many as there are: intervals over
    single videos would be too narrow.

    Args:
        statistic: The figure, such as `accuracy_statistic`, `class_accuracy_statistic` or `map_statistic`.
        groups: Group of each video, V of them.
        seed: Seed of the draws.
        num_resamples: R.
        level: Confidence level of the interval.

    Returns:
        Ends of the interval; both NaN with fewer than two groups, which show no spread. Resamples whose figure is NaN
        are left out.
    """
    return percentile_interval(resampled_figures(statistic, groups, seed=seed, num_resamples=num_resamples), level)


def resampled_figures(
    statistic: Statistic, groups: Sequence[str], *, seed: int, num_resamples: int
) -> NDArray[np.float64]:
    """A figure of each resample of the groups, without NaN; arguments as in `bootstrap_interval`.

    Returns:
        Figures, at most R; empty with fewer than two groups.
    """
    members = np.unique(np.asarray(groups, dtype=object).astype(str), return_inverse=True)[1]
    num_groups = int(members.max(initial=-1)) + 1
    if num_groups < 2:
        return np.empty(0)
    rng, shares = np.random.default_rng(seed), np.full(num_groups, 1 / num_groups)
    chunks = [min(CHUNK_RESAMPLES, num_resamples - done) for done in range(0, num_resamples, CHUNK_RESAMPLES)]
    draws = (rng.multinomial(num_groups, shares, size) for size in chunks)  # (size, G): how often each group
    figures: NDArray[np.float64] = np.concatenate(
        [statistic(counts[:, members].astype(np.float64)) for counts in draws]
    )
    return figures[~np.isnan(figures)]


def percentile_interval(figures: NDArray[np.float64], level: float = 0.95) -> Interval:
    """Percentile interval that holds the share `level` of resampled figures; both ends NaN without figures."""
    if not len(figures):
        return float("nan"), float("nan")
    low, high = np.quantile(figures, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def known_interval(interval: Interval) -> Interval | None:
    """The interval, or None if an end is NaN."""
    return None if np.isnan(interval).any() else interval


def of_all(statistic: Statistic, num_videos: int) -> float:
    """The figure of all videos, each counted once."""
    return float(statistic(np.ones((1, num_videos)))[0])


def less(one: Statistic, other: Statistic) -> Statistic:
    """The difference of two figures, the first less the second, on the same resamples."""
    return lambda weights: one(weights) - other(weights)


def accuracy_statistic(labels: NDArray[np.int64], probs: NDArray[np.float64], k: int = 1) -> Statistic:
    """Accuracy, or top-k accuracy, of resampled videos."""
    return mean_statistic(top_k_hits(labels, probs, k).astype(np.float64))


def mean_statistic(values: NDArray[np.float64]) -> Statistic:
    """Mean over resampled videos of a number per video, (V,)."""
    return lambda weights: weights @ values / weights.sum(axis=1)


def class_accuracy_statistic(labels: NDArray[np.int64], probs: NDArray[np.float64]) -> Statistic:
    """Mean class accuracy of resampled videos, over the classes that each resample holds."""
    members = np.eye(probs.shape[1])[labels]  # (V, C)
    hits = members * top_k_hits(labels, probs, 1)[:, None]
    return lambda weights: _mean_of_known_rows(weights @ hits, weights @ members)


def map_statistic(targets: NDArray[np.uint8], scores: NDArray[np.float64]) -> Statistic:
    """`mean_average_precision` of resampled videos, over the classes that each resample holds."""
    orders = np.argsort(-scores, axis=0, kind="stable")
    ranked = np.take_along_axis(scores, orders, axis=0)
    # Videos with equal scores share the rank of the last of them.
    last = np.ones(scores.shape, np.bool_)
    last[:-1] = ranked[1:] != ranked[:-1]

    def statistic(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        sums, totals = np.zeros((2, len(weights), scores.shape[1]))
        for i in range(scores.shape[1]):
            above = weights[:, orders[:, i]].cumsum(axis=1)[:, last[:, i]]
            positive = (weights * targets[:, i])[:, orders[:, i]].cumsum(axis=1)[:, last[:, i]]
            precision = np.divide(positive, above, out=np.zeros_like(above), where=above > 0)
            sums[:, i] = (np.diff(positive, axis=1, prepend=0) * precision).sum(axis=1)
            totals[:, i] = positive[:, -1]
        return _mean_of_known_rows(sums, totals)

    return statistic


def mean_of_statistics(statistics: Sequence[Statistic]) -> Statistic:
    """Mean of several figures on the same resamples, ignoring NaN."""

    def statistic(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        figures = np.stack([each(weights) for each in statistics], axis=1)  # (R, statistics)
        known = ~np.isnan(figures)
        return _mean_of_known_rows(np.where(known, figures, 0), known.astype(np.float64))

    return statistic


def _mean_of_known_rows(sums: NDArray[np.float64], totals: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over each row of the ratios (R, C), leaving out totals of 0; NaN if all are 0."""
    known = totals > 0
    ratios = np.divide(sums, totals, out=np.zeros_like(sums), where=known)
    counts = known.sum(axis=1)
    means: NDArray[np.float64] = np.full(len(sums), np.nan)
    np.divide(ratios.sum(axis=1), counts, out=means, where=counts > 0)
    return means
