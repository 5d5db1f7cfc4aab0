"""Metrics of predictions and attention: arrays in, floats out.

Legend: M blocks, V videos, T time-steps, C classes.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnrec.errors import ConfigError

# Share of the uniform entropy above which attention shows almost nothing in a picture: of 7 x 7 cells, half can get at
# most 2.8 times what the other half gets; runs that never left their uniform start have 0.99 and more.
NEARLY_UNIFORM = 0.97

# What does not apply to videos with several labels, and what to use instead: a majority vote elects only one class, and
# there is no single class to be among the most probable.
_FOR_ONE_LABEL = {"top_k_accuracy": "map", "vote": "mean"}


def require_fitting(name: str, *, multilabel: bool) -> None:
    """Check that a metric or a reduction applies to this kind of labels.

    Args:
        name: Name of the metric or reduction, such as `top_k_accuracy` or `vote`.
        multilabel: Whether videos may have several labels.

    Raises:
        ConfigError: The metric or reduction does not apply.
    """
    if multilabel and name in _FOR_ONE_LABEL:
        raise ConfigError(f"{name} is for videos of one label each, and these have several; use {_FOR_ONE_LABEL[name]}")


def reduce_blocks(
    frame_probs: NDArray[Any], video: NDArray[np.int64], reduction: str, last_steps: int | None = None
) -> NDArray[np.float64]:
    """Reduce the class probabilities of blocks' time-steps to those of each video.

    Args:
        frame_probs: Class probabilities of M blocks' time-steps, shape (M, T, C).
        video: Video of each block, shape (M,); blocks of one video follow one another.
        reduction: `mean` averages over time-steps and then over the video's blocks, as in the paper; `vote` gives the
            share of blocks that each class wins, as in the authors' code: the class with the largest sum over
            time-steps wins a block, and ties go to the lowest class index, as they do for the video by `argmax`.
        last_steps: Number of last time-steps of a block to use, at most T; None takes all.

    Returns:
        Class probabilities, shape (V, C), videos in order of appearance; rows sum to 1 if those of `frame_probs` do.

    Raises:
        ValueError: `reduction` is neither `mean` nor `vote`, or `last_steps` is not from 1 to T.
    """
    block_probs = block_means(frame_probs, last_steps)
    if reduction == "vote":
        block_probs = np.eye(block_probs.shape[1])[block_probs.argmax(axis=1)]
    elif reduction != "mean":
        raise ValueError(f"reduction must be 'mean' or 'vote', got {reduction!r}")
    starts = np.flatnonzero(np.diff(video, prepend=video[0] - 1))
    counts = np.diff(np.append(starts, len(video)))
    return np.add.reduceat(block_probs, starts, axis=0) / counts[:, None]


def block_means(frame_probs: NDArray[Any], last_steps: int | None = None) -> NDArray[np.float64]:
    """Class probabilities of each block: the mean of its time-steps.

    Args:
        frame_probs: Class probabilities of M blocks' time-steps, shape (M, T, C).
        last_steps: Number of last time-steps of a block to use, at most T; None takes all.

    Returns:
        Class probabilities, shape (M, C).

    Raises:
        ValueError: `last_steps` is not from 1 to T.
    """
    T = frame_probs.shape[1]
    if last_steps is not None and not 1 <= last_steps <= T:
        raise ValueError(f"last_steps must be from 1 to {T}, the time-steps of a block, got {last_steps}")
    means: NDArray[np.float64] = frame_probs[:, T - (last_steps or T) :].astype(np.float64).mean(axis=1)
    return means


def accuracy(labels: NDArray[np.int64], probs: NDArray[np.float64]) -> float:
    """Share of videos whose most probable class is their label.

    Args:
        labels: Class indices, shape (V,).
        probs: Class probabilities, shape (V, C).

    Returns:
        Accuracy in [0, 1].
    """
    from sklearn.metrics import accuracy_score

    return float(accuracy_score(labels, probs.argmax(axis=1)))


def confusion(labels: NDArray[np.int64], probs: NDArray[np.float64]) -> NDArray[np.int64]:
    """Confusion matrix: number of videos by true class (rows) and most probable class (columns), shape (C, C)."""
    from sklearn.metrics import confusion_matrix

    matrix: NDArray[np.int64] = confusion_matrix(labels, probs.argmax(axis=1), labels=np.arange(probs.shape[1]))
    return matrix


def per_class_accuracy(matrix: NDArray[np.int64]) -> NDArray[np.float64]:
    """Accuracy of each class, given a confusion matrix, shape (C,); NaN for a class without videos."""
    totals = matrix.sum(axis=1)
    shares: NDArray[np.float64] = np.full(len(matrix), np.nan)
    np.divide(matrix.diagonal(), totals, out=shares, where=totals > 0)
    return shares


def top_k_hits(labels: NDArray[np.int64], probs: NDArray[np.float64], k: int) -> NDArray[np.bool_]:
    """Whether each video's label is among its k most probable classes.

    Among equally probable classes the lower index comes first, as in `accuracy`, which this equals for k = 1; votes tie
    often, and scikit-learn's function ranks ties the other way round.

    Args:
        labels: Class indices, shape (V,).
        probs: Class probabilities, shape (V, C).
        k: From 1 to C.

    Returns:
        Hits, shape (V,).

    Raises:
        ValueError: `k` is out of range.
    """
    V, C = probs.shape
    if not 1 <= k <= C:
        raise ValueError(f"k must be from 1 to {C}, the number of classes, got {k}")
    own = probs[np.arange(V), labels][:, None]
    before = (probs > own) | ((probs == own) & (np.arange(C) < labels[:, None]))
    hits: NDArray[np.bool_] = before.sum(axis=1) < k
    return hits


def average_precision(targets: NDArray[np.uint8], scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Average precision of each class: the mean precision at the ranks of its videos, not interpolated.

    Args:
        targets: 1 where a class applies to a video, shape (V, C).
        scores: Scores, larger for more probable classes, shape (V, C).

    Returns:
        Average precision in [0, 1], shape (C,); NaN for a class without videos, where it is not defined.
    """
    from sklearn.metrics import average_precision_score

    figures = [
        average_precision_score(targets[:, i], scores[:, i]) if targets[:, i].any() else np.nan
        for i in range(targets.shape[1])
    ]
    return np.array(figures, np.float64)


