"""Figures of merit: arrays in, floats out.

Legend: V videos, C classes.
"""

import numpy as np
from numpy.typing import NDArray


def reduce_blocks(frame_probs: NDArray[np.float32], video: NDArray[np.int64], reduction: str) -> NDArray[np.float64]:
    """Class probabilities of each video from those of its blocks' time-steps.

    Args:
        frame_probs: Of M blocks, shape (M, T, C).
        video: Owner of each block, shape (M,); blocks of one video follow one another.
        reduction: `mean` averages over T and then over the video's blocks, as in the paper; `vote` gives the share of
            blocks that each class wins, as in the authors' code.

    Returns:
        Shape (V, C), videos in order of appearance; rows sum to 1 when those of `frame_probs` do.

    Raises:
        ValueError: `reduction` is neither.
    """
    block_probs = frame_probs.astype(np.float64).mean(axis=1)
    if reduction == "vote":
        block_probs = np.eye(block_probs.shape[1])[block_probs.argmax(axis=1)]
    elif reduction != "mean":
        raise ValueError(f"reduction must be 'mean' or 'vote', got {reduction!r}")
    starts = np.flatnonzero(np.diff(video, prepend=video[0] - 1))
    counts = np.diff(np.append(starts, len(video)))
    return np.add.reduceat(block_probs, starts, axis=0) / counts[:, None]


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


def log_loss(labels: NDArray[np.int64], probs: NDArray[np.float64]) -> float:
    """Mean negative log probability of the true class, in nats; probabilities are floored at 1e-12."""
    picked = probs[np.arange(len(labels)), labels]
    return float(-np.log(np.maximum(picked, 1e-12)).mean())


def attention_entropy(attention: NDArray[np.float32]) -> float:
    """Mean entropy of location probabilities as a share of the uniform one's, in [0, 1].

    Args:
        attention: Location probabilities, shape (..., L).

    Returns:
        1 for uniform attention, 0 for attention on single locations.
    """
    logs = np.log(np.maximum(attention, 1e-30))
    return float(-(attention * logs).sum(axis=-1).mean() / np.log(attention.shape[-1]))
