"""LSTM layers for `fused`: steps that keep what the backward pass reads, and their gradients written by hand.

Legend: B blocks in a batch, T time-steps, H hidden units, W width of a layer's input.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn


class LayerWeights(NamedTuple):
    """Parameters of an LSTM layer, as `nn.LSTMCell` has them: gates in the order i, f, g, o."""

    ih: Tensor  # (4H, W)
    hh: Tensor  # (4H, H)
    bias_ih: Tensor  # (4H,)
    bias_hh: Tensor  # (4H,)


def cell_weights(cells: nn.ModuleList) -> list[LayerWeights]:
    """Parameters of a stack of `nn.LSTMCell`."""
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    return [LayerWeights(*(getattr(cell, name) for name in names)) for cell in cells]


def takes_plain(choice: bool | None, like: Tensor) -> bool:
    """Whether a model takes its plain loop: as it was told, and untold on CUDA, where this code has not been timed."""
    return like.is_cuda if choice is None else choice


def product_dtype(like: Tensor) -> torch.dtype:
    """Type of the operands of large products: autocast's where it is on, else that of a tensor."""
    kind = like.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else like.dtype


def without_autocast(like: Tensor) -> torch.autocast:
    """Within it, every operation takes its operands as they are."""
    return torch.autocast(like.device.type, enabled=False)


class Cells:
    """Gates and cells of one layer over time, written step by step.

    Args:
        T: Steps to keep: all, or one slot that every step uses again.
        cell: c_0, shape (B, H).
        dtype: Of the operands of products.
    """

    def __init__(self, T: int, cell: Tensor, dtype: torch.dtype) -> None:
        B, H = cell.shape
        self.gates = cell.new_empty(T, B, 4 * H)  # i, f, g, o after their squashing
        self.cells = cell.new_empty(T + 1, B, H)  # c_{t-1} at t
        self.cells[0] = cell
        self.squashed = cell.new_empty(T, B, H)  # tanh(c_t)
        self.low = None if dtype == cell.dtype else cell.new_empty(B, 4 * H, dtype=dtype)

    def affine(self, slot: int, bias: Tensor, inputs: Tensor, weight: Tensor) -> None:
        """Gates before their squashing: bias + inputs @ weight."""
        if self.low is None:
            torch.addmm(bias, inputs, weight, out=self.gates[slot])
        else:
            torch.mm(inputs, weight, out=self.low)
            torch.add(self.low, bias, out=self.gates[slot])

    def step(self, slot: int, next_slot: int, out: Tensor) -> None:
        """Squash the gates, move the cell on, and write h_t to `out`."""
        H = out.shape[-1]
        gates = self.gates[slot]
        gates[:, : 2 * H].sigmoid_()
        gates[:, 2 * H : 3 * H].tanh_()
        gates[:, 3 * H :].sigmoid_()
        i, f, g, o = gates.chunk(4, dim=1)
        cell = self.cells[next_slot]
        torch.mul(f, self.cells[slot], out=cell)
        cell.addcmul_(i, g)
        torch.tanh(cell, out=self.squashed[slot])
        torch.mul(o, self.squashed[slot], out=out)


class CellGradients:
    """The backward loop of one layer: its share at each step.

    Each step works in buffers of one, which stay in the processor's cache.
    """

    def __init__(self, gates: Tensor, cells: Tensor, squashed: Tensor, dtype: torch.dtype) -> None:
        T, B, H = squashed.shape
        self.cells, self.squashed = cells, squashed
        self.squashed_gates = gates.view(T, B, 4, H)
        self.gates = gates.new_empty(T, B, 4, H, dtype=dtype)
        self.cell = torch.zeros_like(squashed[0])
        self._slope = gates.new_empty(B, 4, H)
        self._through = torch.empty_like(self.cell)

    def step(self, t: int, hidden: Tensor) -> Tensor:
        """Gradient of step t's gates (B, 4H) from that of h_t; moves the gradient of the cell back by a step."""
        gates, squashed, slope = self.squashed_gates[t], self.squashed[t], self._slope
        i, f, g, o = gates.unbind(1)
        di, df, dg, do = slope.unbind(1)
        torch.mul(squashed, squashed, out=self._through)
        torch.addcmul(o, o, self._through, value=-1, out=self._through)  # dh / dc = o (1 - tanh(c)^2)
        self.cell.addcmul_(hidden, self._through)
        torch.addcmul(gates, gates, gates, value=-1, out=slope)  # of a sigmoid: s (1 - s)
        torch.mul(g, g, out=dg)
        torch.addcmul(i, i, dg, value=-1, out=dg)  # of c = f c + i g by what g squashes
        di.mul_(g)
        df.mul_(self.cells[t])
        do.mul_(squashed).mul_(hidden)
        slope[:, :3].mul_(self.cell.unsqueeze(1))
        self.cell.mul_(f)
        self.gates[t] = slope
        return self.gates[t].flatten(1)

    def flat(self) -> Tensor:
        """Gradients of the gates of all steps, shape (T * B, 4H)."""
        return self.gates.flatten(0, 1).flatten(1)


