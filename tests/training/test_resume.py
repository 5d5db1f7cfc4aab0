"""A training that ends at any moment and goes on: the same weights as one that did not."""

import json
import math
import os
import random
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from ranks import start
from safetensors.numpy import load_file
from small_store import QUICK, quick, write_store
from typer.testing import CliRunner

from attnrec.cli.app import app
from attnrec.errors import AttnrecError, RunError
from attnrec.evaluation.evaluate import evaluate
from attnrec.runtime import Progress
from attnrec.training import loop
from attnrec.training.checkpoint import load_checkpoint, sole_trainer
from attnrec.training.run import Run, find_runs
from attnrec.training.train import changed_settings, plan_resumption, resume, train


class _KilledError(BaseException):
    """Stands for the end of the process: nothing in the program catches it."""


def kill_at(event: int):
    """Progress that ends the training when it is told of something for so many times."""
    seen = 0

    def on_progress(_: Progress) -> None:
        nonlocal seen
        seen += 1
        if seen == event:
            raise _KilledError

    return on_progress


def log(run: Path) -> list[dict]:
    lines = [json.loads(line) for line in (run / "training.jsonl").read_text().splitlines()]
    measured = {"seconds", "blocks_per_second", "eta_seconds"}
    return [{name: value for name, value in line.items() if name not in measured} for line in lines]


def only_run(folder: Path) -> Path:
    (run,) = folder.iterdir()
    return run


def assert_same(run: Path, other: Path) -> None:
    """The same weights to the last bit, log and figures."""
    one, two = (load_file(path / "model.safetensors") for path in (run, other))
    assert one.keys() == two.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], two[name])
    assert log(run) == log(other)
    results = [{k: v for k, v in Run(path).manifest.result.items() if k != "seconds"} for path in (run, other)]
    assert results[0] == results[1]
    assert {path.name for path in run.iterdir()} == {path.name for path in other.iterdir()}


@pytest.fixture(scope="module")
def whole(tiny_store, tmp_path_factory) -> Path:
    """A run of three epochs, 18 steps, that nobody interrupted."""
    return Path(train(tiny_store, quick(epochs=3), runs_dir=tmp_path_factory.mktemp("whole")).run)


@pytest.mark.parametrize("save_every", [0.0, 1000.0])
@pytest.mark.parametrize("event", [1, 2, 5, 7, 8, 13, 20])
def test_a_run_that_ends_at_any_step_goes_on_to_the_same_weights(whole, tiny_store, tmp_path, event, save_every):
    with pytest.raises(_KilledError):
        train(tiny_store, quick(epochs=3, save_every=save_every), runs_dir=tmp_path, on_progress=kill_at(event))
    run = only_run(tmp_path)
    assert not Run(run).finished
    report = resume(run)
    assert_same(run, whole)
    assert report.updates == 18
    assert report.plan.run_name == run.name


def test_a_run_that_ends_again_and_again(whole, tiny_store, tmp_path):
    with pytest.raises(_KilledError):
        train(tiny_store, quick(epochs=3, save_every=0.0), runs_dir=tmp_path, on_progress=kill_at(3))
    run = only_run(tmp_path)
    for _ in range(3):
        with pytest.raises(_KilledError):
            resume(run, on_progress=kill_at(4))
    resume(run)
    assert_same(run, whole)


@pytest.mark.parametrize(
    ("event", "glimpse"), [(3, "soft"), (9, "soft"), (12, "soft"), (15, "soft"), (9, "hard"), (15, "hard")]
)
def test_retraining_goes_on_as_well(tiny_store, tmp_path, event, glimpse):
    config = quick(epochs=1, retrain=True, save_every=0.0, glimpse=glimpse)
    uninterrupted = Path(train(tiny_store, config, runs_dir=tmp_path / "whole").run)
    with pytest.raises(_KilledError):
        train(tiny_store, config, runs_dir=tmp_path / "killed", on_progress=kill_at(event))
    run = only_run(tmp_path / "killed")
    resume(run)
    assert_same(run, uninterrupted)


