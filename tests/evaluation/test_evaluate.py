import json
import re
import shutil
from dataclasses import asdict
from pathlib import Path

import h5py
import numpy as np
import pytest
import sklearn.metrics
from small_store import quick, write_store
from typer.testing import CliRunner

from attnrec.cli.app import app
from attnrec.datasets.splits import TEST, TRAIN, VALIDATION
from attnrec.errors import ConfigError, FeatureStoreError, RunError
from attnrec.evaluation.evaluate import evaluate, evaluate_runs
from attnrec.features.store import FeatureStore
from attnrec.files import json_safe
from attnrec.training.origin import store_of_run
from attnrec.training.run import Run
from attnrec.training.train import train


@pytest.fixture(scope="module")
def unsure(tmp_path_factory) -> Path:
    """A run that is right on some test videos and wrong on others."""
    folder = tmp_path_factory.mktemp("unsure")
    store = write_store(folder / "features.h5", signal=0.5, num_groups=12)
    return Path(train(store, quick(block_stride=2, epochs=4), runs_dir=folder / "runs").run)


def predictions(run: Path, part: str = "test") -> dict[str, np.ndarray]:
    with np.load(run / f"predictions-{part}.npz", allow_pickle=False) as file:
        return dict(file)


@pytest.mark.parametrize("part", ["test", "validation", "train"])
def test_the_figures_are_scikit_learns(unsure, part):
    report, arrays = evaluate(unsure, part=part), predictions(unsure, part)
    labels, probs = arrays["video_label"], arrays["video_probs"]
    predicted = probs.argmax(axis=1)
    assert report.num_videos == len(labels)
    assert report.accuracy == pytest.approx(sklearn.metrics.accuracy_score(labels, predicted))
    assert report.mean_class_accuracy == pytest.approx(sklearn.metrics.balanced_accuracy_score(labels, predicted))
    assert report.confusion == sklearn.metrics.confusion_matrix(labels, predicted, labels=[0, 1, 2]).tolist()
    exact = probs / probs.sum(axis=1, keepdims=True)  # scikit-learn warns of the last digits of a softmax in float32
    assert report.log_loss == pytest.approx(sklearn.metrics.log_loss(labels, exact, labels=[0, 1, 2]))
    assert report.chance == np.bincount(labels).max() / len(labels)
    recall = sklearn.metrics.recall_score(labels, predicted, average=None)
    assert [figure.accuracy for figure in report.classes] == pytest.approx(list(recall))
    assert [figure.num_videos for figure in report.classes] == np.bincount(labels).tolist()


def test_the_run_is_neither_perfect_nor_hopeless(unsure):
    assert 0 < evaluate(unsure).accuracy < 1  # else the figures above would say little


def test_the_arrays_agree_with_each_other_and_with_the_store(unsure):
    report, arrays = evaluate(unsure), predictions(unsure)
    store = store_of_run(Run(unsure), None)
    members = store.split_members("default", "test")
    assert arrays["classes"].tolist() == [b"bend", b"jack", b"wave"]
    assert arrays["video_path"].tolist() == [store.videos.path[i] for i in members]
    np.testing.assert_array_equal(arrays["video_label"], store.videos.label[members])
    np.testing.assert_allclose(arrays["video_probs"].sum(axis=1), 1, atol=1e-6)
    assert len(arrays["block_probs"]) == len(arrays["block_video"]) == report.num_blocks
    for video, probs in enumerate(arrays["video_probs"]):
        own = arrays["block_video"] == video
        np.testing.assert_allclose(arrays["block_probs"][own].mean(axis=0), probs, atol=1e-6)
        np.testing.assert_allclose(arrays["block_start_seconds"][own], [0, 0.2, 0.4, 0.6, 0.8])


def test_the_report_lists_every_video(unsure):
    report, arrays = evaluate(unsure), predictions(unsure)
    names = [name.decode() for name in arrays["classes"]]
    for video, path, label, probs in zip(
        report.videos, arrays["video_path"], arrays["video_label"], arrays["video_probs"], strict=True
    ):
        assert video.path == path.decode()
        assert video.label == names[label]
        assert video.predicted == names[probs.argmax()]
        assert video.probability == probs.max()


def test_the_file_is_the_report(unsure):
    report = evaluate(unsure, part="validation")
    assert json.loads((unsure / "evaluation-validation.json").read_text()) == json.loads(
        json.dumps(json_safe(asdict(report)))
    )


def test_evaluating_again_gives_the_same(unsure):
    one, two = asdict(evaluate(unsure)), asdict(evaluate(unsure))
    assert one | {"seconds": 0} == two | {"seconds": 0}


