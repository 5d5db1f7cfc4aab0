"""Scorers of locations for `fused`, step by step, and their gradients written by hand.

Legend: B blocks in a batch, T time-steps, L locations, H hidden units, A attention units.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from attnrec.models.fused_lstm import product


class LocationWeights(NamedTuple):
    """Parameters of the scorer of Eq. 1."""

    weight: Tensor  # (L, H)


class ContentWeights(NamedTuple):
    """Parameters of the content scorer that act in the loop."""

    hidden: Tensor  # Wd (A, H)
    bias: Tensor  # b (A,)
    score: Tensor  # u (1, A)
    score_bias: Tensor  # c (1,), which no softmax feels


Scorer = LocationWeights | ContentWeights


def scores_of(
    scorer: Scorer, projected: Tensor | None, attention: Tensor, dtype: torch.dtype, *, overwrite: bool, keep: bool
) -> "LocationScores | ContentScores":
    """What scores locations at each step.

    Args:
        scorer: Its parameters.
        projected: What the content scorer takes from the frames, shape (B, T, L, A).
        attention: Where the probabilities go, shape (B, T, L).
        dtype: Of the operands of products.
        overwrite: Whether to work in `projected`.
        keep: Whether a backward pass follows.
    """
    if isinstance(scorer, LocationWeights):
        return LocationScores(scorer, attention, dtype)
    assert projected is not None
    return ContentScores(scorer, projected, attention, dtype, overwrite=overwrite, keep=keep)


class LocationScores:
    """Eq. 1 before the softmax."""

    squashed = None

    def __init__(self, scorer: LocationWeights, attention: Tensor, dtype: torch.dtype) -> None:
        self.weight = scorer.weight.to(dtype)
        self.scores = torch.empty_like(attention[:, 0])

    def step(self, t: int, hidden: Tensor) -> None:
        """Scores from h_{t-1}, shape (B, H)."""
        product(hidden, self.weight.t(), out=self.scores)


class ContentScores:
    """The content scorer before the softmax; tanh(...) of every step stays in `squashed` where it is to be kept."""

    def __init__(
        self,
        scorer: ContentWeights,
        projected: Tensor,
        attention: Tensor,
        dtype: torch.dtype,
        *,
        overwrite: bool,
        keep: bool,
    ) -> None:
        B, _, _, A = projected.shape
        self.projected = projected
        self.squashed = projected if overwrite else torch.empty_like(projected if keep else projected[:, :1])
        self.weight, self.bias = scorer.hidden.to(dtype), scorer.bias
        self.score = scorer.score.to(projected.dtype).view(1, A, 1).expand(B, A, 1)
        self.score_bias = scorer.score_bias
        self.query = attention.new_empty(B, A)
        self.scores = torch.empty_like(attention[:, 0])

    def step(self, t: int, hidden: Tensor) -> None:
        """Scores from h_{t-1}, shape (B, H), and the frame at t."""
        product(hidden, self.weight.t(), out=self.query)
        self.query.add_(self.bias)
        squashed = self.squashed[:, t if len(self.squashed[0]) > 1 else 0]  # (B, L, A)
        torch.add(self.projected[:, t], self.query.unsqueeze(1), out=squashed)
        squashed.tanh_()
        torch.add(torch.bmm(squashed, self.score).squeeze(2), self.score_bias, out=self.scores)


def score_gradients_of(
    scorer: Scorer, squashed: Tensor | None, attention: Tensor, dtype: torch.dtype
) -> "LocationScoreGradients | ContentScoreGradients":
    """The backward pass of what `scores_of` gave; `squashed` is what the content scorer kept, shape (B, T, L, A)."""
    if isinstance(scorer, LocationWeights):
        return LocationScoreGradients(scorer, attention, dtype)
    assert squashed is not None
    return ContentScoreGradients(scorer, squashed, attention, dtype)


class LocationScoreGradients:
    """Backward of `LocationScores`: the caller writes the gradient of step t's scores to `scores[:, t]`."""

    projected = None

    def __init__(self, scorer: LocationWeights, attention: Tensor, dtype: torch.dtype) -> None:
        self.weight = scorer.weight.to(dtype)
        self.scores = torch.empty_like(attention)

    def step(self, t: int) -> Tensor:
        """Gradient of h_{t-1}."""
        return torch.mm(self.scores[:, t].to(self.weight.dtype), self.weight)

    def weights(self, hidden: Tensor) -> list[Tensor]:
        """Gradients of the parameters, from h_{t-1} of all steps, shape (T, B, H)."""
        scores = self.scores.transpose(0, 1).flatten(0, 1).to(hidden.dtype)  # (T * B, L)
        return [torch.mm(scores.t(), hidden.flatten(0, 1)).to(self.scores.dtype)]


class ContentScoreGradients:
    """Backward of `ContentScores`, likewise."""

    def __init__(self, scorer: ContentWeights, squashed: Tensor, attention: Tensor, dtype: torch.dtype) -> None:
        B, T, _, A = squashed.shape
        self.squashed = squashed
        self.weight, self.score = scorer.hidden.to(dtype), scorer.score
        self.low_score = scorer.score.to(squashed.dtype)
        self.scores = torch.empty_like(attention)
        self.projected = torch.empty_like(squashed)
        self.queries = attention.new_empty(T, B, A)
        self.one = squashed.new_ones(())

    def step(self, t: int) -> Tensor:
        """Gradient of h_{t-1}."""
        squashed, projected = self.squashed[:, t], self.projected[:, t]
        scores = self.scores[:, t].to(squashed.dtype)
        torch.addcmul(self.one, squashed, squashed, value=-1, out=projected)
        query = self.queries[t]
        query.copy_(torch.bmm(scores.unsqueeze(1), projected).squeeze(1)).mul_(self.score)
        projected.mul_(scores.unsqueeze(2)).mul_(self.low_score)
        return torch.mm(query.to(self.weight.dtype), self.weight)

    def weights(self, hidden: Tensor) -> list[Tensor]:
        """Gradients of the parameters, from h_{t-1} of all steps, shape (T, B, H)."""
        queries = self.queries.flatten(0, 1)  # (T * B, A)
        rows = self.squashed.flatten(0, 2)  # (B * T * L, A)
        d_score = torch.mm(self.scores.view(1, -1).to(rows.dtype), rows).to(self.scores.dtype)
        d_hidden = torch.mm(queries.to(hidden.dtype).t(), hidden.flatten(0, 1)).to(queries.dtype)
        return [d_hidden, queries.sum(dim=0), d_score, self.scores.sum().view(1)]
