import dataclasses
import json
import math
import pydoc

import pytest
from small_store import SPEC

from attnrec.checks import config_from_dict
from attnrec.errors import AttnrecError, ConfigError
from attnrec.settings import ExtractConfig, GridConfig, PictureConfig, TrainConfig, settings_of
from attnrec.specs import FeatureSpec, ModelConfig


@pytest.mark.parametrize(
    "config", [TrainConfig(fps=6.0, hidden_dim=3, model="max-pool"), SPEC, ModelConfig("softmax", 1, 2, 3)]
)
def test_a_config_survives_json(config):
    assert config_from_dict(type(config), json.loads(json.dumps(dataclasses.asdict(config)))) == config


def test_an_unknown_field_is_refused():
    values = dataclasses.asdict(SPEC) | {"colour": 1}
    with pytest.raises(ConfigError, match="FeatureSpec: unknown field 'colour'; was it made by a newer attnrec"):
        config_from_dict(FeatureSpec, values)


def test_a_missing_field_is_refused():
    values = dataclasses.asdict(SPEC)
    del values["layer"]
    with pytest.raises(ConfigError, match=r"FeatureSpec: .*layer"):
        config_from_dict(FeatureSpec, values)


@pytest.mark.parametrize(
    "name",
    ["fps", "block_frames", "block_stride", "hidden_dim", "num_layers", "batch_size", "epochs", "learning_rate"],
)
@pytest.mark.parametrize("value", [0, -1, math.nan, math.inf])
def test_what_must_be_positive_is(name, value):
    with pytest.raises(ConfigError, match=f"{name} must be (over 0 and at most|from 1 to) .*, got {value}"):
        TrainConfig(**{name: value})


@pytest.mark.parametrize("name", ["attention_penalty", "weight_decay"])
@pytest.mark.parametrize("value", [-0.1, math.nan, math.inf])
def test_what_must_not_be_negative_is_not(name, value):
    with pytest.raises(ConfigError, match=f"{name} must be from 0 to"):
        TrainConfig(**{name: value})
    assert getattr(TrainConfig(**{name: 0.0}), name) == 0.0


@pytest.mark.parametrize(
    ("name", "value", "bound"),
    [
        ("learning_rate", 1e38, "100"),
        ("num_layers", 10_000, "32"),
        ("block_frames", 1_000_000, "10000"),
        ("attention_dim", 1_000_000, "16384"),
        ("hidden_dim", 10_000_000, "16384"),
        ("batch_size", 10**9, "65536"),
        ("attention_penalty", 1e38, "1000000"),
        ("fps", 1e30, "1000"),
        ("epochs", 10**4000, "1000000"),
    ],
)
def test_what_makes_no_sense_is_refused_with_the_bound(name, value, bound):
    with pytest.raises(ConfigError, match=f"{name} must be .* {bound}, got .{{1,50}}$"):
        TrainConfig(**{name: value})


@pytest.mark.parametrize(
    ("cls", "values", "message"),
    [
        (TrainConfig, {"fps": "6"}, "TrainConfig: fps cannot be '6'"),
        (TrainConfig, {"seed": 1.5}, "TrainConfig: seed cannot be 1.5"),
        (TrainConfig, {"retrain": 1}, "TrainConfig: retrain cannot be 1"),
        (TrainConfig, {"epochs": True}, "TrainConfig: epochs cannot be True"),
        (TrainConfig, {"preset": ["auto"]}, "TrainConfig: preset cannot be a list"),
        (TrainConfig, {"dropout": math.nan}, "TrainConfig: dropout cannot be nan"),
        (TrainConfig, {"split": {}}, "TrainConfig: split cannot be a dict"),
        (ModelConfig, {"architecture": "softmax", "feature_dim": 1, "num_locations": 2, "num_classes": 10**9},
         "num_classes must be from 1 to 100000"),
    ],
)  # fmt: skip
def test_values_from_disk_are_of_their_types_and_within_their_bounds(cls, values, message):
    with pytest.raises(ConfigError, match=message):
        config_from_dict(cls, values)


@pytest.mark.parametrize("value", [-0.1, 1.0, math.nan])
def test_dropout_is_a_probability_below_one(value):
    with pytest.raises(ConfigError, match=r"dropout must be in \[0, 1\)"):
        TrainConfig(dropout=value)


def test_a_bad_config_from_disk_is_refused_too():
    with pytest.raises(AttnrecError, match="fps must be over 0 and at most 1000"):
        config_from_dict(TrainConfig, {"fps": 0})


def test_configs_do_not_change():
    with pytest.raises(dataclasses.FrozenInstanceError):
        TrainConfig().fps = 3.0


def test_the_number_of_locations_is_the_square_of_the_side():
    assert SPEC.num_locations == 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seed": -1}, "seed must be from 0"),
        ({"seed": 2**32}, "seed must be from 0"),
        ({"grid_size": 65}, "grid_size must be from 0 to 64"),
        ({"fps": 0.0}, "fps must be over 0"),
        ({"fps": float("nan")}, "fps must be over 0"),
    ],
)
def test_extraction_settings_out_of_range_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        ExtractConfig(**options)


@pytest.mark.parametrize("config", [ExtractConfig, TrainConfig, GridConfig, PictureConfig])
def test_help_says_what_each_setting_means(config):
    shown = pydoc.plain(pydoc.render_doc(config))
    for name, setting in settings_of(config).items():
        assert f"{name}: {setting.help}" in shown
    assert "Setting(" not in shown.split("Methods defined here")[0]
    assert max(map(len, shown.split("Methods defined here")[0].splitlines())) < 1500
    assert config() == config(**{name: getattr(config(), name) for name in settings_of(config)})
