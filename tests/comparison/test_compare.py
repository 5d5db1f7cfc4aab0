import dataclasses
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import sklearn.metrics
from small_store import SPEC, figures_of, quick, write_store

from attnrec.comparison.compare import compare
from attnrec.comparison.published import published_figures
from attnrec.errors import RunError
from attnrec.evaluation.evaluate import evaluate
from attnrec.evaluation.intervals import accuracy_statistic
from attnrec.evaluation.significance import holm, paired_difference
from attnrec.models.architectures import build_model
from attnrec.settings import TrainConfig
from attnrec.training.plan import manifest_of, prepare
from attnrec.training.presets import canonical_dataset
from attnrec.training.run import Run, create_run
from attnrec.training.train import train

PAPERS_CLASSES = {"ucf11": 11, "hmdb51": 51, "hollywood2": 12}
VIDEOS = {"a": range(6), "b": range(6, 12), "c": range(12, 18)}  # that test in splits of these names


def made(
    source: Path,
    folder: Path,
    name: str,
    hits: str | None = None,
    *,
    split: str = "a",
    videos=None,
    store: dict[str, str] | None = None,
    finished_at: str | None = "2026-01-01",
    leaking: tuple[str, ...] = (),
    num_classes: int = 3,
    **training,
) -> Run:
    """A finished run with made-up settings and predictions, right (1) on some videos and wrong (0) on others.

    Two videos follow one another in each group; all are of the second of three classes, or of more without predictions.
    """
    manifest = Run(source).manifest
    config = dataclasses.replace(manifest.training, split=split, **training)
    model = dataclasses.replace(
        manifest.model,
        architecture=config.model,
        attention=config.attention or "location",
        num_classes=num_classes,
    )
    classes = [*manifest.classes, *(f"more{i}" for i in range(num_classes - 3))]
    run = create_run(
        folder,
        dataclasses.replace(
            manifest, name=name, training=config, given={}, model=model, classes=classes, finished_at=finished_at,
            store=manifest.store | (store or {}),
            split=manifest.split | {"name": split, "sha256": f"of {split}", "leaking_groups": list(leaking)},
        ),
        {},
    )  # fmt: skip
    if hits is not None:
        right = np.array([int(hit) for hit in hits])
        probs = np.where(right[:, None], [0.2, 0.5, 0.3], [0.5, 0.2, 0.3])
        own = {name: getattr(config, name) for name in ("reduction", "last_steps", "block_stride")}
        evaluation = figures_of(manifest.classes, accuracy=float(right.mean()), attention_entropy=0.9, **own)
        names = [f"v{i:02d}" for i in (VIDEOS[split] if videos is None else videos)]
        arrays = {
            "video_path": np.array(names, "S"),
            "video_group": np.array([f"g{int(name[1:]) // 2}" for name in names], "S"),
            "video_label": np.ones(len(names), np.int64),
            "video_probs": probs,
        }
        run.write_evaluation("test", evaluation, arrays)
    return run


def only_table(**arguments):
    (table,) = compare(**arguments).tables
    return table


def test_a_row_of_one_run_holds_its_figures(tiny_run):
    report = evaluate(tiny_run)
    table = only_table(runs=[tiny_run])
    (row,) = table.rows
    run = Run(tiny_run)
    assert (row.name, row.model, row.attention, row.attention_penalty) == ("attention", "attention", "location", 0.0)
    assert (row.figure, row.mean_class_accuracy) == (report.accuracy, report.mean_class_accuracy)
    assert row.interval == report.intervals["accuracy"]
    assert (row.attention_entropy, row.penalty_above_floor) == (report.attention_entropy, report.penalty_above_floor)
    assert (row.fps, row.seeds, row.splits, row.sd, row.flags) == (10.0, [0], ["default"], None, [])
    assert (table.dataset, table.splits, table.leaking, table.part) == ("tiny", ["default"], False, "test")
    assert (table.num_videos, table.num_groups, table.metric) == (report.num_videos, report.num_groups, "accuracy")
    assert (table.against, row.difference, row.p_value) == ("attention", None, None)
    assert row.validation_figure == run.manifest.result["validation_accuracy"]
    assert row.train_seconds == run.manifest.result["seconds"]
    assert row.training["epochs"] == run.manifest.result["epochs"]
    assert row.num_parameters == sum(p.numel() for p in build_model(run.manifest.model).parameters())
    speeds = [line["blocks_per_second"] for line in run.read_log() if line["kind"] == "epoch"]
    assert row.blocks_per_second == np.median(speeds)
    (member,) = row.runs
    assert (member.run, member.seed, member.split, member.counts) == (run.name, 0, "default", True)