def test_a_vote_counts_blocks(unsure):
    mean = evaluate(unsure)
    blocks = predictions(unsure)
    vote = evaluate(unsure, reduction="vote")
    probs = predictions(unsure)["video_probs"]
    evaluate(unsure)
    assert (mean.reduction, vote.reduction) == ("mean", "vote")
    for video, shares in enumerate(probs):
        winners = blocks["block_probs"][blocks["block_video"] == video].argmax(axis=1)
        np.testing.assert_allclose(shares, np.bincount(winners, minlength=3) / len(winners))
    assert vote.log_loss != mean.log_loss


def test_a_longer_stride_scores_fewer_blocks(unsure):
    # The last block starts at 0.8 s of 1.1 s.
    assert evaluate(unsure).num_blocks == 5 * evaluate(unsure, block_stride=9).num_blocks
    assert evaluate(unsure, block_stride=9).num_blocks == evaluate(unsure).num_videos


def test_a_part_of_the_videos_scores_the_same_in_other_company(unsure, tmp_path):
    """A video's probabilities do not depend on what is scored with it."""
    before = {video.path: video.probability for video in evaluate(unsure).videos}
    run = Path(shutil.copytree(unsure, tmp_path / "run"))
    store = tmp_path / "s.h5"
    shutil.copy(Run(unsure).manifest.store["path"], store)
    with h5py.File(store, "r+") as file:
        codes = file["splits/default"][:]
        codes[np.flatnonzero(codes == TEST)[::2]] = TRAIN
        file["splits/default"][:] = codes
    config = json.loads((run / "config.json").read_text())
    config["split"]["sha256"] = FeatureStore(store).split_sha256("default")
    (run / "config.json").write_text(json.dumps(config))
    fewer = evaluate(run, store).videos
    assert 0 < len(fewer) < len(before)
    assert all(before[video.path] == video.probability for video in fewer)


def test_a_baseline_has_no_attention_figures(tiny_store, trained, tmp_path):
    pooled = evaluate(train(tiny_store, quick(model="avg-pool", epochs=1), runs_dir=tmp_path).run)
    assert pooled.attention_entropy is pooled.penalty_above_floor is None
    attentive = evaluate(trained)
    assert 0 < attentive.attention_entropy <= 1
    assert attentive.penalty_above_floor >= 0


def test_classes_without_videos_in_the_part_count_for_nothing(tmp_path):
    codes = [TRAIN, VALIDATION, TEST, TRAIN, VALIDATION, TEST, TRAIN, VALIDATION, TRAIN]
    store = write_store(tmp_path / "s.h5", num_groups=3, splits={"default": codes})
    report = evaluate(train(store, quick(epochs=8), runs_dir=tmp_path).run)
    assert [figure.num_videos for figure in report.classes] == [1, 1, 0]
    assert report.classes[2].accuracy is None
    assert report.mean_class_accuracy == np.mean([figure.accuracy for figure in report.classes[:2]])
    assert report.confusion[2] == [0, 0, 0]


def test_another_store_is_refused(tiny_run, tmp_path):
    other = write_store(tmp_path / "other.h5", seed=1)
    with pytest.raises(RunError, match=r"was trained on another store than .*other\.h5; name its own"):
        evaluate(tiny_run, other)
    assert not (tiny_run / "evaluation-test.json").exists()


def test_a_split_that_has_changed_is_refused(tiny_run, tiny_store, tmp_path):
    changed = tmp_path / "changed.h5"
    shutil.copy(tiny_store, changed)
    with h5py.File(changed, "r+") as file:
        file["splits/default"][0] = (file["splits/default"][0] + 1) % 3
    with pytest.raises(RunError, match=r"split default has changed since .* was trained; train again"):
        evaluate(tiny_run, changed)


def test_a_part_without_videos_is_refused(tmp_path):
    store = write_store(tmp_path / "s.h5", num_groups=2, splits={"default": [TRAIN, TEST] * 3})
    run = Path(train(store, quick(epochs=1), runs_dir=tmp_path).run)
    with pytest.raises(RunError, match="split default has no validation video; evaluate another part by --part"):
        evaluate(run, part="validation")
    assert not (run / "evaluation-validation.json").exists()


def test_a_store_that_moved_is_found_in_the_current_folder(tmp_path, monkeypatch):
    store = write_store(tmp_path / "there" / "s.h5")
    run = train(store, quick(epochs=1), runs_dir=tmp_path / "runs").run
    expected = evaluate(run).accuracy
    shutil.move(tmp_path / "there", tmp_path / "here")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FeatureStoreError, match="no feature store here"):
        evaluate(run)
    monkeypatch.chdir(tmp_path / "here")
    assert evaluate(run).accuracy == expected


def test_progress_counts_all_blocks(trained):
    seen = []
    report = evaluate(trained, on_progress=seen.append)
    assert [event.done for event in seen] == sorted(event.done for event in seen)
    assert seen[-1].done == seen[-1].total == report.num_blocks


