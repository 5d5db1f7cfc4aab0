import dataclasses
import json
import os
import random
import shutil
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
from small_store import QUICK, quick, write_store

from attnrec.comparison.compare import compare
from attnrec.comparison.forecast import plan_grid
from attnrec.errors import ConfigError, FeatureStoreError
from attnrec.evaluation.evaluate import evaluate
from attnrec.runtime import Progress, resolve_device, resolve_precision
from attnrec.settings import GridConfig, TrainConfig, settings_of
from attnrec.training.checkpoint import sole_trainer
from attnrec.training.identity import identity, run_name
from attnrec.training.run import Run, find_runs
from attnrec.training.train import train

FAST = quick(epochs=1, num_layers=1, hidden_dim=4)


class _KilledError(BaseException):
    """Stands for the end of the process: nothing in the program catches it."""


def small_grid(**changes) -> GridConfig:
    """Two rows, attention and average pooling, with the settings of the tests."""
    return GridConfig(**{"models": ("attention", "avg-pool"), "training": FAST} | changes)


def files(folder: Path) -> dict[str, int]:
    """Every file below a folder with the time of its last change."""
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def figures(report) -> list:
    """All that a comparison says but times and names of runs."""
    document = dataclasses.asdict(report)["tables"]
    for row in (row for table in document for row in table["rows"]):
        del row["training"]["seconds"]
        for name in ("train_seconds", "blocks_per_second", "runs"):
            del row[name]
    return document


@pytest.mark.parametrize("seed", range(30))
def test_the_rows_are_every_combination_once(seed):
    rng = random.Random(seed)

    def some(values: list, least: int = 1) -> tuple:
        return tuple(rng.sample(values, rng.randint(least, len(values))))

    models = some(["attention", "avg-pool", "max-pool", "softmax"])
    attention, penalties = some(["location", "content"], 0), some([0.0, 0.5, 1.0, 10.0])
    fps, splits, num_seeds = some([5.0, 6.0, 30.0], 0), some(["a", "b", "c"], 0), rng.randint(1, 4)
    grid = GridConfig(
        models=models,
        attention=attention,
        penalties=penalties,
        fps=fps,
        splits=splits,
        num_seeds=num_seeds,
        training=TrainConfig(fps=12.0, seed=3, hidden_dim=7),
    )
    wanted = [
        (model, form, penalty, rate)
        for model in models
        for form in ((attention or (None,)) if model == "attention" else (None,))
        for penalty in (penalties if model == "attention" else (0.0,))
        for rate in (fps or (12.0,))
    ]
    rows = grid.rows()
    assert [(row.model, row.attention, row.attention_penalty, row.fps) for row in rows] == wanted
    assert len(set(rows)) == len(rows)
    assert {row.hidden_dim for row in rows} == {7}
    assert list(grid.seeds()) == list(range(3, 3 + num_seeds))
    assert grid.split_names() == (list(splits) or [None])


def test_each_glimpse_is_a_row_of_attention_models_only():
    training = TrainConfig(reinforce_weight=0.5)
    rows = GridConfig(models=("attention", "softmax"), glimpse=("soft", "hard"), training=training).rows()
    assert [(row.model, row.glimpse, row.reinforce_weight) for row in rows] == [
        ("attention", "soft", 1.0), ("attention", "hard", 0.5), ("softmax", "soft", 1.0),
    ]  # fmt: skip
    assert [run_name(row) for row in rows] == ["attention", "attention-hard-reinforceweight0.5", "softmax"]


def test_what_is_asked_for_twice_is_one_row():
    grid = GridConfig(models=("softmax", "softmax"), fps=(6.0, 6.0), penalties=(0.0, 1.0), splits=("a", "a"))
    assert (len(grid.rows()), grid.split_names()) == (1, ["a"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"models": ("attention", "transformer")}, "models must be one of attention, avg-pool, .* got 'transformer'"),
        ({"glimpse": ("firm",)}, "glimpse must be one of soft, hard"),
        ({"attention": ("everywhere",)}, "attention must be one of location, content"),
        ({"penalties": (0.0, -1.0)}, "penalties must be from 0 to"),
        ({"fps": (0.0,)}, "fps must be over 0"),
        ({"models": ()}, "a grid needs a model"),
        ({"num_seeds": 0}, "num_seeds must be from 1 to 1000, got 0"),
    ],
)
def test_what_no_training_takes_is_refused_before_any(changes, message):
    with pytest.raises(ConfigError, match=message):
        GridConfig(**changes)


