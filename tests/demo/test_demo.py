import csv
import dataclasses
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest

from attnrec.demo import demo
from attnrec.demo.demo import write_sample_videos
from attnrec.demo.sample import SAMPLE_ACTIONS
from attnrec.training.run import Run
from attnrec.video.decode import FrameReader, probe


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """The demo's clips, of one group."""
    folder = tmp_path_factory.mktemp("demo")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "NUM_GROUPS", 1)
        write_sample_videos(folder, seed=0)
    return folder


def boxes(folder: Path) -> dict[str, list[dict[str, str]]]:
    with (folder / "boxes.csv").open(newline="", encoding="utf-8") as file:
        return {path: list(rows) for path, rows in groupby(csv.DictReader(file), key=lambda row: row["path"])}


def test_every_action_has_its_clips_in_a_folder_of_its_own(folder):
    clips = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.mp4"))
    assert clips == [f"{action}/v_{action}_g01_c01.mp4" for action in sorted(SAMPLE_ACTIONS)]
    assert sorted(boxes(folder)) == clips
    assert sorted(path.name for path in folder.iterdir()) == sorted(["boxes.csv", *SAMPLE_ACTIONS])


def test_there_is_a_box_for_every_frame_at_its_time(folder):
    for path, rows in boxes(folder).items():
        info = probe(folder / path)
        times = [time for _, time in FrameReader(folder / path, width=8, height=8)]
        assert len(times) == demo.NUM_FRAMES
        np.testing.assert_allclose([float(row["seconds"]) for row in rows], times, atol=1e-3)
        assert info.fps == demo.FPS
        for row in rows:
            x0, y0, x1, y1 = (int(row[name]) for name in ("x0", "y0", "x1", "y1"))
            assert 0 <= x0 < x1 <= info.width
            assert 0 <= y0 < y1 <= info.height


def test_the_actor_is_in_its_box(folder):
    """The actor is brighter and warmer than the background."""
    for path, rows in boxes(folder).items():
        info = probe(folder / path)
        frames = FrameReader(folder / path, width=info.width, height=info.height)
        for (frame, _), row in zip(frames, rows, strict=True):
            x0, y0, x1, y1 = (int(row[name]) for name in ("x0", "y0", "x1", "y1"))
            warm = (frame[..., 0].astype(int) - frame[..., 2] > 40) & (frame[..., 0] > 150)
            inside = warm[y0:y1, x0:x1].sum()
            assert inside > 20
            assert inside > 0.9 * warm.sum()


def test_another_seed_makes_other_clips_in_the_same_folder(folder, monkeypatch):
    monkeypatch.setattr(demo, "NUM_GROUPS", 1)
    before = {path: path.read_bytes() for path in folder.rglob("*.mp4")}
    table = (folder / "boxes.csv").read_text()
    seen = []
    write_sample_videos(folder, 1, seen.append)
    after = {path: path.read_bytes() for path in folder.rglob("*.mp4")}
    assert after.keys() == before.keys()
    assert all(after[path] != before[path] for path in after)
    assert (folder / "boxes.csv").read_text() != table
    write_sample_videos(folder, 0)
    assert {path: path.read_bytes() for path in folder.rglob("*.mp4")} == before
    assert (seen[-1].done, seen[-1].total) == (4, 4)


@pytest.mark.slow
def test_the_whole_demo(tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "NUM_GROUPS", 3)
    report = demo.demo(tmp_path / "demo", weights="random", device="cpu", jobs=1)
    assert sorted(path.name for path in (tmp_path / "demo").iterdir()) == [
        "attention.gif", "features.h5", "report.html", "runs", "videos",
    ]  # fmt: skip
    assert report.weights == "random"
    assert report.attention.num_videos == report.baseline.num_videos > 0
    assert report.attention.leaking_groups == []
    assert report.attention.chance < 0.5
    (table,) = report.table.tables
    assert {row.model for row in table.rows} == {"attention", "avg-pool"}
    assert report.picture.num_frames > 5
    assert Path(report.picture.out).stat().st_size > 10_000


@pytest.mark.slow
def test_the_demo_on_several_layers(tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "NUM_GROUPS", 3)
    of_all_epochs = demo.demo_training
    monkeypatch.setattr(demo, "demo_training", lambda *of: dataclasses.replace(of_all_epochs(*of), epochs=1))
    layers = ("inception4e", "inception5b")
    report = demo.demo(tmp_path / "demo", weights="random", layers=layers, device="cpu", jobs=1)
    for figures in (report.attention, report.baseline):
        grids = Run(figures.run).manifest.features.grids
        assert grids == (("inception4e", 14, 832), ("inception5b", 7, 1024))
