"""The paper's three baselines: softmax regression on the full cube, average- and max-pooled LSTM.

A fourth one, not in the paper, sees both pooled slices: the fair comparison for attention with `add_mean`.

Legend: B blocks in a batch, T time-steps, L = K * K locations, D feature channels, C classes.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from attnrec.models.head import ClassHead, RecognizerOutput
from attnrec.models.layers import LayerMaps, layer_parts
from attnrec.models.recurrence import (
    MaskSource,
    init_mlps,
    initial_state,
    layer_input_masks,
    lstm_cells,
    stack_sequence,
)


class SoftmaxRegression(nn.Module):
    """Linear classifier on the complete feature cube of each time-step, with several `layers` on those of all.

    Args:
        feature_dim: D.
        num_locations: L.
        num_classes: C.
        layers: Locations and channels of each of several layers, whose cubes stand side by side; empty for one.
    """

    def __init__(
        self, *, feature_dim: int, num_locations: int, num_classes: int, layers: Sequence[tuple[int, int]] = ()
    ) -> None:
        super().__init__()
        self.layers = tuple(layers)
        width = sum(locations * channels for locations, channels in layers) or num_locations * feature_dim
        self.logits = nn.Linear(width, num_classes)

    def forward(self, cubes: Tensor, generator: MaskSource = None) -> RecognizerOutput:
        """Score each time-step independently.

        Args:
            cubes: Feature cubes, shape (B, T, L, D).
            generator: Unused; all recognisers have the same signature.

        Returns:
            Class logits (B, T, C), no attention.
        """
        whole = [part.flatten(2) for part in layer_parts(cubes, self.layers)] if self.layers else [cubes.flatten(2)]
        return RecognizerOutput(self.logits(torch.cat(whole, dim=-1)).to(self.logits.weight.dtype), None)


class PooledLSTM(nn.Module):
    """The attention recogniser with a pooled slice instead of the glimpse.

    Args:
        pooling: `avg` or `max` over the L locations of each time-step, or `avg-max` for both, concatenated.
        feature_dim: D.
        num_classes: C.
        hidden_dim: H, width of every LSTM layer and of the class head.
        num_layers: Number of LSTM layers.
        init_layers: Number of layers of Eq. 6's perceptrons.
        dropout: Dropout probability on every non-recurrent connection.
        input_dropout: Dropout probability on the pooled slice; None takes `dropout`.
        layers: Locations and channels of each of several layers, pooled over the locations of all once they are
            brought to the same D; empty for one.

    Raises:
        ValueError: `pooling` is not one of these.
    """

    def __init__(
        self,
        pooling: str,
        *,
        feature_dim: int,
        num_classes: int,
        hidden_dim: int = 512,
        num_layers: int = 3,
        init_layers: int = 2,
        dropout: float = 0.5,
        input_dropout: float | None = None,
        layers: Sequence[tuple[int, int]] = (),
    ) -> None:
        super().__init__()
        self.maps = LayerMaps(layers) if layers else None
        feature_dim = self.maps.feature_dim if self.maps else feature_dim
        if pooling not in ("avg", "max", "avg-max"):
            raise ValueError(f"pooling must be 'avg', 'max' or 'avg-max', got {pooling!r}")
        self.pooling = pooling
        self.dropout = dropout
        self.input_dropout = dropout if input_dropout is None else input_dropout
        self.init_hidden = init_mlps(feature_dim, hidden_dim, num_layers, init_layers)
        self.init_cell = init_mlps(feature_dim, hidden_dim, num_layers, init_layers)
        self.cells = lstm_cells((2 if pooling == "avg-max" else 1) * feature_dim, hidden_dim, num_layers)
        self.head = ClassHead(hidden_dim=hidden_dim, num_classes=num_classes, dropout=dropout)

    def forward(self, cubes: Tensor, generator: MaskSource = None) -> RecognizerOutput:
        """Recognise a batch of blocks.

        Args:
            cubes: Feature cubes, shape (B, T, L, D).
            generator: Source of the dropout masks in training, on the device of `cubes`.

        Returns:
            Class logits (B, T, C), no attention.
        """
        T, dtype = cubes.shape[1], self.head.logits.weight.dtype
        slices = self._pooled(cubes, dtype)
        mean = cubes.mean(dim=(1, 2), dtype=dtype) if self.maps is None else self.maps.means(cubes, dtype).mean(dim=1)
        state = initial_state(mean, self.init_hidden, self.init_cell)
        masks = None
        if self.training and (self.dropout or self.input_dropout):
            masks = layer_input_masks(self.cells, T, self.dropout, slices[:, 0], generator, self.input_dropout)
        return RecognizerOutput(self.head(stack_sequence(self.cells, slices, state, masks), generator), None)

    def _pooled(self, cubes: Tensor, dtype: torch.dtype) -> Tensor:
        """Pool the cubes to slices (B, T, D), or (B, T, 2D) with both poolings."""
        pooled = []
        if "avg" in self.pooling:
            pooled.append(cubes.mean(dim=2, dtype=dtype) if self.maps is None else self.maps.means(cubes, dtype))
        if "max" in self.pooling:
            mapped = cubes if self.maps is None else self.maps.mapped(cubes)
            pooled.append(mapped.amax(dim=2).to(dtype))
        return torch.cat(pooled, dim=-1)
