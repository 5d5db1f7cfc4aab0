"""LSTM cells for training in a loop over time-steps: a weight's gradient is one product over all steps.

Autograd adds a gradient as large as the weight once for each time-step, which at small batches is most of a training
step. Here the backward pass keeps the input and output gradient of the product at every step, and multiplies once.

Legend: B blocks in a batch, W width of a layer's input, H hidden units.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


class LateCell:
    """Computes the same as an `nn.LSTMCell` (Eqs. 3-5), for the steps of one forward pass.

    Under autocast the operands of the product have autocast's type; gates and cells have the parameters' type.

    Args:
        cell: The `nn.LSTMCell`.
    """

    def __init__(self, cell: Any) -> None:
        weight = torch.cat([cell.weight_ih, cell.weight_hh], dim=1)
        device = weight.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype
        self._steps: dict[int, tuple[Tensor, Tensor]] = {}  # rows and product gradient by step, of the backward pass
        self._num_steps = 0
        self._weight = _Gathered.apply(weight, dtype, self._steps)  # (4H, W + H)
        self._bias = cell.bias_ih + cell.bias_hh

    def __call__(self, layer_input: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Compute one step: h_t and c_t (B, H), from the input (B, W) and h_{t-1}, c_{t-1}."""
        hidden, cell = state
        rows = torch.cat([layer_input.to(self._weight.dtype), hidden.to(self._weight.dtype)], dim=1)
        gates = _Product.apply(rows, self._weight, self._steps, self._num_steps) + self._bias
        self._num_steps += 1
        i, f, g, o = gates.chunk(4, dim=1)
        cell = f.sigmoid() * cell + i.sigmoid() * g.tanh()
        return o.sigmoid() * cell.tanh(), cell


class _Gathered(torch.autograd.Function):
    """A weight for `_Product`, whose gradient is computed after the backward pass of all steps."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, dtype: torch.dtype, steps: dict[int, tuple[Tensor, Tensor]]) -> Tensor:
        ctx.steps, ctx.dtype = steps, weight.dtype
        ctx.set_materialize_grads(False)
        return weight.to(dtype, copy=True)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, _: None) -> tuple[Tensor, None, None]:
        rows, slopes = (torch.cat(parts) for parts in zip(*ctx.steps.values(), strict=True))
        ctx.steps.clear()
        return (slopes.t() @ rows).to(ctx.dtype), None, None


class _Product(torch.autograd.Function):
    """Rows times a weight, whose gradient is left to `_Gathered`."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Tensor, steps: dict[int, tuple[Tensor, Tensor]], step: int) -> Tensor:
        ctx.save_for_backward(rows, weight)
        ctx.steps, ctx.step = steps, step
        return rows @ weight.t()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, None, None, None]:
        rows, weight = ctx.saved_tensors
        if ctx.needs_input_grad[1]:
            ctx.steps[ctx.step] = rows, slope  # a second backward pass replaces the first
        return slope @ weight, None, None, None
