import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from fresh import run_fresh
from PIL import Image
from small_store import SPEC, write_store
from typer.testing import CliRunner

from attnrec.cli.app import app
from attnrec.cli.output import Output
from attnrec.errors import DataError
from attnrec.features.store import FeatureStore
from attnrec.runtime import Progress
from attnrec.training.run import Run, find_runs

CLIP = "videos/jump/v_jump_g01_c01.mp4"
TEXT = "not a video\n" * 100
QUICK = ("--epochs", "1", "--hidden", "16", "--jobs", "1")


def attnrec(*arguments: object):
    """Run the program in this process; its exit code, stdout and stderr."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def document(result) -> dict:
    """The one strict JSON document that a command printed."""

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    assert result.exit_code in (0, 1), result.stderr
    assert result.stdout, (result.stderr, result.exception)
    return json.loads(result.stdout, parse_constant=refuse)


def listing(folder: Path) -> dict[str, tuple[int, int]]:
    """Every file and folder below a folder, with size and time."""
    found = {}
    for path in folder.rglob("*"):
        status = path.lstat()
        found[str(path.relative_to(folder))] = (status.st_size, status.st_mtime_ns) if path.is_file() else (0, 0)
    return found


def assert_refused(result, message: str) -> None:
    """One line on stderr, nothing on stdout, exit code 1."""
    assert result.exit_code == 1, result.stdout + result.stderr
    lines = [line for line in result.stderr.splitlines() if not line.startswith(("run ", "store ", "start, "))]
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("attnrec: ")
    assert re.search(message, lines[0]), lines[0]
    assert result.stdout == ""


@pytest.fixture(scope="session")
def chain(tmp_path_factory, sample_clips, options):
    """A folder in which the tour of the README was typed, and what each command said."""
    folder = tmp_path_factory.mktemp("chain")
    for action in ("jump", "wave"):
        shutil.copytree(sample_clips / action, folder / "videos" / action, ignore=shutil.ignore_patterns("*_g06_*"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        said = {
            "extract": attnrec("extract", "videos", "out.h5", *options),
            "train": attnrec("train", "--lambda", "1", "--fps", "6", *QUICK),
            "evaluate": attnrec("evaluate", "--jobs", "1"),
            "visualize": attnrec("visualize", CLIP, "--out", "golf.gif", "--width", "80", "--jobs", "1"),
            "compare": attnrec("compare"),
            "predict": attnrec("predict", CLIP, "--jobs", "1"),
            "info": attnrec("info", "out.h5"),
        }
    return folder, said


@pytest.fixture
def folder(chain, tmp_path, monkeypatch) -> Path:
    """A copy of that folder, which a test may change; the current one."""
    copy = tmp_path / "work"
    shutil.copytree(chain[0], copy, copy_function=os.link)  # nothing is written in place
    monkeypatch.chdir(copy)
    return copy


def test_the_tour_works_as_written(chain):
    folder, said = chain
    for name, result in said.items():
        assert result.exit_code == 0, (name, result.stderr, result.exception)
        assert result.stdout, name
        assert "Traceback" not in result.stderr
    assert sorted(path.name for path in folder.iterdir()) == ["golf.gif", "out.h5", "runs", "videos"]
    (run,) = (folder / "runs").iterdir()
    assert run.name.startswith("attention-lambda1-fps6-")
    assert {path.name for path in run.iterdir()} == {
        "backbone.safetensors", "config.json", "evaluation-test.json", "model.safetensors", "predictions-test.npz",
        "training.jsonl", "curves.png", "curves.svg", "confusion-test.png", "confusion-test.svg",
    }  # fmt: skip
    assert "out.h5: 10 videos" in said["extract"].stdout
    assert "7 x 7 x 16" in said["extract"].stdout
    with Image.open(folder / "golf.gif") as picture:
        assert picture.n_frames > 5


def test_what_was_chosen_and_what_comes_next_is_said_on_stderr(chain):
    folder, said = chain
    (run,) = (folder / "runs").iterdir()
    assert re.search(r"^store .*out\.h5$", said["train"].stderr, re.MULTILINE)
    for name in ("evaluate", "visualize", "predict"):
        assert f"run runs/{run.name}" in said[name].stderr.splitlines()
    assert "next: attnrec train" in said["extract"].stderr
    assert "next: attnrec evaluate" in said["train"].stderr


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["train", "--dry-run"], {"run_name", "updates", "num_train_blocks"}),
        (["train", "--lambda", "2", *QUICK], {"run", "plan", "best_epoch"}),
        (["evaluate", "--jobs", "1"], {"accuracy", "confusion", "classes", "videos"}),
        (["visualize", CLIP, "--out", "golf.gif", "--force", "--width", "64", "--jobs", "1"], {"out", "predicted"}),
        (["compare"], {"tables", "published", "grid"}),
        (["predict", CLIP, "--jobs", "1"], {"predictions", "skipped"}),
        (["info"], {"kind", "versions", "ffmpeg"}),
        pytest.param(["info", "--backbones"], {"kind", "backbones"}, marks=pytest.mark.slow),
        (["info", "out.h5"], {"kind", "classes", "splits"}),
        (["info", CLIP], {"kind", "width", "codec"}),
    ],
)
def test_json_is_one_document_on_stdout_and_nothing_else(folder, arguments, names):
    result = attnrec(*arguments, "--json")
    assert result.exit_code == 0, result.stderr
    assert names <= document(result).keys()


def test_quiet_says_nothing_on_stderr(folder):
    for arguments in (["evaluate", "--jobs", "1"], ["compare"], ["train", *QUICK]):
        result = attnrec(*arguments, "--quiet")
        assert (result.exit_code, result.stderr) == (0, "")
        assert result.stdout


def test_extracting_again_extracts_nothing(folder, options):
    before = listing(folder)
    report = document(attnrec("extract", "videos", "out.h5", *options, "--json"))
    assert (report["num_videos"], report["num_extracted"]) == (10, 0)
    assert report["skipped"] == report["damaged"] == []
    assert listing(folder) == before


def test_the_network_of_a_store_need_not_be_named_again(folder):
    before = FeatureStore("out.h5")
    rows = "".join(f"{before.path_of(video)},a\n" for video in range(4))
    Path("labels.csv").write_text(f"path,label\n{rows}")
    result = attnrec("extract", "videos", "out.h5", "--labels", "labels.csv", "--jobs", "1")
    assert result.exit_code == 0, result.stderr
    assert "network and frame rate as in out.h5" in result.stderr
    assert "6 of 10 videos have no label and are in no split" in result.stderr
    assert "10 videos, 0 new" in result.stdout
    assert FeatureStore("out.h5").spec == before.spec
    assert FeatureStore("out.h5").classes == ["a"]


def test_another_folder_is_extracted_by_the_network_of_a_store(folder, options):
    shutil.copytree("videos", "others")
    network = ["--backbone", "mobilenet_v3_large", "--layer", "features.1", "--fps", "5", "--jobs", "1"]
    result = attnrec("extract", "others", "others.h5", *network, "--weights", "out.h5")
    assert result.exit_code == 0, result.stderr
    one, other = FeatureStore("out.h5"), FeatureStore("others.h5")
    assert one.spec == other.spec
    assert (one.features()[:5] == other.features()[:5]).all()


def test_a_video_that_was_added_is_the_only_one_extracted(folder, options, sample_clips):
    shutil.copy(sample_clips / "wave/v_wave_g06_c01.mp4", "videos/wave")
    old = FeatureStore("out.h5")
    before = {old.path_of(i): old.features()[old.videos.first_frame[i]].tobytes() for i in range(10)}
    report = document(attnrec("extract", "videos", "out.h5", *options, "--json"))
    assert (report["num_videos"], report["num_extracted"]) == (11, 1)
    store = FeatureStore("out.h5")
    after = {store.path_of(i): store.features()[store.videos.first_frame[i]].tobytes() for i in range(11)}
    assert before.items() < after.items()
    assert not Path("out.h5.parts").exists()
    assert_refused(
        attnrec("evaluate", "--features", "out.h5", "--jobs", "1"), "was trained on another store than out.h5"
    )


def test_a_video_that_was_taken_away_is_dropped_only_when_told(folder, options):
    Path(CLIP).unlink()
    assert_refused(attnrec("extract", "videos", "out.h5", *options), "1 of its 10 videos are not here any more")
    assert len(FeatureStore("out.h5").videos) == 10
    report = document(attnrec("extract", "videos", "out.h5", *options, "--overwrite", "--json"))
    assert (report["num_videos"], report["num_extracted"]) == (9, 0)
    assert CLIP.removeprefix("videos/") not in [FeatureStore("out.h5").path_of(i) for i in range(9)]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (["--fps", "4"], r"was made with other settings \(sample_fps 5\.0 -> 4\.0\).*--overwrite"),
        (["--grid-size", "3"], "grid_size 7 -> 3"),
        (["--resize", "crop"], "resize stretch -> crop"),
        (["--weights", "random"], "weights_sha256 .* -> "),
    ],
)
def test_changed_settings_are_refused(folder, options, changed, message):
    before = listing(folder)
    assert_refused(attnrec("extract", "videos", "out.h5", *options, *changed), message)
    assert listing(folder) == before


def test_changed_settings_are_taken_with_overwrite(folder, options):
    shutil.rmtree("videos/wave")
    for group in (2, 3, 4, 5):
        Path(f"videos/jump/v_jump_g0{group}_c01.mp4").unlink()
    result = attnrec("extract", "videos", "out.h5", *options, "--fps", "2", "--overwrite", "--json")
    report = document(result)
    assert (report["num_videos"], report["num_extracted"]) == (1, 1)
    assert FeatureStore("out.h5").spec.sample_fps == 2.0


def test_other_videos_are_refused(folder, options):
    Path("videos").rename("old")
    shutil.copytree("old/jump", "videos/bow")
    before = listing(folder)
    assert_refused(attnrec("extract", "videos", "out.h5", *options), "5 of its 10 videos are not here any more")
    assert listing(folder) == before


def test_a_dry_run_of_extract_writes_nothing(folder, options):
    before = listing(folder)
    plan = document(attnrec("extract", "videos", "new.h5", *options, "--dry-run", "--json"))
    stored = FeatureStore("out.h5").num_frames
    assert plan["num_videos"] == 10
    assert plan["classes"] == {"jump": 5, "wave": 5}
    assert stored / 2 < plan["estimated_frames"] < stored * 2
    assert listing(folder) == before


def test_a_text_among_videos_is_skipped_and_listed(folder, options):
    Path("videos/jump/notes.mp4").write_text(TEXT)
    Path("videos/wave/empty.avi").touch()
    result = attnrec("extract", "videos", "out.h5", *options)
    assert result.exit_code == 1
    assert "2 of 12 videos were skipped" in result.stderr
    assert re.search(r"^warning:   jump/notes\.mp4: (not-a-video|truncated)$", result.stderr, re.MULTILINE)
    assert re.search(r"^warning:   wave/empty\.avi: empty-file$", result.stderr, re.MULTILINE)
    assert "Traceback" not in result.stderr
    store = FeatureStore("out.h5")
    assert len(store.videos) == 10
    assert sorted(path for path, _ in store.skipped) == ["jump/notes.mp4", "wave/empty.avi"]
    assert dict(store.skipped)["wave/empty.avi"] == "empty-file"


def test_on_error_fail_stops_at_it_and_leaves_the_store(folder, options):
    Path("videos/jump/notes.mp4").write_text(TEXT)
    before = listing(folder)
    result = attnrec("extract", "videos", "out.h5", *options, "--on-error", "fail", "--quiet")
    assert_refused(result, r"jump/notes\.mp4: (not-a-video|truncated)")
    assert listing(folder)["out.h5"] == before["out.h5"]


@pytest.mark.parametrize("on_error", ["skip", "fail"])
def test_a_bad_video_leaves_no_folder_of_parts(folder, options, on_error):
    Path("videos/jump/notes.mp4").write_text(TEXT)
    assert attnrec("extract", "videos", "out.h5", *options).exit_code == 1
    assert attnrec("extract", "videos", "out.h5", *options, "--on-error", on_error).exit_code == 1
    assert not Path("out.h5.parts").exists()


def test_only_texts_for_videos(tmp_path, options, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("videos/jump").mkdir(parents=True)
    for name in ("a.mp4", "b.mp4"):
        Path("videos/jump", name).write_text(TEXT)
    before = listing(tmp_path)
    result = attnrec("extract", "videos", "out.h5", *options, "--quiet")
    assert_refused(
        result, r"videos: none of 2 videos could be decoded; the first is jump/a\.mp4: (not-a-video|truncated)"
    )
    assert listing(tmp_path) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["extract", "empty", "new.h5"], "empty: no videos in it"),
        (["extract", "absent", "new.h5"], "absent: no such folder"),
        (["extract", "videos", "golf.gif"], r"golf\.gif: exists and is not a feature store"),
        (["extract", "videos", "golf.gif", "--overwrite"], r"golf\.gif: exists and is not a feature store"),
        (["extract", "videos", "new.h5", "--device", "tpu"], "--device tpu: unknown"),
        (["train", "absent.h5"], r"absent\.h5: no such feature store; make one with"),
        (["train", "golf.gif"], r"golf\.gif: not a usable feature store"),
        (["train", "one/one.h5"], r"one\.h5: has one class; a recogniser needs two"),
        (["train", "--split", "mine"], "no split 'mine'; it has cv3-1, cv3-2, cv3-3, default"),
        (["train", "--device", "cuda:99"], "--device cuda:99: this machine has"),
        (["train", "--fps", "0"], "fps must be over 0"),
        (["evaluate", "--run", "videos"], r"videos: not a run, it has no config\.json"),
        (["evaluate", "--runs", "videos"], "videos: no finished run here"),
        (["evaluate", "--features", "one/one.h5"], r"was trained on another store than one/one\.h5"),
        (["evaluate", "--features", "absent.h5"], r"absent\.h5: no such feature store"),
        (["evaluate", "--device", "tpu"], "--device tpu: unknown"),
        (["visualize", "absent.mp4", "--out", "new.gif"], r"absent\.mp4: unreadable: No such file"),
        (["visualize", CLIP, "--out", "new.bmp"], r"new\.bmp: cannot draw \.bmp; use \.gif, \.mp4"),
        (["visualize", CLIP, CLIP, "--out", "new.gif"], r"new\.gif: several clips go into a folder"),
        (["visualize", CLIP, CLIP, "--raw", "new.npz"], "--raw takes one clip"),
        (
            ["visualize", CLIP, "--versus", "runs/a,runs/b", "--out", "new.gif"],
            r"new\.gif: .* use \.png",
        ),
        (["visualize", CLIP, "--versus", "runs/a"], r"runs/a: not a run"),
        (["visualize", CLIP, "--gallery", "test"], "--gallery takes its clips from the run"),
        (
            ["visualize", "--gallery", "test", "--videos", "empty"],
            r"empty/\S+: no such video; .* by --videos",
        ),
        (["visualize", "--gallery", "test", "--right", "0", "--wrong", "0"], "there is nothing to show"),
        (["visualize", CLIP, "--out", "golf.gif"], r"golf\.gif exists; use --force to replace it"),
        (["visualize", "out.h5", "--out", "new.gif"], r"out\.h5: not-a-video"),
        (["compare", "--runs", "empty"], "empty: no finished run here"),
        (["compare", "videos"], "videos: not a run"),
        (["compare", "--csv", "golf.gif"], r"golf\.gif exists; use --force"),
        (["compare", "--markdown", "golf.gif"], r"golf\.gif exists; use --force"),
        (["compare", "--html", "golf.gif"], r"golf\.gif exists; use --force"),
        (["compare", "--models", "attention,guess"], "models must be one of attention, .* got 'guess'"),
        (["compare", "--features", "absent.h5"], r"absent\.h5: no such feature store"),
        (["compare", "--splits", "cv3-1,cv9"], r"out\.h5: no split 'cv9'; it has"),
        (["predict", "empty"], "empty: no videos in it"),
        (["predict", CLIP, "--csv", "golf.gif"], r"golf\.gif exists; use --force"),
        (["predict", CLIP, "--csv", CLIP, "--force"], r"c01\.mp4 exists; here --force replaces only .* \.csv"),
        (["compare", "--html", "out.h5", "--force"], r"out\.h5 exists; here --force replaces only .* \.html"),
        (["compare", "--markdown", CLIP, "--force"], r"c01\.mp4 exists; here --force replaces only .* \.md"),
        (["info", "absent"], "absent: no such file or folder"),
        (["info", "videos"], "videos: not a run; for a folder of videos see"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_errors_are_one_line_and_leave_nothing_behind(folder, arguments, message):
    Path("empty").mkdir()
    Path("one").mkdir()
    write_store(Path("one/one.h5"), classes=("bend",), num_groups=2, spec=replace(SPEC, layer="features.1"))
    before = listing(folder)
    jobs = [] if arguments[0] in ("compare", "info") else ["--jobs", "1"]
    assert_refused(attnrec(*arguments, *jobs), message)
    assert listing(folder) == before


def test_without_a_store_or_with_several_the_candidates_are_named(folder):
    shutil.copy("out.h5", "second.h5")
    before = listing(folder)
    assert_refused(attnrec("train", *QUICK), r"several feature stores here, name one of out\.h5, second\.h5")
    assert listing(folder) == before
    assert attnrec("train", "second.h5", "--dry-run").exit_code == 0
    Path("out.h5").unlink()
    Path("second.h5").unlink()
    assert_refused(attnrec("train", *QUICK), "no feature store here; make one with `attnrec extract")


def test_a_folder_without_runs_says_how_to_make_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for command in (["evaluate"], ["compare"], ["predict", "a.mp4"], ["visualize", "a.mp4"]):
        assert_refused(attnrec(*command), "runs: no finished run.* here; make one with `attnrec train`")
    assert list(tmp_path.iterdir()) == []


def test_visualize_takes_the_newest_run_with_attention_and_refuses_others(folder):
    assert attnrec("train", "--model", "avg-pool", *QUICK).exit_code == 0
    attentive, pooled = find_runs(Path("runs"))
    assert f"run {pooled.path}" in attnrec("evaluate", "--jobs", "1").stderr
    result = attnrec("visualize", CLIP, "--out", "new.gif", "--width", "64", "--jobs", "1")
    assert result.exit_code == 0
    assert f"run {attentive.path}" in result.stderr
    result = attnrec("visualize", CLIP, "--out", "no.gif", "--run", pooled.path, "--jobs", "1")
    assert_refused(result, "avg-pool has no attention; name another run by --run")
    assert not Path("no.gif").exists()


def test_each_picture_is_listed_with_its_clip(folder):
    twin = Path("twin", Path(CLIP).name)
    twin.parent.mkdir()
    shutil.copy(CLIP, twin)
    result = attnrec("visualize", CLIP, twin, "--out", "pictures", "--width", "64", "--jobs", "1")
    listed = [line for line in result.stdout.splitlines() if not line.startswith(" ")]
    name = f"pictures/{twin.stem}"
    assert [line.split(": ")[0] for line in listed] == [f"{name}.gif", f"{name}-2.gif"]
    assert [line.split(", ")[-1] for line in listed] == [CLIP, str(twin)]


def test_debug_keeps_the_traceback(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert isinstance(attnrec("extract", "absent", "out.h5").exception, SystemExit)
    monkeypatch.setenv("ATTNREC_DEBUG", "1")
    result = attnrec("extract", "absent", "out.h5")
    assert isinstance(result.exception, DataError)  # so that Python itself shows it
    assert result.stderr == ""


def test_predict_visualize_and_evaluate_agree_on_a_video(folder):
    evaluated = document(attnrec("evaluate", "--json", "--jobs", "1"))
    clips = [Path("videos") / video["path"] for video in evaluated["videos"]]
    predicted = document(attnrec("predict", *clips, "--json", "--jobs", "1"))["predictions"]
    assert len(predicted) == evaluated["num_videos"] > 0
    for video, prediction in zip(evaluated["videos"], predicted, strict=True):
        assert prediction["predicted"] == video["predicted"]
        assert prediction["probability"] == pytest.approx(video["probability"], rel=0, abs=1e-6)
        assert sum(prediction["probs"].values()) == pytest.approx(1, abs=1e-6)
        picture = attnrec("visualize", Path("videos", video["path"]), "--out", "p.gif", "--force", "--json")
        assert document(picture)["probability"] == prediction["probability"]
        assert document(picture)["truth"] == video["label"]


def test_drawn_passes_agree_on_a_video_and_are_hard_attentions_only(folder):
    assert_refused(attnrec("predict", CLIP, "--samples", "3"), "--samples 3: .* draws no locations")
    assert attnrec("train", "--glimpse", "hard", *QUICK).exit_code == 0
    drawn = ["--samples", "3", "--jobs", "1"]
    evaluated = document(attnrec("evaluate", "--json", *drawn))
    assert (evaluated["samples"], Path(evaluated["run"]).name.startswith("attention-hard-")) == (3, True)
    assert "drawn 3 times, in" in attnrec("evaluate", *drawn).stdout
    for video in evaluated["videos"]:
        clip = Path("videos", video["path"])
        (prediction,) = document(attnrec("predict", clip, "--json", *drawn))["predictions"]
        assert prediction["probability"] == pytest.approx(video["probability"], rel=0, abs=1e-6)
        picture = attnrec("visualize", clip, "--out", "p.gif", "--width", "64", "--force", "--json", *drawn)
        assert document(picture)["probability"] == prediction["probability"]
    soft, hard = (run.path for run in find_runs(Path("runs")))
    assert_refused(
        attnrec("visualize", CLIP, "--out", "v.png", "--versus", f"{hard},{soft}", *drawn), "draws no locations"
    )
    assert attnrec("visualize", CLIP, "--out", "v.png", "--versus", f"{hard},{soft}", "--jobs", "1").exit_code == 0
    assert_refused(attnrec("visualize", "--gallery", "test", *drawn), "leave out --samples")
    assert attnrec("visualize", "--gallery", "test", "--run", hard, "--jobs", "1").exit_code == 0


def test_predictions_of_a_folder_go_to_csv_and_skip_what_is_no_video(folder):
    shutil.rmtree("videos/wave")
    for group in (3, 4, 5):
        Path(f"videos/jump/v_jump_g0{group}_c01.mp4").unlink()
    Path("videos/jump/notes.mp4").write_text(TEXT)
    result = attnrec("predict", "videos", "--csv", "p.csv", "--jobs", "1")
    assert result.exit_code == 1
    assert "1 clip could not be decoded" in result.stderr
    lines = Path("p.csv").read_text().splitlines()
    assert lines[0] == "path,predicted,probability,jump,wave,video"
    assert [line.split(",")[0] for line in lines[1:3]] == [f"videos/jump/v_jump_g0{n}_c01.mp4" for n in (1, 2)]
    assert lines[3] == "videos/jump/notes.mp4,,,,,not-a-video"


def test_odd_names_survive_the_chain(folder, options):
    odd = [os.fsdecode(b"broken \xff\xfe.mp4"), "new\nline.mp4", "\x1b[31mred.mp4", "épée 動画.mp4"]
    for group, name in enumerate(odd, start=1):
        Path(f"videos/jump/v_jump_g{group:02d}_c01.mp4").rename(Path("videos/jump", name))
    Path("videos/wave").rename(Path("videos", os.fsdecode(b"w\xe4ve \n")))
    extracted = attnrec("extract", "videos", "out.h5", *options, "--json")
    assert document(extracted)["num_extracted"] == 0  # known by their content
    assert set(document(extracted)["classes"]) == {"jump", "w\udce4ve \n"}
    assert attnrec("train", *QUICK).exit_code == 0
    for part in ("train", "validation", "test"):
        videos = document(attnrec("evaluate", "--part", part, "--json", "--jobs", "1"))["videos"]
        assert videos
        for video in videos:
            assert Path("videos", video["path"]).is_file()
    clips = [Path("videos/jump", name) for name in odd[:3]]
    predictions = document(attnrec("predict", *clips, "--json", "--jobs", "1", "--csv", "p.csv"))["predictions"]
    assert [Path(prediction["path"]) for prediction in predictions] == clips
    for arguments in (["predict", clips[2], "--jobs", "1"], ["info", "out.h5"]):
        result = attnrec(*arguments)
        assert result.exit_code == 0, result.stderr
        assert "\x1b" not in result.stdout + result.stderr


@pytest.mark.parametrize("name", ["j\udce4ck", "\x1b[31mjack"])
def test_odd_class_names_can_be_evaluated(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    write_store(Path("out.h5"), classes=("bend", name))
    assert attnrec("train", "--block-frames", "4", *QUICK).exit_code == 0
    assert [figure["name"] for figure in document(attnrec("evaluate", "--json"))["classes"]] == ["bend", name]


@pytest.mark.parametrize("name", ["j\udce4ck", "\x1b[31mjack"])
def test_odd_class_names_can_be_shown(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    write_store(Path("out.h5"), classes=("bend", name))
    attnrec("train", "--block-frames", "4", *QUICK)
    result = attnrec("evaluate")
    assert result.exit_code == 0
    assert "\x1b" not in result.stdout


def test_a_folder_whose_name_is_no_utf8_can_be_extracted(folder, options):
    videos = Path("videos").rename(os.fsdecode(b"vid\xe9os"))
    Path("out.h5").unlink()
    result = attnrec("extract", videos, "out.h5", *options)
    assert result.exit_code == 0, result.stderr


def test_a_negative_seed_is_refused_or_served(folder, options):
    result = attnrec("extract", "videos", "out.h5", *options, "--seed", "-1")
    assert result.exception is None or isinstance(result.exception, SystemExit)


def test_an_interrupted_extraction_continues(folder):
    for path in (Path("out.h5"), *Path("videos").rglob("*_g0[45]_*")):
        path.unlink()
    options = ("--backbone", "squeezenet1_0", "--weights", "random", "--jobs", "1")  # slow enough to be interrupted
    command = [sys.executable, "-m", "attnrec", "extract", "videos", "out.h5", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not list(Path("out.h5.parts").glob("[!.]*.part")) and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert stdout == ""
    assert stderr.splitlines()[-1] == "attnrec: interrupted"
    assert "Traceback" not in stderr
    assert not Path("out.h5").exists()
    parts = list(Path("out.h5.parts").glob("[!.]*.part"))
    total = len(list(Path("videos").glob("*/*")))
    assert 0 < len(parts) < total
    assert not list(Path("out.h5.parts").glob(".*"))
    report = document(attnrec("extract", "videos", "out.h5", *options, "--json"))
    assert (report["num_videos"], report["num_extracted"]) == (total, total - len(parts))
    assert not Path("out.h5.parts").exists()


def test_an_interrupted_training_is_passed_over(folder, monkeypatch):
    def interrupt(_: Output, event: Progress) -> None:
        if event.done:
            raise KeyboardInterrupt

    earlier = [run.path for run in find_runs(Path("runs"))]
    with monkeypatch.context() as patch:
        patch.setattr(Output, "progress", interrupt)
        result = attnrec("train", "--lambda", "1", "--fps", "6", *QUICK)
    assert result.exit_code == 130
    assert result.stdout == ""
    last = result.stderr.splitlines()[-1]
    assert last.startswith("attnrec: interrupted; go on with `attnrec train --resume runs/")
    assert [run.path for run in find_runs(Path("runs"))] == earlier
    assert f"run {earlier[-1]}" in attnrec("evaluate", "--jobs", "1").stderr
    assert attnrec("train", "--lambda", "1", "--fps", "6", *QUICK).exit_code == 0
    assert len(find_runs(Path("runs"))) == len(earlier) + 1


def test_a_run_needs_neither_its_store_nor_its_folder_to_predict(folder):
    expected = document(attnrec("predict", CLIP, "--json", "--jobs", "1"))["predictions"]
    (run,) = find_runs(Path("runs"))
    shutil.move(run.path, "elsewhere")
    Path("out.h5").unlink()
    shutil.rmtree("runs")
    assert Run("elsewhere").finished
    assert document(attnrec("predict", CLIP, "--run", "elsewhere", "--json", "--jobs", "1"))["predictions"] == expected


@pytest.mark.parametrize(
    "words",
    [
        "extract {there} out.h5",
        "extract {there}/nothing out.h5 --dry-run",
        "evaluate --run {there}",
        "predict {there}/clip.mp4 --run {there}",
        "visualize {there}/clip.mp4 --run {there}",
        "visualize --gallery test --runs {there}",
    ],
)
def test_an_error_that_needs_no_torch_does_not_wait_for_it(tmp_path, words):
    _, loaded = run_fresh([words.format(there=tmp_path).split()], code=1)
    assert not loaded & {"torch", "torchvision", "sklearn"}


def test_a_training_is_planned_without_torchvision(tiny_store):
    text, loaded = run_fresh([["train", str(tiny_store), "--dry-run"]])
    assert "attention" in text
    assert not loaded & {"torchvision", "sklearn"}


def test_curves_confusion_and_page_of_a_run(folder):
    (run,) = Path("runs").iterdir()
    done = attnrec("evaluate", "--html", "run.html", "--jobs", "1")
    assert f"wrote {run}/confusion-test.png" in done.stderr
    assert "wrote run.html" in done.stderr
    pictures = {path.name for path in run.iterdir() if path.suffix in (".png", ".svg")}
    assert pictures == {"curves.png", "curves.svg", "confusion-test.png", "confusion-test.svg"}
    assert run.name in Path("run.html").read_text(encoding="utf-8")
    assert_refused(attnrec("evaluate", "--html", "run.html"), r"run\.html exists; use --force to replace it")
    both = attnrec("evaluate", "--run", f"{run},{run}", "--html", "other.html")
    assert both.exit_code == 2
    assert "page of one run; attnrec compare --html takes several" in both.stderr


def test_figures_are_told_even_where_their_plot_cannot_be_written(folder):
    (run,) = Path("runs").iterdir()
    (run / "confusion-test.png").unlink()
    (run / "confusion-test.png").mkdir()
    done = attnrec("evaluate", "--jobs", "1")
    assert done.exit_code == 0
    assert "accuracy" in done.stdout
    assert re.search(r"warning: no confusion-test: runs/.*/confusion-test\.png: ", done.stderr)
