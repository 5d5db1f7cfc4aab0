"""Hard attention: the glimpse is the slice of one location, drawn by the attention (Xu et al. 2015, section 4.1).

Which location was drawn has no gradient. Its log-probability has, and REINFORCE weighs it by how much better than usual
the steps went that the choice could still change.

Legend: B blocks in a batch, T time-steps, L locations, C classes.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from attnrec.models.head import RecognizerOutput
from attnrec.models.losses import frame_losses
from attnrec.models.recurrence import MaskSource, uniform_noise

EXPECTED_SHARE = 0.5  # probability that a block trains on the expected glimpse, which lessens the variance
KEPT = 0.9  # share of the earlier in the moving average of the loss to come


class Looks(NamedTuple):
    """What decides where hard attention looks: the most probable location once noise is added to log-probabilities."""

    noise: Tensor | None = None  # Gumbel noise (B, T, L), which makes that a draw from the attention; None for none
    expected: Tensor | None = None  # blocks (B,) that take the expected glimpse instead; None for no block

    def step(self, t: int) -> "Looks":
        """The same for one time-step, noise (B, L)."""
        return Looks(None if self.noise is None else self.noise[:, t], self.expected)

    def weigh(self, attention: Tensor) -> tuple[Tensor, Tensor]:
        """Choose a location in each map.

        Args:
            attention: Location probabilities, shape (B, L) or (B, T, L), as the noise.

        Returns:
            Weights of the glimpse, of the shape of `attention`: 1 for the chosen location and 0 for the others, or
            the attention itself; and the chosen locations, (B,) or (B, T), -1 where it is the attention itself.
        """
        scores = attention.detach() if self.noise is None else attention.detach().log() + self.noise
        chosen = scores.argmax(dim=-1, keepdim=True)
        weights = torch.zeros_like(attention).scatter(-1, chosen, 1.0)
        if self.expected is not None:
            expected = self.expected.view(-1, *[1] * (attention.ndim - 1))
            weights, chosen = torch.where(expected, attention, weights), torch.where(expected, -1, chosen)
        return weights, chosen.squeeze(-1)


def drawn_looks(num_steps: int, num_locations: int, like: Tensor, generator: MaskSource) -> Looks:
    """Draw where to look in training, in one call so that it depends only on the generator's state.

    Args:
        num_steps: T.
        num_locations: L.
        like: Tensor (B, ...) whose device and, unless it is less precise than float32, type the noise takes.
        generator: Source of randomness on that device.
    """
    B = like.shape[0]
    uniform = uniform_noise((B, num_steps * num_locations + 1), like, generator)
    return Looks(gumbel(uniform[:, 1:]).view(B, num_steps, num_locations), uniform[:, 0] < EXPECTED_SHARE)


def gumbel(uniform: Tensor) -> Tensor:
    """Gumbel noise from numbers in [0, 1): the largest of log p + noise is at i with probability p_i."""
    return -torch.log(-torch.log(uniform))


def losses_to_come(frame_logits: Tensor, targets: Tensor) -> Tensor:
    """Classification loss of each time-step and those after it, which its glimpse can still change: shape (B, T)."""
    return frame_losses(frame_logits, targets).flip(1).cumsum(dim=1).flip(1)


def even_losses_to_come(num_steps: int, num_classes: int, multilabel: bool) -> Tensor:
    """The losses to come, shape (T,), of a recogniser that gives all classes the same probability.

    A training's moving average begins with them: they are near those of fresh parameters, and the same for all batches.
    """
    each = num_classes * math.log(2) if multilabel else math.log(num_classes)
    return torch.arange(num_steps, 0, -1) * each


def choice_loss(
    output: RecognizerOutput, targets: Tensor, usual: Tensor, *, reinforce_weight: float, entropy_weight: float
) -> Tensor:
    """What hard attention adds to the objective: a term whose gradient is REINFORCE's, less the attention's entropy.

    Args:
        output: Output of a recogniser with hard attention.
        targets: Targets as in `classification_loss`.
        usual: The baseline: losses to come as they usually are, shape (T,). Its value changes the variance of the
            gradient and not its mean.
        reinforce_weight: Weight of the choices' gradient; 1 makes it that of the expected loss.
        entropy_weight: Weight of the entropy, in nats.

    Returns:
        Scalar: sum over T, mean over B, the first term of blocks that looked at chosen locations only.

    Raises:
        ValueError: `output` is not of hard attention.
    """
    if output.attention is None or output.looked_at is None:
        raise ValueError("the recogniser has no hard attention")
    chosen = output.looked_at.unsqueeze(-1)
    probs = output.attention.gather(-1, chosen.clamp_min(0))
    log_probs = torch.where(chosen < 0, 1.0, probs).squeeze(-1).log()  # (B, T), 0 without a choice
    worse = losses_to_come(output.frame_logits.detach(), targets) - usual
    # A probability that is rounded to 0 would have an infinite logarithm, and no gradient.
    logs = output.attention.clamp_min(torch.finfo(output.attention.dtype).tiny).log()
    entropy = -(output.attention * logs).sum(dim=-1)
    return (reinforce_weight * worse * log_probs - entropy_weight * entropy).sum(dim=1).mean()
