import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from small_store import quick, write_trunk_store

from attnrec.data.encode import write_video
from attnrec.data.video import FrameReader, VideoInfo
from attnrec.errors import AttnrecError, ConfigError, VideoError
from attnrec.render.overlay import ALPHA
from attnrec.workflows.predict import AttendedClip, Recognizer
from attnrec.workflows.train import train
from attnrec.workflows.visualize import seen_region, visualize

CORNERS = {"top left": (0, 0), "top right": (0, 1), "bottom left": (1, 0), "bottom right": (1, 1)}
GAP = 6  # px between the two pictures


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


def gif(path: Path) -> tuple[NDArray[np.int64], list[float]]:
    """Frames of a GIF as a player shows them, and how long each stays in seconds."""
    frames, seconds = [], []
    with Image.open(path) as picture:
        for index in range(picture.n_frames):
            picture.seek(index)
            frames.append(np.asarray(picture.convert("RGB")).astype(int))
            seconds.append(picture.info["duration"] / 1000)
    return np.stack(frames), seconds


def with_fps(run: Path, folder: Path, fps: float) -> Recognizer:
    """The same run, as if trained at another rate."""
    shutil.copytree(run, folder / "run")
    config = folder / "run" / "config.json"
    document = json.loads(config.read_text())
    document["training"]["fps"] = fps
    config.write_text(json.dumps(document))
    return Recognizer(folder / "run", device="cpu", jobs=1)


@pytest.fixture(autouse=True)
def _small_batches(monkeypatch) -> None:
    """Batches are filled up to one size, which for clips as short as these would be most of the work."""
    for module in ("models.inference", "workflows.predict"):
        monkeypatch.setattr(f"attnrec.{module}.BATCH_FRAMES", 6)


@pytest.fixture(scope="module")
def seeing(squeezenet_weights, tmp_path_factory) -> Recognizer:
    """A recogniser with the real SqueezeNet."""
    folder = tmp_path_factory.mktemp("seeing")
    store = write_trunk_store(folder / "features.h5", str(squeezenet_weights))
    run = train(store, quick(fps=6.0, block_frames=5, epochs=1), runs_dir=folder / "runs").run
    return Recognizer(run, device="cpu", jobs=1)


@pytest.mark.parametrize("corner", CORNERS.values(), ids=CORNERS)
def test_a_cube_has_the_object_where_the_picture_has_it(seeing, tmp_path, corner):
    there = seeing.features(corner_clip(tmp_path / "there.mp4", corner)).cubes.astype(float)
    empty = seeing.features(corner_clip(tmp_path / "empty.mp4", corner, object_=False)).cubes.astype(float)
    change = np.abs(there - empty).mean(axis=(0, 3))  # (7, 7)
    row, column = np.unravel_index(change.argmax(), change.shape)
    assert (row > 3, column > 3) == (bool(corner[0]), bool(corner[1]))
    assert abs(row - 3) >= 2
    assert abs(column - 3) >= 2


@pytest.mark.parametrize("corner", CORNERS.values(), ids=CORNERS)
def test_light_falls_where_the_attention_is(looking_run, tmp_path, monkeypatch, corner):
    recognizer = Recognizer(looking_run, device="cpu", jobs=1)
    clip = corner_clip(tmp_path / "clip.mp4", corner, size=(90, 120))
    attended = recognizer.attend(clip)
    attention = np.zeros_like(attended.attention)
    attention[:, 6 * corner[0], 6 * corner[1]] = 1

    def forced(_: Path) -> AttendedClip:
        return dataclasses.replace(attended, attention=attention)

    monkeypatch.setattr(recognizer, "attend", forced)
    visualize(recognizer, clip, tmp_path / "out.gif", width=120)
    frames, _ = gif(tmp_path / "out.gif")
    original, lit = frames[:, :90, :120], frames[:, :90, 120 + GAP : 240 + GAP]
    light = (lit - (1 - ALPHA) * original).mean(axis=(0, 3)) / (ALPHA * 255)  # (90, 120): from 0, none, to 1, full
    height, width = 90 // 7, 120 // 7
    for name, (down, right) in CORNERS.items():
        rows = slice(90 - height, 90) if down else slice(0, height)
        columns = slice(120 - width, 120) if right else slice(0, width)
        if (down, right) == corner:
            assert light[rows, columns].mean() > 0.5
            assert original[:, rows, columns].mean() > 100  # the object lies under the light
        else:
            assert abs(light[rows, columns]).mean() < 0.05, name
    peak = np.unravel_index(light.argmax(), light.shape)
    assert (peak[0] > 45, peak[1] > 60) == (bool(corner[0]), bool(corner[1]))


