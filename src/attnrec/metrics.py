"""Figures of merit: arrays in, floats out.

Legend: M blocks, V videos, T time-steps, C classes.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnrec.errors import ConfigError

# Share of the uniform entropy over which attention picks out next to nothing in a picture: of 7 x 7 cells, half can get
# at most 2.8 times what the other half gets, and runs that never left their uniform start have 0.99 and more.
NEARLY_UNIFORM = 0.97

# What says nothing of videos with several labels, and what is asked for in its place: a majority vote can elect but one
# class, and no single class is there to be among the most probable.
_FOR_ONE_LABEL = {"top_k_accuracy": "map", "vote": "mean"}


def require_fitting(name: str, *, multilabel: bool) -> None:
    """Refuse a figure or a reduction that says nothing about this kind of labels.

    Args:
        name: `top_k_accuracy`, `vote`, or what fits both kinds.
        multilabel: Whether videos may have several labels.

    Raises:
        ConfigError: It does not fit.
    """
    if multilabel and name in _FOR_ONE_LABEL:
        raise ConfigError(f"{name} is for videos of one label each, and these have several; use {_FOR_ONE_LABEL[name]}")


def reduce_blocks(
    frame_probs: NDArray[Any], video: NDArray[np.int64], reduction: str, last_steps: int | None = None
) -> NDArray[np.float64]:
    """Class probabilities of each video from those of its blocks' time-steps.

    Args:
        frame_probs: Of M blocks, shape (M, T, C).
        video: Owner of each block, shape (M,); blocks of one video follow one another.
        reduction: `mean` averages over time-steps and then over the video's blocks, as in the paper; `vote` gives the
            share of blocks that each class wins, as in the authors' code: a block is won by the greatest sum over
            time-steps, a tie by the lowest class index, and likewise the video by `argmax`.
        last_steps: Time-steps at a block's end that count, at most T; None takes all.

    Returns:
        Shape (V, C), videos in order of appearance; rows sum to 1 when those of `frame_probs` do.

    Raises:
        ValueError: `reduction` is neither, or `last_steps` is not from 1 to T.
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
        frame_probs: Of M blocks, shape (M, T, C).
        last_steps: Time-steps at a block's end that count, at most T; None takes all.

    Returns:
        Shape (M, C).

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
        In [0, 1].
    """
    from sklearn.metrics import accuracy_score

    return float(accuracy_score(labels, probs.argmax(axis=1)))


def confusion(labels: NDArray[np.int64], probs: NDArray[np.float64]) -> NDArray[np.int64]:
    """Videos by true class (rows) and most probable class (columns), shape (C, C)."""
    from sklearn.metrics import confusion_matrix

    matrix: NDArray[np.int64] = confusion_matrix(labels, probs.argmax(axis=1), labels=np.arange(probs.shape[1]))
    return matrix


def per_class_accuracy(matrix: NDArray[np.int64]) -> NDArray[np.float64]:
    """Share of each class's videos that are recognised, shape (C,); NaN for a class without videos."""
    totals = matrix.sum(axis=1)
    shares: NDArray[np.float64] = np.full(len(matrix), np.nan)
    np.divide(matrix.diagonal(), totals, out=shares, where=totals > 0)
    return shares


def top_k_hits(labels: NDArray[np.int64], probs: NDArray[np.float64], k: int) -> NDArray[np.bool_]:
    """Whether each video's label is among its k most probable classes.

    Of classes that are as probable the lower index goes first, as in `accuracy`, which this is for k = 1; votes tie
    often, and scikit-learn's function ranks ties the other way round.

    Args:
        labels: Class indices, shape (V,).
        probs: Class probabilities, shape (V, C).
        k: From 1 to C.

    Returns:
        Shape (V,).

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
        scores: Greater where a class is more probable, shape (V, C).

    Returns:
        In [0, 1], shape (C,); NaN for a class without videos, whose precision is not defined.
    """
    from sklearn.metrics import average_precision_score

    figures = [
        average_precision_score(targets[:, i], scores[:, i]) if targets[:, i].any() else np.nan
        for i in range(targets.shape[1])
    ]
    return np.array(figures, np.float64)


def mean_average_precision(targets: NDArray[np.uint8], scores: NDArray[np.float64]) -> float:
    """mAP: the mean of `average_precision` over the classes that have videos, NaN where none has."""
    figures = average_precision(targets, scores)
    known = figures[~np.isnan(figures)]
    return float(known.mean()) if len(known) else float("nan")


def log_loss(labels: NDArray[np.int64], probs: NDArray[np.float64]) -> float:
    """Mean negative log probability of the true class, in nats; probabilities are floored at 1e-12."""
    picked = probs[np.arange(len(labels)), labels]
    return float(-np.log(np.maximum(picked, 1e-12)).mean())


def binary_log_loss(targets: NDArray[np.uint8], probs: NDArray[np.float64]) -> float:
    """Mean negative log probability of what is so, over videos and classes that are each a question of its own.

    Args:
        targets: 1 where a class applies to a video, shape (V, C).
        probs: Probability that it does, shape (V, C).

    Returns:
        In nats; probabilities are floored at 1e-12.
    """
    return float(-np.log(np.maximum(np.where(targets, probs, 1 - probs), 1e-12)).mean())


def attention_entropy(attention: NDArray[np.float32]) -> float:
    """Mean entropy of location probabilities as a share of the uniform one's, in [0, 1].

    Args:
        attention: Location probabilities, shape (..., L).

    Returns:
        1 for uniform attention, 0 for attention on single locations.
    """
    logs = np.log(np.maximum(attention, 1e-30))
    return float(-(attention * logs).sum(axis=-1).mean() / np.log(attention.shape[-1]))


def is_nearly_uniform(entropy: float) -> bool:
    """Whether attention of such a mean entropy, see `attention_entropy`, looks nowhere in particular."""
    return entropy > NEARLY_UNIFORM