def mean_average_precision(targets: NDArray[np.uint8], scores: NDArray[np.float64]) -> float:
    """mAP: the mean of `average_precision` over the classes that have videos; NaN if none has."""
    figures = average_precision(targets, scores)
    known = figures[~np.isnan(figures)]
    return float(known.mean()) if len(known) else float("nan")


def log_loss(labels: NDArray[np.int64], probs: NDArray[np.float64]) -> float:
    """Mean negative log probability of the true class, in nats; probabilities are floored at 1e-12."""
    picked = probs[np.arange(len(labels)), labels]
    return float(-np.log(np.maximum(picked, 1e-12)).mean())


def binary_log_loss(targets: NDArray[np.uint8], probs: NDArray[np.float64]) -> float:
    """Mean binary cross-entropy over videos and classes.

    Args:
        targets: 1 where a class applies to a video, shape (V, C).
        probs: Probability that the class applies, shape (V, C).

    Returns:
        Loss in nats; probabilities are floored at 1e-12.
    """
    return float(-np.log(np.maximum(np.where(targets, probs, 1 - probs), 1e-12)).mean())


def attention_entropy(attention: NDArray[np.float32]) -> float:
    """Mean entropy of location probabilities as a share of the entropy of uniform attention, in [0, 1].

    Args:
        attention: Location probabilities, shape (..., L).

    Returns:
        1 for uniform attention, 0 for attention on single locations.
    """
    logs = np.log(np.maximum(attention, 1e-30))
    return float(-(attention * logs).sum(axis=-1).mean() / np.log(attention.shape[-1]))


def is_nearly_uniform(entropy: float) -> bool:
    """Whether attention is close to uniform, given its mean `attention_entropy`."""
    return entropy > NEARLY_UNIFORM


def metric_name(metric: str) -> str:
    """The metric as text."""
    return "mAP" if metric == "map" else metric


def capital(name: str) -> str:
    """A metric's name with a capital, except mAP."""
    return name if name == "mAP" else name.capitalize()
