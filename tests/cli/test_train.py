"""`attnrec train` as it is typed."""

import json
from pathlib import Path

import pytest
from small_store import quick, write_store
from typer.testing import CliRunner

from attnrec.cli.app import app
from attnrec.run import Run
from attnrec.workflows.train import train

SIZES = ("--fps", "10", "--block-frames", "4", "--block-stride", "4", "--hidden", "16", "--layers", "1")
OPTIONS = (*SIZES, "--jobs", "1", "--epochs", "1", "--device", "cpu")


def attnrec(*arguments: object):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    return write_store(tmp_path_factory.mktemp("store") / "features.h5")


@pytest.fixture
def killed(store, tmp_path) -> Path:
    """A run that ended in its first epoch."""

    def end(_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(store, quick(save_every=0.0), runs_dir=tmp_path / "runs", on_progress=end)
    (run,) = (tmp_path / "runs").iterdir()
    return run


def test_seeds_give_a_list_of_reports(store, tmp_path):
    done = attnrec("train", store, *OPTIONS, "--seeds", 2, "--seed", 5, "--runs", tmp_path, "--json")
    reports = json.loads(done.stdout)
    assert [report["plan"]["settings"]["seed"] for report in reports] == [5, 6]
    assert all(Run(report["run"]).finished for report in reports)
    done = attnrec("train", store, *OPTIONS, "--seeds", 2, "--runs", tmp_path, "--quiet")
    assert (done.exit_code, len(done.stdout.splitlines()), done.stderr) == (0, 2, "")


def test_resume_takes_the_runs_own_settings(killed):
    done = attnrec("train", "--resume", killed, "--json")
    assert done.exit_code == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["run"] == str(killed)
    assert report["plan"]["settings"]["batch_size"] == 8
    assert Run(killed).finished
    again = attnrec("train", "--resume", killed)
    assert again.exit_code == 1
    assert again.stderr == f"attnrec: {killed}: is finished; to train longer, train anew with more --epochs\n"


def test_resume_refuses_other_settings_by_name(killed):
    done = attnrec("train", "--resume", killed, "--lambda", 3, "--learning-rate", 0.01, "--epochs", 7, "--seeds", 2)
    assert done.exit_code == 2
    assert "the run has other settings than --lambda, --epochs, --seeds" in " ".join(done.stderr.split())
    assert not Run(killed).finished
    done = attnrec("train", "--resume", killed, "--epochs", 2, "--jobs", 1, "--save-every", 5, "--device", "cpu")
    assert done.exit_code == 0, done.stderr


def test_resume_can_be_planned(killed):
    before = sorted(killed.rglob("*"))
    done = attnrec("train", "--resume", killed, "--dry-run")
    assert done.stdout.startswith(f"run         {killed.name}\n")
    assert sorted(killed.rglob("*")) == before
    assert not Run(killed).finished


def test_the_plan_says_how_gradients_and_numbers_are_treated(store):
    plan = attnrec("train", store, *OPTIONS, "--batch-size", 8, "--precision", "fp32", "--dry-run").stdout
    assert "gradients of a norm over 500 are clipped" in plan
    assert "numbers     fp32" in plan
    assert "memory      3.1 kB for a batch's cubes" in plan  # 8 blocks of 4 x 4 x 6 numbers of 4 bytes
    assert "no gradient is clipped" in attnrec("train", store, "--preset", "paper", "--dry-run").stdout
    assert "no gradient is clipped" in attnrec("train", store, "--clip", 0, "--dry-run").stdout


def test_overfitting_is_warned_of(store, tmp_path):
    done = attnrec("train", store, *OPTIONS, "--overfit", 4, "--runs", tmp_path)
    assert done.exit_code == 0
    assert "warning: --overfit: trains on 4 blocks and validates on none; for debugging alone" in done.stderr


def test_a_loss_that_is_no_number_is_one_line(store, tmp_path):
    done = attnrec("train", store, *OPTIONS, "--lambda", 1e300, "--runs", tmp_path, "--quiet")
    assert (done.exit_code, done.stdout, len(done.stderr.splitlines())) == (1, "", 1)
    assert "at step 0, batch 1 of epoch 1 (" in done.stderr
    assert "train anew with a lower --learning-rate" in done.stderr


def test_one_of_a_thing_takes_no_s(tmp_path):
    store = write_store(tmp_path / "one.h5", num_groups=3)
    for model in ("attention", "avg-pool"):
        done = attnrec("train", store, *OPTIONS, "--model", model, "--runs", tmp_path / "runs", "--quiet")
        assert done.exit_code == 0, done.stderr
        (run,) = (tmp_path / "runs").glob(f"{model}*")
        assert " in 1 group (" in attnrec("evaluate", "--run", run, "--quiet").stdout
    shown = attnrec("compare", "--runs", tmp_path / "runs").stdout
    assert "over 1 group of videos" in shown
    assert "with 1 group p cannot fall below 1." in shown
