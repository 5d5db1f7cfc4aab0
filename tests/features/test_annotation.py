"""Boxes on their way into a store: from files and J-HMDB's puppet masks, and what is said of them."""

import json
import shutil
from pathlib import Path

import clips
import numpy as np
import pytest
from dataset_trees import make_jhmdb, write_mask
from typer.testing import CliRunner

from attnrec.cli.app import app
from attnrec.datasets.dataset import VideoEntry
from attnrec.errors import DataError
from attnrec.features.annotation import mask_boxes, read_mask, read_masks
from attnrec.features.extract import extract
from attnrec.features.plan import plan_extraction
from attnrec.features.store import FeatureStore
from attnrec.settings import ExtractConfig

NUM_FRAMES, FPS = 4, 10
NAMES = ["bend/v_bend_g01_c01.mp4", "bend/v_bend_g02_c01.mp4", "jack/v_jack_g01_c01.mp4", "jack/v_jack_g02_c01.mp4"]


def config(**changes) -> ExtractConfig:
    settings = {"backbone": "squeezenet1_0", "weights": "random", "precision": "fp32", "device": "cpu", "jobs": 1}
    return ExtractConfig(**settings | changes)


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    return clips.write(tmp_path_factory.mktemp("clip") / "c.mp4", clips.noise(NUM_FRAMES), fps=FPS)


@pytest.fixture(scope="module")
def made(clip, tmp_path_factory) -> Path:
    """Four clips, and a store of them without boxes."""
    folder = tmp_path_factory.mktemp("made")
    for number, name in enumerate(NAMES):
        (folder / "videos" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "videos" / name).write_bytes(clip.read_bytes() + bytes(number))  # a content of its own
    extract(folder / "videos", folder / "s.h5", config())
    return folder


@pytest.fixture
def here(made, tmp_path) -> Path:
    """A copy of both."""
    return Path(shutil.copytree(made, tmp_path / "here"))


def write(path: Path, *rows: str, header: str = "path,seconds,x0,y0,x1,y1") -> Path:
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def test_boxes_of_a_file_come_into_the_store_without_a_new_extraction(here):
    before = FeatureStore(here / "s.h5")
    boxes = write(here / "b.csv", f"{NAMES[2]},0.1,1,2,30,40", f"{NAMES[0]},0.2,5,6,7,8", "elsewhere.mp4,0,1,1,2,2")
    report = extract(here / "videos", here / "s.h5", config(boxes=str(boxes)))
    found = FeatureStore(here / "s.h5")
    assert report.num_extracted == 0
    assert (report.boxes.source, report.boxes.num_videos, report.boxes.num_boxes) == (str(boxes), 2, 2)
    assert (report.boxes.num_absent, report.boxes.problems) == (1, [])
    assert found.boxes.video.tolist() == [0, 2]
    assert found.boxes.by_time(2) == {0.1: [(1, 2, 30, 40)]}
    assert found.boxes.size.tolist() == [[64, 48], [0, 0], [64, 48], [0, 0]]
    assert found.fingerprint == before.fingerprint
    np.testing.assert_array_equal(found.features(), before.features())


def test_the_same_boxes_again_leave_the_store_as_it_is_and_others_pack_it_again(here):
    boxes, out = here / "videos" / "boxes.csv", here / "s.h5"

    def packed_by(**changes) -> FeatureStore:
        assert extract(here / "videos", out, config(**changes)).num_extracted == 0
        return FeatureStore(out)

    write(boxes, f"{NAMES[1]},0,1,1,9,9")
    packed_by()
    inode = out.stat().st_ino
    packed_by()
    assert out.stat().st_ino == inode
    write(boxes, f"{NAMES[1]},0,1,1,9,10")
    assert packed_by().boxes.by_time(1) == {0: [(1, 1, 9, 10)]}
    assert out.stat().st_ino != inode
    given = write(here / "given.csv", f"{NAMES[3]},3,5,5", header="path,frame,x,y")
    assert packed_by(boxes=str(given)).boxes.by_time(3) == {0.3: [(5, 5, 5, 5)]}
    boxes.unlink()
    assert packed_by().boxes is None


