import pytest
import torch
from helpers import make_cubes

from attnrec.errors import ConfigError
from attnrec.models.architectures import ARCHITECTURES, build_model
from attnrec.models.attention import AttentionLSTM
from attnrec.models.baselines import PooledLSTM, SoftmaxRegression
from attnrec.specs import ModelConfig

SIZES = {"feature_dim": 4, "num_locations": 5, "num_classes": 3}


def small(architecture: str, **options: object) -> ModelConfig:
    return ModelConfig(architecture=architecture, **SIZES, **{"hidden_dim": 6, "num_layers": 2, **options})


def test_the_recognisers():
    types = {name: type(build_model(small(name))) for name in ARCHITECTURES}
    assert types == {
        "attention": AttentionLSTM,
        "avg-pool": PooledLSTM,
        "max-pool": PooledLSTM,
        "avg-max-pool": PooledLSTM,
        "softmax": SoftmaxRegression,
    }


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_maps_cubes_to_an_output(architecture):
    frame_logits, attention = build_model(small(architecture))(make_cubes(2, 3, 5, 4).float())[:2]
    assert frame_logits.shape == (2, 3, 3)
    assert (attention is None) == (architecture != "attention")
    assert attention is None or attention.shape == (2, 3, 5)


@pytest.mark.parametrize("architecture", ["attention", "avg-pool", "max-pool"])
def test_passes_the_sizes(architecture):
    model = build_model(small(architecture, dropout=0.25))
    assert [cell.weight_ih.shape for cell in model.cells] == [(24, 4), (24, 6)]
    assert [len(mlps) for mlps in (model.init_hidden, model.init_cell)] == [2, 2]
    assert model.init_hidden[1][0].weight.shape == (6, 4)
    assert model.head.hidden.weight.shape == (6, 6)
    assert model.head.logits.weight.shape == (3, 6)
    assert (model.dropout, model.head.dropout) == (0.25, 0.25)


def test_passes_the_attention_form():
    location = build_model(small("attention", attention="location")).state_dict()
    content = build_model(small("attention", attention="content")).state_dict()
    assert location["location_scorer.weight"].shape == (5, 6)
    assert "location_scorer.bias" not in location
    assert content["content_scorer.from_feature.weight"].shape == (6, 4)
    assert location.keys() & content.keys() == build_model(small("avg-pool")).state_dict().keys()


def test_passes_the_pooling():
    cubes = make_cubes(2, 3, 5, 4).float()
    average, largest = build_model(small("avg-pool")).eval(), build_model(small("max-pool")).eval()
    largest.load_state_dict(average.state_dict())
    assert (average.pooling, largest.pooling) == ("avg", "max")
    assert not torch.equal(average(cubes).frame_logits, largest(cubes).frame_logits)


def test_passes_the_cube_to_softmax_regression():
    assert build_model(small("softmax")).logits.weight.shape == (3, 20)


def test_fresh_parameters_follow_the_seed():
    def build(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return build_model(small("attention")).location_scorer.weight

    assert torch.equal(build(0), build(0))
    assert not torch.equal(build(0), build(1))


def test_an_unknown_architecture_is_named():
    with pytest.raises(ConfigError, match=r"architecture must be one of attention, .*, got 'lstm'"):
        build_model(small("lstm"))