@pytest.mark.parametrize(
    ("clip_fps", "num_frames", "run_fps", "expected"), [(6.0, 18, 6.0, 18), (25.0, 50, 25.0, 50), (25.0, 50, 6.0, 12)]
)
def test_a_gif_plays_at_the_clips_speed(looking_run, tmp_path, clip_fps, num_frames, run_fps, expected):
    recognizer = with_fps(looking_run, tmp_path, run_fps)
    clip = moving_clip(tmp_path / "clip.mp4", clip_fps, num_frames)
    report = visualize(recognizer, clip, tmp_path / "out.gif", width=64)
    frames, seconds = gif(tmp_path / "out.gif")
    assert report.num_frames == len(frames) == expected
    # Of the frames nearest to k / 6 s in 25 a second the last is the 46th.
    span = (num_frames - 1 if run_fps == clip_fps else 46) / clip_fps
    assert sum(seconds) == pytest.approx(span + span / (expected - 1), abs=0.02)
    assert sum(seconds) == pytest.approx(num_frames / clip_fps, abs=1 / run_fps)
    assert max(seconds) - min(seconds) < 0.011


def test_no_frame_is_drawn_twice(looking_run, tmp_path):
    recognizer = with_fps(looking_run, tmp_path, 25.0)  # eleven samples are three blocks that overlap
    clip = moving_clip(tmp_path / "clip.mp4", 25.0, 11)
    visualize(recognizer, clip, tmp_path / "out.gif", width=64)
    originals = gif(tmp_path / "out.gif")[0][:, :48, :64]
    centres = [np.argwhere(frame.mean(axis=2) > 128).mean(axis=0)[1] for frame in originals]
    np.testing.assert_allclose(np.diff(centres), 2, atol=0.5)
    assert len(centres) == 11


def test_the_left_picture_is_the_clip_and_the_right_one_is_as_large(looking_run, tmp_path):
    recognizer = Recognizer(looking_run, device="cpu", jobs=1)
    clip = corner_clip(tmp_path / "clip.mp4", (1, 1), size=(120, 80))  # portrait
    report = visualize(recognizer, clip, tmp_path / "out.gif", width=80)
    frames, _ = gif(tmp_path / "out.gif")
    assert frames.shape[2] == 2 * 80 + GAP
    assert frames.shape[1] > 120
    shown = np.stack([frame for frame, _ in FrameReader(clip, width=80, height=120)]).astype(int)
    assert len(shown) == report.num_frames
    assert np.abs(frames[:, :120, :80] - shown).mean() < 8  # the palette's rounding
    lit = frames[:, :120, 80 + GAP :]
    assert lit[:, 90:, 60:].mean() > lit[:, 30:90, 20:60].mean()  # the object is in the same corner on both sides


def test_a_short_clip_and_a_single_frame_can_be_drawn(looking_run, tmp_path):
    recognizer = Recognizer(looking_run, device="cpu", jobs=1)
    for num_frames in (1, 2):
        clip = moving_clip(tmp_path / f"{num_frames}.mp4", 6.0, num_frames)
        report = visualize(recognizer, clip, tmp_path / f"{num_frames}.gif", width=64)
        assert report.num_frames == num_frames == len(gif(tmp_path / f"{num_frames}.gif")[0])


