import shutil

import pytest
import torch
from helpers import (
    ATTENTION,
    POOLING,
    assert_close,
    fixed_init,
    make_cubes,
    make_recognizer,
    relative_error,
    seeded,
    step_results,
)
from torch import Tensor, nn

from attnrec.models import late
from attnrec.models.recurrence import (
    BatchShare,
    LSTMState,
    dropout_mask,
    initial_state,
    layer_input_masks,
    lstm_cells,
    one_chunk,
    stack_sequence,
    stack_step,
)

RECURRENT = (*ATTENTION, *POOLING)


def test_a_mask_is_zero_as_often_as_asked_and_keeps_the_mean():
    mask = dropout_mask((200, 300), 0.25, torch.zeros(1), seeded(0))
    assert mask.unique().tolist() == pytest.approx([0, 4 / 3])
    assert mask.mean().item() == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("batch_dim", [0, 1])
def test_shares_of_a_batch_are_rows_of_its_mask(batch_dim):
    shape = [5, 5, 7]
    whole = dropout_mask(tuple(shape), 0.5, torch.zeros(1), seeded(3))
    for first, rows in ((0, 2), (2, 3), (4, 1)):
        shape[batch_dim] = rows
        share = BatchShare(seeded(3), 5, first)
        mask = dropout_mask(tuple(shape), 0.5, torch.zeros(1), share, batch_dim=batch_dim)
        assert torch.equal(mask, whole.narrow(batch_dim, first, rows))


@pytest.mark.parametrize("kind", RECURRENT)
def test_processes_that_share_a_batch_drop_what_one_would(kind):
    model, cubes = make_recognizer(kind, dropout=0.5).train(), make_cubes(B=5)
    whole = model(cubes, seeded(1)).frame_logits
    parts = [model(cubes[a:b], BatchShare(seeded(1), 5, a)).frame_logits for a, b in ((0, 2), (2, 5))]
    torch.testing.assert_close(torch.cat(parts), whole)
    assert not torch.allclose(model(cubes[2:], seeded(1)).frame_logits, whole[2:])


def step_by_step(cells: nn.ModuleList, inputs: Tensor, state: LSTMState, masks: list[Tensor] | None) -> Tensor:
    """What `stack_sequence` computes, as it reads."""
    top = []
    for t in range(inputs.shape[1]):
        state = stack_step(cells, inputs[:, t], state, None if masks is None else [mask[t] for mask in masks])
        top.append(state.hidden[-1])
    return torch.stack(top, dim=1)


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("dropout", [None, 0.5])
@pytest.mark.parametrize(("B", "T", "W", "H"), [(1, 1, 1, 1), (3, 4, 5, 6), (16, 30, 64, 48)])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-13), (torch.float32, 2e-6)])
def test_the_whole_sequence_equals_step_by_step(layers, dropout, B, T, W, H, dtype, tolerance):
    """In values, and in the gradients of the inputs, of the state before the first step and of every parameter."""
    cells = fixed_init(lstm_cells(W, H, layers).to(dtype), gain=1.0)
    like = torch.empty(B, W, dtype=dtype)
    masks = None if dropout is None else layer_input_masks(cells, T, dropout, like, seeded(1))
    leaves = [torch.randn(shape, generator=seeded(2), dtype=dtype) for shape in [(B, T, W)] + [(B, H)] * 2 * layers]
    leaves = [leaf.requires_grad_() for leaf in leaves]
    state = LSTMState(leaves[1 : 1 + layers], leaves[1 + layers :])
    results = []
    for run in (stack_sequence, step_by_step):
        top = run(cells, leaves[0], state, masks)
        weights = torch.linspace(-1, 1, top.numel(), dtype=dtype).view_as(top)
        results.append([top, *torch.autograd.grad((top * weights).sum(), [*leaves, *cells.parameters()])])
    for actual, expected in zip(*results, strict=True):
        assert (actual.shape, actual.dtype) == (expected.shape, expected.dtype)
        assert_close(actual, expected, atol=tolerance * max(1.0, expected.abs().max().item()))
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            assert_close(stack_sequence(cells, leaves[0], state, masks), results[1][0], atol=tolerance)


def test_weights_lie_in_one_chunk_of_memory():
    """As cuDNN wants them: each begins where the one before ends, the first at the start of its storage."""
    cell = lstm_cells(3, 5, 1)[0]
    weights = [cell.weight_ih, cell.weight_hh, cell.bias_ih, cell.bias_hh]
    chunk = one_chunk(weights)
    assert all(torch.equal(a, b) for a, b in zip(chunk, weights, strict=True))
    assert [part.storage_offset() for part in chunk] == [0, 20 * 3, 20 * 3 + 20 * 5, 20 * 3 + 20 * 5 + 20]
    assert len({part.untyped_storage().data_ptr() for part in chunk}) == 1


