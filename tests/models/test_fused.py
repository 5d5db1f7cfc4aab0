"""The recurrences as single functions against the plain ones and the paper's equations."""

import gc
import weakref

import paper_equations
import pytest
import torch
from helpers import ATTENTION, POOLING, assert_close, make_cubes, make_recognizer, numpy_parameters, seeded
from torch import Tensor, nn

from attnrec.models.fused_lstm import LayerWeights, lstm_layer
from attnrec.models.losses import recognition_loss

RECURRENT = (*(form for form in ATTENTION if form != "saliency"), *POOLING)  # that one takes the plain loop alone

# B, T, L, D, H
SIZES = [(1, 1, 1, 1, 1), (3, 4, 5, 4, 6), (2, 7, 9, 3, 5)]


def outputs_and_gradients(
    model: nn.Module, cubes: Tensor, *, plain: bool, autocast: bool = False
) -> tuple[list[Tensor], list[Tensor]]:
    """What a training step gets out of a model, dropout drawn from one seed."""
    model.plain = plain
    model.zero_grad(set_to_none=True)
    with torch.autocast(cubes.device.type, torch.bfloat16, enabled=autocast):
        output = model(cubes, torch.Generator(cubes.device).manual_seed(3))
    targets = torch.arange(len(cubes), device=cubes.device) % output.frame_logits.shape[2]
    recognition_loss(output, targets, attention_penalty=0.7).backward()
    outputs = [tensor.detach() for tensor in output if tensor is not None]
    return outputs, [parameter.grad for parameter in model.parameters()]


def relative_error(actual: list[Tensor], expected: list[Tensor]) -> float:
    """Relative L2 difference of all tensors as one vector."""
    actual, expected = (torch.cat([tensor.double().flatten() for tensor in each]) for each in (actual, expected))
    return float((actual - expected).norm() / expected.norm())


def assert_paths_agree(model: nn.Module, cubes: Tensor) -> None:
    """Equal outputs, and each gradient equal by itself, in double precision."""
    outputs, gradients = outputs_and_gradients(model, cubes, plain=False)
    expected_outputs, expected_gradients = outputs_and_gradients(model, cubes, plain=True)
    for actual, expected in zip(outputs, expected_outputs, strict=True):
        assert_close(actual, expected, atol=1e-12)
    for (name, _), actual, expected in zip(model.named_parameters(), gradients, expected_gradients, strict=True):
        assert (actual.shape, actual.stride(), actual.dtype) == (expected.shape, expected.stride(), expected.dtype)
        if name == "content_scorer.score.bias":  # no softmax feels it
            assert_close(actual, torch.zeros_like(actual), atol=1e-12)
        else:
            assert relative_error([actual], [expected]) < 1e-10 or expected.abs().max() < 1e-14, name


@pytest.mark.parametrize("kind", RECURRENT)
@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize(("dropout", "input_dropout"), [(0.0, None), (0.5, None), (0.5, 0.0), (0.0, 0.3)])
@pytest.mark.parametrize(("B", "T", "L", "D", "H"), SIZES)
def test_equals_the_plain_recurrence(kind, layers, dropout, input_dropout, B, T, L, D, H):
    model = make_recognizer(
        kind,
        feature_dim=D,
        num_locations=L,
        hidden_dim=H,
        num_layers=layers,
        dropout=dropout,
        input_dropout=input_dropout,
    )
    assert_paths_agree(model.train(), make_cubes(B, T, L, D))


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("scorer_layers", [1, 2, 3])
def test_equals_the_plain_recurrence_with_a_deeper_scorer_of_another_width(layers, scorer_layers):
    model = make_recognizer(
        "content", num_layers=layers, scorer_layers=scorer_layers, attention_dim=7, init_layers=1, dropout=0.5
    )
    assert_paths_agree(model.train(), make_cubes())


