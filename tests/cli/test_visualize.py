"""`attnrec visualize` as it is typed, by a run that knows nothing."""

import json
from pathlib import Path

import numpy as np
import pytest
from clips import write
from small_store import quick, write_trunk_store
from typer.testing import CliRunner

from attnrec.cli.app import app
from attnrec.evaluation.gaze import NOWHERE
from attnrec.training.train import train


def attnrec(*arguments: object):
    return CliRunner().invoke(app, ["visualize", *(str(argument) for argument in arguments), "--jobs", "1"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A run whose attention is as at its start, two clips, and boxes for one of them."""
    folder = tmp_path_factory.mktemp("pictures")
    store = write_trunk_store(folder / "features.h5", "random")
    train(store, quick(fps=6.0, block_frames=5, epochs=1, learning_rate=1e-5), runs_dir=folder / "runs")
    for name in ("one", "two"):
        write(folder / f"{name}.mp4", np.full((4, 48, 64, 3), 90, np.uint8), fps=6)
    (folder / "boxes.csv").write_text("path,seconds,x0,y0,x1,y1\none.mp4,0,8,8,24,40\n", encoding="utf-8")
    return folder


def test_words_stand_beside_the_entropy(folder, tmp_path):
    result = attnrec(folder / "one.mp4", "--runs", folder / "runs", "--out", tmp_path / "out.gif", "--width", "64")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.rstrip().endswith(f" of uniform; {NOWHERE}")
    assert "box" not in result.stderr


@pytest.mark.parametrize("many", [False, True])
def test_boxes_are_counted_and_missed(folder, tmp_path, many):
    clips = [folder / "one.mp4", folder / "two.mp4"] if many else [folder / "one.mp4"]
    out = tmp_path if many else tmp_path / "one.png"
    options = ("--format", "png", "--width", "64", "--boxes", folder / "boxes.csv", "--json")
    result = attnrec(*clips, "--runs", folder / "runs", "--out", out, *options)
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    assert [report["num_boxed"] for report in (document["pictures"] if many else [document])] == [1, 0][: len(clips)]
    missed = f"{folder}/two.mp4: {folder}/boxes.csv has no box of what is shown; its paths are those in the data set"
    assert [line for line in result.stderr.splitlines() if "no box" in line] == ([missed] if many else [])


@pytest.mark.parametrize("how", [("--gallery", "test"), ("--versus", "a,b"), ()])
def test_a_bad_file_of_boxes_is_refused(folder, tmp_path, monkeypatch, how):
    monkeypatch.chdir(tmp_path)
    for name in "ab":
        (tmp_path / name).symlink_to(next((folder / "runs").glob("attention*")))
    (tmp_path / "bad.csv").write_text("path,seconds\none.mp4,0\n")
    clips = [] if "--gallery" in how else [folder / "one.mp4"]
    result = attnrec(*clips, "--runs", folder / "runs", *how, "--boxes", "bad.csv", "--out", "out.png")
    assert result.exit_code == 1
    assert "attnrec: bad.csv" in result.stderr
    assert not (tmp_path / "out.png").exists()


def test_boxes_of_a_file_or_none(folder, tmp_path):
    out = tmp_path / "out.png"
    both = attnrec(folder / "one.mp4", "--boxes", folder / "boxes.csv", "--no-boxes", "--out", out)
    assert both.exit_code == 2
    assert "give either a file of boxes or --no-boxes" in both.stderr
    assert not out.exists()
    result = attnrec(folder / "one.mp4", "--runs", folder / "runs", "--no-boxes", "--out", out, "--json")
    assert json.loads(result.stdout)["num_boxed"] is None
