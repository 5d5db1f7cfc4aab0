import paper_equations
import pytest
import torch
from helpers import (
    POOLING,
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

from attnrec.models.baselines import PooledLSTM
from attnrec.models.recurrence import dropout_mask, layer_input_masks, lstm_cells

BASELINES = (*POOLING, "softmax")

# B, T, K, D, H, layers, C
SIZES = [(1, 1, 1, 1, 1, 1, 2), (2, 3, 2, 5, 4, 1, 3), (3, 4, 3, 2, 7, 3, 4), (1, 6, 7, 3, 5, 2, 2)]


@pytest.mark.parametrize("kind", BASELINES)
@pytest.mark.parametrize(("B", "T", "K", "D", "H", "layers", "C"), SIZES)
def test_equals_the_paper_equations(kind, B, T, K, D, H, layers, C):
    model = make_recognizer(
        kind, feature_dim=D, num_locations=K * K, num_classes=C, hidden_dim=H, num_layers=layers, dropout=0.5
    )
    cubes = make_cubes(B, T, K * K, D)
    frame_logits, attention = model(cubes)[:2]
    expected, _ = paper_equations.recognize_batch(numpy_parameters(model), cubes.numpy(), kind)
    assert_close(frame_logits, expected)
    assert attention is None


@pytest.mark.parametrize("kind", BASELINES)
def test_only_softmax_regression_knows_where_things_are(kind):
    model, cubes = make_recognizer(kind), make_cubes()
    before, after = model(cubes).frame_logits, model(cubes[:, :, [3, 0, 4, 1, 2]]).frame_logits
    assert torch.allclose(before, after, atol=1e-12) == (kind != "softmax")


def test_softmax_regression_treats_each_step_by_itself():
    model, cubes = make_recognizer("softmax"), make_cubes(T=3)
    order = [2, 0, 1]
    assert_close(model(cubes[:, order]).frame_logits, model(cubes).frame_logits[:, order], atol=1e-12)


@pytest.mark.parametrize("kind", BASELINES)
def test_gradients(kind):
    model = make_recognizer(kind, feature_dim=2, num_locations=3, num_classes=2, hidden_dim=2, num_layers=2)
    assert loss_gradcheck(model, make_cubes(2, 3, 3, 2), torch.tensor([0, 1]), attention_penalty=0.7)


@pytest.mark.parametrize(("kind", "toy"), [("avg", toy_what), ("max", toy_what), ("softmax", toy_where)])
def test_overfits_a_separable_set(kind, toy):
    assert accuracy_after_fitting(kind, *toy()) == 1


@pytest.mark.parametrize("pooling", POOLING)
def test_pooling_cannot_tell_where(pooling):
    assert accuracy_after_fitting(pooling, *toy_where(), steps=20) < 1 / 2


@pytest.mark.parametrize("pooling", POOLING)
def test_dropout_is_a_function_of_the_generator(pooling):
    model, cubes = make_recognizer(pooling, dropout=0.5).train(), make_cubes()
    first, again, other = (model(cubes, seeded(seed)).frame_logits for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.allclose(first, other, atol=1e-3)


@pytest.mark.parametrize("pooling", POOLING)
def test_evaluation_ignores_dropout(pooling):
    cubes = make_cubes()
    dropping, plain = (make_recognizer(pooling, dropout=dropout) for dropout in (0.5, 0.0))
    assert torch.equal(dropping(cubes).frame_logits, plain(cubes).frame_logits)
    assert not torch.allclose(dropping.train()(cubes, seeded(0)).frame_logits, plain(cubes).frame_logits, atol=1e-3)


def test_softmax_regression_has_no_dropout():
    model, cubes = make_recognizer("softmax"), make_cubes()
    assert torch.equal(model(cubes).frame_logits, model.train()(cubes, seeded(0)).frame_logits)


@pytest.mark.parametrize("pooling", ["avg", "max"])
def test_each_step_and_block_has_its_own_mask(pooling):
    model = make_recognizer(pooling, feature_dim=40, num_locations=2, dropout=0.5)
    dropped = dropped_channels(model, make_cubes(2, 3, 2, 40)).flatten(0, 1)  # (B * T, D)
    assert len({tuple(row.tolist()) for row in dropped}) == 6
    assert 0.35 < dropped.double().mean() < 0.65


def test_dropout_mask_keeps_the_mean():
    mask = dropout_mask((50, 400), 0.25, torch.zeros(1, dtype=torch.float64), seeded(0))
    assert mask.dtype == torch.float64
    assert_close(mask.unique(), torch.tensor([0, 4 / 3], dtype=torch.float64), atol=1e-15)
    assert mask.mean() == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("pooling", ["avg", "max"])
def test_equals_the_equations_with_one_layer_for_the_first_state(pooling):
    model, cubes = make_recognizer(pooling, init_layers=1), make_cubes()
    assert [len(mlp) for mlp in model.init_hidden] == [2, 2]
    expected, _ = paper_equations.recognize_batch(numpy_parameters(model), cubes.numpy(), pooling)
    assert_close(model(cubes).frame_logits, expected)


def test_masks_fit_the_input_of_each_layer():
    cells = lstm_cells(4, 6, 3)
    masks = layer_input_masks(cells, 5, 0.5, torch.zeros(2, 4), seeded(0))
    assert [tuple(mask.shape) for mask in masks] == [(5, 2, 4), (5, 2, 6), (5, 2, 6)]
    inner = [tuple(step.flatten().tolist()) for mask in masks[1:] for step in mask]
    assert len(set(inner)) == 10


def test_unknown_pooling():
    with pytest.raises(ValueError, match="pooling must be 'avg', 'max' or 'avg-max', got 'min'"):
        PooledLSTM("min", feature_dim=2, num_classes=2)
