import math

import paper_equations
import pytest
import torch
import torch.nn.functional as F
from helpers import assert_close, make_cubes, make_recognizer, numpy_parameters

from attnrec.metrics import attention_entropy
from attnrec.models.head import RecognizerOutput, class_probs
from attnrec.models.losses import (
    classification_loss,
    doubly_stochastic_penalty,
    mean_entropy,
    penalty_floor,
    recognition_loss,
)

GAMMA = 0.03
ONE_CLASS = torch.tensor([2, 0, 1])
SEVERAL_CLASSES = torch.tensor([[1, 0, 1], [0, 0, 0], [1, 1, 1]], dtype=torch.float64)


def sum_of_squares(parameters):
    """The last term of Eq. 7 before gamma, written out; the program leaves it to the optimiser."""
    return torch.stack([p.square().sum() for p in parameters]).sum()


def uniform_attention(B: int, T: int, L: int) -> torch.Tensor:
    return torch.full((B, T, L), 1 / L, dtype=torch.float64)


@pytest.mark.parametrize("kind", ["location", "content", "avg", "max", "softmax"])
@pytest.mark.parametrize("targets", [ONE_CLASS, SEVERAL_CLASSES], ids=["one class", "several classes"])
@pytest.mark.parametrize("attention_penalty", [0.0, 1.0, 10.0])
def test_equals_the_paper_equation(kind, targets, attention_penalty):
    model = make_recognizer(kind)
    output = model(make_cubes())
    actual = recognition_loss(output, targets, attention_penalty=attention_penalty)
    actual = actual + GAMMA * sum_of_squares(model.parameters())
    expected = paper_equations.loss(
        numpy_parameters(model),
        output.frame_logits.detach().numpy(),
        None if output.attention is None else output.attention.detach().numpy(),
        targets.numpy(),
        attention_penalty,
        GAMMA,
    )
    assert actual.item() == pytest.approx(expected, rel=0, abs=1e-10)


def test_classification_loss_sums_over_time_and_averages_over_blocks():
    assert classification_loss(torch.zeros(5, 7, 3), torch.zeros(5, dtype=torch.long)).item() == pytest.approx(
        7 * math.log(3)
    )
    frame_logits = make_cubes(3, 4, 1, 3).squeeze(2)
    once = classification_loss(frame_logits, ONE_CLASS)
    assert_close(classification_loss(frame_logits.repeat(1, 2, 1), ONE_CLASS), 2 * once, atol=1e-12)
    assert_close(classification_loss(frame_logits.repeat(2, 1, 1), ONE_CLASS.repeat(2)), once, atol=1e-12)


def test_multilabel_loss_is_the_sum_of_one_loss_for_each_class():
    frame_logits = make_cubes(3, 4, 1, 3).squeeze(2)
    probs = class_probs(frame_logits, multilabel=True)
    by_class = [
        F.binary_cross_entropy(probs[:, t, i], SEVERAL_CLASSES[:, i], reduction="mean")
        for t in range(4)
        for i in range(3)
    ]
    assert_close(classification_loss(frame_logits, SEVERAL_CLASSES), torch.stack(by_class).sum(), atol=1e-12)


@pytest.mark.parametrize("targets", [torch.tensor([1]), torch.tensor([[0.0, 1.0]])], ids=["one class", "several"])
def test_hopeless_logits_give_a_finite_loss(targets):
    frame_logits = torch.tensor([[[500.0, -500.0]]])
    assert classification_loss(frame_logits, targets).item() == pytest.approx(1000)


@pytest.mark.parametrize("multilabel", [False, True])
def test_class_probs(multilabel):
    frame_logits = torch.tensor([[[0.0, math.log(3)]]], dtype=torch.float64)
    expected = [[[0.5, 0.75]]] if multilabel else [[[0.25, 0.75]]]
    assert_close(class_probs(frame_logits, multilabel), torch.tensor(expected, dtype=torch.float64), atol=1e-12)


@pytest.mark.parametrize(
    ("attention", "penalty"),
    [
        ([[[1, 0, 0, 0], [1, 0, 0, 0], [1, 0, 0, 0]]], 7),  # (1 - 3)^2 + 3
        ([[[1, 0], [0, 1]]], 0),  # every location once
        ([[[0.5, 0.5], [1, 0]]], 0.5),  # (1 - 1.5)^2 + (1 - 0.5)^2
        ([[[1, 0], [0, 1]], [[1, 0], [1, 0]]], 1),  # mean of 0 and 2
    ],
)
def test_penalty_by_hand(attention, penalty):
    assert doubly_stochastic_penalty(torch.tensor(attention, dtype=torch.float64)).item() == pytest.approx(penalty)


@pytest.mark.parametrize(
    ("T", "L", "floor"), [(3, 4, 1 / 4), (4, 4, 0), (6, 4, 1), (30, 49, 361 / 49), (60, 49, 121 / 49)]
)
def test_penalty_floor_is_uniform_attention(T, L, floor):
    assert penalty_floor(T, L) == pytest.approx(floor)
    assert doubly_stochastic_penalty(uniform_attention(2, T, L)).item() == pytest.approx(floor)
    for seed in range(5):
        peaked = (3 * make_cubes(2, T, 1, L, seed=seed).squeeze(2)).softmax(dim=-1)
        assert doubly_stochastic_penalty(peaked).item() > floor + 1e-3


