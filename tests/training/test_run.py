import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from small_store import SPEC, figures_of, made_recipe

from attnrec.errors import AttnrecError, RunError
from attnrec.models.architectures import build_model
from attnrec.specs import ModelConfig
from attnrec.training.records import RunManifest
from attnrec.training.run import Run, create_run, find_runs, newest_run

CPU = torch.device("cpu")
WEIGHTS = {"weight": np.arange(4, dtype=np.float32)}


def manifest(name: str = "attention", **changes) -> RunManifest:
    model = ModelConfig("attention", feature_dim=6, num_locations=4, num_classes=2, hidden_dim=5, num_layers=2)
    plain = RunManifest(
        name=name,
        created_at="2020-01-01T00:00:00+00:00",
        model=model,
        training=made_recipe(),
        features=SPEC,
        feature_scale=0.25,
        classes=["bend", "j\udcffck\n"],
        store={"path": "/s.h5", "fingerprint": "f", "dataset": "tiny", "videos_dir": "/videos"},
        split={"name": "default", "sha256": "s", "leaking_groups": [], "parts": {"train": 1}},
        versions={"attnrec": "0"},
        machine={"device": "cpu"},
    )
    return dataclasses.replace(plain, **changes)


def make_run(folder: Path, *, finished_at: str | None = "2020-01-01T00:00:01+00:00", **changes) -> Run:
    run = create_run(folder, manifest(**changes), WEIGHTS)
    run.save_model(build_model(run.manifest.model))
    run.update(finished_at=finished_at, result={"seconds": 1.0})
    return run


def edit_config(run: Run, **changes) -> None:
    path = run.path / "config.json"
    document = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({name: value for name, value in document.items() if value is not ...}))


def test_a_manifest_survives_the_disk(tmp_path):
    run = create_run(tmp_path, manifest(), WEIGHTS)
    assert Run(run.path).manifest == manifest(name="attention-1")
    assert not run.finished
    run.update(finished_at="2020-01-01T00:00:01+00:00", result={"seconds": 2.0})
    assert Run(run.path).manifest == run.manifest
    assert Run(run.path).finished


def test_a_model_survives_the_disk_bit_for_bit(tmp_path):
    run = create_run(tmp_path, manifest(), WEIGHTS)
    model = build_model(run.manifest.model)
    run.save_model(model)
    loaded = run.load_model(CPU)
    assert not loaded.training
    assert loaded.state_dict().keys() == model.state_dict().keys()
    for name, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value)


def test_saving_again_replaces_the_model_and_leaves_nothing_else(tmp_path):
    run = make_run(tmp_path)
    before = sorted(run.path.iterdir())
    run.save_model(build_model(run.manifest.model))
    assert sorted(run.path.iterdir()) == before


def test_an_evaluation_survives_the_disk(tmp_path):
    run = make_run(tmp_path)
    assert run.read_evaluation("test") is None
    arrays = {"probs": np.eye(2), "path": np.array([b"a\xff", b"b"])}
    figures = figures_of(run.manifest.classes)
    run.write_evaluation("test", figures | {"map": float("nan")}, arrays)
    assert run.read_evaluation("test") == figures
    assert run.read_evaluation("validation") is None
    with np.load(run.path / "predictions-test.npz", allow_pickle=False) as loaded:
        for name, value in arrays.items():
            np.testing.assert_array_equal(loaded[name], value)


def test_runs_of_one_store_share_the_backbone_file(tmp_path):
    first, second = make_run(tmp_path), make_run(tmp_path)
    backbones = [run.path / "backbone.safetensors" for run in (first, second)]
    assert backbones[0].samefile(backbones[1])
    np.testing.assert_array_equal(load_file(backbones[1])["weight"], WEIGHTS["weight"])
    shutil.rmtree(first.path)
    np.testing.assert_array_equal(load_file(backbones[1])["weight"], WEIGHTS["weight"])


def test_runs_of_other_backbones_do_not(tmp_path):
    first = make_run(tmp_path)
    other = make_run(tmp_path, features=dataclasses.replace(SPEC, weights_sha256="1" * 64))
    assert not (first.path / "backbone.safetensors").samefile(other.path / "backbone.safetensors")


def test_without_links_the_backbone_is_copied(tmp_path, monkeypatch):
    def no_links(*_: object) -> None:
        raise OSError

    make_run(tmp_path)
    monkeypatch.setattr("os.link", no_links)
    second = make_run(tmp_path)
    assert (second.path / "backbone.safetensors").stat().st_nlink == 1
    np.testing.assert_array_equal(load_file(second.path / "backbone.safetensors")["weight"], WEIGHTS["weight"])


def test_a_moved_run_still_loads(tmp_path):
    run = make_run(tmp_path / "here")
    moved = shutil.move(run.path, tmp_path / "there")
    shutil.rmtree(tmp_path / "here")
    there = Run(moved)
    assert there.name == "there"
    assert there.manifest == run.manifest
    there.load_model(CPU)