@pytest.mark.parametrize("weights", [None, b"", b"no tensors", b"\xff" * 64])
def test_a_run_whose_weights_have_gone_is_compared_without_their_number(tiny_run, tmp_path, weights):
    run = tmp_path / "run"
    shutil.copytree(tiny_run, run)
    evaluate(run)
    (run / "model.safetensors").unlink()
    if weights is not None:
        (run / "model.safetensors").write_bytes(weights)
    (row,) = only_table(runs=[run]).rows
    assert row.num_parameters is None
    assert row.figure is not None


def test_baselines_have_no_lambda(tiny_store, tmp_path):
    run = train(tiny_store, quick(model="max-pool", epochs=1), runs_dir=tmp_path).run
    (row,) = only_table(runs=[run]).rows
    assert (row.name, row.attention, row.attention_penalty, row.figure) == ("max-pool", None, None, None)
    assert row.flags == [f"{Path(run).name} is not evaluated"]


def test_seeds_make_one_row(trained, tmp_path):
    for seed, hits in enumerate(("111100", "111000", "110000")):
        made(trained, tmp_path, f"s{seed}", hits, seed=seed)
    (row,) = only_table(runs_dir=tmp_path).rows
    assert (row.figure, row.seeds, row.num_videos) == (pytest.approx(1 / 2), [0, 1, 2], 6)
    assert row.sd == pytest.approx(np.std([4 / 6, 3 / 6, 2 / 6], ddof=1))
    share = np.array([1, 1, 2 / 3, 1 / 3, 0, 0]).reshape(3, 2).mean(axis=1)  # of seeds that are right, by group
    draws = np.array(np.meshgrid(share, share, share)).reshape(3, -1).mean(axis=0)
    assert row.interval == pytest.approx(tuple(np.quantile(draws, [0.025, 0.975], method="inverted_cdf")))


def test_folds_are_pooled_and_every_video_counts_once(trained, tmp_path, monkeypatch):
    monkeypatch.setitem(VIDEOS, "cv-1", range(8))
    monkeypatch.setitem(VIDEOS, "cv-2", range(8, 12))
    for seed, (first, second) in enumerate((("11111111", "0000"), ("00000000", "1111"))):
        made(trained, tmp_path, "one", first, split="cv-1", seed=seed)
        made(trained, tmp_path, "two", second, split="cv-2", seed=seed)
    table = only_table(runs_dir=tmp_path)
    (row,) = table.rows
    assert (table.splits, table.num_videos, table.num_groups) == (["cv-1", "cv-2"], 12, 6)
    assert (row.figure, row.splits, row.num_videos) == (pytest.approx((8 + 4) / 24), ["cv-1", "cv-2"], 12)
    assert row.sd == pytest.approx(np.std([8 / 12, 4 / 12], ddof=1))


