import json
import math
import re
import shutil
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from safetensors.numpy import load_file
from small_store import quick, write_store

from attnrec.datasets.splits import TEST, TRAIN, UNUSED, VALIDATION
from attnrec.errors import ConfigError, FeatureStoreError, RunError
from attnrec.evaluation.evaluate import evaluate
from attnrec.features.blocks import sliding_blocks
from attnrec.features.store import FeatureStore
from attnrec.settings import TrainConfig
from attnrec.training.plan import run_name
from attnrec.training.run import Run, find_runs, newest_run
from attnrec.training.train import plan_training, train


def read_training_log(run: Run) -> list[dict]:
    lines = [json.loads(line) for line in (run.path / "training.jsonl").read_text().splitlines()]
    return [line for line in lines if line["kind"] not in ("step", "retrain-step")]


def weights(run) -> dict[str, np.ndarray]:
    return load_file(Path(run) / "model.safetensors")


def assert_same_weights(run, other) -> None:
    one, two = weights(run), weights(other)
    assert one.keys() == two.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], two[name])


def test_a_separable_store_is_learnt(trained):
    run = Run(trained)
    assert run.manifest.result["validation_accuracy"] == 1.0
    assert run.manifest.result["validation_loss"] < 0.1
    epochs = [line for line in read_training_log(run) if line["kind"] == "epoch"]
    assert epochs[-1]["loss"] < epochs[0]["loss"] / 5


@pytest.mark.parametrize("model", ["attention", "avg-pool", "max-pool", "softmax"])
def test_every_model_learns_it(tiny_store, tmp_path, model):
    report = train(tiny_store, quick(model=model, epochs=12, learning_rate=0.02), runs_dir=tmp_path)
    assert report.validation_accuracy == 1.0
    assert evaluate(report.run).accuracy == 1.0


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(tiny_store, tmp_path):
    first, second, other = (train(tiny_store, quick(seed=seed), runs_dir=tmp_path).run for seed in (3, 3, 4))
    assert_same_weights(first, second)
    one, two = weights(first), weights(other)
    assert all((one[name] != two[name]).any() for name in one)
    kept = ("kind", "epoch", "step", "loss", "validation_loss")
    logs = [[{name: line[name] for name in kept} for line in read_training_log(Run(run))] for run in (first, second)]
    assert logs[0] == logs[1]


def test_the_run_directory_is_complete(tiny_store, tmp_path):
    report = train(tiny_store, quick(attention_penalty=0.5), runs_dir=tmp_path)
    path = Path(report.run)
    assert sorted(file.name for file in path.iterdir()) == [
        "backbone.safetensors", "config.json", "model.safetensors", "training.jsonl",
    ]  # fmt: skip
    run, store = Run(path), FeatureStore(tiny_store)
    manifest = run.manifest
    assert run.finished
    assert manifest.training == report.plan.settings
    assert manifest.training.attention_penalty == 0.5
    open_ended = ("layer", "attention_dim", "max_steps", "overfit")
    assert None not in {v for k, v in vars(manifest.training).items() if k not in open_ended}
    assert manifest.classes == store.classes
    assert manifest.features == store.spec
    assert manifest.store["fingerprint"] == store.fingerprint
    assert manifest.split["sha256"] == store.split_sha256("default")
    assert manifest.split["leaking_groups"] == []
    assert manifest.result["best_epoch"] == report.best_epoch
    assert manifest.machine == {"device": "cpu", "threads": 1}
    assert manifest.created_at < manifest.finished_at
    np.testing.assert_array_equal(load_file(path / "backbone.safetensors")["weight"], np.ones(3, np.float32))
    lines = read_training_log(run)
    assert [line["epoch"] for line in lines] == [1, 2]
    assert lines[-1]["step"] == report.updates == report.plan.updates
    assert all(line["penalty_above_floor"] >= 0 for line in lines)


