"""Attention over several layers: against a loop that maps every slice, and what must not change for one layer."""

import paper_equations
import pytest
import torch
from helpers import (
    ATTENTION,
    POOLING,
    assert_close,
    fixed_init,
    loss_gradcheck,
    make_cubes,
    make_recognizer,
    numpy_parameters,
)
from torch import Tensor, nn

from attnrec.models.attention import AttentionLSTM
from attnrec.models.layers import LayerMaps, layer_parts

# L_m and D_m of each layer: wider ones first, the last one widest, and three of them.
LAYERS = [((4, 3), (1, 5)), ((1, 6), (4, 2)), ((9, 2), (4, 5), (1, 4)), ((4, 3), (4, 3))]


def cubes_of(layers, B=2, T=3, *, seed=0) -> Tensor:
    """Cubes of several layers side by side, (B, T, L, D), with zeros up to the channels of the deepest."""
    cubes = torch.zeros(B, T, sum(L for L, _ in layers), max(D for _, D in layers), dtype=torch.float64)
    for m, part in enumerate(layer_parts(cubes, layers)):
        part.copy_(make_cubes(B, T, *layers[m], seed=seed + m))
    return cubes


def recognizer_of(kind, layers, **options):
    sizes = {"num_locations": sum(L for L, _ in layers), "feature_dim": max(D for _, D in layers)}
    return make_recognizer(kind, layers=layers, **sizes, **options)


def maps_of(layers) -> LayerMaps:
    return fixed_init(LayerMaps(layers).double())


@pytest.mark.parametrize("layers", LAYERS)
@pytest.mark.parametrize("add_mean", [False, True])
@pytest.mark.parametrize("form", ATTENTION)
def test_attention_equals_the_equations_on_mapped_slices(form, add_mean, layers):
    model, cubes = recognizer_of(form, layers, add_mean=add_mean), cubes_of(layers)
    frame_logits, attention, _ = model(cubes)
    expected_logits, expected_attention = paper_equations.recognize_batch(
        numpy_parameters(model), cubes.numpy(), form, layers=layers
    )
    assert_close(frame_logits, expected_logits)
    assert_close(attention, expected_attention)


@pytest.mark.parametrize("layers", LAYERS)
@pytest.mark.parametrize("kind", [*POOLING, "softmax"])
def test_baselines_equal_the_equations_on_mapped_slices(kind, layers):
    model, cubes = recognizer_of(kind, layers), cubes_of(layers)
    expected, _ = paper_equations.recognize_batch(numpy_parameters(model), cubes.numpy(), kind, layers=layers)
    assert_close(model(cubes).frame_logits, expected)


def test_given_attention_chooses_among_all_layers():
    layers = LAYERS[2]
    model, cubes = recognizer_of("location", layers), cubes_of(layers)
    given = make_cubes(2, 3, 1, cubes.shape[2], seed=9)[:, :, 0].softmax(dim=-1)
    expected, _ = paper_equations.recognize_batch(
        numpy_parameters(model), cubes.numpy(), "location", given.numpy(), layers=layers
    )
    assert_close(model(cubes, given=given).frame_logits, expected)


def test_the_deeper_content_scorer_equals_the_equations():
    layers = LAYERS[0]
    model, cubes = recognizer_of("content", layers, scorer_layers=3, attention_dim=7), cubes_of(layers)
    logits, attention = paper_equations.recognize_batch(
        numpy_parameters(model), cubes.numpy(), "content", layers=layers
    )
    assert_close(model(cubes).frame_logits, logits)
    assert_close(model(cubes).attention, attention)


@pytest.mark.parametrize("kind", [*ATTENTION, *POOLING])
def test_gradients(kind):
    layers = ((2, 3), (2, 2))
    model = recognizer_of(kind, layers, num_classes=2, hidden_dim=2, num_layers=1)
    assert loss_gradcheck(model, cubes_of(layers), torch.tensor([0, 1]), attention_penalty=0.7)


