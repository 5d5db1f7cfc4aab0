"""The class prediction y_t, and the output type of every recogniser.

Legend: B blocks in a batch, T time-steps, L locations, H hidden units, C classes.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from attnrec.models.recurrence import MaskSource, dropout_mask


class RecognizerOutput(NamedTuple):
    """The output of every recogniser."""

    frame_logits: Tensor  # class scores of each time-step before the softmax, shape (B, T, C)
    attention: Tensor | None  # location probabilities l_t, shape (B, T, L); None for models without attention
    looked_at: Tensor | None = None  # cell of each step's glimpse, (B, T), -1 for the expected one; None without choice


class ClassHead(nn.Module):
    """Class logits from the top hidden state, through one tanh layer of the same width."""

    def __init__(self, *, hidden_dim: int, num_classes: int, dropout: float) -> None:
        super().__init__()
        self.hidden = nn.Linear(hidden_dim, hidden_dim)
        self.logits = nn.Linear(hidden_dim, num_classes)
        self.dropout = dropout

    def forward(self, hidden: Tensor, generator: MaskSource = None) -> Tensor:
        """Score all time-steps at once, in the parameters' precision even under autocast.

        Rounding to bfloat16 costs most here: where measured, five sixths of the error in a step's gradient, for a small
        share of the time.

        Args:
            hidden: h_t of the top layer, shape (B, T, H).
            generator: Source of the dropout masks in training.

        Returns:
            Class logits, shape (B, T, C), of the parameters' type.
        """
        with torch.autocast(hidden.device.type, enabled=False):
            hidden = hidden.to(self.hidden.weight.dtype)
            squashed = torch.tanh(self.hidden(self._drop(hidden, generator)))
            logits: Tensor = self.logits(self._drop(squashed, generator))
        return logits

    def _drop(self, x: Tensor, generator: MaskSource) -> Tensor:
        if not self.training or not self.dropout:
            return x
        return x * dropout_mask(tuple(x.shape), self.dropout, x, generator)


def class_probs(frame_logits: Tensor, multilabel: bool) -> Tensor:
    """Class probabilities of each time-step: softmax over C, or a sigmoid per class when `multilabel`."""
    return frame_logits.sigmoid() if multilabel else frame_logits.softmax(dim=-1)
