import dataclasses
import re
import shlex
import shutil

import pytest
from chromium import visit
from clips import noise, write
from pages import HOSTILE, Page, assert_self_contained, assert_usable
from typer.testing import CliRunner

from attnrec.cli.app import app
from attnrec.errors import AttnrecError
from attnrec.evaluation.evaluate import evaluate
from attnrec.evaluation.report import ClassFigure, VideoFigure
from attnrec.features.extractor import BATCH_FRAMES
from attnrec.pictures.examples import PageSources
from attnrec.pictures.run_page import write_run_page
from attnrec.training.run import Run


@pytest.fixture(scope="module")
def evaluated(trained, tmp_path_factory):
    """A run with a tested attention, and its report."""
    run = shutil.copytree(trained, tmp_path_factory.mktemp("page") / "run")
    return run, evaluate(run, faithfulness=True)


def page_of(report, path, **sources) -> Page:
    write_run_page(path, report, PageSources(device="cpu", jobs=1, **sources))
    page = Page(path.read_text(encoding="utf-8"))
    assert_self_contained(page)
    assert_usable(page)
    return page


def test_the_page_says_what_the_evaluation_says(evaluated, tmp_path):
    run, report = evaluated
    page = page_of(report, tmp_path / "run.html")
    assert re.search(rf"test accuracy {100 * report.accuracy:.1f} %", page.text)
    cells = {text for _, text in page.all("td")} | {text for _, text in page.all("th")}
    assert {video.path for video in report.videos} <= cells
    assert {f"{100 * of.accuracy:.1f}" for of in report.classes} <= cells
    assert f"{100 * report.faithfulness.uniform:.1f}" in cells
    right = sum(video.label == video.predicted for video in report.videos)
    assert f"{right} of {report.num_videos} videos recognised" in page.text
    drawn = [str(has["alt"]) for has, _ in page.all("img")]
    assert [words for words in drawn if words.startswith(f"{right} of {report.num_videos} right")]
    losses = [line["loss"] for line in Run(run).read_log() if line["kind"] == "epoch"]
    assert [words for words in drawn if f"loss by epoch; {Run(run).manifest.result['best_epoch']} was" in words]
    assert [words for words in drawn if f"to {losses[-1]:.4g} at {len(losses)}" in words]
    assert [words for words in drawn if words.startswith("Peaks: ")]
    assert f"attnrec evaluate --run {run} --part test" in page.text
    assert "No clips to see: /videos is not there; name the folder of the videos by --videos." in page.text


def test_a_page_without_a_test_of_the_attention_says_how_to_make_one(evaluated, tmp_path):
    _, report = evaluated
    page = page_of(dataclasses.replace(report, faithfulness=None), tmp_path / "run.html")
    (command,) = [line for line in page.text.splitlines() if "--faithfulness" in line]
    assert CliRunner().invoke(app, [*shlex.split(command)[1:], "--jobs", "1"]).exit_code == 0
    assert "Not tested" not in (tmp_path / "run.html").read_text(encoding="utf-8")


def test_clips_are_shown_with_where_the_run_looked(looking_run, tmp_path, monkeypatch):
    monkeypatch.setitem(BATCH_FRAMES, "cpu", 4)
    run = shutil.copytree(looking_run, tmp_path / "run")
    report = evaluate(run)
    for video in report.videos[1:]:
        (tmp_path / "videos" / video.path).parent.mkdir(parents=True, exist_ok=True)
        write(tmp_path / "videos" / video.path, noise(4), fps=6)
    page = page_of(report, tmp_path / "run.html", videos=tmp_path / "videos")
    shown = [has for has, _ in page.all("img") if str(has["src"]).startswith("data:image/gif")]
    assert len(shown) == len(report.videos) - 1
    assert f"{report.videos[0].path} is not shown: " in page.text


def test_names_cannot_break_out_of_the_page(evaluated, tmp_path):
    _, report = evaluated
    names = [HOSTILE, *(of.name for of in report.classes[1:])]
    hostile = dataclasses.replace(
        report,
        dataset=HOSTILE,
        classes=[ClassFigure(name, of.num_videos, of.accuracy) for name, of in zip(names, report.classes, strict=True)],
        videos=[VideoFigure(HOSTILE, HOSTILE, video.predicted, video.probability) for video in report.videos],
    )
    page = page_of(hostile, tmp_path / "run.html")
    assert len(page.all("script")) == 1


def test_a_page_of_several_labels_has_precisions_and_no_confusion(evaluated, tmp_path):
    _, report = evaluated
    several = dataclasses.replace(
        report,
        multilabel=True,
        accuracy=None,
        mean_class_accuracy=None,
        map=0.625,
        confusion=None,
        classes=[dataclasses.replace(of, accuracy=None, average_precision=0.375) for of in report.classes],
    )
    page = page_of(several, tmp_path / "run.html")
    assert "test mAP 62.5 %" in page.text
    assert [text for _, text in page.all("td") if text == "37.5"]
    assert "Confusion" not in page.text


def test_an_existing_file_is_kept(evaluated, tmp_path):
    (tmp_path / "run.html").write_text("mine")
    with pytest.raises(AttnrecError, match=r"run\.html exists; use --force"):
        write_run_page(tmp_path / "run.html", evaluated[1])
    assert (tmp_path / "run.html").read_text() == "mine"


@pytest.mark.parametrize("width", [390, 1280])
def test_a_browser_shows_the_page_within_its_width(evaluated, tmp_path, width):
    page_of(evaluated[1], tmp_path / "run.html")
    seen = visit(f"file://{tmp_path}/run.html#sort=1.1", tmp_path, size=(width, 900))
    assert seen.console == []
    assert seen.fetched == []
    assert len(Page(seen.dom).all("th", **{"aria-sort": "ascending"})) == 1