@pytest.mark.parametrize(("T", "L"), [(3, 4), (6, 4), (30, 49)])
def test_the_released_code_averages_over_locations(T, L):
    attention = (3 * make_cubes(2, T, 1, L).squeeze(2)).softmax(dim=-1)
    mean, total = (doubly_stochastic_penalty(attention, reduction) for reduction in ("mean", "sum"))
    assert_close(mean, (1 - attention.sum(dim=1)).square().mean(), atol=1e-12)
    assert_close(total, L * mean, atol=1e-12)
    assert penalty_floor(T, L, "mean") == pytest.approx(penalty_floor(T, L) / L)
    output = RecognizerOutput(make_cubes(2, T, 1, 3).squeeze(2), attention)
    theirs = recognition_loss(output, ONE_CLASS[:2], attention_penalty=1, penalty_reduction="mean")
    assert_close(theirs, recognition_loss(output, ONE_CLASS[:2], attention_penalty=1 / L), atol=1e-12)


def test_an_unknown_reduction_of_the_penalty():
    with pytest.raises(ValueError, match="reduction must be 'sum' or 'mean', got 'max'"):
        doubly_stochastic_penalty(uniform_attention(1, 2, 3), "max")
    with pytest.raises(ValueError, match="reduction must be 'sum' or 'mean', got 'max'"):
        penalty_floor(2, 3, "max")


def test_multilabel_loss_equals_the_released_formula():
    """-y log(p) - (1 - y) log(1 - p), summed over classes, time-steps and blocks; ours is its mean over blocks."""
    frame_logits = make_cubes(3, 4, 1, 3).squeeze(2)
    total = 0.0
    for b in range(3):
        for t in range(4):
            for c in range(3):
                p, y = 1 / (1 + math.exp(-frame_logits[b, t, c].item())), SEVERAL_CLASSES[b, c].item()
                total -= y * math.log(p) + (1 - y) * math.log(1 - p)
    assert classification_loss(frame_logits, SEVERAL_CLASSES).item() == pytest.approx(total / 3)


@pytest.mark.parametrize("shape", [(4,), (3, 4), (1, 2, 3, 4)])
def test_penalty_refuses_other_shapes(shape):
    with pytest.raises(ValueError, match=r"attention must be \(B, T, L\), got shape \(") as caught:
        doubly_stochastic_penalty(torch.ones(shape))
    assert str(shape) in str(caught.value)


def test_penalty_has_no_effect_without_attention():
    output = RecognizerOutput(make_cubes(3, 4, 1, 3).squeeze(2), None)
    loss = recognition_loss(output, ONE_CLASS, attention_penalty=5)
    assert torch.equal(loss, classification_loss(output.frame_logits, ONE_CLASS))


def test_sum_of_squares_by_hand():
    assert sum_of_squares([torch.tensor([1.0, -2.0]), torch.tensor([[3.0]])]).item() == 14


def test_gradient_of_weight_decay_is_twice_gamma_theta():
    model = make_recognizer("location")
    (GAMMA * sum_of_squares(model.parameters())).backward()
    for parameter in model.parameters():
        assert_close(parameter.grad, 2 * GAMMA * parameter, atol=1e-15)


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.Adam])
def test_coupled_decay_at_twice_gamma_is_gamma_in_the_loss(optimizer):
    cubes = make_cubes()

    def train(gamma_in_loss: float, weight_decay: float) -> torch.Tensor:
        model = make_recognizer("location").train()
        steps = optimizer(model.parameters(), lr=0.01, weight_decay=weight_decay)
        for _ in range(3):
            steps.zero_grad()
            loss = recognition_loss(model(cubes), ONE_CLASS, attention_penalty=1)
            (loss + gamma_in_loss * sum_of_squares(model.parameters())).backward()
            steps.step()
        return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])

    assert_close(train(0.0, 2 * GAMMA), train(GAMMA, 0.0), atol=1e-9)
    assert not torch.allclose(train(0.0, GAMMA), train(GAMMA, 0.0), atol=1e-6)


@pytest.mark.parametrize(
    "targets",
    [torch.zeros(2, 1), torch.zeros(1, 3), torch.zeros(2), torch.zeros(2, 3, dtype=torch.int64), torch.zeros(3).long()],
)
def test_targets_that_do_not_fit_are_refused(targets):
    with pytest.raises(ValueError, match=r"targets must be integers \(2,\) or floats \(2, 3\)"):
        classification_loss(torch.zeros(2, 4, 3), targets)


def test_entropy_is_that_of_the_figures():
    attention = torch.softmax(3 * torch.randn(4, 5, 9, generator=torch.Generator().manual_seed(0)), dim=-1)
    assert mean_entropy(attention).item() == pytest.approx(attention_entropy(attention.numpy()), rel=1e-5)
    assert mean_entropy(uniform_attention(2, 3, 9)).item() == pytest.approx(1)
    assert mean_entropy(torch.eye(4)[None]).item() == 0
    assert mean_entropy(torch.ones(1, 2, 1)).item() == 0