def test_an_mp4_has_the_same_frames_at_the_same_speed(looking_run, tmp_path):
    recognizer = Recognizer(looking_run, device="cpu", jobs=1)
    clip = moving_clip(tmp_path / "clip.mp4", 6.0, 12)
    report = visualize(recognizer, clip, tmp_path / "out.MP4", width=64)
    times = [time for _, time in FrameReader(tmp_path / "out.MP4", width=134, height=94)]
    assert len(times) == report.num_frames == 12
    np.testing.assert_allclose(np.diff(times), 1 / 6, atol=0.001)


def test_the_report_says_what_was_drawn(looking_run, tmp_path):
    recognizer = Recognizer(looking_run, device="cpu", jobs=1)
    clip = moving_clip(tmp_path / "v_left_g01_c01.mp4", 6.0, 12)
    report = visualize(recognizer, clip, tmp_path / "out.gif", width=64)
    assert report.truth == "left"
    assert report.fps == pytest.approx(6.0, abs=1e-6)
    assert 0 < report.attention_entropy <= 1
    prediction = recognizer.predict(clip)
    assert (report.predicted, report.probability) == (prediction.predicted, prediction.probability)
    assert visualize(recognizer, clip.rename(tmp_path / "clip.mp4"), tmp_path / "two.gif", width=64).truth is None


def test_what_cannot_be_drawn_is_refused_and_leaves_nothing(looking_run, tmp_path):
    recognizer = Recognizer(looking_run, device="cpu", jobs=1)
    clip = moving_clip(tmp_path / "clip.mp4", 6.0, 3)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(ConfigError, match=r"cannot draw \.png; use \.gif or \.mp4"):
        visualize(recognizer, clip, tmp_path / "out.png")
    with pytest.raises(ConfigError, match="cannot draw a file without suffix"):
        visualize(recognizer, clip, tmp_path / "out")
    for width in (63, 1921):
        with pytest.raises(ConfigError, match=f"--width {width}: must be from 64 to 1920 px"):
            visualize(recognizer, clip, tmp_path / "out.gif", width=width)
    with pytest.raises(VideoError, match="unreadable"):
        visualize(recognizer, tmp_path / "absent.mp4", tmp_path / "out.gif")
    assert sorted(tmp_path.iterdir()) == before
    (tmp_path / "out.gif").write_text("mine")
    with pytest.raises(AttnrecError, match=r"out\.gif exists; use --force to replace it"):
        visualize(recognizer, clip, tmp_path / "out.gif", width=64)
    assert (tmp_path / "out.gif").read_text() == "mine"
    visualize(recognizer, clip, tmp_path / "out.gif", width=64, overwrite=True)
    assert len(gif(tmp_path / "out.gif")[0]) == 3


@pytest.mark.parametrize(
    ("clip", "shown", "resize", "region"),
    [
        ((320, 240), (320, 240), "stretch", (0, 0, 320, 240)),
        ((320, 240), (320, 240), "crop", (40, 0, 280, 240)),
        ((320, 240), (160, 120), "crop", (20, 0, 140, 120)),
        ((240, 320), (120, 160), "crop", (0, 20, 120, 140)),
        ((200, 200), (100, 100), "crop", (0, 0, 100, 100)),
    ],
)
def test_the_region_that_the_network_sees(clip, shown, resize, region):
    assert seen_region(VideoInfo(*clip, 25.0, 1.0, "h264"), *shown, resize) == region


def test_the_region_is_what_a_cropping_reader_reads(tmp_path):
    clip = corner_clip(tmp_path / "clip.mp4", (1, 1), size=(120, 80))
    whole, _ = next(iter(FrameReader(clip, width=80, height=120)))
    cropped, _ = next(iter(FrameReader(clip, width=80, height=80, resize="crop")))
    x0, y0, x1, y1 = seen_region(VideoInfo(80, 120, 6.0, 2.0, "h264"), 80, 120, "crop")
    assert np.abs(whole[y0:y1, x0:x1].astype(int) - cropped).mean() < 2