def test_the_plan_and_the_program_say_where_boxes_come_from(here):
    boxes = write(here / "videos" / "boxes.csv", f"{NAMES[1]},0,1,1,9,9", f"{NAMES[1]},0,1,1,9,9", "z.mp4,0,1,1,2,2")
    plan = plan_extraction(here / "videos", here / "s.h5", config())
    assert (plan.boxes.num_videos, plan.boxes.num_boxes, plan.boxes.num_absent) == (1, 2, 1)
    options = ["--backbone", "squeezenet1_0", "--weights", "random", "--precision", "fp32", "--jobs", "1"]
    arguments = ["extract", str(here / "videos"), str(here / "s.h5"), *options]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.stderr
    assert f"boxes    2 in 1 video, from {boxes}; 1 annotated video not there" in result.stdout.splitlines()
    document = json.loads(CliRunner().invoke(app, [*arguments, "--json"]).stdout)
    assert document["boxes"] == {
        "source": str(boxes), "num_videos": 1, "num_boxes": 2, "num_absent": 1, "problems": []
    }  # fmt: skip
    info = CliRunner().invoke(app, ["info", str(here / "s.h5"), "--json"])
    assert json.loads(info.stdout)["boxes"] == {"videos": 1, "boxes": 2}


@pytest.mark.parametrize(
    ("header", "row", "message"),
    [
        ("path,seconds,x", f"{NAMES[0]},0,1", "line 1: no x0,y0,x1,y1 or x,y among its columns"),
        ("path,seconds,x,y", "z.mp4,0,1,1", "line 2: no video 'z.mp4' among the dataset's"),
        ("path,seconds,x,y", f"{NAMES[0]},0,64,1", "line 2: 64,1 is outside of .*, which is 64 x 48 px"),
        ("path,seconds,x,y", f"{NAMES[0]},1e10,1,1", r"line 2: 1e\+10 is beyond the end of any video"),
        ("path,frame,x,y", f"{NAMES[0]},1e300,1,1", r"line 2: 1e\+300 is beyond the end of any video"),
    ],
)
def test_a_given_file_that_does_not_fit_is_refused(here, header, row, message):
    before = (here / "s.h5").read_bytes()
    boxes = write(here / "b.csv", row, header=header)
    with pytest.raises(DataError, match=message):
        extract(here / "videos", here / "s.h5", config(boxes=str(boxes)))
    assert (here / "s.h5").read_bytes() == before


def test_a_file_that_only_has_the_name_is_told_and_left_out(here):
    write(here / "videos" / "boxes.csv", "z.mp4,0,1,1", header="video,when,left,top")
    report = extract(here / "videos", here / "s.h5", config())
    assert FeatureStore(here / "s.h5").boxes is None
    (problem,) = report.boxes.problems
    assert "boxes.csv, line 1: no column 'path'" in str(problem)


def test_a_found_file_that_does_not_fit_costs_no_extraction(here):
    write(here / "videos" / "boxes.csv", f"{NAMES[0]},0,1,1,9,9", f"{NAMES[1]},0,64,1,70,9")
    report = extract(here / "videos", here / "s.h5", config())
    assert FeatureStore(here / "s.h5").boxes is None
    assert (report.boxes.num_videos, report.boxes.num_boxes) == (0, 0)
    (problem,) = report.boxes.problems
    assert f"boxes.csv, line 3: 64,1,70,9 is outside of {NAMES[1]}, which is 64 x 48 px" in str(problem)


@pytest.mark.parametrize(
    ("corners", "stored"),
    [
        ("-1e300,1,1e300,5", (0, 1, 64, 5)),
        ("63.9999999999,1,70,5", (63.9999999999, 1, 64, 5)),  # which 32 bits would round to the edge, outside
        ("-5,1,1e-60,5", (0, 1, 1e-60, 5)),
    ],
)
def test_boxes_that_stand_out_are_cut_off_so_that_the_store_can_be_read(here, corners, stored):
    boxes = write(here / "b.csv", f"{NAMES[0]},0,{corners}")
    extract(here / "videos", here / "s.h5", config(boxes=str(boxes)))
    assert FeatureStore(here / "s.h5").boxes.by_time(0) == {0: [stored]}


