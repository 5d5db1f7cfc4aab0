import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from clips import write
from looks import shown
from small_store import figures_of

from attnrec.errors import DataError
from attnrec.evaluation.predict import Recognizer
from attnrec.evaluation.report import is_right
from attnrec.pictures.gallery import examples, gallery
from attnrec.settings import PictureConfig

SMALL = PictureConfig(width=64, strip=2)


def figure(path: str, label: str, predicted: str, probability: float) -> dict:
    return {"path": path, "label": label, "predicted": predicted, "probability": probability}


VIDEOS = [
    figure("a.mp4", "left", "left", 0.7),
    figure("b.mp4", "left", "left", 0.9),
    figure("c.mp4", "right", "right", 0.6),
    figure("d.mp4", "right", "left", 0.8),
    figure("e.mp4", "right", "left", 0.8),
]


def test_the_surest_of_each_class_come_in_turn():
    right = [video for video in VIDEOS if is_right(video, ["left", "right"])]
    assert [video["path"] for video in examples(right, 9)] == ["b.mp4", "c.mp4", "a.mp4"]
    assert [video["path"] for video in examples(right, 2)] == ["b.mp4", "c.mp4"]
    assert [video["path"] for video in examples(VIDEOS[3:], 1)] == ["d.mp4"]
    assert examples([], 3) == []


def test_a_clip_of_several_labels_is_right_if_one_is_named():
    classes = ["Eat", "Kiss", "Run"]
    assert is_right(figure("a", "Run;Eat", "Eat", 0.5), classes)
    assert not is_right(figure("a", "Run;Eat", "Kiss", 0.5), classes)
    assert is_right(figure("a", "a;b", "a;b", 0.5), ["a;b", "b"])  # a class of that name
    assert not is_right(figure("a", "a;b", "b", 0.5), ["a;b", "b"])


@pytest.fixture
def recognizer(looking_run, tmp_path) -> Recognizer:
    """A run that was evaluated on the videos above."""
    folder = tmp_path / "run"
    shutil.copytree(looking_run, folder)
    (folder / "evaluation-test.json").write_text(json.dumps(figures_of(["left", "right"], videos=VIDEOS)))
    return Recognizer(folder, device="cpu", jobs=1)


def test_right_and_wrong_clips_are_drawn_and_bad_ones_skipped(recognizer, tmp_path):
    folder = tmp_path / "videos"
    folder.mkdir()
    for k, name in enumerate("abce"):
        write(folder / f"{name}.mp4", np.full((3, 48, 64, 3), 50 * k + 40, np.uint8), fps=6)
    (folder / "d.mp4").write_text("not a video\n" * 100)
    report = gallery(recognizer, "test", tmp_path / "out.png", SMALL, num_right=2, num_wrong=2, videos=folder)
    assert (report.num_right, report.num_wrong) == (3, 2)
    assert (report.right, report.wrong) == (["b.mp4", "c.mp4"], ["e.mp4"])
    assert report.skipped == [("d.mp4", "not-a-video")]
    (picture,), _ = shown(tmp_path / "out.png")
    # The first frames, from the top: those of b, c and e.
    seen = picture[:, 30]
    for grey in (90, 140, 190):
        assert (np.abs(seen - grey) <= 2).all(axis=1).sum() >= 40, grey


def test_clips_that_end_before_the_part_to_draw_are_skipped(recognizer, tmp_path):
    for name in "abcde":
        write(tmp_path / f"{name}.mp4", np.zeros((12 if name == "c" else 3, 48, 64, 3), np.uint8), fps=6)
    config = PictureConfig(width=64, strip=2, start=1.0)
    report = gallery(recognizer, "test", tmp_path / "out.png", config, num_right=2, num_wrong=0, videos=tmp_path)
    assert report.right == ["c.mp4"]
    ((path, reason),) = report.skipped
    assert path == "b.mp4"
    assert "nothing to draw from 1 s on" in reason


def test_videos_that_moved_are_asked_for(recognizer, tmp_path):
    with pytest.raises(DataError, match=r"b\.mp4: no such video; name the folder of the run's videos by --videos"):
        gallery(recognizer, "test", tmp_path / "out.png", SMALL, videos=tmp_path / "elsewhere")
    assert not (tmp_path / "out.png").exists()


def test_the_videos_are_sought_where_they_were_extracted_from(recognizer, tmp_path):
    with pytest.raises(DataError, match=str(Path("/videos/b.mp4"))):
        gallery(recognizer, "test", tmp_path / "out.png", SMALL)
