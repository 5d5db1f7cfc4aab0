import base64
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from clips import write, write_timed
from looks import made_look, shown
from pages import Page
from PIL import Image
from small_store import quick, write_trunk_store

from attnrec.errors import AttnrecError, ConfigError, VideoError
from attnrec.evaluation.predict import Recognizer
from attnrec.features.blocks import covering_blocks
from attnrec.features.extractor import BATCH_FRAMES
from attnrec.pictures.card import GAP_PX, LEAST_WIDTH_PX
from attnrec.pictures.look import shown_frames
from attnrec.pictures.strip import GAP_PX as COLUMN_GAP_PX
from attnrec.pictures.strip import HEAD_PX, LINE_PX, MARGIN_PX
from attnrec.pictures.visualize import run_labels, versus, visualize, visualize_all
from attnrec.settings import PictureConfig
from attnrec.training.run import Run
from attnrec.training.train import train
from attnrec.video.decode import FrameReader, probe
from attnrec.video.encode import write_video

CORNERS = {"top left": (0, 0), "top right": (0, 1), "bottom left": (1, 0), "bottom right": (1, 1)}
SMALL = PictureConfig(width=64)


def corner_clip(path: Path, corner: tuple[int, int], *, object_: bool = True, size: tuple[int, int] = (96, 96)) -> Path:
    """Two seconds of a dim, still scene with a bright chequered object in one corner."""
    height, width = size
    y, x = np.mgrid[:height, :width]
    scene = np.repeat((60 + 20 * np.sin(x / 9) + 20 * np.cos(y / 7))[..., None], 3, axis=2)
    if object_:
        side = min(size) // 4
        chequers = np.where((np.mgrid[:side, :side] // 4).sum(axis=0) % 2, 255, 120)[..., None]
        top, left = (corner[0] * (height - side), corner[1] * (width - side))
        scene[top : top + side, left : left + side] = chequers * [1, 0.9, 0.3]
    write_video(path, iter([scene.astype(np.uint8)] * 12), 6.0)
    return path


def moving_clip(path: Path, fps: float, num_frames: int, size: tuple[int, int] = (48, 64)) -> Path:
    """A white square that moves on by two pixels with every frame."""
    frames = np.zeros((num_frames, *size, 3), np.uint8)
    for i, frame in enumerate(frames):
        x, y = (2 * i) % (size[1] - 8), 8 * (2 * i // (size[1] - 8))
        frame[y : y + 8, x : x + 8] = 255
    write_video(path, iter(frames), fps)
    return path


def looking_once(recognizer: Recognizer, clip: Path, monkeypatch) -> None:
    """Let the run look at a clip once, for several pictures."""
    attended = recognizer.attend(clip)
    monkeypatch.setattr(recognizer, "attend", lambda _: attended)


def with_fps(run: Path, folder: Path, fps: float, sample_fps: float | None = 30.0) -> Recognizer:
    """The same run, as if trained at another rate, on features of so many frames a second."""
    shutil.copytree(run, folder / "run")
    config = folder / "run" / "config.json"
    document = json.loads(config.read_text())
    document["training"]["fps"] = fps
    document["features"]["sample_fps"] = sample_fps
    config.write_text(json.dumps(document))
    return Recognizer(folder / "run", device="cpu", jobs=1)


@pytest.fixture(autouse=True)
def _small_batches(monkeypatch) -> None:
    """Batches are filled up to one size, which for clips as short as these would be most of the work."""
    monkeypatch.setitem(BATCH_FRAMES, "cpu", 6)


@pytest.fixture(scope="module")
def seeing(squeezenet_weights, tmp_path_factory) -> Recognizer:
    """A recogniser with the real SqueezeNet."""
    folder = tmp_path_factory.mktemp("seeing")
    store = write_trunk_store(folder / "features.h5", str(squeezenet_weights))
    run = train(store, quick(fps=6.0, block_frames=5, epochs=1), runs_dir=folder / "runs").run
    return Recognizer(run, device="cpu", jobs=1)


@pytest.mark.parametrize("corner", CORNERS.values(), ids=CORNERS)
def test_a_cube_has_the_object_where_the_picture_has_it(seeing, tmp_path, corner):
    there = seeing.features(corner_clip(tmp_path / "there.mp4", corner)).layers[0].astype(float)
    empty = seeing.features(corner_clip(tmp_path / "empty.mp4", corner, object_=False)).layers[0].astype(float)
    change = np.abs(there - empty).mean(axis=(0, 3))  # (7, 7)
    row, column = np.unravel_index(change.argmax(), change.shape)
    assert (row > 3, column > 3) == (bool(corner[0]), bool(corner[1]))
    assert abs(row - 3) >= 2
    assert abs(column - 3) >= 2


def originals(path: Path, width: int, height: int) -> np.ndarray:
    """The left pictures of a moving one, (S, H, W, 3)."""
    frames, _ = shown(path)
    left = (frames.shape[2] - 2 * width - GAP_PX) // 2
    return frames[:, :height, left : left + width]


@pytest.mark.parametrize(
    ("clip_fps", "num_frames", "run_fps", "expected"), [(6.0, 18, 6.0, 18), (25.0, 50, 25.0, 50), (25.0, 50, 6.0, 12)]
)
def test_a_gif_plays_at_the_clips_speed_and_lasts_as_long(
    looking_run, tmp_path, clip_fps, num_frames, run_fps, expected
):
    recognizer = with_fps(looking_run, tmp_path, run_fps)
    clip = moving_clip(tmp_path / "clip.mp4", clip_fps, num_frames)
    report = visualize(recognizer, clip, tmp_path / "out.gif", SMALL)
    frames, seconds = shown(tmp_path / "out.gif")
    assert report.num_frames == len(frames) == expected
    assert sum(seconds) == pytest.approx(num_frames / clip_fps, abs=0.0051)
    # Each begins when its own frame does in the clip: that nearest to k / run_fps.
    nearest = np.rint(np.arange(expected) / run_fps * clip_fps - 1e-6) / clip_fps
    np.testing.assert_allclose(np.cumsum([0, *seconds[:-1]]), nearest, atol=0.0051)


@pytest.mark.parametrize("suffix", [".gif", ".mp4"])
def test_a_clip_of_variable_rate_plays_at_its_own_times(looking_run, tmp_path, suffix):
    milliseconds = [0, 40, 80, 300, 700, 740, 1100, 1140]
    recognizer = with_fps(looking_run, tmp_path, 30.0)
    clip = write_timed(tmp_path / "clip.mp4", milliseconds)
    attended = recognizer.attend(clip)
    # What is drawn are the frames nearest to steps of the stored rate, at their own times, not evenly spaced.
    assert set(np.rint(1000 * attended.times)) <= set(milliseconds)
    assert np.ptp(np.diff(attended.times)) > 0.1
    out = tmp_path / f"out{suffix}"
    visualize(recognizer, clip, out, SMALL)
    if suffix == ".gif":
        times = np.cumsum([0, *shown(out)[1][:-1]])
    else:
        info = probe(out)
        times = [time for _, time in FrameReader(out, width=info.width, height=info.height)]
    np.testing.assert_allclose(times, attended.times, atol=0.0051)


def test_a_fast_clip_keeps_its_length_in_a_gif(looking_run, tmp_path, monkeypatch):
    recognizer = with_fps(looking_run, tmp_path, 120.0, sample_fps=None)
    clip = moving_clip(tmp_path / "clip.mp4", 60.0, 30)
    looking_once(recognizer, clip, monkeypatch)
    report = visualize(recognizer, clip, tmp_path / "out.gif", SMALL)
    _, seconds = shown(tmp_path / "out.gif")
    assert report.num_frames == len(seconds) < 30
    assert min(seconds) >= 0.02
    assert sum(seconds) == pytest.approx(0.5, abs=0.0051)
    visualize(recognizer, clip, tmp_path / "out.mp4", SMALL)
    info = probe(tmp_path / "out.mp4")
    assert len(list(FrameReader(tmp_path / "out.mp4", width=info.width, height=info.height))) == 30


def test_every_frame_is_drawn_once_with_a_map_of_its_own(looking_run, tmp_path):
    recognizer = with_fps(looking_run, tmp_path, 25.0)  # eleven samples are three blocks of five, the last moved back
    clip = moving_clip(tmp_path / "clip.mp4", 25.0, 11)
    visualize(recognizer, clip, tmp_path / "out.gif", SMALL, raw=tmp_path / "out.npz")
    pictures = originals(tmp_path / "out.gif", 64, 48)
    centres = [np.argwhere(frame.mean(axis=2) > 128).mean(axis=0)[1] for frame in pictures]
    np.testing.assert_allclose(np.diff(centres), 2, atol=0.5)
    assert len(centres) == 11
    frames, drawn = covering_blocks(np.arange(11) / 25, 11 / 25, 25.0, 5)
    assert frames[drawn].tolist() == list(range(11))
    assert frames[-1].tolist() == [6, 7, 8, 9, 10]
    with np.load(tmp_path / "out.npz") as raw:
        np.testing.assert_allclose(raw["times"], np.arange(11) / 25, atol=1e-6)
        assert raw["attention"].shape == (11, 7, 7)


def test_the_left_picture_is_the_clip_and_the_right_one_is_as_large(looking_run, tmp_path):
    recognizer = Recognizer(looking_run, device="cpu", jobs=1)
    clip = corner_clip(tmp_path / "clip.mp4", (1, 1), size=(120, 80))  # portrait
    report = visualize(recognizer, clip, tmp_path / "out.gif", PictureConfig(width=80))
    frames, _ = shown(tmp_path / "out.gif")
    assert frames.shape[2] == LEAST_WIDTH_PX
    true = np.stack([frame for frame, _ in FrameReader(clip, width=80, height=120)]).astype(int)
    assert len(true) == report.num_frames
    assert np.abs(originals(tmp_path / "out.gif", 80, 120) - true).mean() < 8  # the palette's rounding


@pytest.mark.parametrize("num_frames", [1, 2])
def test_a_short_clip_and_a_single_frame_can_be_drawn(looking_run, tmp_path, monkeypatch, num_frames):
    recognizer = Recognizer(looking_run, device="cpu", jobs=1)
    clip = moving_clip(tmp_path / "clip.mp4", 6.0, num_frames)
    looking_once(recognizer, clip, monkeypatch)
    for suffix in (".gif", ".mp4", ".png"):
        assert visualize(recognizer, clip, tmp_path / f"out{suffix}", SMALL).num_frames == num_frames
    assert sum(shown(tmp_path / "out.gif")[1]) == pytest.approx(num_frames / 6, abs=0.0051)


def test_a_part_of_a_clip(looking_run, tmp_path, monkeypatch):
    recognizer = with_fps(looking_run, tmp_path, 25.0)
    clip = moving_clip(tmp_path / "clip.mp4", 25.0, 30)
    looking_once(recognizer, clip, monkeypatch)
    config = PictureConfig(width=64, start=0.4, duration=0.6)
    report = visualize(recognizer, clip, tmp_path / "out.gif", config, raw=tmp_path / "part.npz")
    visualize(recognizer, clip, None, raw=tmp_path / "whole.npz")
    assert report.num_frames == 15
    assert sum(shown(tmp_path / "out.gif")[1]) == pytest.approx(0.6, abs=0.0051)
    with np.load(tmp_path / "part.npz") as part, np.load(tmp_path / "whole.npz") as whole:
        np.testing.assert_allclose(part["times"], 0.4 + np.arange(15) / 25, atol=1e-6)
        for name in ("attention", "frame_probs"):
            np.testing.assert_array_equal(part[name], whole[name][10:25])
        np.testing.assert_array_equal(part["video_probs"], whole["video_probs"])  # of the whole clip
    true = [frame for frame, _ in FrameReader(clip, width=64, height=48)][10:25]
    assert np.abs(originals(tmp_path / "out.gif", 64, 48) - np.stack(true)).mean() < 8
    with pytest.raises(ConfigError, match=r"nothing to draw from 2 s on; its last sample is at 1\.16 s"):
        visualize(recognizer, clip, tmp_path / "late.gif", PictureConfig(start=2.0))


def test_a_strip_shows_equally_spaced_steps(looking_run, tmp_path):
    recognizer = with_fps(looking_run, tmp_path, 25.0)
    clip = moving_clip(tmp_path / "clip.mp4", 25.0, 21)
    report = visualize(recognizer, clip, tmp_path / "out.png", PictureConfig(width=64, strip=5))
    assert report.num_frames == 5
    (picture,), _ = shown(tmp_path / "out.png")
    true = [frame for frame, _ in FrameReader(clip, width=64, height=48)]
    for column, step in enumerate((0, 5, 10, 15, 20)):
        x = 10 + column * (64 + 8)
        np.testing.assert_array_equal(picture[47 : 47 + 48, x : x + 64], true[step])


def test_raw_numbers_are_those_of_predict_and_attend(looking_run, tmp_path):
    recognizer = Recognizer(looking_run, device="cpu", jobs=1)
    clip = moving_clip(tmp_path / "clip.mp4", 6.0, 12)
    report = visualize(recognizer, clip, None, raw=tmp_path / "out.npz")
    assert (report.out, report.raw) == (None, str(tmp_path / "out.npz"))
    attended, prediction = recognizer.attend(clip), recognizer.predict(clip)
    with np.load(tmp_path / "out.npz") as raw:
        np.testing.assert_array_equal(raw["attention"], attended.attention)
        np.testing.assert_array_equal(raw["times"], attended.times)
        np.testing.assert_array_equal(raw["frame_probs"], attended.frame_probs)
        assert dict(zip(raw["classes"].tolist(), raw["video_probs"].tolist(), strict=True)) == prediction.probs
        np.testing.assert_allclose(raw["attention"].sum(axis=(1, 2)), 1, rtol=1e-5)
        entropy = -(raw["attention"] * np.log(raw["attention"])).sum(axis=(1, 2)) / np.log(49)
        np.testing.assert_allclose(raw["entropy"], entropy, rtol=1e-5)


def test_the_report_says_what_was_drawn(looking_run, tmp_path):
    recognizer = Recognizer(looking_run, device="cpu", jobs=1)
    clip = moving_clip(tmp_path / "v_left_g01_c01.mp4", 6.0, 12)
    report = visualize(recognizer, clip, tmp_path / "out.gif", SMALL)
    assert report.truth == "left"
    assert report.fps == pytest.approx(6.0, abs=1e-3)
    assert 0 < report.attention_entropy <= 1
    prediction = recognizer.predict(clip)
    assert (report.predicted, report.probability) == (prediction.predicted, prediction.probability)
    assert visualize(recognizer, clip.rename(tmp_path / "clip.mp4"), tmp_path / "two.gif", SMALL).truth is None
    fixed = visualize(recognizer, tmp_path / "clip.mp4", tmp_path / "a.png", PictureConfig(scale="fixed"))
    assert fixed.full == pytest.approx((4, 4))


def test_what_cannot_be_drawn_is_refused_and_leaves_nothing(looking_run, tmp_path):
    recognizer = Recognizer(looking_run, device="cpu", jobs=1)
    clip = moving_clip(tmp_path / "clip.mp4", 6.0, 3)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(ConfigError, match=r"cannot draw \.bmp; use \.gif, \.mp4"):
        visualize(recognizer, clip, tmp_path / "out.bmp")
    with pytest.raises(ConfigError, match="cannot draw a file without suffix"):
        visualize(recognizer, clip, tmp_path / "out")
    with pytest.raises(ConfigError, match="nothing to write: name a picture by --out"):
        visualize(recognizer, clip, None)
    with pytest.raises(ConfigError, match=r"raw\.txt: the numbers go into a file that ends in \.npz"):
        visualize(recognizer, clip, None, raw=tmp_path / "raw.txt")
    for suffix in (".gif", ".mp4", ".png"):
        with pytest.raises(VideoError, match="unreadable"):
            visualize(recognizer, tmp_path / "absent.mp4", tmp_path / f"out{suffix}")
    assert sorted(tmp_path.iterdir()) == before
    for name in ("out.gif", "out.mp4", "out.png"):
        (tmp_path / name).write_text("mine")
        with pytest.raises(AttnrecError, match=r"out\.\w+ exists; use --force to replace it"):
            visualize(recognizer, clip, tmp_path / name, SMALL)
        assert (tmp_path / name).read_text() == "mine"
        visualize(recognizer, clip, tmp_path / name, SMALL, overwrite=True)
        assert (tmp_path / name).stat().st_size > 100


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width": 63}, "width must be from 64 to 1920, got 63"),
        ({"width": 1921}, "width must be from 64 to 1920, got 1921"),
        ({"strip": 0}, "strip must be from 1 to 60, got 0"),
        ({"start": -1.0}, "start must be from 0 to"),
        ({"start": float("nan")}, "start must be from 0 to .*, got nan"),
        ({"duration": 0.0}, "duration must be over 0"),
        ({"style": "glow"}, "style must be one of paper, heat, contour, grid, got 'glow'"),
        ({"scale": "none"}, "scale must be one of frame, clip, fixed, got 'none'"),
    ],
)
def test_settings_out_of_range(changes, message):
    with pytest.raises(ConfigError, match=message):
        PictureConfig(**changes)


def test_several_clips_go_into_a_folder_and_bad_ones_are_skipped(looking_run, tmp_path):
    recognizer = Recognizer(looking_run, device="cpu", jobs=1)
    clips = [
        moving_clip(tmp_path / "one.mp4", 6.0, 3),
        tmp_path / "bad.mp4",
        moving_clip(tmp_path / "sub" / "one.mp4", 6.0, 4),
        tmp_path / "absent.mp4",
    ]
    clips[1].write_text("not a video\n" * 100)
    summary = visualize_all(recognizer, clips, tmp_path / "out", ".png", SMALL)
    assert [Path(picture.out).name for picture in summary.pictures] == ["one.png", "one-2.png"]
    assert [picture.num_frames for picture in summary.pictures] == [3, 4]
    assert summary.skipped == [(str(clips[1]), "not-a-video"), (str(clips[3]), "unreadable")]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["one-2.png", "one.png"]
    with pytest.raises(AttnrecError, match=r"one\.png exists; use --force"):
        visualize_all(recognizer, clips[:1], tmp_path / "out", ".png", SMALL)


def test_a_picture_never_replaces_its_clip(looking_run, tmp_path):
    recognizer = Recognizer(looking_run, device="cpu", jobs=1)
    clip = moving_clip(tmp_path / "clip.gif", 6.0, 3)
    before = clip.read_bytes()
    with pytest.raises(ConfigError, match=r"clip\.gif: would replace the clip itself; name another picture by --out"):
        visualize(recognizer, clip, clip, SMALL, overwrite=True)
    summary = visualize_all(recognizer, [clip], tmp_path, ".gif", SMALL, overwrite=True)
    assert len(summary.skipped) == 1
    assert clip.read_bytes() == before


def test_a_frame_that_is_wanted_twice_is_shown_twice(tmp_path):
    clip = moving_clip(tmp_path / "clip.mp4", 6.0, 4)
    look = made_look(4, clip=str(clip))
    one, again, last = shown_frames(look, 64, np.array([1, 1, 3]))
    np.testing.assert_array_equal(one, again)
    assert (one != last).any()


def test_a_page_shows_the_frames_at_their_times(looking_run, tmp_path, monkeypatch):
    recognizer = Recognizer(looking_run, device="cpu", jobs=1)
    clip = moving_clip(tmp_path / "clip.mp4", 6.0, 5)
    report = visualize(recognizer, clip, tmp_path / "out.html", PictureConfig(width=64))
    attended = recognizer.attend(clip)
    data = Page((tmp_path / "out.html").read_text(encoding="utf-8")).data()
    assert report.num_frames == len(data["frames"]) == 5
    assert data["size"] == [128, 96]
    np.testing.assert_allclose(data["times"], attended.times, atol=1e-6)
    np.testing.assert_allclose(data["attention"], attended.attention.reshape(5, -1), atol=1e-6)
    for address, (frame, _) in zip(data["frames"], FrameReader(clip, width=128, height=96), strict=True):
        picture = Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2])))
        assert np.abs(np.asarray(picture).astype(int) - frame).mean() < 3
    monkeypatch.setattr("attnrec.pictures.write.MAX_PAGE_STEPS", 4)
    with pytest.raises(ConfigError, match="5 steps are too many for a page, which takes 4; choose a part by --start"):
        visualize(recognizer, clip, tmp_path / "long.html")
    assert not (tmp_path / "long.html").exists()
    with pytest.raises(ConfigError, match=r"--style heat: a page has paper and grid; choose one, or write \.mp4"):
        visualize(recognizer, clip, tmp_path / "heat.html", PictureConfig(style="heat"))


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
        x = MARGIN_PX + column * (64 + COLUMN_GAP_PX)
        original = picture[MARGIN_PX + HEAD_PX :][:48, x : x + 64]
        assert (original.mean(axis=(0, 2)) > 100).sum() == 2 * round(12 * time) + 4
    assert picture.shape[0] > 3 * 48 + 2 * LINE_PX


def test_what_cannot_be_compared(runs, tmp_path):
    with pytest.raises(ConfigError, match="compares two runs or more"):
        versus([runs["a"], runs["a"]], Path("clip.mp4"), tmp_path / "out.png", PictureConfig())
    with pytest.raises(ConfigError, match=r"out\.gif: several runs or clips in one picture make a still one"):
        versus([runs["a"], runs["b"]], Path("clip.mp4"), tmp_path / "out.gif", PictureConfig())
    assert not list(tmp_path.glob("out*"))