OTHERS = {
    "model": "softmax", "attention": "content", "glimpse": "hard", "preset": "paper", "optimizer": "sgd",
    "decay_per": "batch", "penalty_reduction": "mean", "block_starts": "by-frame", "reduction": "vote",
    "precision": "bf16", "retrain": True, "max_steps": None, "overfit": None,
}  # fmt: skip


@pytest.mark.parametrize("name", sorted({field.name for field in dataclasses.fields(TrainConfig)} - {"split", "layer"}))
def test_a_run_is_known_by_all_that_decides_its_weights(name):
    base = dataclasses.replace(QUICK, max_steps=5, overfit=5, last_steps=1, input_dropout=0.1, attention_dim=3)
    value = getattr(base, name)
    other = OTHERS.get(name, (value or 0) + 1 if not isinstance(value, str) else "cuda")
    if name in ("dropout", "input_dropout"):
        other = 0.3
    if name == "retrain":
        base = dataclasses.replace(base, max_steps=None, overfit=None)
    changed = dataclasses.replace(base, **{name: other})
    same = identity(base, "features", "f", "s") == identity(changed, "features", "f", "s")
    setting = settings_of(TrainConfig)[name]
    assert same == (not setting.decides)
    pooled = [dataclasses.replace(each, model="avg-pool") for each in (base, changed)]
    if name != "model":
        same = identity(pooled[0], "features", "f", "s") == identity(pooled[1], "features", "f", "s")
        assert same == (not setting.decides or setting.of_attention)


def test_a_run_is_known_by_its_features_and_its_split_not_by_the_splits_name():
    base = ("layer", "store", "split")
    assert identity(QUICK, *base) == identity(dataclasses.replace(QUICK, split="x"), *base)
    others = [("other", "store", "split"), ("layer", "other", "split"), ("layer", "store", "other")]
    assert len({identity(QUICK, *names) for names in [base, *others]}) == 4


@pytest.fixture(scope="module")
def done(tiny_store, tmp_path_factory):
    """A grid over two folds with two seeds, its runs and its report; nothing may write to them."""
    folder = tmp_path_factory.mktemp("grid")
    grid = small_grid(splits=("cv3-1", "cv3-2"), num_seeds=2, penalties=(0.0, 1.0))
    return grid, folder, compare(grid=grid, store=tiny_store, runs_dir=folder)


def test_a_grid_is_trained_evaluated_and_tabulated(done):
    _, folder, report = done
    assert vars(report.grid) == {
        "num_cells": 12, "num_trained": 12, "num_resumed": 0, "num_evaluated": 12, "failed": [],
    }  # fmt: skip
    assert len(find_runs(folder)) == 12
    (table,) = report.tables
    assert [row.name for row in table.rows] == ["attention-lambda0", "attention-lambda1", "avg-pool"]
    assert (table.against, table.splits) == ("attention-lambda0", ["cv3-1", "cv3-2"])
    for row in table.rows:
        assert (row.seeds, row.splits, row.flags, len(row.runs)) == ([0, 1], ["cv3-1", "cv3-2"], [], 4)


def test_soft_and_hard_are_rows_with_their_spread_over_seeds(tiny_store, tmp_path):
    grid = small_grid(models=("attention",), glimpse=("soft", "hard"), num_seeds=2)
    (table,) = compare(grid=grid, store=tiny_store, runs_dir=tmp_path).tables
    assert [(row.name, row.settings["glimpse"]) for row in table.rows] == [
        ("attention-soft", "soft"), ("attention-hard", "hard"),
    ]  # fmt: skip
    assert all(row.sd is not None and row.seeds == [0, 1] for row in table.rows)


def test_a_second_call_does_nothing_and_says_the_same(done, tiny_store):
    grid, folder, report = done
    before = files(folder)
    again = compare(grid=grid, store=tiny_store, runs_dir=folder)
    assert files(folder) == before
    assert (again.grid.num_trained, again.grid.num_evaluated) == (0, 0)
    assert again.tables == report.tables
    assert (
        figures(compare(runs_dir=folder, against="attention-lambda0"))[0]["num_videos"] == report.tables[0].num_videos
    )


