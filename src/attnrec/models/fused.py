"""The recurrences again, for speed: whole-block autograd functions with hand-written gradients.

They compute what the loops over `stack_step` and `location_softmax` in `attention` and `baselines` compute, which are
their tested reference. What differs is the work around the products:

- Autograd adds to the gradient of every weight once for each time-step. Here a backward loop carries the gradient of
  the state alone, and the gradient of each weight is one product over the rows of all steps afterwards.
- x_t and h_{t-1} lie side by side in one buffer, so that a layer's step is one product, forward and backward.
- The work of a step between its products stays in buffers of one step, which fit the processor's cache.
- Nothing is stored but what the backward loop reads, and no gradient is computed for the cubes.

Operands of the large products can be of less precision than the state. Sums, gates, cells and softmaxes are not.

Legend: B blocks in a batch, T time-steps, L locations, D feature channels, H hidden units, A attention units,
W width of a layer's input, N LSTM layers.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from attnrec.models.fused_lstm import (
    CellGradients,
    Cells,
    LayerWeights,
    product,
    product_dtype,
    refuse_second_derivative,
    without_autocast,
)
from attnrec.models.fused_scores import ContentWeights, LocationWeights, Scorer, score_gradients_of, scores_of
from attnrec.models.recurrence import LSTMState

Masks = Sequence[Sequence[Tensor]] | None


def attention_recurrence(
    cubes: Tensor,
    projected: Tensor | None,
    state: LSTMState,
    scorer: Scorer,
    layers: Sequence[LayerWeights],
    masks: Masks,
    *,
    overwrite_projected: bool = False,
) -> tuple[Tensor, Tensor]:
    """Eqs. 1-5 over all time-steps.

    Under autocast the operands of the products of the layers are of its type; the glimpse is computed in that of
    `cubes`.

    Args:
        cubes: Feature cubes, shape (B, T, L, D), of any floating type. They get no gradient.
        projected: What the content scorer takes from the frames, shape (B, T, L, A); None for the location scorer.
        state: State before the first step.
        scorer: Parameters of the scorer.
        layers: Parameters of the layers, first layer first.
        masks: Dropout masks of each layer's input, one sequence for each step; None in evaluation.
        overwrite_projected: Whether `projected` may be used as a work buffer: nobody reads it afterwards.

    Returns:
        h_t of the top layer (B, T, H) and attention (B, T, L), both of the type of the parameters.
    """
    state = LSTMState(*([tensor.to(layers[0].hh.dtype) for tensor in part] for part in state))
    options = _Options(type(scorer), len(layers), product_dtype(state.hidden[0]), overwrite_projected)
    flat = (*state.hidden, *state.cell, *scorer, *(weight for layer in layers for weight in layer))
    differentiable = (*flat, *(() if projected is None else (projected,)))
    with without_autocast(cubes):
        if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in differentiable):
            top, attention = _AttentionRecurrence.apply(options, masks, cubes, projected, *flat)
        else:
            top, attention, *_ = _forward(cubes, projected, state, scorer, layers, masks, options, keep=False)
    return top, attention


@dataclass(frozen=True)
class _Options:
    """What `_AttentionRecurrence` gets besides tensors."""

    scorer: type[LocationWeights] | type[ContentWeights]
    num_layers: int
    dtype: torch.dtype
    overwrite_projected: bool


class _Trace(NamedTuple):
    """What the backward pass reads of a layer."""

    weight: Tensor  # (4H, W + H)
    joined: Tensor  # [x_t, h_{t-1}] at t, (T + 1, B, W + H)
    gates: Tensor  # (T, B, 4H)
    cells: Tensor  # c_{t-1} at t, (T + 1, B, H)
    squashed: Tensor  # (T, B, H)

    @property
    def width(self) -> int:
        return self.weight.shape[1] - self.squashed.shape[2]


def _forward(
    cubes: Tensor,
    projected: Tensor | None,
    state: LSTMState,
    scorer: Scorer,
    layers: Sequence[LayerWeights],
    masks: Masks,
    options: "_Options",
    *,
    keep: bool,
) -> tuple[Tensor, Tensor, Tensor | None, list[_Trace]]:
    """The loop. Keeps every step for the backward pass, or reuses the buffers of one.

    Returns:
        h_t of the top layer (B, T, H), attention (B, T, L), what the content scorer squashed (B, T, L, A), and the
        traces of the layers.
    """
    B, T, L, D = cubes.shape
    like, dtype = state.hidden[0], options.dtype
    H = like.shape[1]
    widths = [layer.ih.shape[1] for layer in layers]
    weights = [torch.cat([layer.ih, layer.hh], dim=1).to(dtype) for layer in layers]  # (4H, W + H)
    biases = [layer.bias_ih + layer.bias_hh for layer in layers]
    slots = T if keep else 1
    joined = [like.new_empty(slots + 1, B, width + H, dtype=dtype) for width in widths]
    for n, width in enumerate(widths):
        joined[n][0, :, width:] = state.hidden[n]
    cells = [Cells(slots, cell, dtype) for cell in state.cell]
    top, attention = like.new_empty(B, T, H), like.new_empty(B, T, L)
    score = scores_of(scorer, projected, attention, dtype, overwrite=options.overwrite_projected, keep=keep)
    glimpse = cubes.new_empty(B, 1, D)
    low_probs = None if cubes.dtype == like.dtype else cubes.new_empty(B, 1, L)
    below = like.new_empty(B, H)
    for t in range(T):
        slot, next_slot = (t, t + 1) if keep else (0, 0)
        score.step(t, joined[-1][slot, :, widths[-1] :])
        probs = attention[:, t : t + 1]
        torch.softmax(score.scores, dim=-1, out=probs.squeeze(1))  # Eq. 1
        torch.bmm(probs if low_probs is None else low_probs.copy_(probs), cubes[:, t], out=glimpse)  # Eq. 2
        x = glimpse.squeeze(1)
        for n, width in enumerate(widths):  # Eqs. 3-5
            _masked(x, masks[t][n] if masks else None, out=joined[n][slot, :, :width])
            cells[n].affine(slot, biases[n], joined[n][slot], weights[n].t())
            x = top[:, t] if n == len(layers) - 1 else below
            cells[n].step(slot, next_slot, out=x)
            joined[n][next_slot, :, width:] = x
    traces = [_Trace(weights[n], joined[n], c.gates, c.cells, c.squashed) for n, c in enumerate(cells)]
    return top, attention, score.squashed, traces


def _masked(x: Tensor, mask: Tensor | None, out: Tensor) -> None:
    if mask is None:
        out.copy_(x)
    else:
        torch.mul(x, mask, out=out)


class _AttentionRecurrence(torch.autograd.Function):
    """`attention_recurrence` with a gradient."""

    @staticmethod
    def forward(
        ctx: Any, options: _Options, masks: Masks, cubes: Tensor, projected: Tensor | None, *flat: Tensor
    ) -> tuple[Tensor, Tensor]:
        state, scorer, layers = _unflatten(options, flat)
        top, attention, squashed, traces = _forward(cubes, projected, state, scorer, layers, masks, options, keep=True)
        ctx.options = options
        # What is saved so, and not as an attribute, goes with the backward pass.
        tensors = [tensor for trace in traces for tensor in trace]
        ctx.save_for_backward(
            cubes, attention, squashed, *scorer, *tensors, *(mask for step in masks or () for mask in step)
        )
        return top, attention

    @staticmethod
    def backward(ctx: Any, d_top: Tensor, d_attention: Tensor) -> tuple[Tensor | None, ...]:
        refuse_second_derivative()
        options: _Options = ctx.options
        cubes, attention, squashed, *rest = ctx.saved_tensors
        N, num_scorer = options.num_layers, len(options.scorer._fields)
        scorer, rest = options.scorer(*rest[:num_scorer]), rest[num_scorer:]
        width = len(_Trace._fields)
        traces = [_Trace(*rest[n * width : (n + 1) * width]) for n in range(N)]
        flat_masks = rest[N * width :]
        masks = [flat_masks[t * N : (t + 1) * N] for t in range(len(flat_masks) // N)]
        with without_autocast(cubes):
            gradients = _backward(cubes, attention, squashed, scorer, traces, masks, options.dtype, d_top, d_attention)
        return None, None, None, *gradients


def _unflatten(options: _Options, flat: Sequence[Tensor]) -> tuple[LSTMState, Scorer, list[LayerWeights]]:
    N, rest = options.num_layers, iter(flat)

    def take(count: int) -> Iterator[Tensor]:
        return (next(rest) for _ in range(count))

    state = LSTMState(list(take(N)), list(take(N)))
    scorer = options.scorer(*take(len(options.scorer._fields)))
    return state, scorer, [LayerWeights(*take(4)) for _ in range(N)]


def _backward(
    cubes: Tensor,
    attention: Tensor,
    squashed: Tensor | None,
    scorer: Scorer,
    traces: Sequence[_Trace],
    masks: Masks,
    dtype: torch.dtype,
    d_top: Tensor,
    d_attention: Tensor,
) -> tuple[Tensor | None, ...]:
    """Gradients of `projected` and of the flat parameters, in their order."""
    B, T, L, D = cubes.shape
    H = d_top.shape[2]
    layers = [CellGradients(trace.gates, trace.cells, trace.squashed, dtype) for trace in traces]
    d_hidden = [d_top.new_zeros(B, H) for _ in traces]
    d_scores = score_gradients_of(scorer, squashed, attention, dtype)
    d_joined = [d_top.new_empty(B, trace.width + H) for trace in traces]
    d_glimpse = cubes.new_empty(B, 1, D)
    d_probs = d_top.new_empty(B, L)
    for t in reversed(range(T)):
        d_hidden[-1] += d_top[:, t]
        for n in reversed(range(len(traces))):
            product(layers[n].step(t, d_hidden[n]), traces[n].weight, out=d_joined[n])
            d_x, d_hidden[n] = d_joined[n].tensor_split([traces[n].width], dim=1)
            mask = masks[t][n] if masks else None
            if n == 0:
                _masked(d_x, mask, out=d_glimpse.squeeze(1))
            elif mask is None:
                d_hidden[n - 1] += d_x
            else:
                d_hidden[n - 1].addcmul_(d_x, mask)
        # A row times each transposed frame reads the frame once; a frame times a column is several times as slow.
        d_probs.copy_(torch.bmm(d_glimpse, cubes[:, t].transpose(1, 2)).squeeze(1)).add_(d_attention[:, t])
        probs = attention[:, t]
        d_probs -= (d_probs * probs).sum(dim=1, keepdim=True)
        torch.mul(d_probs, probs, out=d_scores.scores[:, t])
        d_hidden[-1] += d_scores.step(t)
    weights: list[Tensor] = []
    for layer, trace in zip(layers, traces, strict=True):
        d_gates, rows = layer.flat(), trace.joined[:T].flatten(0, 1)
        for operand in rows.tensor_split([trace.width], dim=1):
            weights.append(torch.mm(d_gates.t(), operand).to(d_top.dtype))
        bias = d_gates.sum(dim=0, dtype=d_top.dtype)
        weights += [bias, bias.clone()]
    scorer_weights = d_scores.weights(traces[-1].joined[:T, :, traces[-1].width :])
    d_cells = [layer.cell for layer in layers]
    return d_scores.projected, *(d.contiguous() for d in d_hidden), *d_cells, *scorer_weights, *weights