def test_rows_are_compared_with_one_of_them_on_the_same_resamples(trained, tmp_path):
    hits = {"attention": ("111111", "111110"), "avg-pool": ("101010", "100010"), "max-pool": ("110110", "111010")}
    for model, of_seeds in hits.items():
        for seed, each in enumerate(of_seeds):
            made(trained, tmp_path, model, each, model=model, seed=seed)
    table = only_table(runs_dir=tmp_path, against="avg-pool")
    assert [row.name for row in table.rows] == ["attention", "max-pool", "avg-pool"]
    assert table.against == "avg-pool"
    labels, eye = np.zeros(6, np.int64), np.eye(2)
    groups = ["g0", "g0", "g1", "g1", "g2", "g2"]
    expected = {}
    for model in ("attention", "max-pool"):
        statistics = [
            [accuracy_statistic(labels, eye[[1 - int(hit) for hit in each]]) for each in hits[name]]
            for name in (model, "avg-pool")
        ]
        one, two = (lambda w, of=of: sum(s(w) for s in of) / 2 for of in statistics)
        expected[model] = paired_difference(one, two, groups)
    corrected = holm([found.p_value for found in expected.values()])
    for (name, found), p_value in zip(expected.items(), corrected, strict=True):
        row = next(row for row in table.rows if row.name == name)
        mean = np.mean([[int(hit) for hit in each] for each in hits[name]])
        assert row.difference == pytest.approx(found.difference) == pytest.approx(mean - 5 / 12)
        assert row.difference_interval == pytest.approx(found.interval)
        assert (row.p_value, row.corrected_p_value) == (found.p_value, p_value)
    assert table.rows[2].difference is table.rows[2].corrected_p_value is None


def test_the_best_come_first_the_unevaluated_last_and_zero_is_a_figure(trained, tmp_path):
    for fps, hits in ((1.0, "100000"), (2.0, None), (3.0, "111110"), (4.0, "000000")):
        made(trained, tmp_path, "run", hits, fps=fps)
    table = only_table(runs_dir=tmp_path)
    assert [row.name for row in table.rows] == [f"attention-fps{fps}" for fps in (3, 1, 4, 2)]
    assert [row.figure for row in table.rows] == [pytest.approx(5 / 6), pytest.approx(1 / 6), 0, None]
    assert table.against == "attention-fps3"
    assert table.rows[3].flags == ["run-2 is not evaluated"]
    assert table.rows[3].difference is None


def test_rows_that_miss_a_fold_are_flagged_and_not_paired(trained, tmp_path, monkeypatch):
    for i, name in enumerate("abc", start=1):
        monkeypatch.setitem(VIDEOS, f"cv-{i}", VIDEOS[name])
    for fold in (1, 2, 3):
        made(trained, tmp_path, "attention", "101010", split=f"cv-{fold}")
        if fold < 3:
            made(trained, tmp_path, "pooled", "111111", split=f"cv-{fold}", model="avg-pool")
        for seed in (0, 1):
            if (fold, seed) != (2, 1):
                made(trained, tmp_path, "max", "110000", split=f"cv-{fold}", model="max-pool", seed=seed)
    table = only_table(runs_dir=tmp_path)
    assert (table.num_videos, table.against) == (18, "attention")  # not the best, which misses a fold
    rows = {row.name: row for row in table.rows}
    pooled, partial = rows["avg-pool"], rows["max-pool"]
    assert (pooled.figure, pooled.num_videos, pooled.p_value) == (1.0, 12, None)
    assert pooled.flags == ["has no figures on cv-3"]
    assert (partial.seeds, partial.num_videos) == ([0], 18)
    assert partial.flags == ["seed 1 left out: not on all of its splits"]
    assert partial.difference == pytest.approx(1 / 3 - 1 / 2)
    assert [run.counts for run in partial.runs].count(False) == 2


def test_different_videos_are_not_ranked_and_it_says_why(trained, tmp_path, monkeypatch):
    monkeypatch.setitem(VIDEOS, "hm-1", range(6))
    monkeypatch.setitem(VIDEOS, "hm-2", range(3, 9))  # as HMDB-51's: some videos are in both
    made(trained, tmp_path, "1", "111110", split="hm-1")
    made(trained, tmp_path, "2", "111111", split="hm-2")
    made(trained, tmp_path, "3", "000000", split="a")
    made(trained, tmp_path, "4", "000000", split="a", store={"fingerprint": "x"})
    made(trained, tmp_path, "5", "000000", split="a", store={"fingerprint": "y", "dataset": "dogs"})
    tables = compare(runs_dir=tmp_path).tables
    assert [(table.splits, table.apart) for table in tables] == [
        (["hm-1"], None),
        (["hm-2"], "split hm-2 has other test videos than hm-1"),
        (["a"], "split a has other test videos than hm-1"),
        (["a"], "features of another store, of squeezenet1_0"),
        (["a"], "features of another store (dataset dogs, not tiny), of squeezenet1_0"),
    ]
    assert all(len(table.rows) == 1 for table in tables)


