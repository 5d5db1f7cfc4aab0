import paper_equations
import pytest
import torch
from helpers import (
    ATTENTION,
    accuracy_after_fitting,
    assert_close,
    dropped_channels,
    loss_gradcheck,
    make_cubes,
    make_recognizer,
    numpy_parameters,
    seeded,
    toy_what,
    toy_where,
)

from attnrec.models.attention import AttentionLSTM

# B, T, K, D, H, layers, C
SIZES = [
    (1, 1, 1, 1, 1, 1, 2),
    (2, 3, 2, 5, 4, 1, 3),
    (3, 4, 3, 2, 7, 2, 4),
    (2, 6, 2, 3, 5, 3, 2),
    (1, 2, 7, 6, 3, 3, 11),
]

# Zeroes every masked unit in practice: about a thousand draws, each kept once in a billion.
DROP_EVERYTHING = 1 - 1e-9


@pytest.mark.parametrize("form", ATTENTION)
@pytest.mark.parametrize(("B", "T", "K", "D", "H", "layers", "C"), SIZES)
def test_equals_the_paper_equations(form, B, T, K, D, H, layers, C):
    model = make_recognizer(
        form, feature_dim=D, num_locations=K * K, num_classes=C, hidden_dim=H, num_layers=layers, dropout=0.5
    )
    cubes = make_cubes(B, T, K * K, D)
    frame_logits, attention = model(cubes)[:2]
    expected_logits, expected_attention = paper_equations.recognize_batch(numpy_parameters(model), cubes.numpy(), form)
    assert_close(frame_logits, expected_logits)
    assert_close(attention, expected_attention)
    assert_close(attention.sum(dim=-1), torch.ones(B, T, dtype=torch.float64))


@pytest.mark.parametrize("init_layers", [1, 2, 3])
@pytest.mark.parametrize("scorer_layers", [1, 3])
def test_equals_the_equations_with_the_released_codes_depths(init_layers, scorer_layers):
    model = make_recognizer(
        "content", attention_dim=7, scorer_layers=scorer_layers, init_layers=init_layers, num_layers=1
    )
    cubes = make_cubes()
    frame_logits, attention = model(cubes)[:2]
    parameters = numpy_parameters(model)
    assert sum("deeper" in name for name in parameters) == 2 * (scorer_layers - 1)
    assert sum(name.startswith("init_hidden.0.") for name in parameters) == 2 * init_layers
    expected_logits, expected_attention = paper_equations.recognize_batch(parameters, cubes.numpy(), "content")
    assert_close(frame_logits, expected_logits)
    assert_close(attention, expected_attention)