@pytest.mark.parametrize(
    "changes",
    [
        {"model": "avg-max-pool"},
        {"glimpse": "hard"},
        {"optimizer": "sgd", "batch_size": 5},
        {"precision": "bf16"},
        {"attention": "saliency", "add_mean": True},
    ],
)
def test_every_kind_of_training_goes_on(tiny_store, tmp_path, changes):
    config = quick(**{"epochs": 2, "save_every": 0.0} | changes)
    uninterrupted = Path(train(tiny_store, config, runs_dir=tmp_path / "whole").run)
    with pytest.raises(_KilledError):
        train(tiny_store, config, runs_dir=tmp_path / "killed", on_progress=kill_at(8))
    run = only_run(tmp_path / "killed")
    resume(run)
    assert_same(run, uninterrupted)


@pytest.mark.parametrize("name", ["state.pt", "model.safetensors", "config.json"])
def test_a_run_that_ends_before_any_file_is_written_goes_on(whole, tiny_store, tmp_path, monkeypatch, name):
    """The process ends just before the third time that a file would take its name."""
    real, seen = Path.replace, [0]

    def replace(self: Path, target: Path) -> Path:
        seen[0] += Path(target).name == name
        if seen[0] == (3 if name != "config.json" else 2) and Path(target).name == name:
            raise _KilledError
        return real(self, target)

    monkeypatch.setattr(Path, "replace", replace)
    with pytest.raises(_KilledError):
        train(tiny_store, quick(epochs=3), runs_dir=tmp_path)
    monkeypatch.undo()
    run = only_run(tmp_path)
    resume(run)
    assert_same(run, whole)


def test_what_a_killed_process_left_half_written_is_removed(whole, tiny_store, tmp_path):
    with pytest.raises(_KilledError):
        train(tiny_store, quick(epochs=3, save_every=0.0), runs_dir=tmp_path, on_progress=kill_at(9))
    run = only_run(tmp_path)
    (run / "checkpoint" / ".state-abc.pt").write_bytes(b"half")
    (run / ".model-abc.safetensors").write_bytes(b"half")
    (run / "backbone.safetensors").unlink()
    with (run / "training.jsonl").open("a") as file:
        file.write('{"kind": "step", "st')
    resume(run)
    assert_same(run, whole)


@pytest.mark.parametrize("num_kills", [2, pytest.param(10, marks=pytest.mark.slow)])
def test_kill_9_at_random_moments(tiny_store, tmp_path, num_kills):
    config, rng = quick(epochs=20 * num_kills, save_every=0.0), random.Random(num_kills)
    process = start(train, tiny_store, config, runs_dir=tmp_path / "runs")
    log_bytes = 0
    for _ in range(num_kills):
        while sum(file.stat().st_size for file in tmp_path.glob("runs/*/training.jsonl")) == log_bytes:
            assert process.is_alive()
            time.sleep(0.002)
        time.sleep(rng.uniform(0, 0.1))
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL, "the training was over too soon to be killed"
        run = only_run(tmp_path / "runs")
        log_bytes = sum(file.stat().st_size for file in tmp_path.glob("runs/*/training.jsonl"))
        process = start(resume, run)
    process.join()
    assert_same(run, Path(train(tiny_store, config, runs_dir=tmp_path / "whole").run))


def test_a_training_that_is_interrupted_says_how_to_go_on(whole, tiny_store, tmp_path):
    def interrupt(event: Progress) -> None:
        if event.done == 8:
            os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(
        KeyboardInterrupt, match=r"interrupted after step \d+; go on with `attnrec train --resume .*-1`"
    ):
        train(tiny_store, quick(epochs=3), runs_dir=tmp_path, on_progress=interrupt)
    assert signal.getsignal(signal.SIGINT) is before
    run = only_run(tmp_path)
    position = load_checkpoint(run).position
    assert position.step == 8
    resume(run)
    assert_same(run, whole)


def test_ctrl_c_ends_the_program_with_130_and_the_line_to_go_on(tiny_store, tmp_path):
    def interrupt() -> None:
        while not list(tmp_path.glob("runs/*/training.jsonl")):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    options = f"--fps 10 --block-frames 4 --hidden 16 --jobs 1 --epochs 5000 --patience 0 --runs {tmp_path / 'runs'}"
    thread = threading.Thread(target=interrupt)
    thread.start()
    done = CliRunner().invoke(app, ["train", str(tiny_store), *options.split()])
    thread.join()
    assert done.exit_code == 130
    run = only_run(tmp_path / "runs")
    assert done.stderr.splitlines()[-1].endswith(f"go on with `attnrec train --resume {run}`")
    assert load_checkpoint(run) is not None
    assert done.stdout == ""