def test_the_newest_run_is_the_one_that_finished_last(tmp_path):
    late = make_run(tmp_path, finished_at="2020-01-02T00:00:00+00:00")
    early = make_run(tmp_path, finished_at="2020-01-01T00:00:00+00:00")
    make_run(tmp_path, finished_at=None)
    assert [run.path for run in find_runs(tmp_path)] == [early.path, late.path]
    assert newest_run(tmp_path).path == late.path


def test_the_newest_run_with_attention_passes_baselines_over(tmp_path):
    attentive = make_run(tmp_path)
    baseline = dataclasses.replace(manifest().model, architecture="avg-pool")
    make_run(tmp_path, model=baseline, finished_at="2020-01-03T00:00:00+00:00")
    assert newest_run(tmp_path, with_attention=True).path == attentive.path
    assert newest_run(tmp_path).path != attentive.path


def test_folders_that_are_no_runs_are_passed_over(tmp_path):
    (tmp_path / "notes").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.json").write_text("{")
    assert find_runs(tmp_path) == []
    with pytest.raises(RunError, match="no finished run here; make one with `attnrec train`, or name one by --run"):
        newest_run(tmp_path)
    with pytest.raises(RunError, match="no finished run with attention here"):
        newest_run(tmp_path / "absent", with_attention=True)


def test_what_is_no_run_is_refused(tmp_path):
    with pytest.raises(RunError, match=r"not a run, it has no config\.json; make one with"):
        Run(tmp_path)
    with pytest.raises(RunError, match="not a run"):
        Run(tmp_path / "absent")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot be read"),
        ("\xff", "cannot be read"),
        ("[]", "not a JSON object"),
        ("{}", "not a run of attnrec"),
        ('{"format": "attnrec-run", "version": 1}', "cannot be used"),
    ],
)
def test_a_damaged_config_is_refused(tmp_path, text, message):
    (tmp_path / "config.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(RunError, match=message):
        Run(tmp_path)


def test_another_version_is_refused(tmp_path):
    run = make_run(tmp_path)
    edit_config(run, version=2)
    with pytest.raises(RunError, match="version 2, this attnrec reads 1"):
        Run(run.path)


@pytest.mark.parametrize(("setting", "value"), [("precision", "fp32"), ("add_mean", False)])
def test_a_run_of_before_a_setting_was_there_had_what_there_was(tmp_path, setting, value):
    run = make_run(tmp_path)
    edit_config(run, training={name: value for name, value in vars(run.manifest.training).items() if name != setting})
    assert getattr(Run(run.path).manifest.training, setting) == value


def test_a_run_without_the_frames_of_a_block_is_refused(tmp_path):
    run = make_run(tmp_path)
    edit_config(run, training=vars(run.manifest.training) | {"block_frames": None})
    with pytest.raises(RunError, match="block_frames cannot be None"):
        Run(run.path)


@pytest.mark.parametrize("field", ["classes", "model", "features", "store"])
def test_a_config_without_a_field_is_refused(tmp_path, field):
    run = make_run(tmp_path)
    edit_config(run, **{field: ...})
    with pytest.raises(RunError, match=f"cannot be used: .*{field}"):
        Run(run.path)


def test_weights_that_are_not_there_or_damaged_are_refused(tmp_path):
    run = make_run(tmp_path)
    weights = run.path / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(RunError, match=r"model\.safetensors: cannot be read"):
        run.load_model(CPU)
    weights.unlink()
    with pytest.raises(RunError, match="was the run's training ended early"):
        run.load_model(CPU)


def test_weights_of_another_shape_or_architecture_are_refused(tmp_path):
    run = make_run(tmp_path)
    weights = run.path / "model.safetensors"
    state = load_file(weights)
    name = sorted(state)[0]
    for damaged in (state | {name: state[name][..., :-1].copy()}, {k: v for k, v in state.items() if k != name}):
        save_file(damaged, weights)
        with pytest.raises(RunError, match=r"its weights do not fit config\.json; train again"):
            run.load_model(CPU)


def test_pickles_are_never_loaded(tmp_path):
    run = make_run(tmp_path)
    torch.save(build_model(run.manifest.model).state_dict(), run.path / "model.safetensors")
    with pytest.raises(RunError, match="cannot be read"):
        run.load_model(CPU)


def test_a_backbone_that_is_not_there_is_refused(tmp_path):
    run = make_run(tmp_path)
    (run.path / "backbone.safetensors").unlink()
    with pytest.raises(RunError, match=r"backbone\.safetensors: cannot be read"):
        run.load_trunk()


def test_a_backbone_that_does_not_fit_is_refused(tmp_path):
    run = make_run(tmp_path)
    with pytest.raises(AttnrecError, match=r"not weights of squeezenet1_0: .* is missing; train again"):
        run.load_trunk()


def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "runs").write_text("a file")
    with pytest.raises(RunError, match="cannot be made"):
        create_run(tmp_path / "runs", manifest(), WEIGHTS)