def test_without_dropout_on_the_glimpse_the_first_layer_sees_all_of_it():
    sizes = {"feature_dim": 4, "num_locations": 5, "num_classes": 3, "hidden_dim": 6, "num_layers": 1}
    seen = []
    for input_dropout in (None, 0.0):
        model = AttentionLSTM(**sizes, dropout=DROP_EVERYTHING, input_dropout=input_dropout).double().train()
        model.cells[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
        with torch.no_grad():
            model(make_cubes(T=1), seeded(0))
    assert not seen[0].any()
    assert seen[1].all()


def test_attention_dim_sets_the_width_of_the_content_scorer():
    sizes = {"feature_dim": 4, "num_locations": 5, "num_classes": 3, "hidden_dim": 6, "attention": "content"}
    assert AttentionLSTM(**sizes, attention_dim=9).content_scorer.from_feature.weight.shape == (9, 4)
    assert AttentionLSTM(**sizes).content_scorer.from_feature.weight.shape == (6, 4)


def zero_scores(model):
    """Make all locations as good as one another."""
    for name, weight in model.named_parameters():
        if name in ("location_scorer.weight", "saliency_scorer.weight", "content_scorer.score.weight"):
            torch.nn.init.zeros_(weight)


@pytest.mark.parametrize("form", ATTENTION)
def test_zero_scorer_is_the_average_pooled_lstm(form):
    model, pooled = make_recognizer(form), make_recognizer("avg")
    shared = {name: value for name, value in model.state_dict().items() if "scorer" not in name}
    pooled.load_state_dict(shared)
    cubes = make_cubes()
    pooled_logits = pooled(cubes).frame_logits
    assert not torch.allclose(model(cubes).frame_logits, pooled_logits, atol=1e-3)

    zero_scores(model)
    frame_logits, attention = model(cubes)[:2]
    assert_close(attention, torch.full_like(attention, 1 / 5), atol=1e-12)
    assert_close(frame_logits, pooled_logits, atol=1e-12)


def test_permuted_locations_with_permuted_scorer_rows_permute_the_attention():
    model, cubes = make_recognizer("location"), make_cubes()
    before = model(cubes)
    order = torch.tensor([3, 0, 4, 1, 2])
    moved = cubes[:, :, order]
    assert not torch.allclose(model(moved).frame_logits, before.frame_logits, atol=1e-3)

    with torch.no_grad():
        model.location_scorer.weight.copy_(model.location_scorer.weight[order].clone())
    after = model(moved)
    assert_close(after.attention, before.attention[:, :, order], atol=1e-12)
    assert_close(after.frame_logits, before.frame_logits, atol=1e-12)


def test_content_attention_follows_permuted_locations_by_itself():
    model, cubes = make_recognizer("content"), make_cubes()
    before = model(cubes)
    order = torch.tensor([3, 0, 4, 1, 2])
    after = model(cubes[:, :, order])
    assert not torch.allclose(before.attention, before.attention[:, :, order], atol=1e-3)
    assert_close(after.attention, before.attention[:, :, order], atol=1e-12)
    assert_close(after.frame_logits, before.frame_logits, atol=1e-12)


@pytest.mark.parametrize("form", ATTENTION)
@pytest.mark.parametrize("given", [False, True])
def test_the_mean_beside_the_glimpse_equals_the_equations(form, given):
    model, cubes = make_recognizer(form, add_mean=True), make_cubes()
    assert model.cells[0].weight_ih.shape[1] == 2 * 4
    looked = torch.softmax(make_cubes(3, 4, 5, 1).squeeze(-1), dim=-1) if given else None
    frame_logits, attention = model(cubes, given=looked)[:2]
    expected_logits, expected_attention = paper_equations.recognize_batch(
        numpy_parameters(model), cubes.numpy(), form, None if looked is None else looked.numpy()
    )
    assert_close(frame_logits, expected_logits)
    assert_close(attention, expected_attention)


@pytest.mark.parametrize("form", ATTENTION)
def test_under_uniform_attention_the_mean_beside_the_glimpse_is_all_that_there_is(form):
    model, pooled = make_recognizer(form, add_mean=True), make_recognizer("avg")
    state = {name: value for name, value in model.state_dict().items() if "scorer" not in name}
    pooled.load_state_dict(state | {"cells.0.weight_ih": state["cells.0.weight_ih"][:, :4]})
    zero_scores(model)
    assert_close(model(make_cubes()).frame_logits, pooled(make_cubes()).frame_logits, atol=1e-12)


@pytest.mark.parametrize("form", ATTENTION)
def test_looks_before_it_sees(form):
    """l_t comes from h_{t-1}: in the location form the frame at t cannot move it, in the other forms it does."""
    model, cubes = make_recognizer(form), make_cubes(T=5)
    before = model(cubes)
    # Trading two frames leaves their mean, and so the initial state, as it was.
    after = model(cubes[:, [0, 1, 2, 4, 3]])
    assert_close(after.frame_logits[:, :3], before.frame_logits[:, :3], atol=1e-12)
    assert_close(after.attention[:, :3], before.attention[:, :3], atol=1e-12)
    assert torch.allclose(after.attention[:, 3], before.attention[:, 3], atol=1e-12) == (form == "location")
    assert not torch.allclose(after.frame_logits[:, 3], before.frame_logits[:, 3], atol=1e-3)
    assert not torch.allclose(after.attention[:, 4], before.attention[:, 4], atol=1e-3)


@pytest.mark.parametrize("form", ATTENTION)
def test_gradients(form):
    model = make_recognizer(form, feature_dim=2, num_locations=3, num_classes=2, hidden_dim=2, num_layers=2)
    assert loss_gradcheck(model, make_cubes(2, 3, 3, 2), torch.tensor([0, 1]), attention_penalty=0.7)


@pytest.mark.parametrize(
    ("form", "toy"),
    [("location", toy_where), ("location", toy_what), ("content", toy_what), ("saliency", toy_what)],
)
def test_overfits_a_separable_set(form, toy):
    assert accuracy_after_fitting(form, *toy()) == 1


def test_content_attention_cannot_tell_where():
    assert accuracy_after_fitting("content", *toy_where(), steps=20) < 1 / 2


@pytest.mark.parametrize("form", ATTENTION)
def test_dropout_is_a_function_of_the_generator(form):
    model, cubes = make_recognizer(form, dropout=0.5).train(), make_cubes()
    first, again, other = (model(cubes, seeded(seed)) for seed in (1, 1, 2))
    for a, b, c in zip(first[:2], again[:2], other[:2], strict=True):
        assert torch.equal(a, b)
        # The state has no say in saliency.
        assert torch.allclose(a, c, atol=1e-3) == (form == "saliency" and a is first.attention)


@pytest.mark.parametrize("form", ATTENTION)
def test_evaluation_ignores_dropout(form):
    cubes = make_cubes()
    dropping, plain = make_recognizer(form, dropout=0.5), make_recognizer(form, dropout=0.0)
    for a, b in zip(dropping(cubes)[:2], plain(cubes)[:2], strict=True):
        assert torch.equal(a, b)
    assert not torch.allclose(dropping.train()(cubes, seeded(0)).frame_logits, plain(cubes).frame_logits, atol=1e-3)


@pytest.mark.parametrize("form", ["location", "content"])
@pytest.mark.parametrize("layers", [1, 3])
def test_recurrence_and_scorer_carry_no_dropout(form, layers):
    """With everything dropped that can be, the attention is that of cells which take no input, at every step."""
    cubes = make_cubes()
    model = make_recognizer(form, num_layers=layers, dropout=DROP_EVERYTHING)
    intact = model(cubes).attention
    dropped = model.train()(cubes, seeded(0))
    assert_close(dropped.attention[:, 0], intact[:, 0], atol=1e-12)  # from h_0 of Eq. 6
    assert not torch.allclose(dropped.attention[:, -1], intact[:, -1], atol=1e-3)

    for cell in model.cells:
        torch.nn.init.zeros_(cell.weight_ih)
    assert_close(dropped.attention, model.eval()(cubes).attention, atol=1e-12)


@pytest.mark.parametrize("form", ATTENTION)
def test_each_step_and_block_has_its_own_mask(form):
    model = make_recognizer(form, feature_dim=40, num_locations=2, dropout=0.5)
    dropped = dropped_channels(model, make_cubes(2, 3, 2, 40)).flatten(0, 1)  # (B * T, D)
    assert len({tuple(row.tolist()) for row in dropped}) == 6
    assert 0.35 < dropped.double().mean() < 0.65


def test_every_input_of_the_head_carries_dropout():
    model = make_recognizer("location", dropout=DROP_EVERYTHING).train()
    frame_logits = model(make_cubes(), seeded(0)).frame_logits
    assert_close(frame_logits, model.head.logits.bias.expand_as(frame_logits), atol=1e-12)
    # The logits layer drops its own input; that the layer before does too shows once the last one keeps everything.
    hidden = make_cubes(2, 3, 1, 6).squeeze(2).requires_grad_()
    model.head.dropout = 0.5
    (gradient,) = torch.autograd.grad(model.head(hidden, seeded(0)).sum(), hidden)
    dropped = gradient == 0
    assert 0 < dropped.double().mean() < 1
    assert not torch.equal(dropped[:, 0], dropped[:, 1])


def test_unknown_form():
    with pytest.raises(ValueError, match="attention must be 'location', 'content' or 'saliency', got 'hard'"):
        AttentionLSTM(feature_dim=2, num_locations=3, num_classes=2, attention="hard")


@pytest.mark.parametrize("form", ATTENTION)
def test_given_attention_takes_the_place_of_the_scorers(form):
    model, cubes = make_recognizer(form), make_cubes()
    given = torch.rand(3, 4, 5, dtype=torch.float64, generator=seeded(1))
    given /= given.sum(dim=-1, keepdim=True)
    frame_logits, attention = model(cubes, given=given)[:2]
    expected, _ = paper_equations.recognize_batch(numpy_parameters(model), cubes.numpy(), form, given.numpy())
    assert_close(frame_logits, expected)
    assert_close(attention, given, atol=0)
    assert not torch.allclose(frame_logits, model(cubes).frame_logits)


@pytest.mark.parametrize("form", ATTENTION)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_its_own_attention_given_back_changes_nothing(form, dtype):
    model, cubes = make_recognizer(form).to(dtype), make_cubes().to(dtype)
    looked = model(cubes)
    again = model(cubes, given=looked.attention)
    torch.testing.assert_close(again.frame_logits, looked.frame_logits)
    assert torch.equal(again.attention, looked.attention)


@pytest.mark.parametrize("form", ATTENTION)
def test_a_scorer_forgets_and_nothing_else_does(form):
    model = make_recognizer(form, scorer_layers=2) if form == "content" else make_recognizer(form)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    torch.manual_seed(0)
    model.reset_scorer()
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {name for name in before if "scorer" in name} != set()