def test_runs_are_known_whatever_they_are_called(tiny_store, tmp_path):
    made = train(tiny_store, dataclasses.replace(FAST, model="avg-pool", split="default"), runs_dir=tmp_path)
    Path(made.run).rename(tmp_path / "my favourite")
    report = compare(grid=small_grid(), store=tiny_store, runs_dir=tmp_path)
    assert (report.grid.num_trained, report.grid.num_evaluated) == (1, 2)
    assert [row.runs[0].run for row in report.tables[0].rows][1] == "my favourite"


def test_a_run_is_known_by_the_precision_that_it_was_trained_in_not_by_auto(tiny_store, tmp_path):
    here = resolve_precision("auto", resolve_device(FAST.device))
    elsewhere = {"fp32": "bf16", "bf16": "fp32"}[here]
    made = train(tiny_store, dataclasses.replace(FAST, model="avg-pool", precision=here), runs_dir=tmp_path)
    assert Run(made.run).manifest.training.precision == here
    for precision, expected in (("auto", 0), (elsewhere, 1), ("auto", 0)):
        training = dataclasses.replace(FAST, precision=precision)
        report = compare(grid=small_grid(models=("avg-pool",), training=training), store=tiny_store, runs_dir=tmp_path)
        assert report.grid.num_trained == expected, precision


def test_a_larger_grid_trains_only_what_is_new(done, tiny_store, tmp_path):
    grid, folder, _ = done
    runs = tmp_path / "runs"
    shutil.copytree(folder, runs)
    larger = dataclasses.replace(grid, models=("attention", "avg-pool", "softmax"))
    report = compare(grid=larger, store=tiny_store, runs_dir=runs)
    assert (report.grid.num_cells, report.grid.num_trained) == (16, 4)


def test_what_is_missing_or_damaged_of_an_evaluation_is_made_again(tiny_store, tmp_path):
    grid = small_grid(num_seeds=2)
    first = compare(grid=grid, store=tiny_store, runs_dir=tmp_path)
    paths = [Path(run.path) for row in first.tables[0].rows for run in row.runs]
    (paths[0] / "evaluation-test.json").unlink()
    (paths[1] / "predictions-test.npz").write_bytes(b"PK no zip")
    evaluate(paths[2], reduction="vote")  # not as its training says
    report = compare(grid=grid, store=tiny_store, runs_dir=tmp_path)
    assert (report.grid.num_trained, report.grid.num_evaluated) == (0, 3)
    assert figures(report) == figures(first)


@pytest.fixture(scope="module")
def whole(tiny_store, tmp_path_factory):
    """A grid of four runs that nobody interrupted, and its report."""
    grid = small_grid(num_seeds=2, training=dataclasses.replace(FAST, save_every=0.0))
    return grid, compare(grid=grid, store=tiny_store, runs_dir=tmp_path_factory.mktemp("whole"))


@pytest.mark.parametrize("event", [6, 12, 23])
def test_a_killed_grid_goes_on_to_the_same_table(whole, tiny_store, tmp_path, event):
    grid, uninterrupted = whole
    seen = 0

    def kill(_: Progress) -> None:
        nonlocal seen
        seen += 1
        if seen == event:
            raise _KilledError

    with pytest.raises(_KilledError):
        compare(grid=grid, store=tiny_store, runs_dir=tmp_path, on_progress=kill)
    finished, begun = len(find_runs(tmp_path)), len(find_runs(tmp_path, finished=False))
    assert 0 < finished + begun < 4
    report = compare(grid=grid, store=tiny_store, runs_dir=tmp_path)
    assert (report.grid.num_trained, report.grid.num_resumed) == (4 - finished, begun)
    assert figures(report) == figures(uninterrupted)
    assert len(list(tmp_path.iterdir())) == 4  # none was begun twice


def test_an_interruption_says_that_the_same_command_goes_on(tiny_store, tmp_path):
    def interrupt(event: Progress) -> None:
        if event.stage == "train" and event.done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt, match="the same command goes on"):
        compare(grid=small_grid(), store=tiny_store, runs_dir=tmp_path, on_progress=interrupt)