def test_a_split_that_parts_a_group_is_told(trained, tmp_path):
    made(trained, tmp_path, "one", "111110", split="a", leaking=("g01",))
    assert only_table(runs_dir=tmp_path).leaking


def test_runs_of_different_stores_by_training(tiny_run, tmp_path):
    other = train(write_store(tmp_path / "o.h5", seed=1), quick(epochs=1), runs_dir=tmp_path / "runs").run
    split = train(Run(tiny_run).manifest.store["path"], quick(epochs=1, split="cv3-1"), runs_dir=tmp_path / "runs").run
    assert len(compare([tiny_run, other, split]).tables) == 3
    assert len(compare(runs_dir=tmp_path / "runs").tables) == 3  # tiny_run is there as well


def test_what_was_evaluated_otherwise_is_another_row(tiny_run, tmp_path):
    again = tmp_path / "runs" / "again"
    shutil.copytree(tiny_run, again)
    evaluate(tiny_run)
    evaluate(again, reduction="vote", last_steps=2, block_stride=1)
    names = {row.name for row in only_table(runs=[tiny_run, again]).rows}
    assert names == {"attention", "attention-by-vote-last2-every1"}


def test_the_same_run_twice_counts_once(trained, tmp_path):
    made(trained, tmp_path, "first", "111111", finished_at="2026-01-02")
    made(trained, tmp_path, "last", "110000", finished_at="2026-01-03")
    (row,) = only_table(runs_dir=tmp_path).rows
    assert (row.figure, row.flags) == (pytest.approx(1 / 3), ["first-1 left out: the same again"])


def test_settings_that_the_preset_chose_do_not_part_rows_and_given_ones_do(tiny_store, tmp_path):
    for hidden in (16, 8):
        train(tiny_store, quick(epochs=1, hidden_dim=hidden), runs_dir=tmp_path)
    assert [row.name for row in only_table(runs_dir=tmp_path).rows] == ["attention-hiddendim16", "attention-hiddendim8"]


@pytest.mark.parametrize("given", ["avg-pool", "pooled-1", "path"])
def test_a_row_is_named_by_itself_or_a_run_in_it(trained, tmp_path, given):
    made(trained, tmp_path, "one", "111110")
    path = made(trained, tmp_path, "pooled", "111100", model="avg-pool").path
    table = only_table(runs_dir=tmp_path, against=str(path) if given == "path" else given)
    assert (table.against, table.rows[0].difference) == ("avg-pool", pytest.approx(1 / 6))


def test_a_row_that_is_not_there_is_named_with_those_that_are(trained, tmp_path):
    made(trained, tmp_path, "one", "111110")
    made(trained, tmp_path, "pooled", None, model="avg-pool")
    with pytest.raises(RunError, match=r"--against softmax: no such row .* there are attention, avg-pool"):
        compare(runs_dir=tmp_path, against="softmax")


def test_predictions_of_other_videos_are_refused(trained, tmp_path):
    runs = [
        made(trained, tmp_path, "one", "111110"),
        made(trained, tmp_path, "two", "111111", seed=1, videos=range(1, 7)),
    ]
    message = "two-1: its predictions are of other videos than its split has"
    with pytest.raises(RunError, match=message):
        compare([run.path for run in runs])
    said = []
    table = only_table(runs_dir=tmp_path, on_progress=lambda event: said.append(event.message))
    assert [run.run for row in table.rows for run in row.runs] == ["one-1"]
    assert any(re.search(f"left out: .*{message}", line) for line in said)


def test_predictions_without_groups_count_as_not_evaluated(tiny_run):
    evaluate(tiny_run)
    with np.load(tiny_run / "predictions-test.npz") as arrays:
        kept = {name: arrays[name] for name in arrays if name != "video_group"}
    np.savez(tiny_run / "predictions-test.npz", **kept)
    (row,) = only_table(runs=[tiny_run]).rows
    assert (row.figure, row.flags) == (None, [f"{tiny_run.name} is not evaluated"])