def test_what_the_preset_chose_is_recorded(tiny_store, tmp_path):
    config = TrainConfig(epochs=1, hidden_dim=4, block_frames=4, device="cpu", jobs=1)
    report = train(tiny_store, config, runs_dir=tmp_path)
    recorded = Run(report.run).manifest.training
    assert recorded.batch_size == report.plan.settings.batch_size == 16
    assert recorded.learning_rate == report.plan.settings.learning_rate


def test_the_weights_that_validate_best_are_kept(tmp_path):
    store = write_store(tmp_path / "noise.h5", signal=0.0)  # nothing to learn: validation soon gets worse
    config = quick(epochs=20, learning_rate=0.05, dropout=0.0, preset="paper")
    report = train(store, config, runs_dir=tmp_path / "runs")
    losses = [line["validation_loss"] for line in read_training_log(Run(report.run))]
    assert len(losses) == report.epochs == 20
    assert report.best_epoch == 1 + int(np.argmin(losses)) < 20
    kept = evaluate(report.run, store, part="validation")
    assert kept.log_loss == min(losses) == report.validation_loss
    assert kept.accuracy == report.validation_accuracy


def test_training_ends_early_without_a_better_validation(tmp_path):
    store = write_store(tmp_path / "noise.h5", signal=0.0)
    config = quick(epochs=30, learning_rate=0.05, dropout=0.0, seed=3)  # whose best epoch is an early one
    report = train(store, config, runs_dir=tmp_path / "runs")
    assert report.plan.settings.patience == 10
    assert report.epochs == report.best_epoch + 10 < 30


def test_the_labels_of_test_videos_are_not_read(tiny_store, tmp_path):
    scrambled = tmp_path / "scrambled.h5"
    shutil.copy(tiny_store, scrambled)
    with h5py.File(scrambled, "r+") as file:
        test = file["splits/default"][:] == TEST
        labels = file["videos/label"][:]
        labels[test] = (labels[test] + 1) % 3
        file["videos/label"][:] = labels
    assert 0 < test.sum() < len(test)
    runs = [train(store, quick(), runs_dir=tmp_path / "runs").run for store in (tiny_store, scrambled)]
    assert_same_weights(*runs)
    assert evaluate(runs[0], tiny_store).accuracy != evaluate(runs[1], scrambled).accuracy


def test_the_labels_of_training_videos_are_read(tiny_store, tmp_path):
    scrambled = tmp_path / "scrambled.h5"
    shutil.copy(tiny_store, scrambled)
    with h5py.File(scrambled, "r+") as file:
        file["videos/label"][:] = (file["videos/label"][:] + 1) % 3
    one, two = (weights(train(store, quick(), runs_dir=tmp_path / "runs").run) for store in (tiny_store, scrambled))
    assert any((one[name] != two[name]).any() for name in one)


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({}, "attention"),
        ({"attention_penalty": 1.0, "fps": 6.0}, "attention-lambda1-fps6"),
        ({"attention_penalty": 0.5, "attention": "content"}, "attention-content-lambda0.5"),
        ({"model": "max-pool", "attention_penalty": 0.5, "attention": "content", "seed": 2}, "max-pool-seed2"),
        ({"model": "avg-pool", "split": "cv3-1", "seed": 7}, "avg-pool-splitcv3-1-seed7"),
        ({"preset": "paper", "block_frames": 15}, "attention-frames15-presetpaper"),
        ({"device": "cpu", "jobs": 1}, "attention"),
    ],
)
def test_run_names_say_what_differs_from_the_defaults(changes, name):
    assert run_name(TrainConfig(**changes)) == name


def test_runs_of_one_name_are_numbered(tiny_store, tmp_path):
    runs = [Path(train(tiny_store, quick(epochs=1), runs_dir=tmp_path).run) for _ in range(2)]
    assert runs[0].name.endswith("-1")
    assert runs[1].name == runs[0].name[:-1] + "2"
    assert newest_run(tmp_path).path == runs[1]


