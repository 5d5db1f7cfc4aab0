import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from clips import write
from looks import made_look, shown

from attnrec.errors import ConfigError
from attnrec.pictures.strip import GAP_PX, HEAD_PX, LINE_PX, MARGIN_PX
from attnrec.pictures.versus import nearest_steps, run_labels, versus
from attnrec.settings import PictureConfig
from attnrec.training.run import Run


def like(run: Path, folder: Path, **training: object) -> Run:
    """The same run, as if trained with other settings."""
    shutil.copytree(run, folder)
    config = json.loads((folder / "config.json").read_text())
    config["training"].update(training)
    (folder / "config.json").write_text(json.dumps(config))
    return Run(folder)


@pytest.fixture
def runs(looking_run, tmp_path) -> dict[str, Run]:
    settings = {"a": {"fps": 6.0}, "b": {"fps": 12.0}, "c": {"fps": 12.0, "attention_penalty": 1.0}}
    return {name: like(looking_run, tmp_path / "runs" / name, **changes) for name, changes in settings.items()}


def test_rows_are_named_by_what_differs(runs):
    assert run_labels([runs["a"], runs["b"]]) == ["6 fps", "12 fps"]
    assert run_labels([runs["b"], runs["c"]]) == ["lambda 0", "lambda 1"]
    assert run_labels([runs["a"], runs["c"]]) == ["lambda 0, 6 fps", "lambda 1, 12 fps"]


def test_rows_of_equal_settings_have_their_runs_names(runs, looking_run, tmp_path):
    twin = like(looking_run, tmp_path / "runs" / "twin", fps=6.0)
    assert run_labels([runs["a"], twin]) == ["a", "twin"]


def test_the_samples_nearest_in_time():
    look = made_look(5)  # at 0, 0.25, 0.5, 0.75, 1
    assert nearest_steps(look, np.array([0.0, 0.3, 0.99])).tolist() == [0, 1, 4]


def test_two_rates_show_the_same_moments(runs, tmp_path):
    frames = np.zeros((24, 48, 64, 3), np.uint8)
    for k, frame in enumerate(frames):
        frame[:, : 2 * k + 4] = 200  # how far it is lit tells the frame
    clip = write(tmp_path / "clip.mp4", frames, fps=12)
    report = versus(
        [runs["a"], runs["b"]], clip, tmp_path / "out.png", PictureConfig(width=64, strip=4), device="cpu", jobs=1
    )
    assert [row.label for row in report.rows] == ["6 fps", "12 fps"]
    assert {row.predicted for row in report.rows} <= {"left", "right"}
    # Four equally spaced ones of the twelve samples that come 6 a second.
    np.testing.assert_allclose(report.times, np.rint(np.linspace(0, 11, 4)) / 6, atol=1e-6)
    (picture,), _ = shown(tmp_path / "out.png")
    for column, time in enumerate(report.times):
        x = MARGIN_PX + column * (64 + GAP_PX)
        original = picture[MARGIN_PX + HEAD_PX :][:48, x : x + 64]
        assert (original.mean(axis=(0, 2)) > 100).sum() == 2 * round(12 * time) + 4
    assert picture.shape[0] > 3 * 48 + 2 * LINE_PX


def test_what_cannot_be_compared(runs, tmp_path):
    with pytest.raises(ConfigError, match="compare two runs or more"):
        versus([runs["a"], runs["a"]], Path("clip.mp4"), tmp_path / "out.png", PictureConfig())
    with pytest.raises(ConfigError, match=r"out\.gif: several runs or clips in one picture make a still one"):
        versus([runs["a"], runs["b"]], Path("clip.mp4"), tmp_path / "out.gif", PictureConfig())
    assert not list(tmp_path.glob("out*"))
