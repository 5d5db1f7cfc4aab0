"""The recurrences again, for speed: whole-block autograd functions with hand-written gradients.

They compute what the loops over `stack_step` and `location_softmax` in `attention` and `baselines` compute, which are
their tested reference. What differs is the work around the products:

- Autograd adds to the gradient of every weight once for each time-step. Here a backward loop carries the gradient of
  the state alone, and the gradient of each weight is one product over the rows of all steps afterwards.
- x_t and h_{t-1} lie side by side in one buffer, so that a layer's step is one product, forward and backward.
- Whatever does not depend on the gradient that arrives is computed for all steps at once before the backward loop.
- Nothing is stored but what the backward loop reads, and no gradient is computed for the cubes.

Operands of the large products can be of less precision than the state. Sums, gates, cells and softmaxes are not.

Legend: B blocks in a batch, T time-steps, L locations, D feature channels, H hidden units, A attention units,
W width of a layer's input, N LSTM layers.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from attnrec.models.recurrence import LSTMState

Masks = Sequence[Sequence[Tensor]] | None


class LayerWeights(NamedTuple):
    """Parameters of an LSTM layer, as `nn.LSTMCell` has them: gates in the order i, f, g, o."""

    ih: Tensor  # (4H, W)
    hh: Tensor  # (4H, H)
    bias_ih: Tensor  # (4H,)
    bias_hh: Tensor  # (4H,)


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


@dataclass(frozen=True)
class _Options:
    """What `_AttentionRecurrence` gets besides tensors."""

    scorer: type[LocationWeights] | type[ContentWeights]
    num_layers: int
    dtype: torch.dtype
    overwrite_projected: bool


class _Cells:
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


class _CellGradients:
    """The backward loop of one layer: its share at each step, with what depends on no gradient computed before."""

    def __init__(self, gates: Tensor, cells: Tensor, squashed: Tensor, dtype: torch.dtype) -> None:
        T, B, H = squashed.shape
        i, f, g, o = gates.chunk(4, dim=2)
        # d gates = (dc, dc, dc, dh) * local, where local holds the other factor of each product and the derivative
        # of the squashing.
        self.local = torch.empty_like(gates).view(T, B, 4, H)
        di, df, dg, do = self.local.unbind(2)
        torch.addcmul(i, i, i, value=-1, out=di).mul_(g)
        torch.addcmul(f, f, f, value=-1, out=df).mul_(cells[:T])
        torch.addcmul(i, g.square(), i, value=-1, out=dg)
        torch.addcmul(o, o, o, value=-1, out=do).mul_(squashed)
        self.cell_from_hidden = torch.addcmul(o, squashed.square(), o, value=-1)
        self.forget = f
        self.cell = torch.zeros_like(squashed[0])
        self.gates = self.local if dtype == gates.dtype else torch.empty_like(self.local, dtype=dtype)

    def step(self, t: int, hidden: Tensor) -> Tensor:
        """Gradient of step t's gates (B, 4H) from that of h_t; moves the gradient of the cell back by a step."""
        self.cell.addcmul_(hidden, self.cell_from_hidden[t])
        torch.mul(self.local[t, :, :3], self.cell.unsqueeze(1), out=self.gates[t, :, :3])
        torch.mul(self.local[t, :, 3], hidden, out=self.gates[t, :, 3])
        self.cell.mul_(self.forget[t])
        return self.gates[t].flatten(1)

    def flat(self) -> Tensor:
        """Gradients of the gates of all steps, shape (T * B, 4H)."""
        return self.gates.flatten(0, 1).flatten(1)


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
    cells = [_Cells(slots, cell, dtype) for cell in state.cell]
    top, attention = like.new_empty(B, T, H), like.new_empty(B, T, L)
    score = _scores(scorer, projected, attention, options, keep)
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


def _scores(
    scorer: Scorer, projected: Tensor | None, attention: Tensor, options: "_Options", keep: bool
) -> "_LocationScores | _ContentScores":
    if isinstance(scorer, LocationWeights):
        return _LocationScores(scorer, attention, options.dtype)
    assert projected is not None
    return _ContentScores(scorer, projected, attention, options, keep)


class _LocationScores:
    """Eq. 1 before the softmax."""

    squashed = None

    def __init__(self, scorer: LocationWeights, attention: Tensor, dtype: torch.dtype) -> None:
        self.weight = scorer.weight.to(dtype)
        self.scores = torch.empty_like(attention[:, 0])

    def step(self, t: int, hidden: Tensor) -> None:
        """Scores from h_{t-1}, shape (B, H)."""
        _product(hidden, self.weight.t(), out=self.scores)


