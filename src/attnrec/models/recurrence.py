"""The parts that all recurrent recognisers share: Eq. 6's initial state and one step of the LSTM stack.

Legend: B blocks in a batch, T time-steps, D feature channels, H hidden units.
"""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn


class BatchShare(NamedTuple):
    """Randomness of a process that holds some rows of a batch: masks are drawn for the whole batch, its rows taken."""

    generator: torch.Generator  # in the same state in every process
    batch_size: int  # rows of the whole batch
    first: int  # the first of the rows held here


MaskSource = torch.Generator | BatchShare | None  # None takes torch's own randomness


class LSTMState(NamedTuple):
    """Hidden and cell state of every layer, first layer first, each (B, H)."""

    hidden: list[Tensor]
    cell: list[Tensor]


def lstm_cells(feature_dim: int, hidden_dim: int, num_layers: int) -> nn.ModuleList:
    """Stack of LSTM layers (Eqs. 3-5); the first takes the glimpse, each other the layer below."""
    return nn.ModuleList(nn.LSTMCell(hidden_dim if i else feature_dim, hidden_dim) for i in range(num_layers))


def init_mlps(feature_dim: int, hidden_dim: int, num_layers: int, depth: int = 2) -> nn.ModuleList:
    """The multilayer perceptrons f_init of Eq. 6, one of `depth` tanh layers for each LSTM layer."""

    def mlp() -> nn.Sequential:
        widths = [feature_dim] + [hidden_dim] * depth
        layers = [(nn.Linear(*pair), nn.Tanh()) for pair in itertools.pairwise(widths)]
        return nn.Sequential(*itertools.chain.from_iterable(layers))

    return nn.ModuleList(mlp() for _ in range(num_layers))


def initial_state(mean_slice: Tensor, init_hidden: nn.ModuleList, init_cell: nn.ModuleList) -> LSTMState:
    """State before the first step (Eq. 6).

    Args:
        mean_slice: Mean feature slice over time and locations, shape (B, D).
        init_hidden: f_init,h of each layer.
        init_cell: f_init,c of each layer.

    Returns:
        h_0 and c_0 of every layer.
    """
    return LSTMState([mlp(mean_slice) for mlp in init_hidden], [mlp(mean_slice) for mlp in init_cell])


def stack_step(cells: nn.ModuleList, glimpse: Tensor, state: LSTMState, masks: Sequence[Tensor] | None) -> LSTMState:
    """One time-step through all layers (Eqs. 3-5), dropout on the input of each layer.

    Args:
        cells: The layers.
        glimpse: x_t, shape (B, D).
        state: State after the previous step.
        masks: Dropout mask of each layer's input at this step, shapes (B, D), (B, H), ...; None in evaluation.

    Returns:
        State after this step; `hidden[-1]` is the h_t of the top layer.
    """
    hidden, cell = [], []
    layer_input = glimpse
    for i, layer in enumerate(cells):
        if masks is not None:
            layer_input = layer_input * masks[i]
        layer_input, c = layer(layer_input, (state.hidden[i], state.cell[i]))
        hidden.append(layer_input)
        cell.append(c)
    return LSTMState(hidden, cell)


def dropout_mask(
    shape: tuple[int, ...], dropout: float, like: Tensor, generator: MaskSource = None, *, batch_dim: int = 0
) -> Tensor:
    """Inverted-dropout mask: zero with probability `dropout`, else 1 / (1 - dropout).

    A mask is drawn for all time-steps in one call, so that it is a function of the generator's state alone.

    Args:
        shape: Shape of the mask.
        dropout: Probability of a zero, in [0, 1).
        like: Tensor whose device and dtype the mask takes.
        generator: Source of randomness on that device.
        batch_dim: Dimension of the batch, for a share of one.

    Returns:
        The mask, of the given shape.

    Raises:
        ValueError: `dropout` is out of range.
    """
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout must be in [0, 1), got {dropout}")
    share = generator if isinstance(generator, BatchShare) else None
    source = share.generator if share else generator
    assert not isinstance(source, BatchShare)
    drawn = list(shape)
    drawn[batch_dim] = share.batch_size if share else shape[batch_dim]
    # On the CPU `bernoulli_` takes four times as long as this. A shorter type has too few values between 0 and 1.
    dtype = torch.promote_types(like.dtype, torch.float32)
    uniform = torch.empty(drawn, device=like.device, dtype=dtype).uniform_(generator=source)
    rows = uniform.narrow(batch_dim, share.first, shape[batch_dim]) if share else uniform
    return rows.ge_(dropout).div_(1 - dropout).to(like.dtype)


def layer_input_masks(
    cells: nn.ModuleList,
    num_steps: int,
    dropout: float,
    like: Tensor,
    generator: MaskSource,
    input_dropout: float | None = None,
) -> list[tuple[Tensor, ...]]:
    """Dropout masks of every layer's input for a whole block, one tuple of (B, width) masks for each step.

    `input_dropout` is the probability for the first layer, whose input is the glimpse; `dropout` where None.
    """
    batch = like.shape[0]
    widths = [int(cell.get_parameter("weight_ih").shape[1]) for cell in cells]
    dropouts = [dropout if input_dropout is None else input_dropout] + [dropout] * (len(widths) - 1)
    masks = [
        dropout_mask((num_steps, batch, width), probability, like, generator, batch_dim=1)
        for width, probability in zip(widths, dropouts, strict=True)
    ]
    return list(zip(*(mask.unbind(0) for mask in masks), strict=True))
