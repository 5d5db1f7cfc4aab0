"""Datasets from their own layout to a table, as typed: what is counted before the work, flagged after it, compared."""

import json
import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from dataset_trees import make_files, make_hmdb51, make_ucf11, make_ucf101, write_lists, write_synthetic_clip_sets
from typer.testing import CliRunner

from attnrec.cli.app import app
from attnrec.datasets.lists import HOLLYWOOD2_CLASSES
from attnrec.datasets.splits import TEST, leaking_groups
from attnrec.features.store import FeatureStore

QUICK = ("--epochs", "2", "--hidden", "8", "--layers", "1", "--block-frames", "4", "--fps", "2", "--jobs", "1")


def attnrec(*arguments: object):
    """Run the program in this process; its exit code, stdout and stderr."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def document(result) -> dict:
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def planned(*arguments: object) -> dict:
    """What a dry run says, which leaves nothing behind and takes seconds."""
    before, started = sorted(Path().rglob("*")), time.monotonic()
    plan = document(attnrec("extract", *arguments, "out.h5", "--dry-run", "--json", "--jobs", "1"))
    assert sorted(Path().rglob("*")) == before
    assert time.monotonic() - started < 60
    return plan


def sizes(plan: dict, split: str) -> tuple[int, int, int]:
    """Videos to train on with those for validation, to test, and unused."""
    parts = plan["splits"][split]
    assert parts["validation"] == pytest.approx(0.15 * (parts["train"] + parts["validation"]), rel=0.1)
    return parts["train"] + parts["validation"], parts["test"], parts["unused"]


def test_hmdb51_is_known_by_its_names(here, real_data):
    plan = planned(make_hmdb51(here / "data", real_data))
    assert (plan["dataset"], plan["num_videos"], len(plan["classes"])) == ("hmdb51", 6766, 51)
    assert list(plan["splits"]) == ["hmdb51-1", "hmdb51-2", "hmdb51-3"]
    for split in plan["splits"]:
        assert sizes(plan, split) == (3570, 1530, 1666)
    assert plan["leaking_splits"] == []
    assert plan["problems"] == []


def test_ucf101_is_known_by_its_names(here, real_data):
    plan = planned(make_ucf101(here / "data", real_data))
    assert (plan["dataset"], plan["num_videos"], len(plan["classes"])) == ("ucf101", 13320, 101)
    assert [sizes(plan, f"ucf101-{i}")[:2] for i in (1, 2, 3)] == [(9537, 3783), (9586, 3734), (9624, 3696)]
    assert plan["leaking_splits"] == []


def test_ucf11_is_known_by_its_names(here, real_data):
    plan = planned(make_ucf11(here / "data", real_data))
    assert (plan["dataset"], plan["num_videos"], len(plan["classes"])) == ("ucf11", 1600, 11)
    assert plan["num_groups"] == 11 * 25
    assert sizes(plan, "default") == (960, 640, 0)
    assert plan["leaking_splits"] == []


def test_hollywood2_is_known_by_its_names(here, real_data):
    listing = (real_data / "splits/hollywood2/allClips.fastvideofeat.txt").read_text().split()
    clips = [Path(name).stem for name in listing if "actionclip" in name]
    labels = write_synthetic_clip_sets(here / "data/ClipSets", clips)
    make_files(here / "data/AVIClips", *(f"{clip}.avi" for clip in clips))
    plan = planned("data")
    assert (plan["dataset"], plan["num_videos"], plan["multilabel"]) == ("hollywood2", 1707, True)
    assert list(plan["classes"]) == list(HOLLYWOOD2_CLASSES)
    assert plan["classes"] == {name: sum(name in own for own in labels.values()) for name in HOLLYWOOD2_CLASSES}
    assert sum(plan["classes"].values()) > 1707
    assert sizes(plan, "hollywood2") == (823, 884, 0)


def test_mistakes_in_lists_are_counted_and_named(here):
    make_files(here / "videos", "run/a.mp4", "run/b.mp4", "jump/c.mp4", "jump/d.mp4")
    write_lists(
        here / "lists", trainlist01="run/a.mp4\njump/c.mp4\nrun/a.mp4\n", testlist01="jump/d.mp4\nrun/gone.mp4\n"
    )
    plan = planned("videos", "--splits", "lists")
    problems = {problem["kind"]: problem for problem in plan["problems"]}
    assert problems["missing"]["examples"] == ["run/gone.mp4"]
    assert problems["unlisted"]["examples"] == ["run/b.mp4"]
    assert problems["repeated"]["count"] == 1
    said = attnrec("extract", "videos", "out.h5", "--splits", "lists", "--dry-run", "--jobs", "1").stderr
    assert "warning: listed videos that are missing: 1 (run/gone.mp4)" in said
    assert "warning: videos in no list: 1 (run/b.mp4)" in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--dataset", "hmdb51"], "not laid out like hmdb51; expected class folders, and the folder testTrainMulti"),
        (["--splits", "absent.csv"], r"absent.csv: no such file"),
        (["--labels", "absent.csv"], r"absent.csv: no such file"),
    ],
)
def test_what_is_not_there_is_refused(here, arguments, message):
    make_files(here / "videos", "run/a.mp4", "jump/b.mp4")
    result = attnrec("extract", "videos", "out.h5", *arguments, "--dry-run")
    assert result.exit_code == 1
    assert message in result.stderr
    assert not Path("out.h5").exists()


@pytest.fixture(scope="module")
def paired(tmp_path_factory, sample_clips, options) -> Path:
    """A folder with a store of clips, two of each of four actors and two actions."""
    folder = tmp_path_factory.mktemp("paired")
    for action in ("jump", "wave"):
        (folder / "videos" / action).mkdir(parents=True)
        for group in range(1, 5):
            for clip, source in enumerate((action, "walk" if action == "jump" else "pushup"), start=1):
                copy = folder / "videos" / action / f"v_{action}_g{group:02d}_c{clip:02d}.mp4"
                shutil.copy(sample_clips / source / f"v_{source}_g{group:02d}_c01.mp4", copy)
    assert attnrec("extract", folder / "videos", folder / "out.h5", *options).exit_code == 0
    return folder


def test_no_split_separates_two_clips_of_an_actor(paired):
    store = FeatureStore(paired / "out.h5")
    for name in store.split_names:
        codes = store.split(name)
        assert (codes == TEST).any()
        assert leaking_groups(codes, store.groups) == []
        part = {store.path_of(i): code for i, code in enumerate(codes)}
        assert all(part[path] == part[path.replace("_c01", "_c02")] for path in part)


def test_the_whole_of_weizmann4_keeps_mirrors_together(real_data, here):
    plan = planned(real_data / "weizmann4")
    assert (plan["num_videos"], plan["num_groups"], plan["leaking_splits"]) == (72, 9, [])


def test_a_leaky_split_is_flagged_everywhere(paired, here, options):
    shutil.copytree(paired, here / "work", copy_function=os.link)
    os.chdir(here / "work")
    clips = sorted(path.relative_to("videos") for path in Path("videos").rglob("*.mp4"))
    rows = [f"{clip},{'train' if '_c01' in clip.name else 'test'}\n" for clip in clips]
    Path("leaky.csv").write_text("path,split\n" + "".join(rows))
    again = attnrec("extract", "videos", "out.h5", "--splits", "leaky.csv", *options)
    assert again.exit_code == 0, again.stderr
    assert "0 new" in again.stdout  # the features were there; only the split is another
    (line,) = [line for line in again.stdout.splitlines() if line.startswith("split    leaky: ")]
    assert line.endswith(" 8 test LEAKING")
    assert "warning: groups on both sides of split leaky: 4 (g01, g02, g03, g04)" in again.stderr
    assert "warning: figures of leaky will be too good" in again.stderr
    assert FeatureStore("out.h5").split_names == ["leaky"]  # the earlier splits are gone

    trained = attnrec("train", *QUICK)
    assert trained.exit_code == 0, trained.stderr
    assert "warning: split leaky has groups on both sides (g01, g02, g03, g04)" in trained.stderr
    assert "split       leaky, LEAKING: groups on both sides" in trained.stderr
    assert "LEAKING" in attnrec("train", *QUICK, "--dry-run").stdout
    evaluated = attnrec("evaluate", "--jobs", "1")
    assert "split leaky, LEAKING" in evaluated.stdout
    assert "warning: split leaky has groups on both sides: these figures are too good" in evaluated.stderr
    assert document(attnrec("evaluate", "--json", "--jobs", "1"))["leaking_groups"] == ["g01", "g02", "g03", "g04"]
    compared = attnrec("compare")
    assert "LEAKING" in compared.stdout
    assert "warning: videos, split leaky: groups on both sides, figures are too good" in compared.stderr


def test_several_runs_are_evaluated_at_once(paired, here):
    shutil.copytree(paired, here / "work", copy_function=os.link)
    os.chdir(here / "work")
    for split in ("cv3-1", "cv3-2"):
        assert attnrec("train", "--split", split, *QUICK).exit_code == 0
    runs = sorted(map(str, Path("runs").iterdir()))
    summary = document(attnrec("evaluate", "--run", ",".join(runs), "--top-k", "1", "--json", "--jobs", "1"))
    assert [report["run"] for report in summary["runs"]] == runs
    assert [report["split"] for report in summary["runs"]] == ["cv3-1", "cv3-2"]
    assert summary.keys() == {"runs", "agreement"}
    assert summary["runs"][0]["top_k_accuracy"] == summary["runs"][0]["accuracy"]
    shown = attnrec("evaluate", "--run", runs[0], "--run", runs[1], "--jobs", "1").stdout
    for report in summary["runs"]:
        (line,) = [line for line in shown.splitlines() if line.split()[:1] == [report["run"]]]
        assert report["split"] in line
        assert f"{100 * report['accuracy']:.1f}" in line


def test_several_labels_from_clips_to_map(here, sample_clips, options):
    """Hollywood2's layout with made-up labels: twelve classes, up to two for a clip."""
    clips = sorted(sample_clips.rglob("*.mp4"))
    names = [f"actionclip{'train' if i % 3 else 'test'}{i:05d}" for i in range(len(clips))]
    Path("h2/AVIClips").mkdir(parents=True)
    for clip, name in zip(clips, names, strict=True):
        shutil.copy(clip, f"h2/AVIClips/{name}.avi")
    labels = write_synthetic_clip_sets(Path("h2/ClipSets"), names)
    extracted = document(attnrec("extract", "h2", "out.h5", *options, "--json"))
    assert (extracted["dataset"], extracted["multilabel"]) == ("hollywood2", True)
    assert list(extracted["classes"]) == list(HOLLYWOOD2_CLASSES)
    trained = document(attnrec("train", *QUICK, "--json"))
    assert trained["plan"]["settings"]["split"] == "hollywood2"
    assert trained["validation_accuracy"] is None
    assert 0 <= trained["validation_map"] <= 1
    report = document(attnrec("evaluate", "--json", "--jobs", "1"))
    assert report["accuracy"] is report["confusion"] is None
    known = [figure["average_precision"] for figure in report["classes"] if figure["num_videos"]]
    assert report["map"] == pytest.approx(np.mean(known))
    low, high = report["intervals"]["map"]  # of so few videos' mAP it need not hold the figure itself
    assert 0 <= low <= high <= 1
    assert {Path(v["path"]).stem: tuple(v["label"].split(";")) for v in report["videos"]} == {
        name: labels[name] for name in names if "test" in name
    }
    shown = attnrec("evaluate", "--jobs", "1").stdout
    assert "mAP" in shown
    assert "average precision %" in shown
    assert "mAP %" in attnrec("compare").stdout
    (compared,) = document(attnrec("compare", "--json"))["tables"]
    assert (compared["metric"], compared["rows"][0]["figure"]) == ("map", pytest.approx(report["map"]))

    for arguments in (["--reduce", "vote"], ["--top-k", "3"]):
        refused = attnrec("evaluate", *arguments, "--jobs", "1")
        assert refused.exit_code == 1
        assert "is for videos of one label each, and these have several" in refused.stderr

    (run,) = Path("runs").iterdir()
    with np.load(run / "predictions-test.npz") as arrays:
        assert arrays["video_labels"].shape == arrays["video_probs"].shape == (report["num_videos"], 12)

    clip = f"h2/AVIClips/{names[0]}.avi"
    (prediction,) = document(attnrec("predict", clip, "--json", "--jobs", "1"))["predictions"]
    assert prediction["labels"] == [name for name, p in prediction["probs"].items() if p >= 0.5]
    assert prediction["probability"] == pytest.approx(report["videos"][0]["probability"], abs=1e-6)
    drawn = document(attnrec("visualize", clip, "--out", "w.gif", "--width", "64", "--json", "--jobs", "1"))
    assert drawn["truth"] is None
    assert document(attnrec("info", "out.h5", "--json"))["multilabel"] is True
    assert document(attnrec("info", run, "--json"))["map"] == {"test": report["map"]}