@pytest.mark.parametrize("kind", RECURRENT)
@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_equals_the_paper_equations(kind, layers, mode):
    model, cubes = make_recognizer(kind, num_layers=layers, dropout=0.5), make_cubes()
    with mode():
        output = model(cubes)
    assert output.frame_logits.requires_grad == (mode is torch.enable_grad)
    logits, attention = paper_equations.recognize_batch(numpy_parameters(model), cubes.numpy(), kind)
    assert_close(output.frame_logits, logits)
    if attention is not None:
        assert_close(output.attention, attention)


@pytest.mark.parametrize("kind", RECURRENT)
def test_keeping_no_step_changes_no_digit(kind):
    model, cubes = make_recognizer(kind, num_layers=3, dropout=0.5).train(), make_cubes()
    kept = model(cubes, seeded(1))
    with torch.no_grad():
        reused = model(cubes, seeded(1))
    for a, b in zip(kept, reused, strict=True):
        assert a is b is None or torch.equal(a, b)


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


@pytest.mark.parametrize("kind", RECURRENT)
def test_gradients(kind):
    """Against finite differences, of every parameter."""
    model = make_recognizer(kind, feature_dim=2, num_locations=3, num_classes=2, hidden_dim=2, num_layers=2)
    cubes, targets = make_cubes(2, 3, 3, 2), torch.tensor([0, 1])
    names = [name for name, _ in model.named_parameters()]
    values = [parameter.detach().clone().requires_grad_() for parameter in model.parameters()]

    def loss(*values: Tensor) -> Tensor:
        output = torch.func.functional_call(model, dict(zip(names, values, strict=True)), (cubes,))
        return recognition_loss(output, targets, attention_penalty=0.7)

    assert torch.autograd.gradcheck(loss, values)


def test_gradient_of_the_input_of_a_layer():
    shapes = [(4, 3, 2), (3, 5), (3, 5), (20, 2), (20, 5), (20,), (20,)]
    values = [0.5 * torch.randn(shape, dtype=torch.float64, generator=seeded(1)) for shape in shapes]

    def run(inputs: Tensor, hidden: Tensor, cell: Tensor, *weights: Tensor) -> Tensor:
        return lstm_layer(inputs, hidden, cell, LayerWeights(*weights))

    assert torch.autograd.gradcheck(run, [value.requires_grad_() for value in values])


@pytest.mark.parametrize("form", ATTENTION)
def test_cubes_that_need_a_gradient_get_one(form):
    model, cubes = make_recognizer(form), make_cubes().requires_grad_()
    (gradient,) = torch.autograd.grad(model(cubes).frame_logits.sum(), cubes)
    model.plain = True
    (expected,) = torch.autograd.grad(model(cubes).frame_logits.sum(), cubes)
    assert torch.equal(gradient, expected)
    assert gradient.any()


@pytest.mark.parametrize("kind", RECURRENT)
def test_a_part_of_the_parameters_can_be_frozen(kind):
    model, cubes = make_recognizer(kind), make_cubes()
    _, expected = outputs_and_gradients(model, cubes, plain=True)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith(("cells.1", "head")))
    _, actual = outputs_and_gradients(model, cubes, plain=False)
    for parameter, a, b in zip(model.parameters(), actual, expected, strict=True):
        assert (a is None) != parameter.requires_grad
        assert a is None or relative_error([a], [b]) < 1e-10


@pytest.mark.parametrize("kind", RECURRENT)
def test_a_second_derivative_is_refused(kind):
    model = make_recognizer(kind)
    loss = model(make_cubes()).frame_logits.sum()
    with pytest.raises(RuntimeError, match=r"no second derivative.*set `plain` of the model"):
        torch.autograd.grad(loss, model.cells[0].weight_hh, create_graph=True)
    model.plain = True
    torch.autograd.grad(model(make_cubes()).frame_logits.sum(), model.cells[0].weight_hh, create_graph=True)


@pytest.mark.parametrize("kind", RECURRENT)
def test_a_kept_graph_gives_the_same_gradient_again(kind):
    model = make_recognizer(kind, num_layers=3, dropout=0.5).train()
    parameters = [parameter for name, parameter in model.named_parameters()]
    loss = model(make_cubes(), seeded(0)).frame_logits.square().sum()
    first, second = (torch.autograd.grad(loss, parameters, retain_graph=again) for again in (True, False))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    with pytest.raises(RuntimeError, match="second time"):
        torch.autograd.grad(loss, parameters)