def test_numbers_of_frames_are_refused_at_a_variable_rate(tmp_path):
    (tmp_path / "videos").mkdir()
    clips.write_timed(tmp_path / "videos" / "a.mkv", [0, 100, 200, 700, 800])
    boxes = write(tmp_path / "b.csv", "a.mkv,1,1,1", header="path,frame,x,y")
    with pytest.raises(DataError, match=r"a.mkv is of variable rate, numbers of frames tell no time; give `seconds`"):
        extract(tmp_path / "videos", tmp_path / "s.h5", config(boxes=str(boxes)))
    write(boxes, "a.mkv,0.7,1,1", header="path,seconds,x,y")
    extract(tmp_path / "videos", tmp_path / "s.h5", config(boxes=str(boxes)))
    assert FeatureStore(tmp_path / "s.h5").boxes.by_time(0) == {0.7: [(1, 1, 1, 1)]}


def mask_of(num_frames: int, height: int = clips.HEIGHT) -> np.ndarray:
    """A person who moves on by a pixel a frame, and is not there in the first."""
    mask = np.zeros((height, clips.WIDTH, num_frames), np.uint8)
    for frame in range(1, num_frames):
        mask[4:20, 10 + frame : 30 + frame, frame] = 7
    return mask


@pytest.fixture
def jhmdb(clip, tmp_path) -> tuple[Path, list[str]]:
    """J-HMDB with videos that can be decoded and masks for them; the names of the videos."""
    root = tmp_path / "JHMDB"
    names = make_jhmdb(root, videos="ReCompress_Videos", num_films=2)
    for number, name in enumerate(names):
        (root / "ReCompress_Videos" / name).write_bytes(clip.read_bytes() + bytes(number))
        write_mask(root / "puppet_mask" / Path(name).with_suffix(""), mask_of(NUM_FRAMES))
    return root, names


def test_the_masks_of_jhmdb_become_boxes(jhmdb, tmp_path):
    root, names = jhmdb
    report = extract(root, tmp_path / "s.h5", config())
    found = FeatureStore(tmp_path / "s.h5")
    assert (found.dataset, report.boxes.num_videos, report.boxes.num_boxes) == ("jhmdb", len(names), 3 * len(names))
    assert report.boxes.problems == []
    for video in range(len(names)):
        times = found.boxes.by_time(video)
        assert list(times) == pytest.approx([frame / FPS for frame in range(1, NUM_FRAMES)])
        assert list(times.values()) == [[(10 + frame, 4, 30 + frame, 20)] for frame in range(1, NUM_FRAMES)]