def test_a_cell_that_fails_is_named_and_the_rest_goes_on(tiny_store, tmp_path):
    grid = small_grid(num_seeds=2)
    first = compare(grid=grid, store=tiny_store, runs_dir=tmp_path)
    broken = Run(first.tables[0].rows[0].runs[1].path)
    broken.update(finished_at=None)
    state = broken.path / "checkpoint" / "state.pt"
    state.parent.mkdir()
    state.write_text("no checkpoint")
    said = []
    report = compare(
        grid=grid, store=tiny_store, runs_dir=tmp_path, on_progress=lambda event: said.append(event.message or "")
    )
    (failed,) = report.grid.failed
    assert failed.name.endswith("-seed1")
    assert failed.reason.startswith(f"{state}: cannot be used (")
    assert f"failed: {failed.name}: {failed.reason}" in said
    first_row, second_row = report.tables[0].rows
    assert (first_row.seeds, second_row.seeds) == ([0], [0, 1])
    state.unlink()
    again = compare(grid=grid, store=tiny_store, runs_dir=tmp_path)
    assert (again.grid.failed, again.grid.num_trained) == ([], 1)
    assert figures(again) == figures(first)


def test_a_cell_that_another_process_trains_is_waited_for_last(tiny_store, tmp_path):
    grid = small_grid(num_seeds=2)
    first = compare(grid=grid, store=tiny_store, runs_dir=tmp_path)
    busy = Run(first.tables[0].rows[0].runs[0].path)
    finished_at = busy.manifest.finished_at
    busy.update(finished_at=None)
    said = []
    with ExitStack() as other:
        other.enter_context(sole_trainer(busy.path))

        def come_to_the_end(event: Progress) -> None:
            said.append(event.message or event.detail)
            if event.message == f"waiting for {busy.path}, which another process trains":
                busy.update(finished_at=finished_at)
                other.close()

        report = compare(grid=grid, store=tiny_store, runs_dir=tmp_path, on_progress=come_to_the_end)
    assert (report.grid.num_trained, report.grid.failed) == (0, [])
    assert f"trained {busy.path} by another process" in said
    assert said.index(f"waiting for {busy.path}, which another process trains") > max(
        i for i, text in enumerate(said) if text.endswith("-seed1")
    )
    assert figures(report) == figures(first)


