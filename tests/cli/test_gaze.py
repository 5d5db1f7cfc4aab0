"""What commands say of runs whose attention is close to uniform, and of others."""

import json
from pathlib import Path

import pytest
from small_store import write_store
from typer.testing import CliRunner

from attnrec.cli.app import app

WORDS = "attention is close to uniform: this run looks nowhere in particular"
SIZES = ("--fps", "10", "--block-frames", "4", "--stride", "4", "--hidden", "16", "--layers", "1", "--batch-size", "8")
OPTIONS = (*SIZES, "--jobs", "1", "--device", "cpu")
NOWHERE = ("--epochs", "1", "--learning-rate", "0.001", "--attention", "location")
SOMEWHERE = ("--epochs", "12", "--learning-rate", "0.1", "--attention", "location")


def attnrec(*arguments: object):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.stderr
    return result


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    return write_store(tmp_path_factory.mktemp("store") / "features.h5")


@pytest.mark.parametrize(
    ("settings", "is_said"),
    [
        (NOWHERE, True),
        ((*NOWHERE, "--attention", "content"), True),
        (("--epochs", "1"), False),
        (SOMEWHERE, False),
        ((*NOWHERE, "--model", "avg-pool"), False),
    ],
    ids=["nowhere", "content", "auto", "somewhere", "avg-pool"],
)
@pytest.mark.parametrize("form", [(), ("--json",)], ids=["text", "json"])
def test_train_and_evaluate_say_where_a_run_looks_nowhere(store, tmp_path, settings, is_said, form):
    trained = attnrec("train", store, *OPTIONS, *settings, "--runs", tmp_path, *form)
    evaluated = attnrec("evaluate", "--runs", tmp_path, "--jobs", "1", *form)
    for result in (trained, evaluated):
        lines = [line for line in result.stderr.splitlines() if WORDS in line]
        assert len(lines) == is_said
        for line in lines:
            assert line.startswith(f"{tmp_path}/attention")
            assert ("try --attention saliency or a longer training" in line) == ("saliency" not in settings)
        if form:
            entropy = json.loads(result.stdout)["attention_entropy"]
            assert (entropy is not None and entropy > 0.97) == is_said
        else:
            assert ("attention entropy" in result.stdout) == ("avg-pool" not in settings)


def test_each_of_several_runs_is_named(store, tmp_path):
    for seed in range(2):
        attnrec("train", store, *OPTIONS, *NOWHERE, "--seed", seed, "--runs", tmp_path)
    runs = sorted(str(path) for path in tmp_path.glob("attention*"))
    evaluated = attnrec("evaluate", "--run", ",".join(runs), "--jobs", "1")
    assert [line.split(":")[0] for line in evaluated.stderr.splitlines() if WORDS in line] == runs
