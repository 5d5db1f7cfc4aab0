"""Figures of resampled videos made the slow way, one resample after the other."""

from collections.abc import Callable

import numpy as np

from attnrec.evaluation.intervals import Statistic


def row_statistic(figure: Callable[[np.ndarray], float], num_videos: int) -> Statistic:
    """Any figure of resamples, from the indices of the videos, one that was drawn twice being there twice."""
    videos = np.arange(num_videos)
    return lambda weights: np.array([figure(np.repeat(videos, row.astype(np.intp))) for row in weights], np.float64)
