import base64
import hashlib
import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from clips import write, write_timed
from looks import shown
from pages import Page
from small_store import figures_of

from attnrec.comparison.compare import compare
from attnrec.comparison.report import write_report
from attnrec.drawing.outlines import EDGE, LINE, outermost, outlined
from attnrec.errors import ConfigError, DataError
from attnrec.evaluation.evaluate import evaluate
from attnrec.evaluation.predict import Recognizer
from attnrec.features.extractor import BATCH_FRAMES
from attnrec.pictures.card import GAP_PX
from attnrec.pictures.examples import PageSources
from attnrec.pictures.gallery import gallery
from attnrec.pictures.strip import GAP_PX as COLUMN_GAP_PX
from attnrec.pictures.strip import HEAD_PX, MARGIN_PX
from attnrec.pictures.visualize import versus, visualize, visualize_all
from attnrec.settings import PictureConfig
from attnrec.training.run import CONFIG, Run
from attnrec.video.decode import FrameReader, probe


def places(picture: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    return (picture == colour).all(axis=2)


def ring(left: int, top: int, right: int, bottom: int, shape: tuple[int, int] = (48, 64)) -> np.ndarray:
    """Pixels of a rectangle one px wide."""
    mask = np.zeros(shape, np.bool_)
    mask[top : bottom + 1, left : right + 1] = True
    mask[top + 1 : bottom, left + 1 : right] = False
    return mask


@pytest.mark.parametrize("ground", [0, 90, 255])
def test_a_line_runs_along_the_boxes_outermost_pixels_with_dark_beside_it(ground):
    plain = np.full((48, 64, 3), ground, np.uint8)
    picture = outlined(plain, [(10, 20, 30, 40)])
    line = ring(10, 20, 29, 39)
    rim = line | ring(9, 19, 30, 40) | ring(11, 21, 28, 38)
    np.testing.assert_array_equal(places(picture, LINE), line)
    assert places(picture, EDGE)[rim & ~line].all()
    np.testing.assert_array_equal(picture[~rim], plain[~rim])
    assert (plain == ground).all()


@pytest.mark.parametrize(
    ("box", "pixels"),
    [
        ((0, 0, 64, 48), (0, 0, 63, 47)),
        ((-9, -9, 99, 99), (0, 0, 63, 47)),
        ((10.4, 20.6, 30.4, 40.6), (10, 21, 29, 40)),
        ((50, 40, 80, 60), (50, 40, 63, 47)),
        ((20, 30, 20, 30), (18, 28, 22, 32)),
        ((0, 47.5, 0, 47.5), (0, 45, 2, 47)),
    ],
)
def test_boxes_are_cut_off_at_the_edge_and_points_are_ringed(box, pixels):
    assert outermost(box, 64, 48) == pixels
    picture = outlined(np.zeros((48, 64, 3), np.uint8), [box])
    np.testing.assert_array_equal(places(picture, LINE), ring(*pixels))


@pytest.mark.parametrize(
    ("box", "pixel"),
    [((10.2, 20.2, 10.3, 20.3), (10, 20)), ((63.9, 47.9, 70, 70), (63, 47)), ((-9, 0, 0.2, 1), (0, 0))],
)
def test_a_box_of_less_than_a_pixel_is_seen_all_the_same(box, pixel):
    assert outermost(box, 64, 48) == pixel * 2
    picture = outlined(np.zeros((48, 64, 3), np.uint8), [box])
    assert tuple(picture[pixel[::-1]]) == LINE


def test_no_box_covers_the_line_of_another():
    boxes = [(10, 10, 30, 30), (12, 12, 40, 40), (11, 20, 11, 20)]
    picture = outlined(np.full((48, 64, 3), 200, np.uint8), boxes)
    expected = np.any([ring(*outermost(box, 64, 48)) for box in boxes], axis=0)
    np.testing.assert_array_equal(places(picture, LINE), expected)


def test_a_frame_without_boxes_stays_as_it_is():
    plain = np.full((48, 64, 3), 7, np.uint8)
    np.testing.assert_array_equal(outlined(plain, []), plain)


FPS, NUM_FRAMES = 6.0, 6
SMALL = PictureConfig(width=64, strip=NUM_FRAMES)


def corners(frame: int) -> tuple[int, int, int, int]:
    """Of the object in a frame of `moving`."""
    return 8 + 8 * frame, 16, 8 + 8 * frame + 24, 16 + 48


def moving(path: Path) -> Path:
    """A clip of 128 x 96 px in which a bright object moves on by 8 px with each frame."""
    frames = np.full((NUM_FRAMES, 96, 128, 3), 40, np.uint8)
    for k, frame in enumerate(frames):
        x0, y0, x1, y1 = corners(k)
        frame[y0:y1, x0:x1] = 250
    path.parent.mkdir(parents=True, exist_ok=True)
    return write(path, frames, fps=FPS)


def boxes_file(path: Path, name: str, frames: range = range(NUM_FRAMES), *, by_seconds: bool = False) -> Path:
    rows = [(k / FPS if by_seconds else k, *corners(k % NUM_FRAMES)) for k in frames]
    lines = [",".join([name, *map(str, row)]) for row in rows]
    path.write_text("\n".join([f"path,{'seconds' if by_seconds else 'frame'},x0,y0,x1,y1", *lines]), encoding="utf-8")
    return path


@pytest.fixture(autouse=True)
def _small_batches(monkeypatch) -> None:
    """Batches are filled up to one size, which for clips as short as these would be most of the work."""
    monkeypatch.setitem(BATCH_FRAMES, "cpu", 6)


@pytest.fixture
def recognizer(looking_run) -> Recognizer:
    return Recognizer(looking_run, device="cpu", jobs=1)


@pytest.fixture
def clip(tmp_path) -> Path:
    return moving(tmp_path / "videos" / "left" / "clip.mp4")


def lines_of(picture: np.ndarray) -> tuple[int, int, int, int] | None:
    """Outermost pixels of the lines in a picture: left, top, right, bottom."""
    rows, columns = np.nonzero((picture == LINE).all(axis=2))
    return (columns.min(), rows.min(), columns.max(), rows.max()) if len(rows) else None


def columns_of(path: Path, width: int = 64, height: int = 48) -> list[tuple[np.ndarray, np.ndarray]]:
    """The frame and the attended frame of each step of a strip without a note, which stands above the latter."""
    (picture,), _ = shown(path)
    tops = (MARGIN_PX + HEAD_PX, picture.shape[0] - MARGIN_PX - 4 - 13 - height)
    lefts = [MARGIN_PX + k * (width + COLUMN_GAP_PX) for k in range(NUM_FRAMES)]
    return [tuple(picture[top : top + height, left : left + width] for top in tops) for left in lefts]


@pytest.mark.parametrize("by_seconds", [False, True])
def test_the_line_is_around_the_object_of_its_own_frame(recognizer, clip, tmp_path, by_seconds):
    boxes = boxes_file(tmp_path / "boxes.csv", "left/clip.mp4", by_seconds=by_seconds)
    report = visualize(recognizer, clip, tmp_path / "out.png", SMALL, boxes=boxes)
    assert report.num_boxed == NUM_FRAMES
    for k, pictures in enumerate(columns_of(tmp_path / "out.png")):
        x0, y0, x1, y1 = (value // 2 for value in corners(k))
        for picture in pictures:
            assert lines_of(picture) == (x0, y0, x1 - 1, y1 - 1)


@pytest.mark.parametrize("suffix", [".gif", ".mp4"])
def test_moving_pictures_have_the_lines(recognizer, clip, tmp_path, suffix):
    boxes = boxes_file(tmp_path / "boxes.csv", "left/clip.mp4")
    out = tmp_path / f"out{suffix}"
    config = PictureConfig(width=240)  # as the line must outlive colour at half the size and a palette
    assert visualize(recognizer, clip, out, config, boxes=boxes).num_boxed == NUM_FRAMES
    info = probe(out)
    frames = [frame for frame, _ in FrameReader(out, width=info.width, height=info.height)]
    assert len(frames) == NUM_FRAMES
    for k, frame in enumerate(frames):
        x0, y0, x1, _ = (round(value * 240 / 128) for value in corners(k))
        for left in (0, 240 + GAP_PX):
            line = frame[y0, left + x0 + 4 : left + x1 - 4].astype(int).mean(axis=0)
            np.testing.assert_allclose(line, LINE, atol=70)
            assert line[2] - line[0] > 40


def test_a_page_has_the_boxes_of_its_frames(recognizer, clip, tmp_path):
    boxes = boxes_file(tmp_path / "boxes.csv", "left/clip.mp4", range(2, 4))
    visualize(recognizer, clip, tmp_path / "out.html", SMALL, boxes=boxes)
    data = Page((tmp_path / "out.html").read_text(encoding="utf-8")).data()
    x0, y0, x1, y1 = corners(3)
    assert data["boxes"][3] == [[x0, y0, x1 - 1, y1 - 1]]
    assert [len(step) for step in data["boxes"]] == [0, 0, 1, 1, 0, 0]


def test_a_part_of_a_clip_has_its_own_boxes(recognizer, clip, tmp_path):
    boxes = boxes_file(tmp_path / "boxes.csv", "left/clip.mp4")
    config = PictureConfig(width=64, strip=NUM_FRAMES, start=0.5)
    assert visualize(recognizer, clip, tmp_path / "out.png", config, boxes=boxes).num_boxed == 3
    first, _ = columns_of(tmp_path / "out.png")[0]
    assert lines_of(first)[0] == corners(3)[0] // 2


@pytest.mark.parametrize(("name", "frames"), [("right/clip.mp4", range(6)), ("left/clip.mp4", range(40, 42))])
def test_a_clip_without_boxes_gets_a_line(recognizer, clip, tmp_path, name, frames):
    boxes, said = boxes_file(tmp_path / "boxes.csv", name, frames), []
    report = visualize(recognizer, clip, tmp_path / "out.png", SMALL, boxes=boxes, on_progress=said.append)
    assert report.num_boxed == 0
    message = f"{clip}: {boxes} has no box of what is shown; its paths are those in the data set"
    assert [event.message for event in said if event.message] == [message]
    visualize(recognizer, clip, tmp_path / "plain.png", SMALL)
    assert (tmp_path / "out.png").read_bytes() == (tmp_path / "plain.png").read_bytes()


def test_several_clips_each_have_their_own(recognizer, clip, tmp_path):
    other = moving(tmp_path / "videos" / "right" / "other.mp4")
    boxes, said = boxes_file(tmp_path / "boxes.csv", "right/other.mp4"), []
    summary = visualize_all(
        recognizer, [clip, other], tmp_path / "out", ".png", SMALL, boxes=boxes, on_progress=said.append
    )
    assert [picture.num_boxed for picture in summary.pictures] == [0, NUM_FRAMES]
    assert sum("no box" in (event.message or "") for event in said) == 1


def test_boxes_in_a_picture_of_two_runs(looking_run, clip, tmp_path):
    boxes = boxes_file(tmp_path / "boxes.csv", "left/clip.mp4")
    twin = tmp_path / "twin"
    twin.symlink_to(looking_run)
    versus([Run(looking_run), Run(twin)], clip, tmp_path / "out.png", SMALL, boxes=boxes, device="cpu", jobs=1)
    (picture,), _ = shown(tmp_path / "out.png")
    lines = (picture == LINE).all(axis=2)
    line_px = 2 * (12 + 24) - 4
    assert lines.sum() == 3 * NUM_FRAMES * line_px  # the frame, and each run's


def test_boxes_in_a_gallery(looking_run, clip, tmp_path):
    boxes = boxes_file(tmp_path / "boxes.csv", "left/clip.mp4")
    run = shutil.copytree(looking_run, tmp_path / "run")
    video = {"path": "left/clip.mp4", "label": "left", "predicted": "left", "probability": 1.0}
    (run / "evaluation-test.json").write_text(json.dumps(figures_of(["left", "right"], videos=[video])))
    recognizer = Recognizer(run, device="cpu", jobs=1)
    gallery(recognizer, "test", tmp_path / "out.png", SMALL, videos=tmp_path / "videos", boxes=boxes)
    (picture,), _ = shown(tmp_path / "out.png")
    assert (picture == LINE).all(axis=2).any()


def test_boxes_that_cannot_be_used(recognizer, clip, tmp_path):
    def refused(video: Path, boxes: Path, message: str) -> None:
        with pytest.raises(DataError, match=message):
            visualize(recognizer, video, tmp_path / "out.png", SMALL, boxes=boxes)
        assert not (tmp_path / "out.png").exists()

    outside = tmp_path / "outside.csv"
    outside.write_text("path,frame,x0,y0,x1,y1\nclip.mp4,0,128,0,140,9\n")
    refused(clip, outside, r"outside\.csv, line 2: 128,0,140,9 is outside of .*clip\.mp4, which is 128 x 96 px")
    refused(clip, tmp_path / "absent.csv", r"absent\.csv")
    uneven = write_timed(tmp_path / "uneven.mp4", [0, 40, 80, 300, 700, 740, 1100, 1140])
    numbered = boxes_file(tmp_path / "boxes.csv", "uneven.mp4", range(2))
    refused(uneven, numbered, r"uneven\.mp4 is of variable rate, numbers of frames tell no time; give `seconds`")


VIDEO = 2  # of the store, which the clip is made


@pytest.fixture
def boxed(looking_run, clip, tmp_path) -> Run:
    """A run whose store has the clip among its videos, with its boxes."""
    run = shutil.copytree(looking_run, tmp_path / "boxed")
    manifest = json.loads((run / CONFIG).read_text())
    store = shutil.copy(manifest["store"]["path"], tmp_path / "boxed.h5")
    (run / CONFIG).write_text(json.dumps(manifest | {"store": manifest["store"] | {"path": str(store)}}))
    with h5py.File(store, "a") as file:
        file["videos/fingerprint"][VIDEO] = hashlib.sha256(clip.read_bytes()).hexdigest()
        size = np.zeros((len(file["videos/path"]), 2), np.int32)
        size[VIDEO] = 128, 96
        file["boxes/size"] = size
        file["boxes/video"] = np.full(NUM_FRAMES, VIDEO, np.int32)
        file["boxes/seconds"] = np.arange(NUM_FRAMES) / FPS
        file["boxes/corners"] = np.array([corners(k) for k in range(NUM_FRAMES)], np.float32)
    return Run(run)


def drawn(run: Run, clip: Path, out: Path, config: PictureConfig = SMALL, **options) -> tuple[int | None, list[str]]:
    """Steps with a box, and what was said."""
    said = []
    recognizer = Recognizer(run, device="cpu", jobs=1)
    report = visualize(recognizer, clip, out, config, on_progress=said.append, **options)
    return report.num_boxed, [event.message for event in said if event.message]


def test_boxes_of_the_store_are_drawn_wherever_the_clip_lies(boxed, clip, tmp_path):
    assert drawn(boxed, clip, tmp_path / "out.png") == (NUM_FRAMES, [])
    for k, pictures in enumerate(columns_of(tmp_path / "out.png")):
        x0, y0, x1, y1 = (value // 2 for value in corners(k))
        assert [lines_of(picture) for picture in pictures] == [(x0, y0, x1 - 1, y1 - 1)] * 2
    moved = shutil.copy(clip, tmp_path / "other.mp4")
    assert drawn(boxed, moved, tmp_path / "moved.png") == (NUM_FRAMES, [])


def test_a_file_of_boxes_takes_the_place_of_the_store_and_none_may_be_drawn(boxed, clip, tmp_path):
    boxes = boxes_file(tmp_path / "boxes.csv", "left/clip.mp4", range(2))
    assert drawn(boxed, clip, tmp_path / "file.png", boxes=boxes) == (2, [])
    plain = PictureConfig(width=64, strip=NUM_FRAMES, boxes=False)
    assert drawn(boxed, clip, tmp_path / "none.png", plain) == (None, [])
    assert lines_of(shown(tmp_path / "none.png")[0][0]) is None
    with pytest.raises(ConfigError, match=r"--boxes .*boxes.csv and --no-boxes: give one of them"):
        drawn(boxed, clip, tmp_path / "both.png", plain, boxes=boxes)


def test_another_clip_of_the_same_name_has_no_boxes(boxed, clip, tmp_path):
    other = tmp_path / "elsewhere" / "left" / clip.name
    other.parent.mkdir(parents=True)
    other.write_bytes(clip.read_bytes() + b"\0")
    assert drawn(boxed, other, tmp_path / "out.png") == (0, [])


def spoil(store: Path, how: str) -> None:
    if how == "no boxes":
        with h5py.File(store, "a") as file:
            del file["boxes"]
    elif how == "damaged":
        store.write_bytes(store.read_bytes()[:1000])
    elif how == "crafted boxes":
        with h5py.File(store, "a") as file:
            file["boxes/seconds"][0] = np.nan
    elif how == "another":
        with h5py.File(store, "a") as file:
            file.attrs["fingerprint"] = "0" * 64
    else:
        store.unlink()


@pytest.mark.parametrize("how", ["absent", "no boxes", "damaged", "crafted boxes", "another"])
def test_a_store_that_is_of_no_use_is_none(boxed, clip, tmp_path, monkeypatch, how):
    monkeypatch.chdir(tmp_path / "videos")
    spoil(tmp_path / "boxed.h5", how)
    assert drawn(boxed, clip, tmp_path / "out.png") == (None, [])


def test_boxes_of_the_store_are_of_its_own_size(boxed, clip, tmp_path):
    with h5py.File(tmp_path / "boxed.h5", "a") as file:
        file["boxes/size"][VIDEO] = 256, 192
    assert drawn(boxed, clip, tmp_path / "out.png") == (0, [])


def test_boxes_of_the_store_in_several_clips_runs_and_galleries(boxed, looking_run, clip, tmp_path):
    other = moving(tmp_path / "videos" / "right" / "other.mp4")
    other.write_bytes(other.read_bytes() + b"\0")
    recognizer, said = Recognizer(boxed, device="cpu", jobs=1), []
    summary = visualize_all(recognizer, [clip, other], tmp_path / "out", ".png", SMALL, on_progress=said.append)
    assert [picture.num_boxed for picture in summary.pictures] == [NUM_FRAMES, 0]
    assert not [event.message for event in said if event.message]
    versus([boxed, Run(looking_run)], clip, tmp_path / "two.png", SMALL, device="cpu", jobs=1)
    assert (shown(tmp_path / "two.png")[0] == LINE).all(axis=3).any()
    video = {"path": "left/clip.mp4", "label": "left", "predicted": "left", "probability": 1.0}
    (boxed.path / "evaluation-test.json").write_text(json.dumps(figures_of(["left", "right"], videos=[video])))
    gallery(recognizer, "test", tmp_path / "many.png", SMALL, videos=tmp_path / "videos")
    assert (shown(tmp_path / "many.png")[0] == LINE).all(axis=3).any()


def test_the_report_has_the_boxes(boxed, clip, tmp_path, monkeypatch):
    monkeypatch.setattr("attnrec.pictures.examples.PICTURES_FPS", FPS / 2)
    for video in evaluate(boxed).videos:
        target = tmp_path / "videos" / video.path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(clip, target)
    config = PageSources(videos=tmp_path / "videos", device="cpu", jobs=1)
    write_report(tmp_path / "report.html", compare([boxed.path]), config)
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    gifs = [has["src"] for has, _ in page.all("img") if str(has["src"]).startswith("data:image/gif;base64,")]
    assert gifs
    (tmp_path / "first.gif").write_bytes(base64.b64decode(gifs[0].partition(",")[2]))
    frames, _ = shown(tmp_path / "first.gif")
    assert len(frames) == NUM_FRAMES // 2
    for k, frame in enumerate(frames):
        x0, y0, x1, _ = (round(value * 160 / 128) for value in corners(2 * k))
        np.testing.assert_allclose(frame[y0, x0 + 2 : x1 - 2].mean(axis=0), LINE, atol=40)
