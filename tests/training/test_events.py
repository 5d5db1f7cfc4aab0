import json

import pytest
from small_store import quick

from attnrec.errors import ConfigError
from attnrec.training import events
from attnrec.training.run import Run
from attnrec.training.train import resume, train

accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")


def scalars(folder) -> dict[tuple[str, int], float]:
    """What TensorBoard shows of a run."""
    found = accumulator.EventAccumulator(str(folder)).Reload()
    return {(tag, event.step): event.value for tag in found.Tags()["scalars"] for event in found.Scalars(tag)}


def logged(run) -> dict[tuple[str, int], float]:
    """The same of its log."""
    return {
        (f"{line['kind']}/{name}", line["step"]): value
        for line in Run(run).read_log()
        for name, value in line.items()
        if name not in ("kind", "epoch", "step") and value is not None
    }


def test_event_files_hold_the_figures_of_the_log(tiny_store, tmp_path):
    run = train(tiny_store, quick(epochs=2, tensorboard=True), runs_dir=tmp_path).run
    assert scalars(run) == pytest.approx(logged(run))
    assert ("epoch/validation_loss", 12) in scalars(run)


def test_a_resumed_run_has_each_step_once(tiny_store, tmp_path):
    def kill(event):
        if event.done == 9:
            raise ZeroDivisionError

    config = quick(epochs=3, tensorboard=True, save_every=1000.0)
    with pytest.raises(ZeroDivisionError):
        train(tiny_store, config, runs_dir=tmp_path, on_progress=kill)
    (run,) = tmp_path.glob("attention*")
    resume(run)
    assert scalars(run) == pytest.approx(logged(run))


def test_without_it_there_are_no_event_files(tiny_run):
    assert not list(tiny_run.glob("events.*"))
    assert not json.loads((tiny_run / "config.json").read_text())["training"]["tensorboard"]


def test_where_it_is_not_installed_no_run_is_begun(tiny_store, tmp_path, monkeypatch):
    monkeypatch.setattr(events.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"--tensorboard needs tensorboard, .*; install attnrec\[tensorboard\]"):
        train(tiny_store, quick(tensorboard=True), runs_dir=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()