def product(left: Tensor, right: Tensor, out: Tensor) -> Tensor:
    """left @ right in the type of `left`.

    Of rows that lie apart, some BLAS routines round each differently: a block's scores would depend on its place in
    the batch.
    """
    left = left.contiguous()
    if left.dtype == out.dtype:
        return torch.mm(left, right, out=out)
    return out.copy_(torch.mm(left, right))


def refuse_second_derivative() -> None:
    """Autograd runs a backward pass with gradients on where it is asked for a graph of it."""
    if torch.is_grad_enabled():
        raise RuntimeError(
            "the fast recurrence has no second derivative, so no create_graph=True; set `plain` of the model"
        )


def lstm_layer(inputs: Tensor, hidden: Tensor, cell: Tensor, weights: LayerWeights) -> Tensor:
    """Eqs. 3-5 of one layer over all time-steps, for inputs that are known beforehand.

    Args:
        inputs: Shape (T, B, W).
        hidden: h_0, shape (B, H).
        cell: c_0, shape (B, H).
        weights: Parameters of the layer.

    Returns:
        h_t, shape (T, B, H), of the type of the parameters.
    """
    hidden, cell = hidden.to(weights.hh.dtype), cell.to(weights.hh.dtype)
    dtype = product_dtype(hidden)
    with without_autocast(inputs):
        result: Tensor = _LSTMLayer.apply(dtype, inputs, hidden, cell, *weights)
    return result


class _LSTMLayer(torch.autograd.Function):
    """`lstm_layer`: the input's product for all steps at once, then a loop over the recurrent one."""

    @staticmethod
    def forward(ctx: Any, dtype: torch.dtype, inputs: Tensor, hidden: Tensor, cell: Tensor, *weights: Tensor) -> Tensor:
        T, B, W = inputs.shape
        layer = LayerWeights(*weights)
        rows, ih, hh = inputs.reshape(T * B, W).to(dtype), layer.ih.to(dtype), layer.hh.to(dtype)
        cells = Cells(T, cell, dtype)
        flat = cells.gates.view(T * B, -1)
        bias = layer.bias_ih + layer.bias_hh
        if dtype == cell.dtype:
            torch.addmm(bias, rows, ih.t(), out=flat)
        else:
            torch.add(torch.mm(rows, ih.t()), bias, out=flat)
        result = hidden.new_empty(T, B, hidden.shape[1])
        before = hidden
        for t in range(T):
            if dtype == cell.dtype:
                cells.gates[t].addmm_(before, hh.t())
            else:
                cells.gates[t].add_(torch.mm(before.to(dtype), hh.t()))
            cells.step(t, t + 1, out=result[t])
            before = result[t]
        ctx.dtype = dtype
        ctx.save_for_backward(hidden, result, rows, ih, hh, cells.gates, cells.cells, cells.squashed)
        return result

    @staticmethod
    def backward(ctx: Any, d_result: Tensor) -> tuple[Tensor | None, ...]:
        refuse_second_derivative()
        hidden, result, rows, ih, hh, gates, cells, squashed = ctx.saved_tensors
        dtype = ctx.dtype
        T, B, _ = result.shape
        with without_autocast(result):
            gradient = CellGradients(gates, cells, squashed, dtype)
            d_hidden = torch.zeros_like(hidden)
            for t in reversed(range(T)):
                d_hidden += d_result[t]
                product(gradient.step(t, d_hidden), hh, out=d_hidden)
            d_gates = gradient.flat()
            bias = d_gates.sum(dim=0, dtype=result.dtype)
            before = torch.cat([hidden.unsqueeze(0), result[:-1]]).flatten(0, 1).to(dtype)
            d_ih, d_hh = (torch.mm(d_gates.t(), operand).to(result.dtype) for operand in (rows, before))
            d_inputs = None
            if ctx.needs_input_grad[1]:
                d_inputs = torch.mm(d_gates, ih).to(result.dtype).view(T, B, -1)
            return None, d_inputs, d_hidden, gradient.cell, d_ih, d_hh, bias, bias.clone()
