import os
from pathlib import Path

import clips
import numpy as np
import pytest

from attnrec.errors import DataError
from attnrec.features.boxes import (
    Clip,
    boxes_at,
    boxes_of,
    boxes_of_clip,
    cell_coverage,
    placed_boxes,
    read_boxes,
    require_inside,
)
from attnrec.video.decode import FrameReader, probe, seen_region


def table(folder, text: str):
    path = folder / "boxes.csv"
    path.write_text(text, encoding="utf-8")
    return read_boxes(path)


@pytest.mark.parametrize("resize", ["stretch", "crop"])
@pytest.mark.parametrize(("width", "height"), [(160, 120), (90, 160), (128, 128)])
@pytest.mark.parametrize("box", [(20, 30, 70, 100), (0, 0, 40, 40), (60, 50, 90, 120)])
def test_the_cells_of_a_box_are_those_where_its_pixels_arrive(tmp_path, resize, width, height, box):
    x0, y0, x1, y1 = box
    frames = np.zeros((1, height, width, 3), np.uint8)
    frames[:, y0:y1, x0:x1] = 255
    path = clips.write(tmp_path / "clip.mp4", frames)
    ((decoded, _),) = FrameReader(path, width=224, height=224, resize=resize)
    bright = decoded[..., 0].reshape(7, 32, 7, 32).mean(axis=(1, 3)) / 255
    info = probe(path)
    coverage = cell_coverage([box], seen_region(info.width, info.height, resize), 7).reshape(7, 7)
    np.testing.assert_allclose(coverage, bright, atol=0.05)


def test_boxes_cover_together_and_what_stands_out_is_cut_off():
    seen = (0.0, 0.0, 100.0, 100.0)
    one, other = (0, 0, 50, 50), (25, 25, 50, 75)
    together = cell_coverage([one, other, one], seen, 4).reshape(4, 4)
    expected = np.zeros((4, 4))
    expected[:2, :2] = expected[1:3, 1] = 1
    np.testing.assert_array_equal(together, expected)
    np.testing.assert_array_equal(cell_coverage([(-30, -5, 25, 25)], seen, 4), np.eye(16)[0])
    assert not cell_coverage([(-30, -5, 0, 25)], seen, 4).any()


def test_a_point_is_its_cell():
    seen = seen_region(200, 100, "crop")
    assert seen == (50, 0, 150, 100)
    for x, y, cell in ((50, 0, 0), (149.9, 99.9, 15), (100, 25, 6)):
        np.testing.assert_array_equal(cell_coverage([(x, y, x, y)], seen, 4), np.eye(16)[cell])
    assert not cell_coverage([(20, 50, 20, 50)], seen, 4).any()


def test_frames_take_the_boxes_of_the_nearest_time(tmp_path):
    lines = [
        "path,seconds,x0,y0,x1,y1",
        "./a.mp4,0.52,3,0,4,1",
        "a.mp4,0,1,0,2,1",
        "a.mp4,0,2,0,3,1",
        "b.mp4,1,0,0,9,9",
    ]
    boxes = table(tmp_path, "\n".join(lines))
    pts = np.array([0, 0.1, 0.2, 0.5, 0.6])
    clips_of = [Clip(1, "a.mp4", 10.0, True), Clip(2, "b.mp4", 10.0, True), Clip(0, "c.mp4", 10.0, True)]
    placed = placed_boxes(boxes, clips_of, 3, lambda clip: (64, 48))
    assert placed.size.tolist() == [[0, 0], [64, 48], [64, 48]]
    assert [placed.size_of(video) for video in range(3)] == [None, (64, 48), (64, 48)]
    assert (len(placed), placed.num_videos, placed.by_time(0)) == (4, 2, {})
    times = placed.by_time(1)
    found = boxes_at(times, pts, 0.05)
    assert found == {0: [(1, 0, 2, 1), (2, 0, 3, 1)], 3: [(3, 0, 4, 1)]}
    assert list(boxes_at(times, pts, 0.1)) == [0, 1, 3, 4]


def test_numbered_frames_have_the_times_of_the_videos_own(tmp_path):
    boxes = table(tmp_path, "path,frame,x,y\na.mp4,0,5,6\na.mp4,25,7,8\n")
    times = placed_boxes(boxes, [Clip(0, "a.mp4", 25.0, False)], 1, lambda clip: (64, 48)).by_time(0)
    assert times == {0: [(5, 6, 5, 6)], 1: [(7, 8, 7, 8)]}
    assert boxes_at(times, np.arange(20) / 10, 0.05) == {0: [(5, 6, 5, 6)], 10: [(7, 8, 7, 8)]}
    with pytest.raises(DataError, match=r"boxes.csv: a.mp4 is of variable rate, numbers of frames tell no time"):
        placed_boxes(boxes, [Clip(0, "a.mp4", 25.0, True)], 1, lambda clip: (64, 48))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,seconds,x,y\na,0,1,1", "line 1: no column 'path'"),
        ("path,x,y\na,1,1", "line 1: no seconds or frame among its columns"),
        ("path,seconds,frame,x,y\na,0,0,1,1", "line 1: both seconds or frame among its columns"),
        ("path,seconds,x0,y0,x1\na,0,1,1,2", "line 1: no x0,y0,x1,y1 or x,y among its columns"),
        ("path,seconds,x,y\na,0,1,1\na,0,nan,1", "line 3: x is not a number: 'nan'"),
        ("path,seconds,x,y\na,0,1,", "line 2: y is not a number: ''"),
        ("path,seconds,x,y\na,inf,1,1", "line 2: seconds is not a number: 'inf'"),
        ("path,seconds,x,y\na,-1,1,1", "line 2: seconds -1 is no time of a frame"),
        ("path,frame,x,y\na,1.5,1,1", "line 2: frame 1.5 is no number of a frame"),
        ("path,frame,x0,y0,x1,y1\na,1,5,5,5,9", "line 2: the box 5,5,5,9 has no area"),
        ("path,frame,x0,y0,x1,y1\na,1,5,5,9", "line 2: 5 cells in 6 columns"),
        ("path,frame,x,y\n", "empty; expected a line of column names"),
    ],
)
def test_a_malformed_file_is_refused_by_its_line(tmp_path, text, message):
    with pytest.raises(DataError) as caught:
        table(tmp_path, text)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("corners", ["64,0,70,9", "0,48,9,50", "-9,0,0,9", "-9,-9,-1,-1"])