def test_masks_tell_time_by_the_rate_where_not_every_frame_is_stored(jhmdb, tmp_path):
    extract(jhmdb[0], tmp_path / "s.h5", config(fps=5.0))
    found = FeatureStore(tmp_path / "s.h5")
    assert found.videos.num_frames.tolist() == [NUM_FRAMES // 2] * len(jhmdb[1])
    assert list(found.boxes.by_time(0)) == pytest.approx([0.1, 0.2, 0.3])


def test_masks_that_cannot_be_used_are_named_and_the_others_kept(jhmdb, tmp_path):
    root, names = jhmdb
    absent, broken, misfit, longer, *_ = (root / "puppet_mask" / Path(name).with_suffix("") for name in sorted(names))
    (absent / "puppet_mask.mat").unlink()
    data = (broken / "puppet_mask.mat").read_bytes()
    (broken / "puppet_mask.mat").write_bytes(data[: len(data) // 2])
    write_mask(misfit, mask_of(NUM_FRAMES, height=50))
    write_mask(longer, mask_of(NUM_FRAMES + 2))
    report = extract(root, tmp_path / "s.h5", config())
    assert [(problem.what, problem.count) for problem in report.boxes.problems] == [
        ("videos without a puppet mask", 1),
        ("puppet masks that cannot be used, left out", 1),
        ("masks of another shape than their video's, left out", 1),
    ]
    found = FeatureStore(tmp_path / "s.h5")
    assert report.boxes.num_videos == found.boxes.num_videos == len(names) - 3
    assert list(found.boxes.by_time(3)) == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5])


def test_masks_of_frames_at_uneven_times(jhmdb, tmp_path):
    root, names = jhmdb
    times = [0, 100, 200, 700]
    uneven = clips.write_timed(tmp_path / "u.mkv", times).read_bytes()
    first, second, *_ = sorted(names)
    for number, name in enumerate((first, second)):
        (root / "ReCompress_Videos" / name).write_bytes(uneven + bytes(number))
        write_mask(root / "puppet_mask" / Path(name).with_suffix(""), np.ones((16, 16, NUM_FRAMES - number), np.uint8))
    report = extract(root, tmp_path / "s.h5", config())
    (problem,) = report.boxes.problems
    assert str(problem) == f"masks that tell no time in a video of variable rate, left out: 1 ({second})"
    assert list(FeatureStore(tmp_path / "s.h5").boxes.by_time(0)) == pytest.approx([time / 1000 for time in times])


def test_a_file_takes_the_place_of_masks(jhmdb, tmp_path):
    root, names = jhmdb
    write(root / "ReCompress_Videos" / "boxes.csv", f"{names[0]},0,1,1,9,9")
    assert extract(root, tmp_path / "s.h5", config()).boxes.num_boxes == 1


# Masks themselves


def person_mask(*regions: tuple[int, int, int, int] | None, height: int = 24, width: int = 32):
    """A mask whose frames show a person in a region each, x0 y0 x1 y1, or nobody."""
    mask = np.zeros((height, width, len(regions)), np.uint8)
    for frame, region in enumerate(regions):
        if region is not None:
            x0, y0, x1, y1 = region
            mask[y0, x0:x1, frame] = 3
            mask[y0:y1, x1 - 1, frame] = 13
    return mask


def test_boxes_are_tight_and_half_open():
    boxes = mask_boxes(person_mask((4, 3, 20, 9), None, (0, 0, 32, 24), (7, 8, 8, 9)))
    assert [(box.when, box.corners) for box in boxes] == [
        (0, (4, 3, 20, 9)), (2, (0, 0, 32, 24)), (3, (7, 8, 8, 9)),
    ]  # fmt: skip


def test_a_mask_of_a_single_frame(tmp_path):
    path = write_mask(tmp_path, person_mask((1, 2, 3, 4))[:, :, 0])
    assert read_mask(path).shape == (24, 32, 1)


def test_a_mask_of_four_axes_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"part_mask is of shape \(3, 2, 2, 2\), not height, width and frames"):
        read_mask(write_mask(tmp_path, np.ones((3, 2, 2, 2), np.uint8)))


def test_masks_of_a_data_set(tmp_path):
    names = ("whole", "absent", "broken", "empty")
    entries = [VideoEntry(Path(f"golf/{name}.avi"), ("golf",), name) for name in names]
    write_mask(tmp_path / "golf" / "whole", person_mask((4, 3, 20, 9), None))
    write_mask(tmp_path / "golf" / "empty", person_mask(None, None))
    write_mask(tmp_path / "golf" / "broken", person_mask(None, None), name="other")
    found = read_masks(tmp_path, entries)
    assert list(found.table.videos) == ["golf/whole.avi"]
    assert found.masks == {"golf/whole.avi": ((32, 24), 2), "golf/empty.avi": ((32, 24), 2)}
    assert [(problem.what, problem.count) for problem in found.problems] == [
        ("videos without a puppet mask", 1), ("puppet masks that cannot be used, left out", 1),
    ]  # fmt: skip
    assert "golf/broken/puppet_mask.mat: no usable part_mask (no part_mask in it)" in str(found.problems[1])