@pytest.mark.parametrize(
    ("dataset", "known"),
    [("UCF-11", "ucf11"), ("ucf11", "ucf11"), ("HMDB51", "hmdb51"), ("Hollywood2", "hollywood2"), ("videos", None),
     ("UCF-101", None), ("tiny", None)],
)  # fmt: skip
def test_published_figures_stand_beside_the_papers_datasets_only(trained, tmp_path, dataset, known):
    run = made(trained, tmp_path, "run", num_classes=PAPERS_CLASSES.get(known, 3), store={"dataset": dataset})
    report = compare([run.path])
    assert {figure.dataset for figure in report.published} == ({known} if known else set())
    (row,) = report.tables[0].rows
    if known is None:
        assert (row.published, row.differs) == (None, [])
    else:
        assert row.published.value == {"ucf11": 84.96, "hmdb51": 41.31, "hollywood2": 43.91}[known]
        assert "squeezenet1_0, not GoogLeNet" in row.differs
        assert "hidden dim 16, not 1024" in row.differs if known == "hmdb51" else "hidden dim 16, not 512"
        assert "block frames 4, not 30" in row.differs
        assert not [line for line in row.differs if line.startswith(("weight decay", "optimizer", "split of"))]


@pytest.mark.parametrize(("dataset", "num_classes"), [("hmdb51", 21), ("HMDB-51", 50), ("ucf11", 10)])
def test_a_part_of_a_datasets_classes_does_not_stand_beside_its_figures(trained, tmp_path, dataset, num_classes):
    run = made(trained, tmp_path, "run", num_classes=num_classes, store={"dataset": dataset})
    report = compare([run.path])
    assert report.published == []
    assert (report.tables[0].rows[0].published, report.tables[0].rows[0].differs) == (None, [])


def test_a_run_as_the_paper_has_it_differs_in_what_cannot_be_the_same(tmp_path):
    classes = [f"c{i}" for i in range(51)]
    store = write_store(
        tmp_path / "s.h5", dataset="hmdb51", classes=classes, num_groups=3, num_frames=4,
        spec=dataclasses.replace(SPEC, feature_dim=51), splits={"hmdb51-1": [0, 1, 2] * 51},
    )  # fmt: skip
    manifest = manifest_of(prepare(store, TrainConfig(preset="paper", retrain=True, epochs=1, device="cpu", jobs=1)))
    finished = dataclasses.replace(manifest, finished_at="2026-01-01", result={"seconds": 1.0})
    (row,) = only_table(runs=[create_run(tmp_path, finished, {}).path]).rows
    assert row.differs == ["squeezenet1_0, not GoogLeNet", "epochs 1, not 15"]


def test_the_published_figures_are_the_papers():
    source, figures = published_figures()
    assert re.search(r"arXiv 1511\.04119", source)
    first = {(f.dataset, f.model): f.value for f in figures if f.source == "Table 1"}
    assert first == {
        ("ucf11", "softmax"): 82.37, ("ucf11", "avg-pool"): 82.56, ("ucf11", "max-pool"): 81.60,
        ("ucf11", "attention"): 84.96, ("hmdb51", "softmax"): 33.46, ("hmdb51", "avg-pool"): 40.52,
        ("hmdb51", "max-pool"): 37.58, ("hmdb51", "attention"): 41.31, ("hollywood2", "softmax"): 34.62,
        ("hollywood2", "avg-pool"): 43.19, ("hollywood2", "max-pool"): 43.22, ("hollywood2", "attention"): 43.91,
    }  # fmt: skip
    assert all(
        figure.attention_penalty == 0 for figure in figures if figure.model == "attention" and "1" in figure.source
    )
    assert {figure.metric for figure in figures if figure.dataset != "hollywood2"} == {"accuracy"}


