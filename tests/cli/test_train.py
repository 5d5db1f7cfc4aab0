"""`attnrec train` as it is typed."""

import json
import re
from pathlib import Path

import pytest
from small_store import quick, write_store
from typer.testing import CliRunner

from attnrec.cli.app import app
from attnrec.training.run import Run
from attnrec.training.train import train

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


def test_a_setting_without_an_option_is_set(store):
    given = ("--set", "optimizer=sgd, init_layers=1", "--set", "input_dropout=0.25")
    plan = json.loads(attnrec("train", store, *OPTIONS, *given, "--dry-run", "--json").stdout)
    settings = plan["settings"]
    assert (settings["optimizer"], settings["init_layers"], settings["input_dropout"]) == ("sgd", 1, 0.25)
    assert plan["run_name"].endswith("optimizersgd-initlayers1-inputdropout0.25")


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("epochs=3", "epochs has an option of its own, see --help"),
        ("colour=red", "there is no setting 'colour'; settings: optimizer, decay_per"),
        ("init_layers=two", "init_layers must be a number, got 'two'"),
    ],
)
def test_what_cannot_be_set_is_said(store, assignment, message):
    done = attnrec("train", store, "--set", assignment)
    assert done.exit_code == 2
    assert message in " ".join(done.stderr.split())


def test_a_set_value_out_of_range_is_one_line(store):
    done = attnrec("train", store, "--set", "init_layers=0")
    assert (done.exit_code, done.stderr) == (1, "attnrec: init_layers must be from 1 to 32, got 0\n")


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
    done = attnrec(
        "train", "--resume", killed, "--lambda", 3, "--learning-rate", 0.01, "--epochs", 7, "--set", "init_layers=3"
    )
    assert done.exit_code == 2
    assert "the run has other settings than --lambda, --epochs, --set init_layers" in " ".join(done.stderr.split())
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
    assert "gradient norm clipped at 500" in plan
    assert "numbers     fp32" in plan
    assert "memory      3.1 kB for a batch's cubes" in plan  # 8 blocks of 4 x 4 x 6 numbers of 4 bytes
    assert "no gradient clipping" in attnrec("train", store, "--preset", "paper", "--dry-run").stdout
    assert "no gradient clipping" in attnrec("train", store, "--clip", 0, "--dry-run").stdout


def test_overfitting_is_warned_of(store, tmp_path):
    done = attnrec("train", store, *OPTIONS, "--overfit", 4, "--runs", tmp_path)
    assert done.exit_code == 0
    assert "warning: --overfit: trains on 4 blocks without validation; for debugging only" in done.stderr


def test_a_loss_that_is_no_number_is_one_line(store, tmp_path):
    far = ("--set", "optimizer=sgd", "--learning-rate", 100, "--weight-decay", 100, "--epochs", 9)
    done = attnrec("train", store, *OPTIONS, *far, "--runs", tmp_path, "--quiet")
    assert (done.exit_code, done.stdout, len(done.stderr.splitlines())) == (1, "", 1)
    assert re.search(r"at step \d, batch \d of epoch \d \(", done.stderr)
    assert "train anew with a lower --learning-rate" in done.stderr


def test_one_of_a_thing_takes_no_s(tmp_path):
    store = write_store(tmp_path / "one.h5", num_groups=3)
    for model in ("attention", "avg-pool"):
        done = attnrec("train", store, *OPTIONS, "--model", model, "--runs", tmp_path / "runs", "--quiet")
        assert done.exit_code == 0, done.stderr
        (run,) = (tmp_path / "runs").glob(f"{model}*")
        assert " in 1 group, " in attnrec("evaluate", "--run", run, "--quiet").stdout
    shown = attnrec("compare", "--runs", tmp_path / "runs").stdout
    assert "over 1 group of videos" in shown
    assert "with 1 group p cannot fall below 1." in shown


ESCAPE = "\x1b[2J"  # clears a terminal


def test_no_name_in_a_file_reaches_the_terminal_as_it_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    classes = [f"{name}{ESCAPE}" for name in ("bend", "jack", "wave")]
    store = write_store(
        Path(f"store{ESCAPE}.h5"),
        classes=classes,
        dataset=f"set{ESCAPE}",
        status={0: ESCAPE, 5: "damaged"},
        splits={f"split{ESCAPE}": [0, 0, 0, 0, 0, 1, 2, 2] * 3},
    )
    Path(f"other{ESCAPE}.h5").write_text("no store")
    runs = f"runs{ESCAPE}"
    commands: list[list[object]] = [
        ["info", store],
        ["train", *OPTIONS, "--runs", runs, "--dry-run"],
        ["train", *OPTIONS, "--runs", runs],
        ["evaluate", "--runs", runs],
        ["evaluate", "--runs", runs, "--faithfulness"],
        ["compare", "--runs", runs],
        ["compare", *OPTIONS, "--models", "attention,softmax", "--runs", runs, "--dry-run"],
        ["compare", *OPTIONS, "--models", "attention,softmax", "--runs", runs],
        ["info", None],  # the run
        ["info", f"absent{ESCAPE}"],
        ["train", store, *OPTIONS, "--split", ESCAPE],
    ]
    for command in commands:
        command = [next(Path(runs).iterdir()) if word is None else word for word in command]
        done = attnrec(*command)
        assert done.exception is None or isinstance(done.exception, SystemExit), (command, done.exception)
        said = done.stdout + done.stderr
        assert "\x1b" not in said, command
        assert r"\x1b[2J" in said, command


def test_a_bad_run_is_named_once_and_does_not_fail_a_table(store, tmp_path):
    done = attnrec("train", store, *OPTIONS, "--runs", tmp_path / "runs")
    assert done.exit_code == 0
    (tmp_path / "runs" / "bad").mkdir()
    (tmp_path / "runs" / "bad" / "config.json").write_text("[" * 100_000)
    for command in ("evaluate", "compare"):
        done = attnrec(command, "--runs", tmp_path / "runs")
        assert done.exit_code == 0
        assert done.stderr.count("left out: ") == 1
        assert f"left out: {tmp_path}/runs/bad/config.json: cannot be read: " in done.stderr
    named = attnrec("compare", tmp_path / "runs" / "bad")
    assert (named.exit_code, named.stdout, len(named.stderr.splitlines())) == (1, "", 1)
