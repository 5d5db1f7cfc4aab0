"""Hard attention: where it looks, and how it learns where to look."""

import itertools
import math

import paper_equations
import pytest
import torch
from helpers import ATTENTION, assert_close, make_cubes, make_recognizer, numpy_parameters, seeded
from torch import Tensor, nn

from attnrec.models.hard import KEPT, Looks, choice_loss, drawn_looks, even_losses_to_come, gumbel, losses_to_come
from attnrec.models.head import RecognizerOutput
from attnrec.models.losses import classification_loss, recognition_loss
from attnrec.models.recurrence import BatchShare

T, L = 2, 4
PATHS = list(itertools.product(range(L), repeat=T))
TARGETS = {"one label": torch.tensor([1]), "several": torch.tensor([[1.0, 0.0, 1.0]], dtype=torch.float64)}


def uniforms(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, dtype=torch.float64, generator=seeded(seed))


def leading_to(path: tuple[int, ...]) -> Tensor:
    """Noise (1, T, L) so large at a path's locations that they are chosen whatever the attention."""
    return 1e6 * nn.functional.one_hot(torch.tensor([path]), L).double()


def gradients(model: nn.Module, loss: Tensor) -> list[Tensor]:
    found = torch.autograd.grad(loss, list(model.parameters()), allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for g, p in zip(found, model.parameters(), strict=True)]


def estimate(output: RecognizerOutput, targets: Tensor, usual: Tensor) -> Tensor:
    return classification_loss(output.frame_logits, targets) + choice_loss(
        output, targets, usual, reinforce_weight=1.0, entropy_weight=0.0
    )


@pytest.mark.parametrize("add_mean", [False, True])
@pytest.mark.parametrize("form", ATTENTION)
def test_equals_the_equations_with_one_slice_for_the_glimpse(form, add_mean):
    model, cubes = make_recognizer(form, glimpse="hard", add_mean=add_mean), make_cubes()
    noise = gumbel(uniforms(3, 4, 5))
    output = model(cubes, noise=noise)
    expected_logits, expected_attention = paper_equations.recognize_batch(
        numpy_parameters(model), cubes.numpy(), form, noise=noise.numpy()
    )
    assert_close(output.frame_logits, expected_logits)
    assert_close(output.attention, expected_attention)
    assert torch.equal(output.looked_at, (output.attention.log() + noise).argmax(dim=-1))
    assert not torch.allclose(output.frame_logits, model(cubes).frame_logits, atol=1e-3)


@pytest.mark.parametrize("form", ATTENTION)
def test_evaluation_looks_at_the_most_probable_location(form):
    model, cubes = make_recognizer(form, glimpse="hard", dropout=0.5), make_cubes()
    output = model(cubes)
    assert torch.equal(output.looked_at, output.attention.argmax(dim=-1))
    assert_close(output.frame_logits, model(cubes, noise=torch.zeros(3, 4, 5)).frame_logits, atol=0)
    looked = nn.functional.one_hot(output.looked_at, 5).double()
    assert_close(model(cubes, given=looked).frame_logits, output.frame_logits, atol=1e-12)


@pytest.mark.parametrize("form", ATTENTION)
def test_under_a_given_map_the_glimpse_is_the_expected_one(form):
    hard, soft, cubes = make_recognizer(form, glimpse="hard"), make_recognizer(form), make_cubes()
    uniform = torch.full((3, 4, 5), 0.2, dtype=torch.float64)
    output = hard(cubes, given=uniform)
    assert_close(output.frame_logits, soft(cubes, given=uniform).frame_logits, atol=0)
    assert output.looked_at is None


@pytest.mark.parametrize("form", ATTENTION)
def test_with_one_location_hard_and_soft_are_the_same_model(form):
    cubes, targets = make_cubes(L=1), torch.tensor([0, 1, 2])
    soft, hard = (make_recognizer(form, num_locations=1, glimpse=glimpse).train() for glimpse in ("soft", "hard"))
    usual = torch.zeros(4, dtype=torch.float64)
    one, other = soft(cubes, seeded(0)), hard(cubes, seeded(0))
    assert_close(other.frame_logits, one.frame_logits)
    expected = gradients(soft, classification_loss(one.frame_logits, targets))
    for gradient, same in zip(gradients(hard, estimate(other, targets, usual)), expected, strict=True):
        assert_close(gradient, same)


def share_of(path: tuple[int, ...], output: RecognizerOutput) -> Tensor:
    """Probability of taking a path."""
    return math.prod(output.attention[0, t, cell] for t, cell in enumerate(path))