@pytest.mark.parametrize(
    ("name", "canonical"), [("UCF-11", "ucf11"), ("HMDB 51", "hmdb51"), ("Hollywood_2", "hollywood2")]
)
def test_dataset_names_are_compared_without_punctuation(name, canonical):
    assert canonical_dataset(name) == canonical


def test_unfinished_runs_are_passed_over_unless_named(trained, tmp_path):
    made(trained, tmp_path, "done", "111000")
    unfinished = made(trained, tmp_path, "half", finished_at=None)
    (row,) = only_table(runs_dir=tmp_path).rows
    assert [run.run for run in row.runs] == ["done-1"]
    with pytest.raises(RunError, match="half-1: is not finished"):
        compare([unfinished.path])


def test_without_runs_it_says_how_to_make_one(tmp_path):
    with pytest.raises(RunError, match="no finished run here; make one with `attnrec train`"):
        compare(runs_dir=tmp_path)


@pytest.mark.parametrize("name", ["evaluation-test.json", "predictions-test.npz", "training.jsonl"])
def test_a_damaged_file_is_refused(tiny_run, name):
    evaluate(tiny_run)
    (tiny_run / name).write_text("{")
    with pytest.raises(RunError, match=f"{re.escape(name)}: cannot be read"):
        compare([tiny_run])


def test_another_part_can_count(tiny_run):
    evaluate(tiny_run, part="validation")
    table = only_table(runs=[tiny_run], part="validation")
    assert table.part == "validation"
    assert table.rows[0].figure == json.loads((tiny_run / "evaluation-validation.json").read_text())["accuracy"]
    assert only_table(runs=[tiny_run]).rows[0].figure is None


def test_figures_of_videos_that_were_trained_on_are_flagged(tiny_run):
    evaluate(tiny_run, part="train")
    (row,) = only_table(runs=[tiny_run], part="train").rows
    assert row.flags == ["was trained on these videos"]


def test_runs_of_several_labels_are_ranked_by_map(tmp_path):
    store = write_store(tmp_path / "s.h5", multilabel=True, signal=4.0, num_groups=16)
    runs = [
        train(store, quick(epochs=5, model="softmax", learning_rate=rate), runs_dir=tmp_path / "runs").run
        for rate in (1e-9, 0.05)
    ]
    reports = [evaluate(run) for run in runs]
    assert reports[0].map < reports[1].map
    table = only_table(runs=runs)
    assert [row.runs[0].path for row in table.rows] == runs[::-1]
    assert [row.figure for row in table.rows] == [report.map for report in reports[::-1]]
    assert table.metric == "map"
    assert table.rows[0].mean_class_accuracy is None
    assert table.rows[0].validation_figure == Run(runs[1]).manifest.result["validation_map"]
    assert table.rows[0].interval == tuple(reports[1].intervals["map"])
    assert table.rows[1].difference == pytest.approx(reports[0].map - reports[1].map)


def test_map_over_folds_ranks_no_score_against_one_of_another_model(tmp_path):
    store = write_store(tmp_path / "s.h5", multilabel=True, num_groups=9)
    runs = [train(store, quick(epochs=2, split=f"cv3-{i}"), runs_dir=tmp_path / "runs").run for i in (1, 2, 3)]
    for run in runs:
        evaluate(run)
    (row,) = only_table(runs=runs).rows
    figures = []
    for run in runs:
        with np.load(Path(run) / "predictions-test.npz") as arrays:
            targets, scores = arrays["video_labels"], arrays["video_probs"]
        known = [i for i in range(3) if targets[:, i].any()]
        figures.append(sklearn.metrics.average_precision_score(targets[:, known], scores[:, known], average="macro"))
    assert row.figure == pytest.approx(np.mean(figures))
    assert row.interval[0] <= row.figure <= row.interval[1]


