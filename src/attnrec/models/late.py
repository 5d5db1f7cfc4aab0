"""LSTM cells for training in a loop over time-steps: a weight's gradient is one product over all steps.

Autograd adds a gradient as large as the weight once for each time-step, which at small batches is most of a training
step. Here the backward pass keeps the input and output gradient of the product at every step, and multiplies once.

Legend: B blocks in a batch, W width of a layer's input, H hidden units.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

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
        gates = joined @ weight.t() + bias  # (B, 4H)
        i, f, g, o = gates.chunk(4, dim=1)
        for gate in (i, f, o):
            gate.sigmoid_()
        g.tanh_()
        new_cell = torch.addcmul(f * cell, i, g)
        squashed = new_cell.tanh()
        ctx.save_for_backward(joined, weight, gates, cell, squashed)
        ctx.steps, ctx.step, ctx.dtypes = steps, step, (x.dtype, hidden.dtype)
        return o * squashed, new_cell

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_hidden: Tensor, d_cell: Tensor) -> tuple[Tensor | None, ...]:
        joined, weight, gates, cell, squashed = ctx.saved_tensors
        i, f, g, o = gates.chunk(4, dim=1)
        d_cell = d_cell + torch.ops.aten.tanh_backward(d_hidden * o, squashed)
        slope = torch.empty_like(gates)  # (B, 4H)
        d_i, d_f, d_g, d_o = slope.chunk(4, dim=1)
        torch.mul(d_cell, g, out=d_i)
        torch.mul(d_cell, cell, out=d_f)
        torch.mul(d_cell, i, out=d_g)
        torch.mul(d_hidden, squashed, out=d_o)
        for outer, gate in ((d_i, i), (d_f, f), (d_o, o)):
            torch.ops.aten.sigmoid_backward.grad_input(outer, gate, grad_input=outer)
        torch.ops.aten.tanh_backward.grad_input(d_g, g, grad_input=d_g)
        if ctx.needs_input_grad[3]:
            ctx.steps[ctx.step] = joined, slope  # a second backward pass takes the place of a first
        width = joined.shape[1] - cell.shape[1]
        d_joined = (slope.to(weight.dtype) @ weight).to(cell.dtype)
        d_x, d_before = d_joined.split([width, cell.shape[1]], dim=1)
        return d_x.to(ctx.dtypes[0]), d_before.to(ctx.dtypes[1]), d_cell * f, None, None, None, None
