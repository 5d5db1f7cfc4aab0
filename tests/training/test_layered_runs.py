"""Trainings on two layers: what they learn and keep, how they go on, and runs whose layers do not fit."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from small_store import quick

from attnrec.errors import ConfigError, FeatureStoreError, RunError
from attnrec.evaluation.evaluate import evaluate
from attnrec.features.store import FeatureStore
from attnrec.runtime import Progress
from attnrec.training.plan import prepare
from attnrec.training.run import Run
from attnrec.training.train import resume, train

BOTH = "finer+features"
MODELS = [
    {"attention": "location"},
    {"attention": "content", "add_mean": True},
    {"attention": "saliency", "add_mean": True},
    {"model": "avg-max-pool"},
    {"model": "softmax"},
]


@pytest.fixture(scope="module")
def layered(layered_store, tmp_path_factory) -> Path:
    """A run that has learnt both layers."""
    config = quick(layer=BOTH, epochs=12)
    return Path(train(layered_store, config, runs_dir=tmp_path_factory.mktemp("runs")).run)


@pytest.mark.parametrize("changes", MODELS)
def test_every_model_learns_from_both_layers(layered_store, tmp_path, changes):
    run = train(layered_store, quick(layer=BOTH, epochs=12, **changes), runs_dir=tmp_path).run
    assert evaluate(run).accuracy > 0.9


class _KilledError(BaseException):
    """Stands for the end of the process: nothing in the program catches it."""


@pytest.mark.parametrize("changes", MODELS)
def test_a_killed_training_goes_on_to_the_same_weights(layered_store, tmp_path, changes):
    def kill(event: Progress) -> None:
        if event.done == 8:
            raise _KilledError

    config = quick(layer=BOTH, save_every=0.0, **changes)
    whole = Run(train(layered_store, config, runs_dir=tmp_path / "whole").run)
    with pytest.raises(_KilledError):
        train(layered_store, config, runs_dir=tmp_path / "killed", on_progress=kill)
    (killed,) = (tmp_path / "killed").iterdir()
    resume(killed)
    states = [load_file(run / "model.safetensors") for run in (whole.path, killed)]
    assert states[0].keys() == states[1].keys()
    for name, value in states[0].items():
        np.testing.assert_array_equal(value, states[1][name])
    assert Run(killed).manifest.feature_scales == whole.manifest.feature_scales


@pytest.mark.parametrize("preset", ["auto", "paper"])
def test_each_layer_is_scaled_by_its_own_root_mean_square(layered_store, preset):
    plan = prepare(layered_store, quick(layer=BOTH, preset=preset)).plan
    finer, coarse = plan.feature_scales
    assert finer == pytest.approx(coarse / 10, rel=0.2)  # its features are ten times as large
    features = FeatureStore(layered_store, BOTH).layer_features()
    for scale, layer in zip(plan.feature_scales, features, strict=True):
        assert np.square(scale * layer.astype(float)).mean() == pytest.approx(1, rel=0.1)


def test_a_run_reads_back_as_it_was_written(layered):
    manifest = Run(layered).manifest
    document = json.loads((layered / "config.json").read_text())
    assert document["features"]["joined"] == [["finer", 3, 4], ["features", 2, 6]]
    assert manifest.features.joined == (("finer", 3, 4), ("features", 2, 6))
    assert document["model"]["layers"] == [[9, 4], [4, 6]]
    assert manifest.model.layers == ((9, 4), (4, 6))
    assert manifest.feature_scales == tuple(document["feature_scale"])
    assert manifest.training.layer == BOTH


def test_a_store_without_one_of_the_layers_is_refused(layered, tiny_store):
    with pytest.raises((FeatureStoreError, RunError), match="no layer 'finer'"):
        evaluate(layered, tiny_store)


@pytest.mark.parametrize(
    ("outer", "inner", "value", "message"),
    [
        ("model", "layers", [], "the model is of other layers than the features"),
        ("model", "layers", [[4, 6], [9, 4]], "the model is of other layers than the features"),
        ("model", "layers", [[9, 4], [5, 6]], "layers of other sizes than all of them together"),
        ("model", "layers", [[14, 4], [-1, 6]], "layers of other sizes than all of them together"),
        ("model", "layers", [[9, 4, 1], [4, 6]], "layers cannot be"),
        ("model", "layers", [[9, "4"], [4, 6]], "layers cannot be '4'"),
        ("features", "joined", [], "the model is of other sizes"),
        ("features", "joined", [["finer", 3, 4]], "joined layers do not give the features"),
        ("features", "joined", [["finer", 3, 4], ["features", 10**9, 6]], "joined layers do not give the features"),
        ("features", "joined", [["finer", -3, 4], ["features", 2, 6]], "joined layers do not give the features"),
        ("features", "joined", [["other", 3, 4], ["features", 2, 6]], "joined layers do not give the features"),
        ("features", "joined", "finer", "joined cannot be 'finer'"),
        ("features", "layer", "features", "joined layers do not give the features"),
        ("features", "grid_size", 2, "joined layers do not give the features"),
        ("features", "weights_sha256", "0" * 64, "joined layers do not give the features"),
        ("feature_scale", None, 1.0, "feature_scale must be over 0 for each layer"),
        ("feature_scale", None, [1.0, 0.0], "feature_scale must be over 0 for each layer"),
        ("feature_scale", None, [1.0, 1.0, 1.0], "feature_scale must be over 0 for each layer"),
        ("feature_scale", None, [], "feature_scale must be over 0 for each layer"),
        ("feature_scale", None, [1.0, "1"], "feature_scale cannot be"),
    ],
)
def test_layers_that_do_not_fit_are_named_in_a_line(layered, tmp_path, outer, inner, value, message):
    run = Path(shutil.copytree(layered, tmp_path / "run"))
    document = json.loads((run / "config.json").read_text())
    document[outer] = value if inner is None else document[outer] | {inner: value}
    (run / "config.json").write_text(json.dumps(document))
    with pytest.raises(RunError, match=message) as caught:
        Run(run)
    assert len(str(caught.value).splitlines()) == 1
    assert str(caught.value).startswith(f"{run}/config.json: cannot be ")


def test_a_layer_that_is_named_twice_is_refused(layered_store, tmp_path):
    with pytest.raises((ConfigError, FeatureStoreError), match=r"layers must differ, got finer\+finer"):
        train(layered_store, quick(layer="finer,finer"), runs_dir=tmp_path)
    assert not list(tmp_path.iterdir())