def test_a_finished_run_is_not_resumed(whole):
    with pytest.raises(RunError, match="is finished; to train longer, train anew with more --epochs"):
        resume(whole)


def test_what_is_no_run_is_not_resumed(tmp_path):
    with pytest.raises(RunError, match="not a run"):
        resume(tmp_path)


@pytest.fixture
def killed(tiny_store, tmp_path) -> Path:
    """A run that ended in its second epoch."""
    with pytest.raises(_KilledError):
        train(tiny_store, quick(epochs=3, save_every=0.0), runs_dir=tmp_path / "runs", on_progress=kill_at(9))
    return only_run(tmp_path / "runs")


def test_another_store_or_split_is_refused(killed, tiny_store, tmp_path):
    other = write_store(tmp_path / "other.h5", seed=1)
    with pytest.raises(RunError, match="was trained on another store"):
        resume(killed, other)
    moved = shutil.copy(tiny_store, tmp_path / "moved.h5")
    resume(killed, moved)


def test_a_changed_split_is_refused(killed, tiny_store, tmp_path):
    changed = Path(shutil.copy(tiny_store, tmp_path / "changed.h5"))
    with h5py.File(changed, "r+") as file:
        file["splits/default"][0] = 3 - file["splits/default"][0]
    with pytest.raises(RunError, match="split default has changed"):
        resume(killed, changed)


def test_settings_that_differ_are_named(killed):
    config = quick(epochs=3, learning_rate=0.5, attention_penalty=2.0)
    names = {"epochs", "learning_rate", "attention_penalty"}
    assert changed_settings(killed, config, names) == ["attention_penalty", "learning_rate"]
    assert changed_settings(killed, config, {"epochs", "seed"}) == []
    assert plan_resumption(killed).settings == Run(killed).manifest.training


def test_other_threads_are_allowed_recorded_and_said(killed):
    said = []
    resume(killed, jobs=2, on_progress=lambda event: said.append(event.message))
    assert "note: now with threads 2; the weights may differ in their last digits" in said
    machine = Run(killed).manifest.machine
    assert machine["threads"] == 1
    assert machine["resumed_on"] == [{"device": "cpu", "threads": 2}]
    assert Run(killed).manifest.training.jobs == QUICK.jobs


def test_two_processes_do_not_train_one_run(killed):
    with sole_trainer(killed), pytest.raises(RunError, match="another `attnrec train` is at work on it"):
        resume(killed)
    resume(killed)


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 not a checkpoint", None])
def test_a_damaged_checkpoint_is_refused(killed, damage):
    state = killed / "checkpoint" / "state.pt"
    whole = state.read_bytes()
    state.write_bytes(whole[: len(whole) // 2] if damage is None else damage)
    with pytest.raises(RunError, match=r"state\.pt: cannot be used .*; train anew"):
        resume(killed)


def rewritten(path: Path, **changes) -> None:
    """Change parts of a checkpoint."""
    state = torch.load(path, weights_only=True)
    torch.save(state | {name: change(state[name]) for name, change in changes.items()}, path)


def without_numbers(model: dict) -> dict:
    return {name: value * math.nan for name, value in model.items()}


def of_other_shapes(optimizer: dict) -> dict:
    state = {i: {k: v.flatten()[1:] if v.ndim else v for k, v in of.items()} for i, of in optimizer["state"].items()}
    return optimizer | {"state": state}


def with_usual_losses(text: str) -> str:
    return json.dumps(json.loads(text) | {"usual_losses": [1.0, 2.0]})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"position": lambda _: "[" * 100_000}, "recursion"),
        ({"position": lambda _: "7"}, "cannot be used"),
        ({"position": with_usual_losses}, "not a position in a training with this attention"),
        ({"position": lambda text: text.replace('"epoch": 1', '"epoch": "one"')}, "Position: epoch cannot be 'one'"),
        ({"model": without_numbers}, "weights that are NaN or infinite"),
        ({"model": lambda _: {}}, "weights of another model"),
        ({"model": lambda _: {"a": torch.zeros(10**8, dtype=torch.uint8)}}, r"takes 1\d\d MB in memory, where"),
        ({"optimizer": lambda _: {}}, "cannot be used"),
        ({"optimizer": lambda state: state | {"state": 7}}, "cannot be used"),
        ({"optimizer": of_other_shapes}, "an optimiser of another model"),
        ({"version": lambda _: 2}, "version 2"),
    ],
)
def test_a_crafted_checkpoint_is_refused(killed, changes, message):
    rewritten(killed / "checkpoint" / "state.pt", **changes)
    with pytest.raises(RunError, match=rf"state\.pt: cannot be used .*{message}.*; train anew|state\.pt: {message}"):
        resume(killed)


