"""A store and runs made by an earlier version of this program are read, and give what they gave then.

The files are those of `support/make_earlier.py`, made before the modules got their rooms; they are not made anew.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from typer.testing import CliRunner

from attnrec.cli.app import app

EARLIER = Path(__file__).resolve().parent / "support" / "earlier"
FINISHED = ("authors", "paper", "pooled", "saliency")
HERE = ("--device", "cpu", "--jobs", "1")
# These models hardly tell their blocks apart: features out of place would show in the fourth digit.
CLOSE = 1e-5
SAME = (
    "preset", "model", "attention", "backbone", "weights_sha256", "dataset", "multilabel", "split", "leaking_groups",
    "part", "trained_on", "reduction", "last_steps", "block_stride", "num_videos", "num_groups", "num_blocks",
    "accuracy", "mean_class_accuracy", "confusion",
)  # fmt: skip
MEASURED = ("chance", "log_loss", "attention_entropy", "penalty_above_floor")


def attnrec(*arguments: object) -> dict:
    """The document that a command prints."""
    result = CliRunner().invoke(app, [*map(str, arguments), "--json"])
    assert result.exit_code == 0, (result.stderr, result.exception)
    return json.loads(result.stdout)


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """A folder with copies of the store and the runs; the current one."""
    shutil.copytree(EARLIER / "trained", tmp_path / "runs")
    shutil.copy(EARLIER / "features.hdf5", tmp_path / "features.h5")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def close(value: float | None):
    return value if value is None else pytest.approx(value, rel=0, abs=CLOSE)


def recorded(name: str) -> dict:
    return json.loads((EARLIER / name).read_text(encoding="utf-8"))


def test_a_store_is_what_it_was(here):
    expected = recorded("store.json")
    assert expected["num_videos"] == 16
    found = attnrec("info", "features.h5")
    assert {name: found[name] for name in expected} == expected


@pytest.mark.parametrize("name", FINISHED)
def test_a_run_gives_the_figures_that_it_gave(here, name):
    expected = recorded(f"trained/{name}/evaluation-test.json")
    found = attnrec("evaluate", "--run", f"runs/{name}", "--features", "features.h5", *HERE)
    assert {figure: found[figure] for figure in SAME} == {figure: expected[figure] for figure in SAME}
    for figure in MEASURED:
        assert found[figure] == close(expected[figure]), figure
    assert [entry["accuracy"] for entry in found["classes"]] == [entry["accuracy"] for entry in expected["classes"]]
    for video, before in zip(found["videos"], expected["videos"], strict=True):
        assert video == before | {"probability": close(before["probability"])}


@pytest.mark.parametrize("name", FINISHED)
def test_a_run_predicts_every_block_as_it_did(here, name):
    path = here / "runs" / name / "predictions-test.npz"
    path.unlink()
    attnrec("evaluate", "--run", f"runs/{name}", "--features", "features.h5", *HERE)
    with np.load(path) as found, np.load(EARLIER / "trained" / name / path.name) as expected:
        assert set(expected) <= set(found)
        for array, before in expected.items():
            assert found[array].shape == before.shape, array
            if before.dtype.kind == "f":
                np.testing.assert_allclose(found[array], before, rtol=0, atol=CLOSE, err_msg=array)
            else:
                assert found[array].tolist() == before.tolist(), array


def test_a_run_predicts_a_clip_as_it_did(here):
    (clip,) = EARLIER.glob("*.mp4")
    (expected,) = recorded("prediction.json")["predictions"]
    (found,) = attnrec("predict", clip, "--run", "runs/saliency", *HERE)["predictions"]
    assert found["probs"] == pytest.approx(expected["probs"], rel=0, abs=10 * CLOSE)  # another ffmpeg may scale it
    assert found["probs"].keys() == expected["probs"].keys()
    assert (found["num_blocks"], found["status"]) == (expected["num_blocks"], expected["status"])


def test_a_store_can_be_trained_on(here):
    """The run that comes of it carries the store's network."""
    sizes = ("--fps", "4", "--block-frames", "3", "--hidden", "8", "--layers", "1", "--epochs", "1")
    run = attnrec("train", "features.h5", *sizes, *HERE)["run"]
    (clip,) = EARLIER.glob("*.mp4")
    (found,) = attnrec("predict", clip, "--run", run, *HERE)["predictions"]
    assert found["status"] == "ok"
    trunks = [load_file(path / "backbone.safetensors") for path in (Path(run), here / "runs/saliency")]
    assert trunks[0].keys() == trunks[1].keys()
    assert all(np.array_equal(value, trunks[1][name]) for name, value in trunks[0].items())


def test_runs_are_compared_by_what_lies_with_them(here):
    (here / "features.h5").unlink()
    tables = attnrec("compare")["tables"]
    rows = [row for table in tables for row in table["rows"]]
    figures = {Path(run["path"]).name: run["figure"] for row in rows for run in row["runs"]}
    assert figures == {name: recorded(f"trained/{name}/evaluation-test.json")["accuracy"] for name in FINISHED}
    (tested,) = (row for row in rows if row["runs"][0]["path"].endswith("saliency"))
    expected = recorded("trained/saliency/evaluation-test.json")["faithfulness"]
    for name, value in tested["faithfulness"].items():
        assert value == pytest.approx(expected[name]), name


def test_a_killed_run_goes_on_to_where_it_would_have_come(here):
    """`saliency` was trained in one go by the same settings."""
    before = (here / "runs/killed/training.jsonl").read_text().splitlines()
    report = attnrec("train", "features.h5", "--resume", "runs/killed", *HERE)
    known = recorded("trained/saliency/config.json")["result"]
    for name in ("best_epoch", "epochs", "updates"):
        assert report[name] == known[name]
    assert not (here / "runs/killed/checkpoint").exists()
    found, expected = (load_file(here / f"runs/{name}/model.safetensors") for name in ("killed", "saliency"))
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=0, atol=1e-3, err_msg=name)
    after = [json.loads(line) for line in (here / "runs/killed/training.jsonl").read_text().splitlines()]
    assert after[0] == json.loads(before[0])
    assert [line["epoch"] for line in after if line["kind"] == "epoch"] == list(range(1, known["epochs"] + 1))
