"""Whether light falls on the very pixels that the network's cell covers, in files that are read back."""

import json
import shutil
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from clips import ffmpeg, write
from looks import on_cell, shown

from attnrec.evaluation.attended import AttendedClip, Prediction
from attnrec.evaluation.predict import Recognizer
from attnrec.pictures import card, strip
from attnrec.pictures.visualize import visualize
from attnrec.settings import PictureConfig
from attnrec.video.decode import FrameReader, probe

K, SAMPLES = 7, 3
SIZES = {"landscape": (128, 72), "portrait": (72, 128), "strip": (128, 40)}
CELLS = ((0, 0), (1, 5), (6, 2), (6, 6))
WIDTH = 100  # its cells are too narrow for numbers


@pytest.fixture(scope="module", params=["stretch", "crop"])
def recognizer(request, looking_run, tmp_path_factory) -> Recognizer:
    """A run whose features were made by stretching or by cropping."""
    folder = tmp_path_factory.mktemp(request.param) / "run"
    shutil.copytree(looking_run, folder)
    config = json.loads((folder / "config.json").read_text())
    config["features"]["resize"] = request.param
    (folder / "config.json").write_text(json.dumps(config))
    return Recognizer(folder, device="cpu", jobs=1)


def looking_at(recognizer: Recognizer, cell: tuple[int, int], monkeypatch) -> None:
    """Let the run see one cell alone, in every frame."""
    probs = dict.fromkeys(recognizer.classes, 0.5)
    attended = AttendedClip(
        prediction=Prediction("clip", recognizer.classes[0], 0.5, [], probs, 1, "ok"),
        frames=np.arange(SAMPLES),
        times=np.arange(SAMPLES) / 6,
        attention=np.stack([on_cell(*cell)] * SAMPLES),
        layers={},
        frame_probs=np.full((SAMPLES, 2), 0.5, np.float32),
        end=SAMPLES / 6,
        own_fps=6.0,
        is_variable_rate=False,
    )
    monkeypatch.setattr(recognizer, "attend", lambda _: attended)


def attended_pictures(path: Path, size: tuple[int, int]) -> np.ndarray:
    """The attended pictures in a file, (S, H, W, 3)."""
    width, height = size
    if path.suffix == ".png":
        (picture,), _ = shown(path)
        top = strip.MARGIN_PX + strip.HEAD_PX + height + strip.GAP_PX + strip.LINE_PX
        lefts = [strip.MARGIN_PX + k * (width + strip.GAP_PX) for k in range(SAMPLES)]
        return np.stack([picture[top : top + height, left : left + width] for left in lefts])
    if path.suffix == ".gif":
        frames, _ = shown(path)
    else:
        info = probe(path)
        reader = FrameReader(path, width=info.width, height=info.height)
        frames = np.stack([frame for frame, _ in reader]).astype(int)
    left = (frames.shape[2] - 2 * width - card.GAP_PX) // 2 + width + card.GAP_PX
    return frames[:, :height, left : left + width]


def covered(cell: int, length: int, begin: Fraction, seen: Fraction) -> np.ndarray:
    """Pixels of an axis whose centres lie in a cell, if `seen` px from `begin` on are seen."""
    centres = [Fraction(2 * x + 1, 2) for x in range(length)]
    return np.array([begin + cell * seen / K <= x < begin + (cell + 1) * seen / K for x in centres])


@pytest.mark.parametrize("suffix", [".gif", ".mp4", ".png"])
@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_a_cell_lights_exactly_its_rectangle(recognizer, tmp_path, monkeypatch, size, suffix):
    clip = write(tmp_path / "clip.mp4", np.zeros((SAMPLES, size[1], size[0], 3), np.uint8), fps=6)
    scale = min(Fraction(WIDTH, size[0]), Fraction(2 * WIDTH, size[1]))
    width, height = (2 * round(Fraction(length) * scale / 2) for length in size)
    crops = recognizer.run.manifest.features.resize == "crop"
    # Of the source a crop shows the middle square; the picture shows all of the source.
    seen_x, seen_y = (Fraction(min(size) if crops else length, length) for length in size)
    for cell in CELLS if suffix == ".png" else CELLS[1:3]:
        looking_at(recognizer, cell, monkeypatch)
        out = tmp_path / f"{cell[0]}{cell[1]}{suffix}"
        visualize(recognizer, clip, out, PictureConfig(style="grid", width=WIDTH, strip=SAMPLES))
        pictures = attended_pictures(out, (width, height))
        assert pictures.shape == (SAMPLES, height, width, 3)
        rows = covered(cell[0], height, (1 - seen_y) * height / 2, seen_y * height)
        columns = covered(cell[1], width, (1 - seen_x) * width / 2, seen_x * width)
        for picture in pictures:
            np.testing.assert_array_equal(picture.mean(axis=2) > 110, rows[:, None] & columns)


def coordinates(size: tuple[int, int]) -> np.ndarray:
    """A picture whose colours say where a pixel lies: red from left to right, green from top to bottom."""
    width, height = size
    picture = np.zeros((height, width, 3))
    picture[..., 0] = 40 + 160 * (np.arange(width) + 0.5) / width
    picture[..., 1] = (40 + 160 * (np.arange(height) + 0.5) / height)[:, None]
    return np.rint(picture).astype(np.uint8)


@pytest.mark.parametrize("rotation", [90, 180, 270])
@pytest.mark.parametrize("cell", [(1, 5), (5, 2)])
def test_the_lit_pixels_are_those_that_the_network_has_in_the_cell(recognizer, tmp_path, monkeypatch, rotation, cell):
    upright = write(tmp_path / "upright.mp4", np.stack([coordinates((128, 72))] * SAMPLES), fps=6)
    clip = tmp_path / "clip.mp4"
    ffmpeg("-display_rotation", rotation, "-i", upright, "-c", "copy", clip)
    resize = recognizer.run.manifest.features.resize
    network = next(iter(FrameReader(clip, width=224, height=224, resize=resize)))[0].astype(int)
    side = 224 // K
    inside = network[cell[0] * side : (cell[0] + 1) * side, cell[1] * side : (cell[1] + 1) * side]
    looking_at(recognizer, cell, monkeypatch)
    visualize(recognizer, clip, tmp_path / "out.png", PictureConfig(style="grid", width=WIDTH, strip=SAMPLES))
    size = (100, 56) if rotation % 180 == 0 else (100, 178)
    lit = attended_pictures(tmp_path / "out.png", size)[0].mean(axis=2) > 150
    frame = next(iter(FrameReader(clip, width=size[0], height=size[1])))[0].astype(int)
    for channel in (0, 1):
        there, here = inside[..., channel], frame[lit][:, channel]
        assert (here.min(), here.max()) == pytest.approx((there.min(), there.max()), abs=3)
        assert here.mean() == pytest.approx(there.mean(), abs=1.5)