def test_faithfulness_is_the_mean_of_the_runs_that_have_it(trained, tmp_path):
    runs = [made(trained, tmp_path, "run", "111000", seed=seed) for seed in range(3)]
    for run, uniform in zip(runs[:2], (0.25, 0.75), strict=True):
        evaluation = run.read_evaluation("test")
        faithfulness = {"metric": "accuracy", "uniform": uniform, "num_curve_blocks": 4, "pointing": None}
        (run.path / "evaluation-test.json").write_text(json.dumps(evaluation | {"faithfulness": faithfulness}))
    (row,) = only_table(runs_dir=tmp_path).rows
    assert row.faithfulness == {"uniform": 0.5}
    assert row.flags == ["faithfulness of 2 of its 3 runs"]


def with_boxes(run: Run, mean: float, **by_video: object) -> None:
    """Give a run's figures what a test of its attention by boxes found, on the mean and of each video."""
    faithfulness = {"uniform": 0.5, "pointing": mean, "by_video": by_video}
    evaluation = run.read_evaluation("test") | {"faithfulness": faithfulness}
    (run.path / "evaluation-test.json").write_text(json.dumps(evaluation))


def test_pointing_is_of_the_mean_over_seeds_and_its_interval_over_groups(trained, tmp_path):
    centre = [0.5, 0.5, None, None, 0.0, 1.0]
    for seed, pointing in enumerate(([1.0, 0.0, None, None, 0.5, 0.5], [0.0, 0.0, None, None, 1.0, 0.5])):
        run = made(trained, tmp_path, "run", "111000", seed=seed)
        with_boxes(run, 0.5, pointing=pointing, pointing_centre=centre)
    (row,) = only_table(runs_dir=tmp_path).rows
    groups = np.array([[0.5, 0.0], [0.75, 0.5]]).mean(axis=1)  # of two videos each, mean over the seeds
    over = groups - [0.5, 0.5]
    assert row.faithfulness == {"uniform": 0.5, "pointing": groups.mean(), "pointing_centre": 0.5}
    assert row.pointing_interval == (groups.min(), groups.max())
    assert row.pointing_over_centre == over.mean()
    assert row.pointing_over_centre_interval == (over.min(), over.max())


def test_pointing_of_folds_counts_every_video_once(trained, tmp_path, monkeypatch):
    monkeypatch.setitem(VIDEOS, "cv-1", range(8))
    monkeypatch.setitem(VIDEOS, "cv-2", range(8, 12))
    for split, number, value in (("cv-1", 8, 0.0), ("cv-2", 4, 1.0)):
        run = made(trained, tmp_path, split, "1" * number, split=split)
        with_boxes(run, value, pointing=[value] * number, pointing_centre=[0.5] * number)
    (row,) = only_table(runs_dir=tmp_path).rows
    assert row.faithfulness["pointing"] == pytest.approx(4 / 12)
    assert row.pointing_over_centre == pytest.approx(4 / 12 - 1 / 2)


@pytest.mark.parametrize(
    "pointing",
    [
        [1.0] * 5,
        [1.0] * 7,
        [1.0] * 5 + [1.5],
        [1.0] * 5 + ["1"],
        [[1.0]] * 6,
        [1.0] * 5 + [float("nan")],
        {},
        [None] * 6,
    ],
)
def test_figures_of_videos_that_cannot_be_so_have_no_interval(trained, tmp_path, pointing):
    for seed in range(2):
        run = made(trained, tmp_path, "run", "111000", seed=seed)
        with_boxes(run, 1.0, pointing=pointing if seed else [1.0] * 6, pointing_centre=[0.5] * 6)
    (row,) = only_table(runs_dir=tmp_path).rows
    assert row.faithfulness == {"uniform": 0.5, "pointing": 1.0}
    assert (row.pointing_interval, row.pointing_over_centre, row.pointing_over_centre_interval) == (None, None, None)


def test_an_interval_that_is_not_known_is_none(tmp_path):
    store = write_store(tmp_path / "s.h5", num_groups=2, splits={"default": [0, 2] * 3})  # one group to test
    runs = [train(store, quick(epochs=1, fps=fps), runs_dir=tmp_path / "runs").run for fps in (10.0, 5.0)]
    for run in runs:
        evaluate(run)
    first, second = only_table(runs=runs).rows
    assert first.interval is second.interval is second.difference_interval is second.corrected_p_value is None
    assert second.difference is not None
