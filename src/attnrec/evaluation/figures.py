"""Figures of merit of scored videos, for one label a video or for several, with their intervals.

Legend: V videos, C classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnrec.errors import ConfigError
from attnrec.evaluation.intervals import (
    Statistic,
    accuracy_statistic,
    bootstrap_interval,
    class_accuracy_statistic,
    map_statistic,
)
from attnrec.metrics import (
    accuracy,
    average_precision,
    binary_log_loss,
    confusion,
    log_loss,
    mean_average_precision,
    mean_class_accuracy,
    per_class_accuracy,
    require_fitting,
    top_k_accuracy,
)

DEFAULT_TOP_K = 5
Interval = tuple[float, float]


@dataclass(frozen=True)
class ClassFigure:
    """A class: its videos in the part, and how well they are recognised.

    Attributes:
        name: Of the class.
        num_videos: That have it.
        accuracy: Share of them that is recognised; None without videos and where videos have several labels.
        average_precision: Where they have; None without videos.
    """

    name: str
    num_videos: int
    accuracy: float | None
    average_precision: float | None


def resolved_top_k(top_k: int | None, num_classes: int, multilabel: bool) -> int | None:
    """The k that a user asks for, or else 5 where there are more classes than that.

    Raises:
        ConfigError: There are not as many classes, or videos have several labels.
    """
    if top_k is not None:
        require_fitting("top_k_accuracy", multilabel=multilabel)
        if not 1 <= top_k <= num_classes:
            raise ConfigError(f"--top-k {top_k}: must be from 1 to {num_classes}, the number of classes")
        return top_k
    return DEFAULT_TOP_K if num_classes > DEFAULT_TOP_K and not multilabel else None


def video_figures(
    targets: NDArray[Any],
    probs: NDArray[np.float64],
    groups: Sequence[str],
    classes: Sequence[str],
    *,
    top_k: int | None,
    seed: int = 0,
) -> dict[str, Any]:
    """Figures of scored videos by their names in `EvaluationReport`, those that say something about such labels.

    Args:
        targets: Class indices (V,), or 0 / 1 for each class (V, C) where videos may have several labels.
        probs: Class probabilities, shape (V, C).
        groups: Group of each video.
        classes: Names.
        top_k: As `resolved_top_k` gives it.
        seed: Of the intervals.
    """
    if targets.ndim == 1:
        return _of_one_label(targets, probs, groups, classes, top_k, seed)
    return _of_several_labels(targets, probs, groups, classes, seed)


def _of_one_label(
    labels: NDArray[np.int64],
    probs: NDArray[np.float64],
    groups: Sequence[str],
    classes: Sequence[str],
    top_k: int | None,
    seed: int,
) -> dict[str, Any]:
    matrix = confusion(labels, probs)
    totals = matrix.sum(axis=1)
    statistics = {
        "accuracy": accuracy_statistic(labels, probs),
        "mean_class_accuracy": class_accuracy_statistic(labels, probs),
    }
    if top_k is not None:
        statistics["top_k_accuracy"] = accuracy_statistic(labels, probs, top_k)
    return {
        "accuracy": accuracy(labels, probs),
        "mean_class_accuracy": mean_class_accuracy(labels, probs),
        "top_k": top_k,
        "top_k_accuracy": None if top_k is None else top_k_accuracy(labels, probs, top_k),
        "chance": float(totals.max() / totals.sum()),
        "log_loss": log_loss(labels, probs),
        "intervals": _intervals(statistics, groups, seed),
        "classes": [
            ClassFigure(name, int(count), float(share) if count else None, None)
            for name, count, share in zip(classes, totals, per_class_accuracy(matrix), strict=True)
        ],
        "confusion": matrix.tolist(),
    }


def _of_several_labels(
    targets: NDArray[Any], probs: NDArray[np.float64], groups: Sequence[str], classes: Sequence[str], seed: int
) -> dict[str, Any]:
    targets = targets.astype(np.uint8)
    counts = targets.sum(axis=0, dtype=np.int64)
    known = counts[counts > 0]
    return {
        "map": mean_average_precision(targets, probs),
        "chance": float(known.mean() / len(targets)) if len(known) else float("nan"),
        "log_loss": binary_log_loss(targets, probs),
        "intervals": _intervals({"map": map_statistic(targets, probs)}, groups, seed),
        "classes": [
            ClassFigure(name, int(count), None, float(precision) if count else None)
            for name, count, precision in zip(classes, counts, average_precision(targets, probs), strict=True)
        ],
    }


def _intervals(statistics: dict[str, Statistic], groups: Sequence[str], seed: int) -> dict[str, Interval]:
    return {name: bootstrap_interval(statistic, groups, seed=seed) for name, statistic in statistics.items()}