@pytest.mark.parametrize("name", ["checkpoint/state.pt", "training.jsonl"])
def test_a_fifo_in_a_run_does_not_hold_a_resumption(killed, name):
    (killed / name).unlink()
    os.mkfifo(killed / name)
    with pytest.raises(AttnrecError, match=name.rpartition("/")[2]):
        resume(killed)


def test_a_pickle_in_the_place_of_the_checkpoint_is_not_run(killed, tmp_path):
    class Hostile:
        def __reduce__(self) -> tuple:
            return (Path.touch, (tmp_path / "was-run",))

    torch.save({"version": 1, "position": Hostile()}, killed / "checkpoint" / "state.pt")
    with pytest.raises(RunError, match="cannot be used"):
        resume(killed)
    assert not (tmp_path / "was-run").exists()


def test_a_loss_that_is_no_number_leaves_the_last_good_weights(tiny_store, tmp_path, monkeypatch):
    real = loop.Stepper.take

    def take(self, batch, step, stop=False):
        if step == 8:
            with torch.no_grad():
                next(self.model.parameters()).fill_(float("nan"))
        return real(self, batch, step, stop)

    monkeypatch.setattr(loop.Stepper, "take", take)
    message = r"the loss became nan at step 8, batch 3 of epoch 2 \(.*mp4.*\); the weights of epoch 1 are kept"
    with pytest.raises(RunError, match=message):
        train(tiny_store, quick(epochs=3), runs_dir=tmp_path / "runs")
    run = only_run(tmp_path / "runs")
    assert not Run(run).finished
    monkeypatch.undo()
    one_epoch = train(tiny_store, quick(epochs=1), runs_dir=tmp_path / "one").run
    for name, value in load_file(Path(one_epoch) / "model.safetensors").items():
        np.testing.assert_array_equal(load_file(run / "model.safetensors")[name], value)
    assert load_checkpoint(run).position.step == 6


def test_a_gradient_that_is_no_number_ends_the_training_before_it_does_harm(tiny_store, tmp_path, monkeypatch):
    monkeypatch.setattr(loop.Stepper, "_clipped_norm", lambda self: torch.tensor(math.inf))
    with pytest.raises(RunError, match="the gradient became inf at step 0"):
        train(tiny_store, quick(), runs_dir=tmp_path)


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    """A file system that holds 400 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", folder], capture_output=True).returncode:
        pytest.skip("this user may not mount a file system")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_full_disk_leaves_what_was_saved_before(tiny_store, tmp_path, small_disk):
    def fill(event: Progress) -> None:
        if event.done == 9 and event.message is None:
            (small_disk / "filler").write_bytes(b"0" * shutil.disk_usage(small_disk).free)

    config = quick(epochs=3, save_every=0.0)
    message = "cannot be written: the disk is full; what was saved before is intact"
    with pytest.raises(AttnrecError, match=message) as full:
        train(tiny_store, config, runs_dir=small_disk / "runs", on_progress=fill)
    assert "\n" not in str(full.value)
    run = only_run(small_disk / "runs")
    assert load_checkpoint(run).position.step == 8
    assert load_file(run / "model.safetensors")
    (small_disk / "filler").unlink()
    resume(run)
    uninterrupted = train(tiny_store, config, runs_dir=tmp_path / "whole").run
    assert_same(run, Path(uninterrupted))
    assert evaluate(run, tiny_store).accuracy is not None
    assert len(find_runs(small_disk / "runs")) == 1