def test_a_box_outside_of_the_frame_is_refused(tmp_path, corners):
    boxes = table(tmp_path, f'path,seconds,x0,y0,x1,y1\na.mp4,0,60,40,70,50\n"a.mp4",1,{corners}\n')
    with pytest.raises(DataError, match=rf"boxes.csv, line 3: {corners} is outside of a.mp4, which is 64 x 48 px"):
        require_inside(boxes, "a.mp4", 64, 48)


def test_a_point_on_the_edge_is_inside_and_one_beyond_is_not(tmp_path):
    boxes = table(tmp_path, "path,seconds,x,y\na.mp4,0,0,0\na.mp4,0,63.5,47.5\nb.mp4,0,64,0\n")
    require_inside(boxes, "a.mp4", 64, 48)
    with pytest.raises(DataError, match=r"line 4: 64,0 is outside of b.mp4"):
        require_inside(boxes, "b.mp4", 64, 48)


def test_boxes_of_other_videos_are_left_out_and_named(tmp_path):
    boxes = table(tmp_path, "path,seconds,x,y\na.mp4,0,0,0\nz.mp4,0,0,0\ncafe\u0301.mp4,0,1,1\n")
    known, unknown = boxes_of(boxes, ["a.mp4", "caf\xe9.mp4", "other.mp4"], "/videos")
    assert known.videos.keys() == {"a.mp4", "caf\xe9.mp4"}
    assert unknown == ["z.mp4"]


def test_a_file_of_other_videos_alone_is_refused_by_its_line(tmp_path):
    boxes = table(tmp_path, "path,seconds,x,y\nz.mp4,0,0,0\ny.mp4,0,0,0\n")
    with pytest.raises(DataError, match=r"line 2: no video 'z.mp4' among the dataset's; .* relative to /videos"):
        boxes_of(boxes, ["a.mp4"], "/videos")


@pytest.mark.parametrize(
    ("listed", "clip", "is_meant"),
    [
        ("jump/a.mp4", "/data/videos/jump/a.mp4", True),
        ("videos/jump/a.mp4", "/data/videos/jump/a.mp4", True),
        ("jump/a.avi", "/data/videos/jump/a.mp4", True),  # as videos get converted
        ("jump/a", "/data/videos/jump/a.mp4", True),
        ("a.mp4", "/data/videos/jump/a.mp4", True),
        ("jump/a.mp4", "/data/videos/run/../jump/a.mp4", True),
        ("jump/u\u0308.mp4", "/data/jump/\u00fc.mp4", True),
        ("run/a.mp4", "/data/videos/jump/a.mp4", False),
        ("jump/b.mp4", "/data/videos/jump/a.mp4", False),
        ("ump/a.mp4", "/data/videos/jump/a.mp4", False),
        ("jump/a.mp4", "/elsewhere/a.mp4", False),
    ],
)
def test_a_name_means_the_clip_whose_path_ends_in_it(tmp_path, listed, clip, is_meant):
    boxes = table(tmp_path, f"path,frame,x0,y0,x1,y1\n{listed},4,1,2,3,4\n{listed},0,5,6,7,8\nother.mp4,1,0,0,9,9\n")
    found = boxes_of_clip(boxes, Path(clip))
    assert (found is not None) == is_meant
    if found is not None:
        assert [box.corners for box in found.videos[clip]] == [(5, 6, 7, 8), (1, 2, 3, 4)]


def test_a_clip_is_known_by_the_folder_that_it_is_named_in(tmp_path, monkeypatch):
    (tmp_path / "jump").mkdir()
    monkeypatch.chdir(tmp_path / "jump")
    boxes = table(tmp_path, "path,frame,x0,y0,x1,y1\njump/a.mp4,0,5,6,7,8\n")
    assert boxes_of_clip(boxes, Path("a.mp4")) is not None


def test_only_a_regular_file_of_reasonable_size_is_read(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    with (tmp_path / "large").open("wb") as file:
        file.truncate(2**31)
    for name, message in (("fifo", "not a regular file"), ("large", "larger than 268 MB"), ("", "Is a directory")):
        with pytest.raises(DataError, match=f"cannot be read: {message}"):
            read_boxes(tmp_path / name)
