"""The chain with attention over two layers of different grids, as a user types it."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
import torchvision
from pages import Page
from torch import nn
from typer.testing import CliRunner

from attnrec.cli.app import app
from attnrec.evaluation.predict import Recognizer
from attnrec.pictures.look import look_at
from attnrec.settings import PictureConfig
from attnrec.training.run import find_runs

LAYERS = ("features.12", "features.15")  # 14 x 14 x 112 and 7 x 7 x 160
BOTH = "+".join(LAYERS)
QUICK = (
    "--epochs", "2", "--hidden", "8", "--layers", "1", "--block-frames", "4", "--stride", "2", "--batch-size", "4",
    "--jobs", "1",
)  # fmt: skip
CLIP = "videos/jump/v_jump_g05_c01.mp4"


def attnrec(*arguments: object):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def document(*arguments: object) -> dict:
    """The document that a command prints."""
    result = attnrec(*arguments, "--json")
    assert result.exit_code == 0, (result.stderr, result.exception)
    return json.loads(result.stdout)


def write_weights(path: Path) -> None:
    """Random weights whose features neither vanish nor grow with depth: the norms have seen some images."""
    torch.manual_seed(0)
    network = torchvision.models.mobilenet_v3_large()
    for norm in (module for module in network.modules() if isinstance(module, nn.BatchNorm2d)):
        norm.momentum = None  # a plain mean
    with torch.no_grad():
        network.features(torch.randn(4, 3, 96, 96))
    torch.save(network.state_dict(), path)


@pytest.fixture(scope="module")
def chain(tmp_path_factory, sample_clips) -> Path:
    """A folder with clips of two actions, a store of two layers, and a run on both."""
    folder = tmp_path_factory.mktemp("chain")
    for action in ("jump", "wave"):
        shutil.copytree(sample_clips / action, folder / "videos" / action)
    write_weights(folder / "weights.pth")
    network = ("--backbone", "mobilenet_v3_large", "--weights", "weights.pth", "--fps", "5", "--jobs", "1")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for command in (
            ("extract", "videos", "out.h5", *network, "--layer", ",".join(LAYERS), "--grid-size", "0"),
            ("train", "--layer", ",".join(LAYERS), *QUICK),
        ):
            result = attnrec(*command)
            assert result.exit_code == 0, (result.stderr, result.exception)
    return folder


@pytest.fixture(autouse=True)
def folder(chain, monkeypatch) -> Path:
    monkeypatch.chdir(chain)
    return chain


def test_the_run_keeps_what_it_was_trained_on():
    (run,) = find_runs(Path("runs"))
    assert BOTH in run.name
    spec, model = run.manifest.features, run.manifest.model
    assert (spec.layer, spec.grids) == (BOTH, ((LAYERS[0], 14, 112), (LAYERS[1], 7, 160)))
    assert (model.num_locations, model.feature_dim, model.layers) == (196 + 49, 160, ((196, 112), (49, 160)))
    first, second = run.manifest.feature_scales
    assert first != second
    assert document("info", run.path)["features"]["layer"] == BOTH
    assert BOTH in attnrec("info", run.path).stdout


@pytest.mark.parametrize(
    "given",
    [("--layer", f"{LAYERS[0]} , {LAYERS[1]}"), ("--layer", BOTH), ("--layer", LAYERS[0], "--layer", LAYERS[1])],
)
def test_layers_are_named_in_any_of_three_ways(given):
    plan = document("train", *given, *QUICK, "--dry-run")
    assert BOTH in plan["run_name"]
    assert len(plan["feature_scales"]) == 2


def test_a_plan_says_the_scale_of_each_layer():
    said = attnrec("train", "--layer", BOTH, *QUICK, "--dry-run").stdout
    assert re.search(r"^features +times [\d.e+-]+, [\d.e+-]+$", said, re.MULTILINE), said


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (f"{LAYERS[0]},conv9", f"no layer 'conv9'; it has {', '.join(LAYERS)}"),
        (f"{LAYERS[0]},{LAYERS[0]}", f"layers must differ, got {LAYERS[0]}+{LAYERS[0]}"),
    ],
)
def test_layers_that_are_not_there_are_refused_in_a_line(given, message):
    result = attnrec("train", "--layer", given, *QUICK)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.splitlines() == [result.stderr.rstrip("\n")]
    assert message in result.stderr


def test_prediction_agrees_with_the_evaluation():
    evaluated = {video["path"]: video for video in document("evaluate", "--jobs", "1")["videos"]}
    for path, video in list(evaluated.items())[:2]:
        (predicted,) = document("predict", f"videos/{path}", "--jobs", "1")["predictions"]
        assert predicted["predicted"] == video["predicted"]
        assert predicted["probability"] == pytest.approx(video["probability"], abs=1e-6)


def test_the_tests_of_attention_take_several_layers():
    found = document("evaluate", "--faithfulness", "--jobs", "1")["faithfulness"]
    # Locations go, of whichever layer, not cells of the picture: 31 of the 245 at the first step.
    assert found["curve_shares"][:2] == [0, pytest.approx(31 / 245)]


def test_pictures_say_how_much_attention_each_layer_got(tmp_path):
    (run,) = find_runs(Path("runs"))
    recognizer = Recognizer(run, device="cpu", jobs=1)
    look = look_at(recognizer, Path(CLIP), PictureConfig())
    shares = re.search(r"attention by layer: features\.12 (\d+)%, features\.15 (\d+)%$", look.note)
    assert shares is not None, look.note
    assert sum(map(int, shares.groups())) in (99, 100, 101)
    assert look.attention.shape == (len(look), 14, 14)
    attended = recognizer.attend(CLIP)
    expected = [round(100 * attended.layers[layer].sum(axis=(1, 2)).mean()) for layer in LAYERS]
    assert list(map(int, shares.groups())) == expected
    for suffix in ("png", "html"):
        said = attnrec("visualize", CLIP, "--out", tmp_path / f"picture.{suffix}", "--width", "64", "--jobs", "1")
        assert said.exit_code == 0, said.stderr
    assert f"ttention by layer: features.12 {expected[0]}%" in (tmp_path / "picture.html").read_text()
    assert Page((tmp_path / "picture.html").read_text()).data()["layers"][0][0] == pytest.approx(
        attended.layers[LAYERS[0]][0].ravel(), abs=1e-6
    )


def test_a_grid_of_one_layer_and_both_repeats_nothing(tmp_path):
    grid = ("compare", "--models", "attention", "--layer", f"{LAYERS[1]},{BOTH}", "--features", "out.h5", *QUICK)
    runs = ("--runs", tmp_path / "runs")
    report = document(*grid, *runs)
    assert (report["grid"]["num_trained"], report["grid"]["failed"]) == (2, [])
    layers = {run.manifest.features.layer for run in find_runs(tmp_path / "runs")}
    assert layers == {LAYERS[1], BOTH}
    again = document(*grid[:3], "--layer", LAYERS[1], "--layer", BOTH, *grid[5:], *runs)
    assert again["grid"]["num_trained"] == again["grid"]["num_evaluated"] == 0
    (table,) = again["tables"]
    assert len({row["name"] for row in table["rows"]}) == 2