def expected_loss(model: nn.Module, cubes: Tensor, targets: Tensor) -> Tensor:
    """The loss over all paths of locations, each as often as it is taken."""
    taken = [(path, model(cubes, noise=leading_to(path))) for path in PATHS]
    return sum(share_of(path, output) * classification_loss(output.frame_logits, targets) for path, output in taken)


@pytest.mark.parametrize("targets", TARGETS.values(), ids=TARGETS)
@pytest.mark.parametrize("form", ATTENTION)
def test_the_mean_gradient_is_that_of_the_expected_loss(form, targets):
    """Whatever the baseline; the mean is over all paths as well."""
    model, cubes = make_recognizer(form, num_locations=L, glimpse="hard"), make_cubes(1, T, L)
    usual = torch.tensor([3.0, -1.0], dtype=torch.float64)
    means = [torch.zeros_like(parameter) for parameter in model.parameters()]
    for path in PATHS:
        output = model(cubes, noise=leading_to(path))
        assert output.looked_at.tolist() == [list(path)]
        taken = share_of(path, output).item()
        estimated = gradients(model, estimate(output, targets, usual))
        means = [mean + taken * own for mean, own in zip(means, estimated, strict=True)]
    exact = gradients(model, expected_loss(model, cubes, targets))
    for mean, gradient in zip(means, exact, strict=True):
        assert_close(mean, gradient)
    names = [name for name, _ in model.named_parameters()]
    assert all(exact[k].abs().max() > 1e-4 for k, name in enumerate(names) if "scorer" in name and "weight" in name)


def test_the_mean_gradient_of_samples_is_near_that_of_the_expected_loss():
    model, cubes = make_recognizer("location", num_locations=L, glimpse="hard"), make_cubes(1, T, L)
    weight, targets, number = model.location_scorer.weight, TARGETS["one label"], 4000
    (exact,) = torch.autograd.grad(expected_loss(model, cubes, targets), weight)
    means = []  # of batches that are one block many times over
    for seed in range(10):
        output = model(cubes.expand(number, -1, -1, -1), noise=gumbel(uniforms(number, T, L, seed=seed)))
        loss = estimate(output, targets.expand(number), torch.zeros(T, dtype=torch.float64))
        means += torch.autograd.grad(loss, weight)
    error = torch.stack(means).std(dim=0) / math.sqrt(len(means))
    assert ((torch.stack(means).mean(dim=0) - exact).abs() < 5 * error).all()
    assert error.max() < exact.abs().max() / 10


def test_locations_are_drawn_as_often_as_the_attention_says():
    attention = torch.tensor([0.5, 0.3, 0.2, 0.0], dtype=torch.float64).expand(20_000, L)
    _, chosen = Looks(gumbel(uniforms(20_000, L))).weigh(attention)
    shares = torch.bincount(chosen, minlength=L) / 20_000
    assert shares.tolist() == pytest.approx([0.5, 0.3, 0.2, 0.0], abs=0.015)
    assert shares[3] == 0


@pytest.mark.parametrize("form", ATTENTION)
def test_training_looks_at_one_location_in_half_of_the_blocks(form):
    model, cubes = make_recognizer(form, glimpse="hard").train(), make_cubes(200, 2)
    output = model(cubes, seeded(0))
    expected = (output.looked_at < 0).all(dim=1)
    assert torch.equal(expected, (output.looked_at < 0).any(dim=1))
    assert 0.4 < expected.double().mean() < 0.6
    soft = make_recognizer(form).eval()(cubes).frame_logits
    assert_close(output.frame_logits[expected], soft[expected])
    assert not torch.allclose(output.frame_logits[~expected], soft[~expected], atol=1e-3)


def test_choices_are_a_function_of_the_generator_and_the_same_for_a_share_of_the_batch():
    model, cubes = make_recognizer("location", glimpse="hard", dropout=0.5).train(), make_cubes(6)
    whole, again, other = (model(cubes, seeded(seed)) for seed in (1, 1, 2))
    assert torch.equal(whole.looked_at, again.looked_at)
    assert not torch.equal(whole.looked_at, other.looked_at)
    share = model(cubes[2:5], BatchShare(seeded(1), 6, 2))
    assert torch.equal(share.looked_at, whole.looked_at[2:5])
    assert_close(share.frame_logits, whole.frame_logits[2:5])