def test_two_grids_at_once_train_no_cell_twice(tiny_store, tmp_path):
    script = (
        "import sys\nfrom pathlib import Path\nfrom test_grid import small_grid\n"
        "from attnrec.comparison.compare import compare\nprint('ready', flush=True)\nsys.stdin.readline()\n"
        "report = compare(grid=small_grid(num_seeds=3), store=sys.argv[1], runs_dir=sys.argv[2])\n"
        "print(report.grid.num_trained, len(report.grid.failed), [row.seeds for row in report.tables[0].rows])\n"
    )
    folders = [Path(__file__).parent, Path(__file__).parents[1] / "support"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([*map(str, folders), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "-c", script, str(tiny_store), str(tmp_path / "runs")]
    processes = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
        for _ in range(2)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    said = [process.communicate(timeout=120)[0].split(maxsplit=2) for process in processes]
    assert sum(int(trained) for trained, _, _ in said) == 6
    assert {(failed, rows) for _, failed, rows in said} == {("0", "[[0, 1, 2], [0, 1, 2]]\n")}
    assert len(list((tmp_path / "runs").iterdir())) == 6


def test_a_grid_of_which_every_cell_fails_is_no_table(tiny_store, tmp_path):
    runs = tmp_path / "runs"
    runs.write_text("in the way")
    report = compare(grid=small_grid(), store=tiny_store, runs_dir=runs)
    assert report.tables == []
    assert [cell.name.split("-")[0] for cell in report.grid.failed] == ["attention", "avg"]
    assert all("cannot be made" in cell.reason for cell in report.grid.failed)


def test_what_does_not_fit_the_store_is_refused_before_anything_is_trained(tiny_store, tmp_path):
    for grid, error in [
        (small_grid(splits=("default", "cv9-1")), FeatureStoreError),
        (small_grid(training=dataclasses.replace(FAST, scorer_layers=2)), ConfigError),
    ]:
        with pytest.raises(error):
            compare(grid=grid, store=tiny_store, runs_dir=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_what_the_preset_makes_of_a_folds_blocks_does_not_part_its_row(tmp_path):
    codes = {"cv3-1": [0, 0, 0, 0, 0, 1, 2, 2], "cv3-2": [2, 2, 2, 1, 0, 3, 3, 3]}  # five groups to train on, and one
    store = write_store(tmp_path / "s.h5", splits={name: split * 3 for name, split in codes.items()})
    training = dataclasses.replace(FAST, batch_size=1, epochs=None, max_steps=2)
    report = compare(grid=small_grid(splits=tuple(codes), training=training), store=store, runs_dir=tmp_path / "runs")
    epochs = {Run(run.path).manifest.training.epochs for row in report.tables[0].rows for run in row.runs}
    assert len(epochs) == 2
    for tables in (report.tables, compare(runs_dir=tmp_path / "runs").tables):
        (table,) = tables
        assert sorted(row.name for row in table.rows) == ["attention", "avg-pool"]
        assert {row.num_videos for row in table.rows} == {table.num_videos} == {15}


def test_figures_of_weights_that_are_no_more_are_dropped(tiny_store, tmp_path):
    def kill(event: Progress) -> None:
        if event.message and event.message.startswith("epoch 1"):
            raise _KilledError

    with pytest.raises(_KilledError):
        train(tiny_store, quick(epochs=3, model="avg-pool"), runs_dir=tmp_path, on_progress=kill)
    (run,) = find_runs(tmp_path, finished=False)
    early = evaluate(run.path)
    grid = GridConfig(models=("avg-pool",), training=quick(epochs=3))
    report = compare(grid=grid, store=tiny_store, runs_dir=tmp_path)
    assert (report.grid.num_resumed, report.grid.num_evaluated) == (1, 1)
    assert json.loads((run.path / "evaluation-test.json").read_text())["log_loss"] != early.log_loss


def test_the_plan_says_what_is_there_and_writes_nothing(done, tiny_store, tmp_path):
    grid, folder, _ = done
    before = files(folder)
    plan = plan_grid(grid, tiny_store, runs_dir=folder)
    assert {cell.state for cell in plan.cells} == {"done"}
    assert (plan.seconds, plan.num_rows, plan.splits, plan.seeds) == (0, 3, ["cv3-1", "cv3-2"], [0, 1])
    more = plan_grid(dataclasses.replace(grid, num_seeds=3), tiny_store, runs_dir=folder)
    assert [cell.state for cell in more.cells].count("to train") == 6
    known = [run.manifest.result["seconds"] for run in find_runs(folder)]
    assert 0.1 * min(known) < more.seconds / 6 < 10 * max(known)
    assert files(folder) == before
    new = plan_grid(grid, tiny_store, runs_dir=tmp_path / "runs")
    assert {(cell.run, cell.state) for cell in new.cells} == {(None, "to train")}
    assert all(cell.seconds > 0 for cell in new.cells)
    assert not (tmp_path / "runs").exists()


def test_the_plan_times_each_model_once(tiny_store, tmp_path):
    grid = GridConfig(models=("attention", "avg-pool"), penalties=(0.0, 1.0), training=quick())
    *attention, pooled = plan_grid(grid, tiny_store, runs_dir=tmp_path).cells
    assert len({cell.seconds for cell in attention}) == 1  # two measurements would differ
    assert pooled.seconds != attention[0].seconds


def test_the_plan_names_what_was_interrupted_or_not_evaluated(tiny_store, tmp_path):
    grid = small_grid()
    report = compare(grid=grid, store=tiny_store, runs_dir=tmp_path)
    first, second = (Run(row.runs[0].path) for row in report.tables[0].rows)
    first.update(finished_at=None)
    (second.path / "evaluation-test.json").unlink()
    plan = plan_grid(grid, tiny_store, runs_dir=tmp_path)
    assert [(cell.run, cell.state) for cell in plan.cells] == [
        (str(first.path), "interrupted"), (str(second.path), "to evaluate"),
    ]  # fmt: skip
    assert plan.cells[0].seconds > plan.cells[1].seconds > 0


def test_one_process_trains_a_grid(tiny_store, tmp_path, monkeypatch):
    environment = {"TORCHELASTIC_RUN_ID": "x", "RANK": 0, "WORLD_SIZE": 2, "LOCAL_RANK": 0, "LOCAL_WORLD_SIZE": 2}
    for name, value in environment.items():
        monkeypatch.setenv(name, str(value))
    with pytest.raises(ConfigError, match="by one process: start it without torchrun"):
        compare(grid=small_grid(), store=tiny_store, runs_dir=tmp_path)