class _ContentScores:
    """The content scorer before the softmax; tanh(...) of every step stays in `squashed` where it is to be kept."""

    def __init__(
        self,
        scorer: ContentWeights,
        projected: Tensor,
        attention: Tensor,
        options: _Options,
        keep: bool,
    ) -> None:
        B, _, _, A = projected.shape
        self.projected = projected
        self.squashed = (
            projected if options.overwrite_projected else torch.empty_like(projected if keep else projected[:, :1])
        )
        self.weight, self.bias = scorer.hidden.to(options.dtype), scorer.bias
        self.score = scorer.score.to(projected.dtype).view(1, A, 1).expand(B, A, 1)
        self.score_bias = scorer.score_bias
        self.query = attention.new_empty(B, A)
        self.scores = torch.empty_like(attention[:, 0])

    def step(self, t: int, hidden: Tensor) -> None:
        """Scores from h_{t-1}, shape (B, H), and the frame at t."""
        _product(hidden, self.weight.t(), out=self.query)
        self.query.add_(self.bias)
        squashed = self.squashed[:, t if len(self.squashed[0]) > 1 else 0]  # (B, L, A)
        torch.add(self.projected[:, t], self.query.unsqueeze(1), out=squashed)
        squashed.tanh_()
        torch.add(torch.bmm(squashed, self.score).squeeze(2), self.score_bias, out=self.scores)


def _product(left: Tensor, right: Tensor, out: Tensor) -> Tensor:
    """left @ right in the type of `left`.

    Of rows that lie apart, some BLAS routines round each differently: a block's scores would depend on its place in
    the batch.
    """
    left = left.contiguous()
    if left.dtype == out.dtype:
        return torch.mm(left, right, out=out)
    return out.copy_(torch.mm(left, right))


def _refuse_second_derivative() -> None:
    """Autograd runs a backward pass with gradients on where it is asked for a graph of it."""
    if torch.is_grad_enabled():
        raise RuntimeError(
            "the fast recurrence has no second derivative, so no create_graph=True; set `plain` of the model"
        )


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
        _refuse_second_derivative()
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
    layers = [_CellGradients(trace.gates, trace.cells, trace.squashed, dtype) for trace in traces]
    d_hidden = [d_top.new_zeros(B, H) for _ in traces]
    d_scores = _score_gradients(scorer, squashed, attention, dtype)
    d_joined = [d_top.new_empty(B, trace.width + H) for trace in traces]
    d_glimpse = cubes.new_empty(B, 1, D)
    d_probs = d_top.new_empty(B, L)
    for t in reversed(range(T)):
        d_hidden[-1] += d_top[:, t]
        for n in reversed(range(len(traces))):
            _product(layers[n].step(t, d_hidden[n]), traces[n].weight, out=d_joined[n])
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


def _score_gradients(
    scorer: Scorer, squashed: Tensor | None, attention: Tensor, dtype: torch.dtype
) -> "_LocationScoreGradients | _ContentScoreGradients":
    if isinstance(scorer, LocationWeights):
        return _LocationScoreGradients(scorer, attention, dtype)
    assert squashed is not None
    return _ContentScoreGradients(scorer, squashed, attention, dtype)


class _LocationScoreGradients:
    """Backward of `_LocationScores`: the caller writes the gradient of step t's scores to `scores[:, t]`."""

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


class _ContentScoreGradients:
    """Backward of `_ContentScores`, likewise."""

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


class _LSTMLayer(torch.autograd.Function):
    """`lstm_layer`: the input's product for all steps at once, then a loop over the recurrent one."""

    @staticmethod
    def forward(ctx: Any, dtype: torch.dtype, inputs: Tensor, hidden: Tensor, cell: Tensor, *weights: Tensor) -> Tensor:
        T, B, W = inputs.shape
        layer = LayerWeights(*weights)
        rows, ih, hh = inputs.reshape(T * B, W).to(dtype), layer.ih.to(dtype), layer.hh.to(dtype)
        cells = _Cells(T, cell, dtype)
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
        _refuse_second_derivative()
        hidden, result, rows, ih, hh, gates, cells, squashed = ctx.saved_tensors
        dtype = ctx.dtype
        T, B, _ = result.shape
        with without_autocast(result):
            gradient = _CellGradients(gates, cells, squashed, dtype)
            d_hidden = torch.zeros_like(hidden)
            for t in reversed(range(T)):
                d_hidden += d_result[t]
                _product(gradient.step(t, d_hidden), hh, out=d_hidden)
            d_gates = gradient.flat()
            bias = d_gates.sum(dim=0, dtype=result.dtype)
            before = torch.cat([hidden.unsqueeze(0), result[:-1]]).flatten(0, 1).to(dtype)
            d_ih, d_hh = (torch.mm(d_gates.t(), operand).to(result.dtype) for operand in (rows, before))
            d_inputs = None
            if ctx.needs_input_grad[1]:
                d_inputs = torch.mm(d_gates, ih).to(result.dtype).view(T, B, -1)
            return None, d_inputs, d_hidden, gradient.cell, d_ih, d_hh, bias, bias.clone()