def test_blocks_with_the_expected_glimpse_have_no_choice_to_learn_from():
    model, cubes = make_recognizer("location", glimpse="hard").train(), make_cubes()
    looks = drawn_looks(4, 5, cubes[:, 0, 0], seeded(0))
    assert looks.noise.shape == (3, 4, 5)
    output = model(cubes)._replace(looked_at=torch.full((3, 4), -1))
    loss = choice_loss(output, torch.tensor([0, 1, 2]), torch.zeros(4), reinforce_weight=1.0, entropy_weight=0.0)
    assert loss == 0


def test_the_terms_by_hand():
    attention = torch.tensor([[[0.5, 0.5], [0.0, 1.0]]], dtype=torch.float64, requires_grad=True)
    logits = torch.tensor([[[0.0, 0.0], [math.log(3.0), 0.0]]], dtype=torch.float64)
    output, targets = RecognizerOutput(logits, attention, torch.tensor([[0, 1]])), torch.tensor([0])
    to_come = losses_to_come(logits, targets)
    first, second = math.log(2), math.log(4 / 3)
    assert_close(to_come, torch.tensor([[first + second, second]], dtype=torch.float64), atol=1e-12)
    usual = torch.tensor([1.0, 2.0], dtype=torch.float64)
    loss = choice_loss(output, targets, usual, reinforce_weight=3.0, entropy_weight=0.1)
    expected = 3 * (first + second - 1) * math.log(0.5) - 0.1 * math.log(2)
    assert loss.item() == pytest.approx(expected, abs=1e-12)
    (gradient,) = torch.autograd.grad(loss, attention)
    assert bool(gradient.isfinite().all())


def test_the_baseline_begins_where_all_classes_are_alike():
    for targets in (torch.tensor([2]), torch.tensor([[1.0, 0.0, 1.0]])):
        logits = torch.zeros(1, 5, 3)
        even = even_losses_to_come(5, 3, multilabel=targets.ndim == 2)
        torch.testing.assert_close(losses_to_come(logits, targets)[0], even)


def test_errors():
    with pytest.raises(ValueError, match="glimpse must be 'soft' or 'hard', got 'firm'"):
        make_recognizer("location", glimpse="firm")
    with pytest.raises(ValueError, match="the recogniser has no hard attention"):
        choice_loss(
            make_recognizer("location")(make_cubes()),
            torch.tensor([0, 1, 2]),
            torch.zeros(4),
            reinforce_weight=1.0,
            entropy_weight=0.0,
        )


def lit_blocks(generator: torch.Generator, number: int = 32) -> tuple[Tensor, Tensor, Tensor]:
    """Blocks, their classes, and the one cell of each in which its class is the channel that lights up."""
    cubes = 0.1 * torch.randn(number, 3, L, 6, dtype=torch.float64, generator=generator)
    targets, cells = (torch.randint(most, (number,), generator=generator) for most in (3, L))
    cubes[torch.arange(number), :, cells, targets] += 1
    return cubes, targets, cells


def after_learning(reinforce_weight: float) -> tuple[float, float]:
    """Share of right steps, and of looks at the lit cell, of a model that has seen a class by its choices only."""
    model = make_recognizer("content", feature_dim=6, hidden_dim=12, num_layers=1, glimpse="hard").train()
    for mlp in (*model.init_hidden, *model.init_cell):  # else Eq. 6 sees all cells
        nn.init.zeros_(mlp[0].weight)
        mlp.requires_grad_(False)
    optimizer = torch.optim.Adam([each for each in model.parameters() if each.requires_grad], lr=0.02)
    generator, usual = seeded(1), even_losses_to_come(3, 3, multilabel=False)
    for _ in range(300):
        cubes, targets, _ = lit_blocks(generator)
        noise = gumbel(torch.rand(cubes.shape[:3], dtype=torch.float64, generator=generator))
        output = model(cubes, noise=noise)
        added = choice_loss(output, targets, usual, reinforce_weight=reinforce_weight, entropy_weight=0.002)
        optimizer.zero_grad()
        (recognition_loss(output, targets, attention_penalty=0) + added).backward()
        optimizer.step()
        usual = usual.lerp(losses_to_come(output.frame_logits.detach(), targets).mean(dim=0).float(), 1 - KEPT)
    cubes, targets, cells = lit_blocks(seeded(99), 200)
    output = model.eval()(cubes)
    right = output.frame_logits.argmax(dim=-1) == targets.unsqueeze(1)
    return float(right.double().mean()), float((output.looked_at == cells.unsqueeze(1)).double().mean())


def test_learns_to_look_at_the_cell_in_which_the_class_is_written():
    accuracy, looks = after_learning(1.0)
    assert accuracy > 0.95
    assert looks > 0.9
    accuracy, looks = after_learning(0.0)
    assert accuracy < 0.85
    assert looks < 0.5
