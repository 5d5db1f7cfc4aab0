"""The training objective (Eq. 7), term by term.

Legend: B blocks in a batch, T time-steps, L locations, C classes.
"""

import math
from typing import get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from attnrec.models.head import RecognizerOutput
from attnrec.settings import PenaltyReduction


def classification_loss(frame_logits: Tensor, targets: Tensor) -> Tensor:
    """Classification term of Eq. 7, for one label a video or for several.

    The released code sums over the batch in both cases; the mean over B leaves the gradient's direction unchanged and
    makes its size independent of the batch.

    Args:
        frame_logits: Class logits, shape (B, T, C).
        targets: Class index of each block, integers of shape (B,), for softmax cross-entropy; or, for several labels
            a video, 0 / 1 for each class, floats of shape (B, C), for sigmoid binary cross-entropy of every class,
            summed over C as in the released code.

    Returns:
        Scalar loss: sum over T, mean over B.

    Raises:
        ValueError: `targets` has neither shape, or does not fit its type.
    """
    return _losses(frame_logits, targets, "sum") / len(frame_logits)


def frame_losses(frame_logits: Tensor, targets: Tensor) -> Tensor:
    """Classification loss of each block and time-step, shape (B, T). Takes and raises as `classification_loss`."""
    B, T, _ = frame_logits.shape
    return _losses(frame_logits, targets, "none").view(B, T, -1).sum(dim=-1)


def _losses(frame_logits: Tensor, targets: Tensor, reduction: str) -> Tensor:
    B, T, C = frame_logits.shape
    if tuple(targets.shape) not in ((B,), (B, C)) or targets.is_floating_point() != (targets.ndim == 2):
        raise ValueError(
            f"targets must be integers ({B},) or floats ({B}, {C}), got {targets.dtype} {tuple(targets.shape)}"
        )
    if targets.ndim == 2:
        expanded = targets.unsqueeze(1).expand(B, T, C)
        return F.binary_cross_entropy_with_logits(frame_logits, expanded, reduction=reduction)
    return F.cross_entropy(frame_logits.reshape(B * T, C), targets.repeat_interleave(T), reduction=reduction)


def doubly_stochastic_penalty(attention: Tensor, reduction: PenaltyReduction = "sum") -> Tensor:
    """Squared shortfall of each location's attention, summed over time, from one (Eq. 7, before lambda).

    Args:
        attention: Location probabilities, shape (B, T, L), each (b, t) row summing to 1.
        reduction: Reduction over L: `sum` as in Eq. 7, or `mean` as in the released code, whose lambda is L times as
            large for the same effect.

    Returns:
        Scalar penalty: sum or mean over L, mean over B. Its minimum is `penalty_floor(T, L, reduction)`.

    Raises:
        ValueError: `attention` is not three-dimensional, or `reduction` is neither `sum` nor `mean`.
    """
    if attention.ndim != 3:
        raise ValueError(f"attention must be (B, T, L), got shape {tuple(attention.shape)}")
    return (1 - attention.sum(dim=1)).square().sum(dim=-1).mean() / _penalty_divisor(attention.shape[2], reduction)


def mean_entropy(attention: Tensor) -> Tensor:
    """Mean entropy of location probabilities (B, T, L), as a share of uniform attention's entropy, in [0, 1]."""
    entropy: Tensor = torch.special.entr(attention).sum(dim=-1).mean()
    return entropy / math.log(max(2, attention.shape[-1]))


def penalty_floor(num_steps: int, num_locations: int, reduction: PenaltyReduction = "sum") -> float:
    """Minimum of the penalty, for attention whose sum over time is uniform: L (1 - T / L)^2 with `sum`."""
    floor: float = num_locations * (1 - num_steps / num_locations) ** 2
    return floor / _penalty_divisor(num_locations, reduction)


def _penalty_divisor(num_locations: int, reduction: PenaltyReduction) -> int:
    if reduction not in get_args(PenaltyReduction):
        raise ValueError(f"reduction must be 'sum' or 'mean', got {reduction!r}")
    return num_locations if reduction == "mean" else 1


def recognition_loss(
    output: RecognizerOutput,
    targets: Tensor,
    *,
    attention_penalty: float,
    penalty_reduction: PenaltyReduction = "sum",
) -> Tensor:
    """Eq. 7 without its weight decay, which the optimiser applies (see `training.step.build_optimizer`).

    Args:
        output: A recogniser's output.
        targets: Targets as in `classification_loss`.
        attention_penalty: lambda, not negative. Has no effect on models without attention.
        penalty_reduction: Reduction over locations, as in `doubly_stochastic_penalty`.

    Returns:
        Scalar loss, averaged over the batch.
    """
    loss = classification_loss(output.frame_logits, targets)
    if output.attention is not None and attention_penalty:
        loss = loss + attention_penalty * doubly_stochastic_penalty(output.attention, penalty_reduction)
    return loss
