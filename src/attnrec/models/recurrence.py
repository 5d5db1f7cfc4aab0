"""What all recurrent recognisers share: Eq. 6's initial state, and the LSTM stack by step or over a sequence.

Legend: B blocks in a batch, T time-steps, D feature channels, H hidden units.
"""

import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn


class BatchShare(NamedTuple):
    """Randomness of a process that holds some rows of a batch: masks are drawn for the whole batch, then cut."""

    generator: torch.Generator  # in the same state in every process
    batch_size: int  # rows of the whole batch
    first: int  # first row that this process holds


MaskSource = torch.Generator | BatchShare | None  # None takes torch's global random state


Cell = Callable[[Tensor, tuple[Tensor, Tensor]], tuple[Tensor, Tensor]]  # an nn.LSTMCell, or an equivalent


class LSTMState(NamedTuple):
    """Hidden and cell state of every layer, first layer first, each (B, H)."""

    hidden: list[Tensor]
    cell: list[Tensor]


def lstm_cells(feature_dim: int, hidden_dim: int, num_layers: int) -> nn.ModuleList:
    """A stack of LSTM layers (Eqs. 3-5); the first takes the glimpse, each other the output of the layer below."""
    return nn.ModuleList(nn.LSTMCell(hidden_dim if i else feature_dim, hidden_dim) for i in range(num_layers))


def init_mlps(feature_dim: int, hidden_dim: int, num_layers: int, depth: int = 2) -> nn.ModuleList:
    """The multilayer perceptrons f_init of Eq. 6, one of `depth` tanh layers for each LSTM layer."""

    def mlp() -> nn.Sequential:
        widths = [feature_dim] + [hidden_dim] * depth
        layers = [(nn.Linear(*pair), nn.Tanh()) for pair in itertools.pairwise(widths)]
        return nn.Sequential(*itertools.chain.from_iterable(layers))

    return nn.ModuleList(mlp() for _ in range(num_layers))


def initial_state(mean_slice: Tensor, init_hidden: nn.ModuleList, init_cell: nn.ModuleList) -> LSTMState:
    """Compute the state before the first step (Eq. 6).

    Args:
        mean_slice: Mean feature slice over time and locations, shape (B, D).
        init_hidden: f_init,h of each layer.
        init_cell: f_init,c of each layer.

    Returns:
        h_0 and c_0 of every layer, of the type of `mean_slice`. Cells that begin in autocast's bfloat16 would stay and
        accumulate in it, which was over half of the error of a step's gradient.
    """
    dtype = mean_slice.dtype
    hidden, cell = ([mlp(mean_slice).to(dtype) for mlp in mlps] for mlps in (init_hidden, init_cell))
    return LSTMState(hidden, cell)


def stack_step(cells: Iterable[Cell], glimpse: Tensor, state: LSTMState, masks: Sequence[Tensor] | None) -> LSTMState:
    """Compute one time-step through all layers (Eqs. 3-5), with dropout on the input of each layer.

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


def stack_sequence(cells: nn.ModuleList, inputs: Tensor, state: LSTMState, masks: Sequence[Tensor] | None) -> Tensor:
    """Compute `stack_step` for all time-steps of known inputs, layer by layer with torch's own LSTM.

    Args:
        cells: The layers.
        inputs: x_t, shape (B, T, D).
        state: State before the first step.
        masks: Dropout mask of each layer's input, shapes (T, B, D), (T, B, H), ...; None in evaluation.

    Returns:
        h_t of the top layer, shape (B, T, H).
    """
    below = inputs.transpose(0, 1)  # (T, B, D)
    for n, layer in enumerate(cells):
        weights = [getattr(layer, name) for name in _LSTM_WEIGHTS]
        below = below if masks is None else below * masks[n]
        below, _, _ = torch.lstm(
            below.to(weights[0].dtype),
            [part[n].unsqueeze(0) for part in state],
            one_chunk(weights) if inputs.is_cuda else weights,
            has_biases=True,
            num_layers=1,
            dropout=0.0,  # torch drops out between its layers only, and has one here
            train=torch.is_grad_enabled(),  # else cuDNN keeps nothing for the gradient
            bidirectional=False,
            batch_first=False,
        )
    return below.transpose(0, 1)


_LSTM_WEIGHTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")  # in the order in which cuDNN lays them out


def one_chunk(weights: list[Tensor]) -> list[Tensor]:
    """Copy weights into one chunk of memory, as cuDNN wants them; otherwise it warns at every call."""
    chunk = torch.cat([weight.flatten() for weight in weights])
    parts = torch.split(chunk, [weight.numel() for weight in weights])
    return [part.view_as(weight) for part, weight in zip(parts, weights, strict=True)]


def dropout_mask(
    shape: tuple[int, ...], dropout: float, like: Tensor, generator: MaskSource = None, *, batch_dim: int = 0
) -> Tensor:
    """Draw an inverted-dropout mask: zero with probability `dropout`, else 1 / (1 - dropout).

    A mask is drawn for all time-steps in one call, so that it depends only on the generator's state.

    Args:
        shape: Shape of the mask.
        dropout: Probability of a zero, in [0, 1).
        like: Tensor whose device and dtype the mask takes.
        generator: Source of randomness on that device.
        batch_dim: Dimension of the batch, used if `generator` is a `BatchShare`.

    Returns:
        The mask, of the given shape.

    Raises:
        ValueError: `dropout` is out of range.
    """
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout must be in [0, 1), got {dropout}")
    return uniform_noise(shape, like, generator, batch_dim=batch_dim).ge_(dropout).div_(1 - dropout).to(like.dtype)


def uniform_noise(shape: tuple[int, ...], like: Tensor, generator: MaskSource = None, *, batch_dim: int = 0) -> Tensor:
    """Draw numbers from [0, 1) in one call, for the whole batch if `generator` is a `BatchShare`.

    Args:
        shape: Shape of the result.
        like: Tensor whose device the result takes, and whose type unless that is less precise than float32.
        generator: Source of randomness on that device.
        batch_dim: Dimension of the batch.
    """
    share = generator if isinstance(generator, BatchShare) else None
    source = share.generator if share else generator
    assert not isinstance(source, BatchShare)
    drawn = list(shape)
    drawn[batch_dim] = share.batch_size if share else shape[batch_dim]
    # On the CPU `bernoulli_` takes four times as long. A less precise type has too few values between 0 and 1.
    dtype = torch.promote_types(like.dtype, torch.float32)
    uniform = torch.empty(drawn, device=like.device, dtype=dtype).uniform_(generator=source)
    return uniform.narrow(batch_dim, share.first, shape[batch_dim]) if share else uniform


def layer_input_masks(
    cells: nn.ModuleList,
    num_steps: int,
    dropout: float,
    like: Tensor,
    generator: MaskSource,
    input_dropout: float | None = None,
) -> list[Tensor]:
    """Dropout masks of every layer's input for a whole block, each (T, B, width).

    `input_dropout` is the probability for the first layer, whose input is the glimpse; None takes `dropout`.
    """
    widths = [int(cell.get_parameter("weight_ih").shape[1]) for cell in cells]
    dropouts = [dropout if input_dropout is None else input_dropout] + [dropout] * (len(widths) - 1)
    return [
        dropout_mask((num_steps, like.shape[0], width), probability, like, generator, batch_dim=1)
        for width, probability in zip(widths, dropouts, strict=True)
    ]