@pytest.mark.parametrize("kind", ["location", "content", *POOLING, "softmax"])  # saliency reads the zeros, as zeros
def test_what_fills_up_the_channels_is_never_read(kind):
    layers = LAYERS[2]
    model, cubes = recognizer_of(kind, layers), cubes_of(layers)
    spoilt = torch.full_like(cubes, torch.nan)
    for to, part in zip(layer_parts(spoilt, layers), layer_parts(cubes, layers), strict=True):
        to.copy_(part)
    assert_close(model(spoilt).frame_logits, model(cubes).frame_logits, atol=0)


@pytest.mark.parametrize("form", ["location", "content"])
@pytest.mark.parametrize("add_mean", [False, True])
def test_halves_of_one_cube_under_identity_are_the_one_layer(form, add_mean):
    one, cubes = make_recognizer(form, num_locations=6, add_mean=add_mean), make_cubes(L=6)
    halves = recognizer_of(form, ((2, 4), (4, 4)), add_mean=add_mean)
    missing, unexpected = halves.load_state_dict(one.state_dict(), strict=False)
    assert (missing, unexpected) == (["maps.maps.0.weight", "maps.maps.0.bias"], [])
    assert not torch.allclose(halves(cubes).frame_logits, one(cubes).frame_logits, atol=1e-3)
    with torch.no_grad():
        halves.maps.maps[0].weight.copy_(torch.eye(4))
        halves.maps.maps[0].bias.zero_()
    assert_close(halves(cubes).frame_logits, one(cubes).frame_logits, atol=1e-12)
    assert_close(halves(cubes).attention, one(cubes).attention, atol=1e-12)


@pytest.mark.parametrize("layers", LAYERS)
def test_sums_may_be_mapped_as_a_whole(layers):
    maps, cubes = maps_of(layers), cubes_of(layers)
    mapped = maps.mapped(cubes)
    assert_close(mapped, paper_equations_mapped(maps, cubes))
    flat, L = cubes.flatten(0, 1), cubes.shape[2]
    weights = make_cubes(len(flat), 1, 2, L, seed=5)[:, 0]  # not of sum one: biases count by the sum of their weights
    assert_close(maps.weighted(weights, flat), torch.bmm(weights, mapped.flatten(0, 1)))
    assert_close(maps.means(cubes, torch.float64), mapped.mean(dim=2))
    projection = fixed_init(nn.Linear(maps.feature_dim, 3, bias=False).double())
    assert_close(maps.projected(projection, cubes), projection(mapped))


def paper_equations_mapped(maps: LayerMaps, cubes: Tensor) -> Tensor:
    parameters = {f"maps.{name}": value for name, value in numpy_parameters(maps).items()}
    return torch.stack([torch.as_tensor(paper_equations.mapped(parameters, X, maps.layers)) for X in cubes.numpy()])


def test_short_cubes_are_summed_in_the_precision_of_the_maps():
    layers = ((49, 3), (9, 5))
    maps, cubes = maps_of(layers).float(), cubes_of(layers).float().abs()
    for dtype in (torch.bfloat16, torch.float16):
        means = maps.means(cubes.to(dtype), torch.float32)
        assert means.dtype == torch.float32
        assert (means - maps.means(cubes, torch.float32)).abs().max() < 0.01


def test_one_layer_has_the_parameters_it_always_had():
    """Names, order, and the values that a seed gives: an old run loads, and trains again to the same weights."""
    torch.manual_seed(0)
    model = AttentionLSTM(feature_dim=4, num_classes=3, hidden_dim=6, num_layers=1, num_locations=5)
    torch.manual_seed(0)
    scorer, first, second = nn.Linear(6, 5, bias=False), nn.Linear(4, 6), nn.Linear(6, 6)
    parameters = list(model.named_parameters())
    assert [name for name, _ in parameters[:5]] == [
        "location_scorer.weight",
        "init_hidden.0.0.weight",
        "init_hidden.0.0.bias",
        "init_hidden.0.2.weight",
        "init_hidden.0.2.bias",
    ]
    values = [scorer.weight, first.weight, first.bias, second.weight, second.bias]
    for (_, actual), expected in zip(parameters[:5], values, strict=True):
        assert torch.equal(actual, expected)
