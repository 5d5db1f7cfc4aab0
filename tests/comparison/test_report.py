import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from clips import noise, write
from pages import Page, assert_self_contained, assert_usable
from small_store import quick, write_store
from typer.testing import CliRunner

from attnrec.cli.app import app
from attnrec.comparison.compare import compare
from attnrec.comparison.report import write_report
from attnrec.errors import AttnrecError
from attnrec.evaluation.averages import mean_attention
from attnrec.evaluation.evaluate import evaluate
from attnrec.features.blocks import block_table
from attnrec.features.extractor import BATCH_FRAMES
from attnrec.features.store import FeatureStore
from attnrec.pictures.examples import PageSources
from attnrec.training.identity import commands_of, identity_of
from attnrec.training.run import Run, find_runs
from attnrec.training.train import train


@pytest.fixture(scope="module")
def runs(tiny_store, tmp_path_factory) -> list[Path]:
    """Two seeds of attention and one of a baseline, evaluated."""
    folder = tmp_path_factory.mktemp("runs")
    configs = [quick(epochs=2), quick(epochs=2, seed=1), quick(epochs=2, model="avg-pool")]
    made = [Path(train(tiny_store, config, runs_dir=folder).run) for config in configs]
    for run in made:
        evaluate(run)
    return made


def page_of(path: Path) -> Page:
    page = Page(path.read_text(encoding="utf-8"))
    assert_self_contained(page)
    assert_usable(page)
    return page


def test_a_report_says_what_the_runs_say(runs, tmp_path):
    report = compare(runs)
    write_report(tmp_path / "report.html", report)
    page = page_of(tmp_path / "report.html")
    (table,) = report.tables
    keys = [float(has["data-key"] or 0) for has, _ in page.all("td") if "data-key" in has]
    for row in table.rows:
        assert row.figure in keys
    assert f"{table.dataset}, split default, {table.num_videos} test videos" in page.text
    for run in runs:
        assert f"attnrec evaluate --run {run} --part test" in page.text
    drawn = {str(attributes["alt"]) for attributes, _ in page.all("img")}
    for row in table.rows:
        matrix = np.sum([Run(run.path).read_evaluation("test")["confusion"] for run in row.runs], axis=0)
        assert [words for words in drawn if words.startswith(f"{matrix.trace()} of {matrix.sum()} right")]
    losses = [words for words in drawn if words.startswith("loss by epoch: ")]
    last = [line["loss"] for line in Run(runs[0]).read_log() if line["kind"] == "epoch"][-1]
    assert any(f"to {last:.4g} at 2" in words for words in losses)
    # The store's videos are nowhere: the page says so, and shows the rest.
    assert "No clips to see: /videos is not there; name the folder of the videos by --videos." in page.text


def test_mean_attention_is_the_mean(runs, tiny_store):
    by_class, by_step = mean_attention([Run(runs[0])], "test")
    store, run = FeatureStore(tiny_store), Run(runs[0])
    members = store.split_members("default", "test")
    table = block_table(store, members, fps=10.0, block_frames=4, block_stride=4, starts="by-time")
    scale = run.manifest.feature_scale
    model = run.load_model(torch.device("cpu"))
    maps, steps = {}, []
    for video, frames in zip(table.video, table.frames, strict=True):
        cubes = store.features()[frames].reshape(1, 4, 4, -1).astype(np.float32) * scale
        attention = model(torch.from_numpy(cubes)).attention[0].detach().numpy()
        maps.setdefault(int(video), []).append(attention.mean(axis=0))
        steps.append(attention)
    np.testing.assert_allclose(by_step.reshape(4, 4), np.mean(steps, axis=0), atol=1e-6)
    for c in range(len(store.classes)):
        mine = [np.mean(maps[video], axis=0) for video in maps if store.videos.label[video] == c]
        np.testing.assert_allclose(by_class[c].ravel(), np.mean(mine, axis=0), atol=1e-6)


def test_what_cannot_be_had_is_named_in_the_page(runs, tmp_path):
    other = write_store(tmp_path / "other.h5", num_groups=6)
    report = compare(runs[:1])
    write_report(tmp_path / "report.html", report, PageSources(store=other))
    assert re.search(
        r"No mean attention of .*: .* was trained on another store", page_of(tmp_path / "report.html").text
    )
    with pytest.raises(AttnrecError, match=r"report\.html exists; use --force"):
        write_report(tmp_path / "report.html", report)


def test_a_run_without_figures_is_in_the_report(runs, tmp_path):
    copied = shutil.copytree(runs[0], tmp_path / "bare")
    for path in [*copied.glob("evaluation-*"), *copied.glob("predictions-*"), *copied.glob("blocks-*")]:
        path.unlink()
    write_report(tmp_path / "report.html", compare([copied]))
    page = page_of(tmp_path / "report.html")
    assert "bare is not evaluated" in page.text
    assert "attnrec evaluate" not in page.text


def test_clips_are_shown_with_where_the_run_looked(looking_run, tmp_path, monkeypatch):
    monkeypatch.setitem(BATCH_FRAMES, "cpu", 4)  # batches are filled up to this size
    run = shutil.copytree(looking_run, tmp_path / "run")
    figures = evaluate(run)
    for video in figures.videos[1:]:
        (tmp_path / "videos" / video.path).parent.mkdir(parents=True, exist_ok=True)
        write(tmp_path / "videos" / video.path, noise(4), fps=6)
    config = PageSources(videos=tmp_path / "videos", device="cpu", jobs=1)
    write_report(tmp_path / "report.html", compare([run]), config)
    page = page_of(tmp_path / "report.html")
    shown = [attributes for attributes, _ in page.all("img") if str(attributes["src"]).startswith("data:image/gif")]
    assert len(shown) == len(figures.videos) - 1
    assert f"{figures.videos[0].path} is not shown: " in page.text
    for video in figures.videos[1:]:
        assert video.path in page.text


def test_a_run_that_cannot_look_has_a_page_without_clips(looking_run, tmp_path):
    run = shutil.copytree(looking_run, tmp_path / "run")
    evaluate(run)
    (run / "backbone.safetensors").write_bytes(b"damaged")
    write_report(tmp_path / "report.html", compare([run]), PageSources(videos=tmp_path, device="cpu", jobs=1))
    text = page_of(tmp_path / "report.html").text
    assert re.search(r"No clips to see: \S+backbone\.safetensors: cannot be read", text)


@pytest.mark.parametrize(
    "config",
    [
        quick(model="max-pool", seed=3, hidden_dim=None),
        quick(attention="content", attention_penalty=0.1, retrain=True, attention_dim=8, reduction="vote", clip=0.0),
    ],
)
def test_the_line_that_makes_a_run_again_makes_the_same(tiny_store, tmp_path, config):
    run = Run(train(tiny_store, config, runs_dir=tmp_path / "first").run)
    (line,) = [line for line in commands_of(run, "test", {}) if not line.startswith("#")]
    words = [*shlex.split(line)[1:], "--runs", str(tmp_path / "again"), "--device", "cpu", "--jobs", "1", "--quiet"]
    assert CliRunner().invoke(app, words).exit_code == 0
    (again,) = find_runs(tmp_path / "again")
    assert identity_of(again) == identity_of(run)
