"""Significance of differences between rows: paired bootstrap over groups, corrected for the number of rows.

Legend: V videos, G groups, R resamples, N comparisons.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from attnrec.evaluation.intervals import Interval, Statistic, less, of_all, percentile_interval, resampled_figures

NUM_RESAMPLES = 9999
_ROUNDING = 1e-12  # smaller differences are rounding errors between equal figures


class PairedDifference(NamedTuple):
    """Difference of a figure between two rows on the same videos."""

    difference: float  # the first row's figure less the second's
    interval: Interval  # 95 % percentile interval of the difference; both ends NaN with fewer than two groups
    p_value: float  # two-sided p-value of no difference; NaN with fewer than two groups


def paired_difference(
    first: Statistic, second: Statistic, groups: Sequence[str], *, seed: int = 0, num_resamples: int = NUM_RESAMPLES
) -> PairedDifference:
    """Compare two rows by a bootstrap in which both get the same resamples of whole groups.

    The p-value is the level at which the percentile interval would just hold zero: twice the share of resamples in
    which the difference is zero or of the other sign. A bootstrap of few groups is overconfident, so the p-value is at
    least 2 / 2^G, the smallest that exchanging the rows within whole groups could give.

    Args:
        first: Figure of the first row, as a function of weights (R, V).
        second: Figure of the second row, on the same videos.
        groups: Group of each video, V of them.
        seed: Seed of the draws.
        num_resamples: R.
    """
    difference = less(first, second)
    figures = resampled_figures(difference, groups, seed=seed, num_resamples=num_resamples)
    of_videos = of_all(difference, len(groups))
    if not len(figures):
        return PairedDifference(of_videos, (float("nan"),) * 2, float("nan"))
    tails = (figures <= _ROUNDING).sum(), (figures >= -_ROUNDING).sum()
    p_value = 2 * (min(tails) + 1) / (len(figures) + 1)
    least = 2.0 ** (1 - len(set(groups)))
    return PairedDifference(of_videos, percentile_interval(figures), float(min(1.0, max(p_value, least))))


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p-values by Holm's step-down procedure, which controls the chance of any false positive.

    Args:
        p_values: P-values of N comparisons; NaN for one that could not be made, which does not count.

    Returns:
        Corrected p-values in the same order, at most 1.
    """
    given = np.asarray(p_values, np.float64)
    corrected: NDArray[np.float64] = np.full(len(given), np.nan)
    order = np.argsort(given, kind="stable")[: int((~np.isnan(given)).sum())]  # NaN are sorted last
    factors = np.arange(len(order), 0, -1)
    corrected[order] = np.minimum(1, np.maximum.accumulate(given[order] * factors))
    return [float(value) for value in corrected]
