import pytest
import torch
from helpers import assert_close, fixed_init, make_cubes, make_recognizer, relative_error, seeded, step_results
from torch import nn

from attnrec.models import attention
from attnrec.models.late import LateCell
from attnrec.models.recurrence import LSTMState, lstm_cells, stack_step


def loop(cells, inputs, state):
    for x in inputs:
        state = stack_step(cells, x, state, None)
    return torch.cat([*state.hidden, *state.cell])


@pytest.mark.parametrize(("B", "T", "W", "H"), [(1, 1, 1, 1), (3, 4, 5, 6), (16, 30, 64, 48)])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-13), (torch.float32, 2e-6)])
def test_values_and_gradients_are_those_of_torchs_cells(B, T, W, H, dtype, tolerance):
    cells = fixed_init(lstm_cells(W, H, 2).to(dtype), gain=1.0)
    leaves = [torch.randn(shape, generator=seeded(2), dtype=dtype) for shape in [(T, B, W)] + [(B, H)] * 4]
    leaves = [leaf.requires_grad_() for leaf in leaves]
    state = LSTMState(leaves[1:3], leaves[3:])
    results = []
    for each in ([LateCell(cell) for cell in cells], cells):
        end = loop(each, leaves[0], state)
        weights = torch.linspace(-1, 1, end.numel(), dtype=dtype).view_as(end)
        results.append([end, *torch.autograd.grad((end * weights).sum(), [*leaves, *cells.parameters()])])
    for actual, expected in zip(*results, strict=True):
        assert (actual.shape, actual.dtype) == (expected.shape, expected.dtype)
        assert_close(actual, expected, atol=tolerance * max(1.0, expected.abs().max().item()))


def test_a_gradient_that_was_taken_of_a_part_before_is_not_added():
    cells = fixed_init(lstm_cells(3, 4, 1).double())
    inputs, state = torch.randn(5, 2, 3, dtype=torch.float64), LSTMState(*([torch.zeros(2, 4).double()],) * 2)
    inputs.requires_grad_()
    end = loop([LateCell(cell) for cell in cells], inputs, state).sum()
    torch.autograd.grad(end, inputs, retain_graph=True)  # no weight's
    torch.autograd.grad(end, list(cells.parameters()), retain_graph=True)
    actual = torch.autograd.grad(end, list(cells.parameters()))
    expected = torch.autograd.grad(loop(cells, inputs, state).sum(), list(cells.parameters()))
    assert all(torch.allclose(a, b, atol=1e-13) for a, b in zip(actual, expected, strict=True))


def test_weights_that_are_not_trained_get_no_gradient():
    cells = lstm_cells(3, 4, 1).requires_grad_(False)
    inputs, state = torch.randn(5, 2, 3, requires_grad=True), LSTMState(*([torch.zeros(2, 4)],) * 2)
    loop([LateCell(cell) for cell in cells], inputs, state).sum().backward()
    assert inputs.grad is not None
    assert all(parameter.grad is None for parameter in cells.parameters())


@pytest.mark.parametrize("kind", ["location", "content"])
def test_under_autocast_the_gradient_is_nearer_to_full_precision_than_torchs(kind, monkeypatch):
    torch.manual_seed(0)
    model = make_recognizer(kind, feature_dim=128, num_locations=16, hidden_dim=64, num_layers=3, num_classes=5)
    for module in model.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
    model, cubes = model.float().train(), make_cubes(16, 12, 16, 128).float().abs()
    _, expected = step_results(model, cubes)
    _, late = step_results(model, cubes, autocast=True)
    monkeypatch.setattr(attention, "LateCell", lambda cell: cell)
    _, plain = step_results(model, cubes, autocast=True)
    assert isinstance(model.cells[0], nn.LSTMCell)
    assert relative_error(late, expected) < 0.7 * relative_error(plain, expected)