@pytest.mark.parametrize("kind", RECURRENT)
def test_two_graphs_at_once(kind):
    """No buffer is shared between calls."""
    model = make_recognizer(kind)
    blocks = [make_cubes(seed=seed) for seed in (0, 1)]
    alone = [torch.autograd.grad(model(cubes).frame_logits.sum(), model.cells[0].weight_ih)[0] for cubes in blocks]
    losses = [model(cubes).frame_logits.sum() for cubes in blocks]
    together = [torch.autograd.grad(loss, model.cells[0].weight_ih)[0] for loss in losses]
    assert all(torch.equal(a, b) for a, b in zip(alone, together, strict=True))


@pytest.mark.parametrize("kind", RECURRENT)
def test_a_step_leaves_nothing_behind(kind):
    """The backward pass frees the buffers, though the output lives on, and no circle waits for the collector."""
    model, cubes = make_recognizer(kind, dropout=0.5).train(), make_cubes()
    seen: list[weakref.ref] = []

    def keep_watch(tensor: Tensor) -> Tensor:
        if tensor is not cubes and tensor.grad_fn is None and not tensor.requires_grad:
            seen.append(weakref.ref(tensor))
        return tensor

    gc.collect()
    gc.disable()
    try:
        with torch.autograd.graph.saved_tensors_hooks(keep_watch, lambda tensor: tensor):
            output = model(cubes, seeded(0))
        assert sum(reference() is not None for reference in seen) > 5
        output.frame_logits.sum().backward()
        assert not any(reference() is not None for reference in seen)
    finally:
        gc.enable()


@pytest.mark.parametrize("kind", RECURRENT)
def test_single_precision(kind):
    model = make_recognizer(
        kind, feature_dim=64, num_locations=16, hidden_dim=48, num_layers=3, num_classes=5, dropout=0.5
    )
    model, cubes = model.float().train(), make_cubes(8, 12, 16, 64).float()
    outputs, gradients = outputs_and_gradients(model, cubes, plain=False)
    expected_outputs, expected_gradients = outputs_and_gradients(model, cubes, plain=True)
    assert relative_error(outputs, expected_outputs) < 1e-5
    assert relative_error(gradients, expected_gradients) < 1e-5


@pytest.mark.parametrize("kind", RECURRENT)
@pytest.mark.parametrize("short_cubes", [False, True])
def test_bf16_is_close(kind, short_cubes):
    """Under autocast, with parameters of torch's own initialisation, as in training."""
    torch.manual_seed(0)
    model = make_recognizer(kind, feature_dim=128, num_locations=16, hidden_dim=64, num_layers=3, num_classes=5)
    for module in model.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
    model, cubes = model.float().train(), make_cubes(16, 12, 16, 128).float().abs()
    _, expected = outputs_and_gradients(model, cubes, plain=True)
    outputs, gradients = outputs_and_gradients(
        model, cubes.bfloat16() if short_cubes else cubes, plain=False, autocast=True
    )
    assert {tensor.dtype for tensor in (*outputs, *gradients)} == {torch.float32}
    assert 1e-5 < relative_error(gradients, expected) < 3e-2
    if kind in ATTENTION:
        assert_close(outputs[1].sum(dim=2), torch.ones(16, 12), atol=1e-6)


@pytest.mark.cuda
@pytest.mark.parametrize("kind", RECURRENT)
@pytest.mark.parametrize("autocast", [False, True])
def test_cuda(kind, autocast):
    torch.manual_seed(0)
    model = make_recognizer(kind, feature_dim=128, num_locations=16, hidden_dim=64, num_layers=3, num_classes=5)
    for module in model.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
    model, cubes = model.float().train().cuda(), make_cubes(16, 12, 16, 128).float().abs().cuda()
    _, expected = outputs_and_gradients(model, cubes, plain=True)
    _, actual = outputs_and_gradients(model, cubes, plain=False, autocast=autocast)
    assert relative_error(actual, expected) < (3e-2 if autocast else 1e-5)
