"""LSTM cells for training in a loop over time-steps: a weight's gradient is one product over all steps.

Autograd adds a gradient as large as the weight once for each time-step, which at small batches is most of a training
step. Here the backward pass keeps the input and output gradient of the product at every step, and multiplies once.

Legend: B blocks in a batch, W width of a layer's input, H hidden units.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from attnrec.capture import fused

_Steps = dict[int, tuple[Tensor, Tensor]]  # of the backward pass: what entered the product, and the gates' gradient


class LateCell:
    """Computes the same as an `nn.LSTMCell` (Eqs. 3-5), for the steps of one forward pass.

    Under autocast the operands of the product have autocast's type; gates and cells have the parameters' type.

    Args:
        cell: The `nn.LSTMCell`.
    """

    def __init__(self, cell: Any) -> None:
        weights = (cell.weight_ih, cell.weight_hh, cell.bias_ih, cell.bias_hh)
        device = cell.weight_ih.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else cell.weight_ih.dtype
        self._steps: _Steps = {}
        self._num_steps = 0
        self._weights = _Gathered.apply(*weights, dtype, self._steps)  # (4H, W + H) and (4H,)

    def __call__(self, layer_input: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """One step: h_t and c_t (B, H), from the input (B, W) and h_{t-1}, c_{t-1}."""
        self._num_steps += 1
        hidden, cell = _Step.apply(layer_input, *state, *self._weights, self._steps, self._num_steps)
        return hidden, cell


class _Gathered(torch.autograd.Function):
    """Weight and bias for the steps, whose backward pass comes after that of all of them."""

    @staticmethod
    def forward(
        ctx: Any, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor, b_hh: Tensor, dtype: torch.dtype, steps: _Steps
    ) -> tuple[Tensor, Tensor]:
        ctx.steps, ctx.dtype, ctx.width = steps, w_ih.dtype, w_ih.shape[1]
        ctx.set_materialize_grads(False)
        return torch.cat([w_ih.to(dtype), w_hh.to(dtype)], dim=1), b_ih + b_hh

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *_: None) -> tuple[Tensor | None, ...]:
        joined, slopes = (torch.cat(parts) for parts in zip(*ctx.steps.values(), strict=True))
        ctx.steps.clear()
        bias, turned = slopes.sum(dim=0), slopes.to(joined.dtype).t()
        parts = (joined[:, : ctx.width], joined[:, ctx.width :])
        return *((turned @ part).to(ctx.dtype) for part in parts), bias, bias.clone(), None, None


class _Step(torch.autograd.Function):
    """A step, whose gradient by weight and bias is left to `_Gathered`."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, hidden: Tensor, cell: Tensor, weight: Tensor, bias: Tensor, steps: _Steps, step: int
    ) -> tuple[Tensor, Tensor]:
        joined = torch.cat([x, hidden], dim=1).to(weight.dtype)  # (B, W + H)
        gates, new_cell, squashed, new_hidden = fused(_gated)(joined @ weight.t(), bias, cell)
        ctx.save_for_backward(joined, weight, gates, cell, squashed)
        ctx.steps, ctx.step, ctx.dtypes = steps, step, (x.dtype, hidden.dtype)
        return new_hidden, new_cell

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_hidden: Tensor, d_cell: Tensor) -> tuple[Tensor | None, ...]:
        joined, weight, gates, cell, squashed = ctx.saved_tensors
        slope, d_cell_before = fused(_slopes)(d_hidden, d_cell, gates, cell, squashed)
        if ctx.needs_input_grad[3]:
            ctx.steps[ctx.step] = joined, slope  # a second backward pass takes the place of a first
        width = joined.shape[1] - cell.shape[1]
        d_joined = (slope.to(weight.dtype) @ weight).to(cell.dtype)
        d_x, d_before = d_joined.split([width, cell.shape[1]], dim=1)
        return d_x.to(ctx.dtypes[0]), d_before.to(ctx.dtypes[1]), d_cell_before, None, None, None, None


def _gated(product: Tensor, bias: Tensor, cell: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gates (B, 4H), c_t, its tanh and h_t (B, H), from the product of weight and input (B, 4H) and c_{t-1}."""
    gates = product + bias
    i, f, g, o = gates.chunk(4, dim=1)
    for gate in (i, f, o):
        gate.sigmoid_()
    g.tanh_()
    new_cell = torch.addcmul(f * cell, i, g)
    squashed = new_cell.tanh()
    return gates, new_cell, squashed, o * squashed


def _slopes(d_hidden: Tensor, d_cell: Tensor, gates: Tensor, cell: Tensor, squashed: Tensor) -> tuple[Tensor, Tensor]:
    """Gradient by the gates before they are squashed (B, 4H), and by c_{t-1}, from those by h_t and c_t."""
    i, f, g, o = gates.chunk(4, dim=1)
    through_sigmoid, through_tanh = torch.ops.aten.sigmoid_backward, torch.ops.aten.tanh_backward
    d_cell = d_cell + through_tanh(d_hidden * o, squashed)
    outer = ((d_cell * g, i), (d_cell * cell, f), (d_hidden * squashed, o))
    d_i, d_f, d_o = (through_sigmoid(gradient, gate) for gradient, gate in outer)
    return torch.cat([d_i, d_f, through_tanh(d_cell * i, g), d_o], dim=1), d_cell * f