def test_the_plan_counts_blocks_and_updates(tiny_store):
    config = quick(fps=5.0, block_stride=2, epochs=3)
    plan = plan_training(tiny_store, config)
    store = FeatureStore(tiny_store)
    per_video = len(sliding_blocks(store.pts_of(0), 5.0, 4, 2))
    assert per_video == 3  # four samples at 5 fps span 0.6 s of 1.15 s: they start at 0, 0.2 and 0.4 s
    codes = store.split("default")
    assert plan.parts == {
        "train": int((codes == TRAIN).sum()), "validation": int((codes == VALIDATION).sum()),
        "test": int((codes == TEST).sum()),
    }  # fmt: skip
    assert sum(plan.parts.values()) == 24
    assert plan.num_train_blocks == per_video * plan.parts["train"]
    assert plan.num_validation_blocks == per_video * plan.parts["validation"]
    assert plan.updates == 3 * math.ceil(plan.num_train_blocks / 8)
    assert plan.missing_classes == []
    assert plan.leaking_groups == []


def test_the_plan_counts_parameters(tiny_store, trained):
    assert plan_training(tiny_store, quick()).num_parameters == sum(value.size for value in weights(trained).values())


def test_a_plan_writes_nothing(tiny_store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plan_training(tiny_store, quick())
    assert list(tmp_path.iterdir()) == []


def test_features_are_brought_to_unit_mean_square_unless_the_preset_is_the_papers(tiny_store):
    store, plan = FeatureStore(tiny_store), plan_training(tiny_store, quick())
    rows = np.isin(np.repeat(np.arange(24), 12), store.split_members("default", "train"))
    scaled = store.features()[rows].astype(np.float64) * plan.feature_scales[0]
    np.testing.assert_allclose(np.square(scaled).mean(), 1, rtol=1e-3)
    assert plan_training(tiny_store, quick(preset="paper")).feature_scales == (1.0,)


@pytest.fixture(scope="module")
def store_of_48_blocks(tmp_path_factory) -> Path:
    """48 training videos of one block each, and as many in the other parts together."""
    codes = ([TRAIN] * 16 + [VALIDATION] * 4 + [TEST] * 4) * 3
    folder = tmp_path_factory.mktemp("blocks")
    return write_store(folder / "features.h5", num_groups=24, num_frames=2, splits={"default": codes})


def test_auto_gives_few_blocks_enough_updates(store_of_48_blocks):
    plan = plan_training(store_of_48_blocks, TrainConfig(device="cpu"))
    assert plan.num_train_blocks == 48
    assert plan.updates >= 300
    assert plan.settings.patience > 0


def test_paper_keeps_the_papers_numbers(store_of_48_blocks):
    plan = plan_training(store_of_48_blocks, TrainConfig(preset="paper", device="cpu"))
    recipe = plan.settings
    assert (recipe.batch_size, recipe.epochs, recipe.hidden_dim, recipe.learning_rate) == (128, 15, 512, 2e-4)
    assert plan.updates == 15
    assert recipe.patience == 0


@pytest.mark.parametrize("preset", ["auto", "paper"])
def test_what_the_user_gives_wins_over_the_preset(store_of_48_blocks, preset):
    given = {"batch_size": 5, "epochs": 7, "hidden_dim": 9, "learning_rate": 0.3}
    plan = plan_training(store_of_48_blocks, TrainConfig(preset=preset, device="cpu", **given))
    assert {name: getattr(plan.settings, name) for name in given} == given
    assert plan.updates == 7 * math.ceil(48 / 5)


def test_a_loss_that_is_no_number_ends_the_training(tiny_store, tmp_path):
    bounds = quick(optimizer="sgd", learning_rate=100.0, weight_decay=100.0, epochs=9)  # each step 2e4 times the last
    with pytest.raises(RunError, match=r"became (inf|nan) at step \d+, batch \d of epoch \d .* lower --learning-rate"):
        train(tiny_store, bounds, runs_dir=tmp_path)
    assert find_runs(tmp_path) == []


def test_without_validation_videos_the_last_epoch_is_kept(tmp_path):
    store = write_store(tmp_path / "s.h5", num_groups=2, splits={"default": [TRAIN, TEST] * 3})
    report = train(store, quick(epochs=4), runs_dir=tmp_path / "runs")
    assert report.plan.settings.patience == 0
    assert (report.best_epoch, report.epochs) == (4, 4)
    assert report.validation_accuracy is None
    one_epoch_less = train(store, quick(epochs=3), runs_dir=tmp_path / "runs")
    assert any((weights(report.run)[name] != value).any() for name, value in weights(one_epoch_less.run).items())


def test_classes_without_a_training_video_are_named(tmp_path):
    store = write_store(tmp_path / "s.h5", num_groups=2, splits={"default": [TRAIN, TEST, TEST, TEST, TRAIN, TRAIN]})
    assert plan_training(store, quick()).missing_classes == ["jack"]


def test_groups_on_both_sides_are_named(tmp_path):
    codes = [TRAIN, TEST, TEST, TEST, TRAIN, UNUSED]
    store = write_store(tmp_path / "s.h5", num_groups=2, splits={"default": codes})
    report = train(store, quick(epochs=1), runs_dir=tmp_path / "runs")
    assert report.plan.leaking_groups == ["g01"]
    assert Run(report.run).manifest.split["leaking_groups"] == ["g01"]
    assert evaluate(report.run).leaking_groups == ["g01"]


def test_a_store_that_cannot_be_trained_on_is_refused(tmp_path):
    one_class = write_store(tmp_path / "one.h5", classes=("bend",))
    with pytest.raises(ConfigError, match="has one class; a recogniser needs two"):
        train(one_class, quick(), runs_dir=tmp_path / "runs")
    no_training = write_store(tmp_path / "none.h5", num_groups=1, splits={"default": [TEST] * 3})
    with pytest.raises(ConfigError, match="split default has no training video"):
        train(no_training, quick(), runs_dir=tmp_path / "runs")
    with pytest.raises(FeatureStoreError, match="no such feature store"):
        train(tmp_path / "absent.h5", quick(), runs_dir=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_an_unknown_split_is_refused_with_the_known_ones(tiny_store, tmp_path):
    with pytest.raises(FeatureStoreError, match="no split 'cv9'; it has cv3-1, cv3-2, cv3-3, default"):
        train(tiny_store, quick(split="cv9"), runs_dir=tmp_path / "runs")


def test_a_device_that_is_not_there_is_refused(tiny_store):
    with pytest.raises(ConfigError, match="--device tpu: unknown"):
        plan_training(tiny_store, quick(device="tpu"))
    with pytest.raises(ConfigError, match="--device cuda:99: this machine has"):
        plan_training(tiny_store, quick(device="cuda:99"))


def test_the_only_store_of_the_folder_is_taken(tiny_store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FeatureStoreError, match="no feature store here"):
        plan_training(None, quick())
    shutil.copy(tiny_store, "b.h5")
    (tmp_path / "a.h5").write_text("not HDF5")
    assert Path(plan_training(None, quick()).store).name == "b.h5"
    shutil.copy(tiny_store, "c.h5")
    with pytest.raises(FeatureStoreError, match=r"several feature stores here, name one of b\.h5, c\.h5"):
        plan_training(None, quick())


def test_dropout_and_batches_follow_the_seed_whatever_was_drawn_before(tiny_store, tmp_path):
    import torch

    first = train(tiny_store, quick(), runs_dir=tmp_path).run
    torch.rand(17)
    np.random.rand(3)
    assert_same_weights(first, train(tiny_store, quick(), runs_dir=tmp_path).run)
    without = train(tiny_store, replace(quick(), dropout=0.0), runs_dir=tmp_path).run
    assert any((weights(first)[name] != value).any() for name, value in weights(without).items())


def test_the_log_is_strict_json(trained):
    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    for line in (trained / "training.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=refuse)


@pytest.fixture(scope="module")
def several(tmp_path_factory) -> Path:
    """A store whose videos have none, one or two of three classes."""
    return write_store(tmp_path_factory.mktemp("several") / "several.h5", multilabel=True, num_groups=16, signal=4.0)


@pytest.mark.parametrize("model", ["attention", "softmax"])
def test_several_labels_are_learnt(several, tmp_path, model):
    report = train(several, quick(model=model, epochs=30, learning_rate=0.02), runs_dir=tmp_path)
    assert report.plan.multilabel
    assert report.validation_accuracy is None
    assert report.validation_map > 0.95
    assert evaluate(report.run).map > 0.95


def test_the_loss_of_several_labels_counts_every_class(several, tmp_path):
    report = train(several, quick(epochs=1, learning_rate=1e-9, dropout=0.0, model="softmax"), runs_dir=tmp_path)
    (line,) = read_training_log(Run(report.run))
    assert line["validation_loss"] == pytest.approx(math.log(2), abs=0.4)  # one question
    assert line["loss"] / (4 * 3) == pytest.approx(line["validation_loss"], abs=0.2)  # T steps of C questions


def test_a_vote_is_refused_for_several_labels(several, tmp_path):
    with pytest.raises(ConfigError, match="vote is for videos of one label each, and these have several; use mean"):
        train(several, quick(reduction="vote"), runs_dir=tmp_path)
    assert plan_training(several, quick(preset="authors-code")).settings.reduction == "mean"
    assert list(tmp_path.iterdir()) == []


def test_retraining_takes_the_validation_videos_until_the_loss_is_reached(tiny_store, tmp_path):
    config = quick(epochs=12, retrain=True)
    report, plain = (train(tiny_store, c, runs_dir=tmp_path) for c in (config, replace(config, retrain=False)))
    again = report.retrained
    lines = read_training_log(Run(report.run))
    first = [line for line in lines if line["kind"] == "epoch"]
    second = [line for line in lines if line["kind"] == "retrain-epoch"]
    assert [line["loss"] for line in first] == [line["loss"] for line in read_training_log(Run(plain.run))]
    assert again.reached
    assert again.target_loss == first[report.best_epoch - 1]["loss"]
    assert again.loss == second[-1]["loss"] <= again.target_loss
    assert all(line["loss"] > again.target_loss for line in second[:-1])
    blocks = report.plan.num_train_blocks + report.plan.num_validation_blocks
    assert (
        second[-1]["step"] - first[-1]["step"] == again.epochs * math.ceil(blocks / 8) == report.updates - plain.updates
    )
    assert plain.retrained is None
    assert report.validation_loss == plain.validation_loss  # of the first training
    assert any((weights(report.run)[name] != value).any() for name, value in weights(plain.run).items())
    assert "-retrain-" in Path(report.run).name
    assert Run(report.run).manifest.result["retrained"]["epochs"] == again.epochs
    assert evaluate(report.run, part="validation").trained_on
    assert not evaluate(report.run).trained_on
    assert not evaluate(plain.run, part="validation").trained_on


def test_retraining_does_not_read_test_labels(tiny_store, tmp_path):
    scrambled = tmp_path / "scrambled.h5"
    shutil.copy(tiny_store, scrambled)
    with h5py.File(scrambled, "r+") as file:
        test = file["splits/default"][:] == TEST
        labels = file["videos/label"][:]
        labels[test] = (labels[test] + 1) % 3
        file["videos/label"][:] = labels
    config = quick(retrain=True)
    assert_same_weights(*(train(store, config, runs_dir=tmp_path / "runs").run for store in (tiny_store, scrambled)))


def test_retraining_gives_up_and_says_so(tiny_store, tmp_path, monkeypatch):
    monkeypatch.setattr("attnrec.training.loop.RETRAIN_EPOCHS", 1 / 12)
    report = train(tiny_store, quick(epochs=12, retrain=True), runs_dir=tmp_path)
    assert (report.retrained.epochs, report.retrained.reached) == (1, False)
    assert report.retrained.loss > report.retrained.target_loss


def test_retraining_needs_validation_videos(tmp_path):
    store = write_store(tmp_path / "s.h5", num_groups=2, splits={"default": [TRAIN, TEST] * 3})
    with pytest.raises(ConfigError, match="split default has no validation video, which --retrain needs"):
        train(store, quick(retrain=True), runs_dir=tmp_path / "runs")


def test_without_a_name_the_stores_own_split_is_taken(tmp_path):
    codes = [TRAIN, VALIDATION, TEST, TRAIN] * 3
    store = write_store(tmp_path / "s.h5", num_groups=4, splits={"hmdb51-2": codes, "hmdb51-1": codes})
    report = train(store, quick(epochs=1), runs_dir=tmp_path / "runs")
    assert report.plan.settings.split == Run(report.run).manifest.split["name"] == "hmdb51-1"
    assert evaluate(report.run).split == "hmdb51-1"
    assert plan_training(store, quick(split="hmdb51-2")).settings.split == "hmdb51-2"


@pytest.mark.parametrize("changes", [
    {"optimizer": "sgd"}, {"decay_per": "batch", "weight_decay": 0.1}, {"penalty_reduction": "mean"},
    {"init_layers": 1}, {"input_dropout": 0.0}, {"block_starts": "by-frame"},
    {"attention": "content", "scorer_layers": 3}, {"attention": "content", "attention_dim": 5},
])  # fmt: skip
def test_every_option_of_the_released_code_changes_the_training(tiny_store, tmp_path, changes):
    config = quick(epochs=1, attention_penalty=0.5, weight_decay=changes.get("weight_decay", 1e-5))
    config = replace(config, attention=changes.get("attention"))
    plain, other = (train(tiny_store, c, runs_dir=tmp_path).run for c in (config, replace(config, **changes)))
    one, two = weights(plain), weights(other)
    assert one.keys() != two.keys() or any(
        one[name].shape != two[name].shape or (one[name] != two[name]).any() for name in one
    )


# Limits, debugging


def test_a_name_of_many_settings_is_one_that_a_file_system_takes(tiny_store, tmp_path):
    config = quick(
        attention="content", scorer_layers=2, attention_dim=8, optimizer="sgd", decay_per="batch", init_layers=1,
        penalty_reduction="mean", input_dropout=0.123456, block_starts="by-frame", reduction="vote", last_steps=2,
        clip=123.5, patience=7, epochs=1, save_every=5.0, weight_decay=0.000123456, attention_penalty=0.123456, seed=7,
        max_steps=1,
    )  # fmt: skip
    run = Run(train(tiny_store, config, runs_dir=tmp_path).run)
    assert 200 <= len(run.name) <= 255
    assert run.name.startswith("attention-content-noaddmean-lambda0.123456-fps10")


def test_max_steps_ends_within_an_epoch_which_is_validated(tiny_store, tmp_path):
    report = train(tiny_store, quick(epochs=5, max_steps=8), runs_dir=tmp_path)
    assert (report.updates, report.plan.updates, report.epochs) == (8, 8, 2)
    lines = read_training_log(Run(report.run))
    assert [line["step"] for line in lines] == [6, 8]
    assert "validation_loss" in lines[-1]
    assert plan_training(tiny_store, quick(epochs=1, max_steps=8)).updates == 6


def test_overfitting_takes_blocks_of_all_classes_and_validates_on_none(tiny_store, tmp_path):
    config = quick(overfit=3, epochs=60, dropout=0.0, learning_rate=0.05)
    report = train(tiny_store, config, runs_dir=tmp_path)
    assert (report.plan.num_train_blocks, report.plan.num_validation_blocks) == (3, 0)
    assert report.plan.missing_classes == []
    assert report.validation_loss is None
    assert (report.best_epoch, report.updates) == (60, 60)
    assert read_training_log(Run(report.run))[-1]["loss"] < 0.1
    assert plan_training(tiny_store, quick(overfit=10_000)).num_train_blocks == 45


@pytest.mark.parametrize("changes", [{"max_steps": 3}, {"overfit": 3}])
def test_retraining_is_of_a_whole_training(changes):
    with pytest.raises(ConfigError, match="leave out --max-steps and --overfit"):
        quick(retrain=True, **changes)


def test_clipping_changes_what_exceeds_it_and_nothing_else(tiny_store, tmp_path):
    config = quick(optimizer="sgd", epochs=1)
    free, loose, tight = (
        train(tiny_store, replace(config, clip=clip), runs_dir=tmp_path).run for clip in (0.0, 1e9, 1e-6)
    )
    assert_same_weights(free, loose)
    start = train(tiny_store, replace(config, clip=1e-6, learning_rate=1e-9), runs_dir=tmp_path).run
    moved = math.sqrt(sum(float(np.square(v - weights(start)[k]).sum()) for k, v in weights(tight).items()))
    norm = math.sqrt(sum(float(np.square(v).sum()) for v in weights(tight).values()))
    assert moved <= 6 * 0.01 * (1e-6 + 2 * config.weight_decay * norm * 1.01)  # the decay is not clipped
    assert any((weights(free)[name] != value).any() for name, value in weights(tight).items())


def test_the_presets_of_others_do_not_clip(tiny_store):
    assert plan_training(tiny_store, TrainConfig(device="cpu")).settings.clip > 0
    for preset in ("paper", "authors-code"):
        assert plan_training(tiny_store, TrainConfig(preset=preset, device="cpu")).settings.clip == 0


def test_patience_can_be_given(tmp_path):
    store = write_store(tmp_path / "noise.h5", signal=0.0)
    config = quick(epochs=30, learning_rate=0.05, dropout=0.0)
    for preset in ("auto", "paper"):
        report = train(store, replace(config, patience=2, preset=preset), runs_dir=tmp_path / "runs")
        assert report.epochs == report.best_epoch + 2 < 30
    assert plan_training(store, replace(config, patience=0)).settings.patience == 0


def test_the_precision_is_recorded_and_changes_the_digits(tiny_store, tmp_path):
    runs = [train(tiny_store, quick(precision=name), runs_dir=tmp_path).run for name in ("fp32", "bf16")]
    assert [Run(run).manifest.training.precision for run in runs] == ["fp32", "bf16"]
    first = [read_training_log(Run(run))[0]["loss"] for run in runs]
    assert first[0] != first[1] == pytest.approx(first[0], rel=0.05)
    assert all(value.dtype == np.float32 for value in weights(runs[1]).values())
    assert plan_training(tiny_store, quick(precision="auto")).settings.precision in ("fp32", "bf16")


def test_the_log_has_what_a_training_is_followed_by(tiny_store, tmp_path):
    run = Path(train(tiny_store, quick(epochs=4, attention_penalty=1.0), runs_dir=tmp_path).run)
    lines = [json.loads(line) for line in (run / "training.jsonl").read_text().splitlines()]
    steps = [line for line in lines if line["kind"] == "step"]
    assert [line["step"] for line in steps] == [10, 20]
    for line in steps:
        assert {"loss", "penalty", "penalty_above_floor", "gradient_norm", "blocks_per_second"} <= line.keys()
        assert 0 < line["attention_entropy"] <= 1
        assert line["eta_seconds"] >= 0
    for line in lines:
        assert line["kind"] in ("step", "epoch")
        assert line["kind"] == "step" or 0 <= line["validation_accuracy"] <= 1


def test_progress_says_how_it_goes(tiny_store, tmp_path):
    events = []
    report = train(tiny_store, quick(epochs=1), runs_dir=tmp_path, on_progress=events.append)
    assert events.pop(0).message == f"run {report.run}"
    assert re.fullmatch(r"loss \d+\.\d{3}, \d+ blocks/s", events[0].detail)
    said = r"epoch 1: loss \d+\.\d{3}, val loss \d+\.\d{3}, val accuracy \d+\.\d %, entropy \d\.\d{3}"
    assert re.fullmatch(said, events[-1].message)
    assert len(events[-1].message) <= 80
    assert [event.done for event in events] == [1, 2, 3, 4, 5, 6, 6]
    assert {event.total for event in events} == {6}


def spoilt(store: Path, folder: Path, video: int) -> Path:
    """A copy of a store in which a feature of a video is NaN."""
    copy = folder / "spoilt.h5"
    shutil.copy(store, copy)
    with h5py.File(copy, "a") as file:
        file["features/features"][int(file["videos/first_frame"][video]) + 1, 0, 0, 0] = np.nan
    return copy


def training_video(store: Path) -> int:
    return int(FeatureStore(store).split_members("default", "train")[3])


@pytest.mark.parametrize("preset", ["auto", "paper"])
def test_features_that_are_no_numbers_are_not_blamed_on_the_learning_rate(tiny_store, tmp_path, preset):
    video = training_video(tiny_store)
    store = spoilt(tiny_store, tmp_path, video)
    name = FeatureStore(store).path_of(video)
    for use in (plan_training, train):
        with pytest.raises(FeatureStoreError, match=f"features of {name} are NaN or infinite; run `attnrec extract`"):
            use(store, quick(preset=preset))


def test_features_that_no_sample_shows_are_found_when_the_loss_is_no_number(tiny_store, tmp_path, monkeypatch):
    monkeypatch.setattr("attnrec.training.plan._SCALE_SAMPLE_FRAMES", 1)
    video = training_video(tiny_store)
    store = spoilt(tiny_store, tmp_path, video)
    with pytest.raises(FeatureStoreError, match=f"features of {FeatureStore(store).path_of(video)} are NaN"):
        train(store, quick(epochs=1), runs_dir=tmp_path / "runs")


def test_validation_features_that_are_no_numbers_are_named(tiny_store, tmp_path):
    video = int(FeatureStore(tiny_store).split_members("default", "validation")[0])
    store = spoilt(tiny_store, tmp_path, video)
    with pytest.raises(FeatureStoreError, match=f"features of {FeatureStore(store).path_of(video)} are NaN"):
        train(store, quick(epochs=1), runs_dir=tmp_path / "runs")


@pytest.mark.parametrize(
    ("settings", "part"),
    [
        ({"hidden_dim": 16384, "num_layers": 32}, "model and optimiser"),
        ({"attention": "content", "scorer_layers": 32, "attention_dim": 16384, "hidden_dim": 4}, "for a batch"),
    ],
)
def test_what_takes_more_memory_than_there_is_is_refused_before_it_is_built(tmp_path, monkeypatch, settings, part):
    store = write_store(tmp_path / "s.h5", num_frames=40, splits={"default": [0] * 24})
    monkeypatch.setattr("attnrec.training.plan.machine_memory", lambda: 2**31)
    for use in (plan_training, train):
        with pytest.raises(ConfigError, match=rf"takes over [\d.]+ GB: .* {part}.*; cpu has 2\.1 GB\. Lower --hidden"):
            use(store, quick(**settings, batch_size=512, block_stride=1, block_frames=40))


def test_blocks_that_take_more_memory_than_there_is_are_refused(tiny_store, monkeypatch):
    monkeypatch.setattr("attnrec.training.plan.machine_memory", lambda: 1000)
    with pytest.raises(
        ConfigError, match=r"\d+ blocks of 4 frames would take .* lower --block-frames, or raise --stride"
    ):
        plan_training(tiny_store, quick())


def test_the_one_good_store_of_a_folder_is_trained_on(tiny_store, tmp_path, monkeypatch):
    shutil.copy(tiny_store, tmp_path / "good.h5")
    (tmp_path / "bad.h5").write_bytes(tiny_store.read_bytes()[:9000])
    monkeypatch.chdir(tmp_path)
    said = []
    report = train(config=quick(epochs=1), on_progress=lambda event: said.append(event.message or ""))
    assert Path(report.plan.store).name == "good.h5"
    assert sum(line.startswith("left out: ") and "bad.h5: not a usable feature store" in line for line in said) == 1