def test_the_top_k_and_the_steps_that_count_can_be_chosen(unsure):
    report = evaluate(unsure, top_k=2, last_steps=1)
    arrays = predictions(unsure)
    labels, probs = arrays["video_label"], arrays["video_probs"]
    expected = sklearn.metrics.top_k_accuracy_score(labels, probs, k=2, labels=[0, 1, 2])
    assert (report.top_k, report.last_steps) == (2, 1)
    assert report.top_k_accuracy == pytest.approx(expected)
    whole = evaluate(unsure)
    assert (whole.top_k, whole.top_k_accuracy, whole.last_steps) == (None, None, 4)
    assert whole.log_loss != report.log_loss
    with pytest.raises(ConfigError, match="--top-k 4: must be from 1 to 3, the number of classes"):
        evaluate(unsure, top_k=4)
    with pytest.raises(ConfigError, match="--last-steps 5: must be from 1 to 4, the run's block"):
        evaluate(unsure, last_steps=5)


def test_the_intervals_hold_the_figures_and_are_over_groups(unsure):
    report = evaluate(unsure, top_k=2)
    assert set(report.intervals) == {"accuracy", "mean_class_accuracy", "top_k_accuracy"}
    for name, (low, high) in report.intervals.items():
        assert 0 <= low <= getattr(report, name) <= high <= 1
    assert report.num_groups == report.num_videos / 3


def test_tables_of_earlier_versions_do_not_outlive_the_figures(unsure, tmp_path):
    run = Path(shutil.copytree(unsure, tmp_path / "run"))
    for name in ("predictions-test.csv", "blocks-test.csv", "blocks-train.csv"):
        (run / name).write_text("path\n")
    evaluate(run, reduction="vote")
    assert [path.name for path in run.glob("*.csv")] == ["blocks-train.csv"]


def test_a_run_is_evaluated_as_it_was_trained(tmp_path):
    store = write_store(tmp_path / "s.h5", signal=0.5)
    config = quick(epochs=1, reduction="vote", last_steps=2, block_starts="by-frame", fps=15.0)
    run = train(store, config, runs_dir=tmp_path / "runs").run
    report = evaluate(run)
    assert (report.reduction, report.last_steps) == ("vote", 2)
    # Every second of twelve frames as if there were 30 a second: the only start at a stride of 4 is 0, then 4.
    assert report.num_blocks == 2 * report.num_videos
    assert evaluate(run, reduction="mean", last_steps=4).log_loss != report.log_loss


def test_the_number_of_blocks_is_told_before_the_work(trained):
    seen = []
    report = evaluate(trained, block_stride=1, on_progress=seen.append)
    assert seen[0].message.endswith(f"{report.num_blocks} blocks of 6 videos, one every 1 stored frames")


def test_several_runs_are_evaluated_each_by_itself(tiny_store, tiny_run, tmp_path):
    other = write_store(tmp_path / "other.h5", dataset="other")
    runs = [train(tiny_store, quick(epochs=1, split=f"cv3-{i}"), runs_dir=tmp_path).run for i in (1, 2)]
    runs += [train(other, quick(epochs=1), runs_dir=tmp_path).run, tiny_run]
    summary = evaluate_runs(runs, part="validation")
    for run, report in zip(runs, summary.runs, strict=True):
        alone = evaluate(run, part="validation")
        assert json_safe(asdict(report) | {"seconds": 0}) == json_safe(asdict(alone) | {"seconds": 0})
    assert [report.dataset for report in summary.runs] == ["tiny", "tiny", "other", "tiny"]
    assert summary.agreement == []


def test_figures_that_cannot_be_saved_are_given_all_the_same(unsure, tmp_path):
    whole = evaluate(unsure)
    run = Path(shutil.copytree(unsure, tmp_path / "run"))
    (run / "predictions-test.npz").unlink()
    (run / "predictions-test.npz").mkdir()
    report = evaluate(run)
    assert (report.accuracy, report.intervals) == (whole.accuracy, whole.intervals)
    assert whole.unsaved is None
    assert report.unsaved == f"{run}/predictions-test.npz: cannot be written: Is a directory"
    done = CliRunner().invoke(app, ["evaluate", "--run", str(run)])
    assert done.exit_code == 1
    assert done.stdout.startswith(f"{run}: test, ")
    assert re.search(r"^accuracy +\d+\.\d %", done.stdout, re.MULTILINE)
    assert done.stderr.splitlines()[-1] == f"attnrec: {report.unsaved}; the figures are not saved"


def test_features_that_are_no_numbers_are_named(unsure, tmp_path):
    run = Run(unsure)
    store = tmp_path / "spoilt.h5"
    shutil.copy(run.manifest.store["path"], store)
    video = int(FeatureStore(store).split_members("default", "test")[1])
    with h5py.File(store, "a") as file:
        file["features/features"][int(file["videos/first_frame"][video])] = np.inf
    with pytest.raises(
        FeatureStoreError, match=f"features of {FeatureStore(store).path_of(video)} are NaN or infinite"
    ):
        evaluate(run, store)
