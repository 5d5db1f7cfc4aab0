import json
import shutil
from dataclasses import asdict
from pathlib import Path

import h5py
import numpy as np
import pytest
import sklearn.metrics
from small_store import quick, write_store

from attnrec.data.splits import TEST, TRAIN, VALIDATION
from attnrec.data.store import FeatureStore
from attnrec.errors import FeatureStoreError, RunError
from attnrec.run import Run
from attnrec.runtime import json_safe
from attnrec.workflows.evaluate import evaluate, store_of_run
from attnrec.workflows.train import train


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
    assert report.log_loss == pytest.approx(sklearn.metrics.log_loss(labels, probs, labels=[0, 1, 2]))
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
