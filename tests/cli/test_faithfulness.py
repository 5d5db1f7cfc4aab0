import csv
import json
from pathlib import Path

import clips
import h5py
import numpy as np
import pytest
from small_store import quick, write_store
from typer.testing import CliRunner

from attnrec.cli.app import app
from attnrec.features.store import FeatureStore
from attnrec.training.train import train


def attnrec(*arguments: object):
    return CliRunner().invoke(app, [str(argument) for argument in (*arguments, "--jobs", "1")])


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A store with its videos, boxes for them, two seeds of attention, and a newer baseline."""
    folder = tmp_path_factory.mktemp("faithful")
    path = write_store(folder / "features.h5")
    store = FeatureStore(path)
    lines = ["path,frame,x0,y0,x1,y1"]
    for video in range(len(store.videos)):
        clip = folder / "videos" / store.path_of(video)
        clip.parent.mkdir(parents=True, exist_ok=True)
        clips.write(clip, np.zeros((1, 48, 64, 3), np.uint8))
        lines += [f"{store.path_of(video)},{frame},0,0,32,24" for frame in range(12)]
    (folder / "boxes.csv").write_text("\n".join(lines))
    with h5py.File(path, "r+") as file:
        file.attrs["videos_dir"] = np.bytes_(str(folder / "videos"))
    for config in (quick(epochs=4), quick(epochs=4, seed=1), quick(model="avg-pool", epochs=1)):
        train(path, config, runs_dir=folder / "runs")
    return folder


def test_the_newest_run_with_attention_is_tested(folder):
    result = attnrec("evaluate", "--runs", folder / "runs", "--faithfulness", "--boxes", folder / "boxes.csv", "--json")
    document = json.loads(result.stdout)
    found = document["faithfulness"]
    assert "run " in result.stderr
    assert "attention" in document["run"]
    assert found["learned"] == document["accuracy"]
    assert found["mass_uniform"] == 0.25
    assert {"uniform", "other_video", "time_shuffled", "untrained"} < found["differences"].keys()
    assert found["num_boxed_frames"] == 12 * document["num_videos"]
    assert json.loads((Path(document["run"]) / "evaluation-test.json").read_text())["faithfulness"] == found


def test_the_tables_say_what_was_measured(folder):
    result = attnrec("evaluate", "--runs", folder / "runs", "--faithfulness", "--boxes", folder / "boxes.csv")
    assert result.exit_code == 0, result.stderr
    for words in ("With other attention", "another video's", "an untrained scorer's", "Boxes in 72 frames of 6 videos"):
        assert words in result.stdout
    # Of a grid of 2 x 2 the four cells in the middle are all that there are, and the boxes fill one of them always.
    for name, share in (("centre of the frame", 25), ("uniform", 25), ("most frequent cell in training", 100)):
        cells = [line for line in result.stdout.splitlines() if line.strip().startswith(name)][-1].split("  ")
        assert [cell.strip() for cell in cells if cell.strip()][1] == f"{share}.0"
    assert "faithfulness" not in attnrec("evaluate", "--runs", folder / "runs").stdout


def test_several_runs_are_tested_and_compared(folder):
    runs = ",".join(str(path) for path in sorted((folder / "runs").glob("attention*")))
    result = attnrec("evaluate", "--run", runs, "--faithfulness")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.count("With other attention in its place") == 2
    assert "Attention of two runs on the same frames" in result.stdout
    assert "1 and 2" in result.stdout
    document = json.loads(attnrec("evaluate", "--run", runs, "--faithfulness", "--json").stdout)
    (pair,) = document["agreement"]
    assert pair["runs"] == [report["run"] for report in document["runs"]]
    assert 0 <= pair["jensen_shannon"] <= 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--boxes", "boxes.csv"], "--boxes boxes.csv: boxes are for --faithfulness; give that as well"),
        (["--faithfulness", "--boxes", "absent.csv"], "absent.csv: no such file"),
        (["--faithfulness", "--boxes", "features.h5"], "features.h5: not a text in UTF-8 or the like"),
        (["--faithfulness", "--run", "avg"], "avg-pool has no attention to test; name another by --run"),
    ],
)
def test_what_does_not_go_is_refused_in_a_line(folder, monkeypatch, arguments, message):
    monkeypatch.chdir(folder)
    pooled = next(Path("runs").glob("avg-pool*"))
    result = attnrec("evaluate", *(str(pooled) if word == "avg" else word for word in arguments))
    assert result.exit_code == 1
    assert message in result.stderr
    assert len([line for line in result.stderr.splitlines() if not line.startswith("run ")]) == 1
    assert result.stdout == ""


def test_the_comparison_shows_boxes_beside_what_knows_nothing_of_the_frame(folder, tmp_path):
    arguments = ["evaluate", "--runs", folder / "runs", "--faithfulness", "--boxes", folder / "boxes.csv", "--json"]
    found = json.loads(attnrec(*arguments).stdout)
    names = {
        figure: [f"{figure}{other}" for other in ("", "_centre", "_uniform", "_frequent")]
        for figure in ("pointing", "mass")
    }
    result = CliRunner().invoke(app, ["compare", found["run"], "--csv", str(tmp_path / "t.csv")])
    assert result.exit_code == 0, result.stderr
    (cells,) = csv.DictReader((tmp_path / "t.csv").read_text().splitlines())
    for name in (*names["pointing"], *names["mass"]):
        assert float(cells[name]) == pytest.approx(found["faithfulness"][name])
    low, high = found["faithfulness"]["intervals"]["pointing_centre"]
    assert float(cells["pointing_over_centre"]) == pytest.approx(
        found["faithfulness"]["differences"]["pointing_centre"]
    )
    assert [float(cells[f"pointing_over_centre_{end}"]) for end in ("low", "high")] == pytest.approx([low, high])
    assert float(cells["pointing_low"]) <= float(cells["pointing"]) <= float(cells["pointing_high"])
    lines = result.stdout.splitlines()

    def row_under(title: str) -> list[str]:
        start = next(i for i, line in enumerate(lines) if line.startswith(title))
        return next(line for line in lines[start:] if line.strip().startswith("attention")).split()[1:]

    shares = {name: f"{100 * found['faithfulness'][name]:.1f}" for name in (*names["pointing"], *names["mass"])}
    own, *others = (shares[name] for name in names["pointing"])
    within = f"{100 * float(cells['pointing_low']):.1f}-{100 * float(cells['pointing_high']):.1f}"
    over = f"{100 * float(cells['pointing_over_centre']):+.1f}"
    beyond = [f"{100 * low:+.1f}", "to", f"{100 * high:+.1f}"]
    assert row_under("Does the attention peak in the boxes?") == [own, within, over, *beyond, *others]
    assert row_under("How much of the attention is in the boxes?") == [shares[name] for name in names["mass"]]