@pytest.mark.parametrize("kind", RECURRENT)
def test_the_same_step_again_is_the_same_to_the_last_bit(kind):
    model = make_recognizer(kind, feature_dim=64, num_locations=16, hidden_dim=48, num_layers=3, dropout=0.5)
    model, cubes = model.float().train(), make_cubes(16, 12, 16, 64).float()
    first, second = ([tensor for part in step_results(model, cubes) for tensor in part] for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("kind", RECURRENT)
@pytest.mark.parametrize(("L", "D", "H"), [(4, 6, 16), (49, 32, 20), (16, 64, 32)])
def test_a_block_scores_the_same_at_every_place_in_a_batch(kind, L, D, H):
    """To the last bit, so that a video's figures do not depend on what is scored with it."""
    model = make_recognizer(kind, feature_dim=D, num_locations=L, hidden_dim=H).float()
    cubes = make_cubes(16, 4, L, D).float()
    with torch.inference_mode():
        expected = model(cubes)
        for seed in range(5):
            order = torch.randperm(16, generator=seeded(seed))
            for a, b in zip(model(cubes[order]), expected, strict=True):
                assert a is b is None or torch.equal(a, b[order])


def as_in_training(kind: str) -> tuple[nn.Module, Tensor]:
    """A single-precision recogniser with parameters of torch's own initialisation, and features as of a ReLU."""
    torch.manual_seed(0)
    model = make_recognizer(kind, feature_dim=128, num_locations=16, hidden_dim=64, num_layers=3, num_classes=5)
    for module in model.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
    return model.float().train(), make_cubes(16, 12, 16, 128).float().abs()


@pytest.mark.parametrize("kind", RECURRENT)
@pytest.mark.parametrize("short_cubes", [False, True])
def test_bf16_is_close(kind, short_cubes):
    model, cubes = as_in_training(kind)
    _, expected = step_results(model, cubes)
    outputs, gradients = step_results(model, cubes.bfloat16() if short_cubes else cubes, autocast=True)
    assert {tensor.dtype for tensor in (*outputs, *gradients)} == {torch.float32}
    assert 1e-5 < relative_error(gradients, expected) < 3e-2
    if kind in ATTENTION:
        assert_close(outputs[1].sum(dim=2), torch.ones(16, 12), atol=1e-6)


def test_the_state_begins_in_full_precision_under_autocast():
    model, cubes = as_in_training("location")
    with torch.autocast("cpu", torch.bfloat16):
        state = initial_state(cubes.mean(dim=(1, 2)), model.init_hidden, model.init_cell)
    assert {tensor.dtype for part in state for tensor in part} == {torch.float32}


@pytest.mark.parametrize("kind", RECURRENT)
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_bf16_is_close_where_no_gradient_is_kept(kind, mode, dtype):
    model, cubes = as_in_training(kind)
    with mode():
        expected = model.eval()(cubes).frame_logits
        with torch.autocast("cpu", torch.bfloat16):
            actual = model(cubes.to(dtype)).frame_logits
    assert actual.dtype == torch.float32
    assert 1e-5 < relative_error([actual], [expected]) < 3e-2


@pytest.mark.cuda
@pytest.mark.parametrize("kind", RECURRENT)
@pytest.mark.parametrize("autocast", [False, True])
def test_cuda(kind, autocast):
    model, cubes = as_in_training(kind)
    _, expected = step_results(model, cubes)
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        _, actual = step_results(model.cuda(), cubes.cuda(), autocast=autocast)
    assert relative_error(actual, [gradient.cuda() for gradient in expected]) < (3e-2 if autocast else 1e-5)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("c++") is None, reason="torch.compile needs a compiler")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_stands_between_the_products_can_be_compiled(dtype):
    product, bias, cell = torch.randn(6, 32).to(dtype), torch.randn(32), torch.randn(6, 8)
    gates, new_cell, squashed, hidden = late._gated(product, bias, cell)
    inputs = torch.randn(6, 8), torch.randn(6, 8), gates, cell, squashed
    expected = (gates, new_cell, squashed, hidden), late._slopes(*inputs)
    compiled = (torch.compile(function, fullgraph=True, dynamic=False) for function in (late._gated, late._slopes))
    actual = tuple(function(*given) for function, given in zip(compiled, ((product, bias, cell), inputs), strict=True))
    torch.testing.assert_close(actual, expected, rtol=1e-6, atol=1e-6)
