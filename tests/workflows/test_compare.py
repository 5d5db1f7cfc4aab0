import dataclasses
import json
import re
from pathlib import Path

import pytest
from small_store import quick, write_store

from attnrec.errors import RunError
from attnrec.run import Run, create_run
from attnrec.workflows.compare import compare, published_figures
from attnrec.workflows.evaluate import evaluate
from attnrec.workflows.presets import canonical_dataset
from attnrec.workflows.train import train


def copy_of(run: Path, folder: Path, name: str, *, accuracy: float | None = None, **changes) -> Run:
    """A finished run that differs from another in its manifest, with a made-up test accuracy."""
    manifest = Run(run).manifest
    made = create_run(folder, dataclasses.replace(manifest, name=name, finished_at=None), {})
    made.update(**{"finished_at": manifest.finished_at, "result": manifest.result} | changes)
    if accuracy is not None:
        figures = {"part": "test", "num_videos": 6, "accuracy": accuracy, "mean_class_accuracy": accuracy}
        made.write_evaluation("test", figures, {})
    return made


def test_a_row_holds_the_runs_figures(tiny_run):
    report = evaluate(tiny_run)
    ((row,),) = compare([tiny_run]).tables
    run = Run(tiny_run)
    assert (row.run, row.model) == (run.name, "attention (location)")
    assert (row.accuracy, row.mean_class_accuracy) == (report.accuracy, report.mean_class_accuracy)
    assert (row.attention_entropy, row.penalty_above_floor) == (report.attention_entropy, report.penalty_above_floor)
    assert (row.fps, row.seed, row.attention_penalty) == (10.0, 0, 0.0)
    assert (row.dataset, row.split, row.leaking, row.part) == ("tiny", "default", False, "test")
    assert row.num_videos == report.num_videos
    assert row.validation_accuracy == run.manifest.result["validation_accuracy"]
    assert row.train_seconds == run.manifest.result["seconds"]


def test_baselines_have_no_lambda(tiny_store, tmp_path):
    run = train(tiny_store, quick(model="max-pool", epochs=1), runs_dir=tmp_path).run
    ((row,),) = compare([run]).tables
    assert (row.model, row.attention_penalty, row.accuracy, row.part) == ("max-pool", None, None, None)


def test_the_most_accurate_come_first_and_the_unevaluated_last(trained, tmp_path):
    for name, figure in (("low", 0.2), ("none", None), ("high", 0.9), ("middle", 0.5)):
        copy_of(trained, tmp_path, name, accuracy=figure)
    (rows,) = compare(runs_dir=tmp_path).tables
    assert [row.run for row in rows] == ["high-1", "middle-1", "low-1", "none-1"]


def test_an_accuracy_of_zero_is_a_figure(trained, tmp_path):
    copy_of(trained, tmp_path, "a")
    copy_of(trained, tmp_path, "b", accuracy=0.0)
    (rows,) = compare(runs_dir=tmp_path).tables
    assert [row.run for row in rows] == ["b-1", "a-1"]


def test_runs_of_other_stores_and_splits_stand_in_other_tables(trained, tmp_path):
    manifest = Run(trained).manifest
    copy_of(trained, tmp_path, "a", accuracy=0.5)
    copy_of(trained, tmp_path, "b", accuracy=0.6)
    copy_of(trained, tmp_path, "c", accuracy=0.7, split=manifest.split | {"name": "cv3-1", "sha256": "other"})
    copy_of(trained, tmp_path, "d", accuracy=0.8, store=manifest.store | {"fingerprint": "other"})
    copy_of(trained, tmp_path, "e", accuracy=0.9, split=manifest.split | {"leaking_groups": ["g01"]})
    tables = compare(runs_dir=tmp_path).tables
    assert sorted([row.run for row in rows] for rows in tables) == [["c-1"], ["d-1"], ["e-1", "b-1", "a-1"]]
    assert {row.run: row.leaking for rows in tables for row in rows}["e-1"]


def test_runs_of_different_stores_by_training(tiny_run, tmp_path):
    other = train(write_store(tmp_path / "o.h5", seed=1), quick(epochs=1), runs_dir=tmp_path / "runs").run
    split = train(Run(tiny_run).manifest.store["path"], quick(epochs=1, split="cv3-1"), runs_dir=tmp_path / "runs").run
    assert len(compare([tiny_run, other, split]).tables) == 3
    assert len(compare(runs_dir=tmp_path / "runs").tables) == 3


@pytest.mark.parametrize(
    ("dataset", "known"),
    [("UCF-11", "ucf11"), ("ucf11", "ucf11"), ("HMDB51", "hmdb51"), ("Hollywood2", "hollywood2"), ("videos", None),
     ("UCF-101", None), ("tiny", None)],
)  # fmt: skip
def test_published_figures_stand_beside_the_papers_datasets_only(trained, tmp_path, dataset, known):
    store = Run(trained).manifest.store | {"dataset": dataset}
    run = copy_of(trained, tmp_path, "run", accuracy=0.5, store=store)
    published = compare([run.path]).published
    assert {figure.dataset for figure in published} == ({known} if known else set())


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
    copy_of(trained, tmp_path, "done", accuracy=0.5)
    unfinished = copy_of(trained, tmp_path, "half", finished_at=None)
    ((row,),) = compare(runs_dir=tmp_path).tables
    assert row.run == "done-1"
    with pytest.raises(RunError, match="half-1: is not finished"):
        compare([unfinished.path])


def test_without_runs_it_says_how_to_make_one(tmp_path):
    with pytest.raises(RunError, match="no finished run here; make one with `attnrec train`"):
        compare(runs_dir=tmp_path)


def test_a_damaged_evaluation_is_refused(tiny_run):
    (tiny_run / "evaluation-test.json").write_text("{")
    with pytest.raises(RunError, match=r"evaluation-test\.json: cannot be read"):
        compare([tiny_run])


def test_another_part_can_count(tiny_run):
    evaluate(tiny_run, part="validation")
    ((row,),) = compare([tiny_run], part="validation").tables
    assert row.part == "validation"
    assert row.accuracy == json.loads((tiny_run / "evaluation-validation.json").read_text())["accuracy"]
    assert compare([tiny_run]).tables[0][0].accuracy is None


def test_runs_of_several_labels_are_ranked_by_map(tmp_path):
    store = write_store(tmp_path / "s.h5", multilabel=True, signal=4.0, num_groups=16)
    runs = [
        train(store, quick(epochs=5, model="softmax", learning_rate=rate), runs_dir=tmp_path / "runs").run
        for rate in (1e-9, 0.05)
    ]
    reports = [evaluate(run) for run in runs]
    assert reports[0].map < reports[1].map
    (rows,) = compare(runs).tables
    assert [row.path for row in rows] == runs[::-1]
    assert [row.figure for row in rows] == [row.map for row in rows] == [report.map for report in reports[::-1]]
    assert rows[0].metric == "map"
    assert rows[0].accuracy is rows[0].validation_accuracy is None
    assert rows[0].validation_figure == Run(runs[1]).manifest.result["validation_map"]
    assert rows[0].interval == tuple(reports[1].intervals["map"])


def test_an_interval_that_is_not_known_is_none(tmp_path):
    store = write_store(tmp_path / "s.h5", num_groups=2, splits={"default": [0, 2] * 3})  # one group to test
    run = train(store, quick(epochs=1), runs_dir=tmp_path / "runs").run
    evaluate(run)
    ((row,),) = compare([run]).tables
    assert row.interval is None
