import os
from pathlib import Path

import pytest
from dataset_trees import make_files

from attnrec.datasets.folders import Finder, dataset_root, find_files, label_of, scan_videos
from attnrec.errors import DataError


def scanned(root: Path) -> list[tuple[str, str | None, str]]:
    return [(str(entry.path), entry.label, entry.group) for entry in scan_videos(root)]


def test_class_folders(tmp_path):
    make_files(tmp_path, "run/b.mp4", "run/a.avi", "jump/deep/er/c.MKV", "jump/v_jump_g07_c02.mp4")
    assert scanned(tmp_path) == [
        ("jump/deep/er/c.MKV", "jump", "jump/deep/er/c.MKV"),
        ("jump/v_jump_g07_c02.mp4", "jump", "g07"),
        ("run/a.avi", "run", "run/a.avi"),
        ("run/b.mp4", "run", "run/b.mp4"),
    ]


def test_names_in_a_flat_folder(tmp_path):
    make_files(
        tmp_path, "v_high_jump_g01_c01.avi", "v_run_g01_c10.avi", "v_run_g12_c01.avi", "other.avi", "v_run_g1.avi"
    )
    assert scanned(tmp_path) == [
        ("other.avi", None, "other.avi"),
        ("v_high_jump_g01_c01.avi", "high_jump", "g01"),
        ("v_run_g01_c10.avi", "run", "g01"),
        ("v_run_g1.avi", None, "v_run_g1.avi"),
        ("v_run_g12_c01.avi", "run", "g12"),
    ]


def test_the_folder_counts_before_the_name(tmp_path):
    make_files(tmp_path, "jump/v_run_g01_c01.avi")
    assert scanned(tmp_path) == [("jump/v_run_g01_c01.avi", "jump", "g01")]


def test_hidden_files_and_other_files_are_left_out(tmp_path):
    make_files(
        tmp_path, "run/.a.mp4", ".git/b.mp4", "run/.x/c.mp4", "run/notes.txt", "run/mp4", "run/d.mp4.part", "run/e.gif"
    )
    (tmp_path / "run" / "folder.mp4").mkdir()
    assert scanned(tmp_path) == [("run/e.gif", "run", "run/e.gif")]


def test_a_single_video(tmp_path):
    make_files(tmp_path, "run/v_jump_g03_c01.mp4", "run/a.mp4")
    video = tmp_path / "run" / "v_jump_g03_c01.mp4"
    assert scanned(video) == [("v_jump_g03_c01.mp4", "jump", "g03")]
    assert scanned(tmp_path / "run" / "a.mp4") == [("a.mp4", None, "a.mp4")]
    assert dataset_root(video) == tmp_path / "run"
    assert dataset_root(tmp_path) == tmp_path


def test_odd_names(tmp_path):
    odd = os.fsdecode(b"caf\xe9")
    make_files(tmp_path, f"{odd}/two\nlines.mp4", "-dash/a:b.mp4")
    assert scanned(tmp_path) == [
        ("-dash/a:b.mp4", "-dash", "-dash/a:b.mp4"),
        (f"{odd}/two\nlines.mp4", odd, f"{odd}/two\nlines.mp4"),
    ]


def test_the_order_does_not_depend_on_the_file_system(tmp_path):
    names = [f"{c}/{i}.mp4" for c in "bca" for i in (3, 1, 22, 2)]
    make_files(tmp_path, *names)
    assert [path for path, _, _ in scanned(tmp_path)] == sorted(names)


def test_no_videos(tmp_path):
    with pytest.raises(DataError, match=r"nothing: no such folder"):
        scan_videos(tmp_path / "nothing")
    make_files(tmp_path, "run/a.txt")
    with pytest.raises(DataError, match=r"no videos in it; expected class folders of files that end in \.3g2 .*\.mp4"):
        scan_videos(tmp_path)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/data/jump/a.mp4", "jump"),
        ("/data/v_run_g01_c01.mp4", "run"),
        ("/data/jump/v_run_g01_c01.mp4", "jump"),
        ("/data/other/v_run_g01_c01.mp4", "run"),
        ("/data/other/v_fall_g01_c01.mp4", None),
        ("/data/other/run.mp4", None),
        ("/jump/other/a.mp4", "jump"),  # nested in the class folder
        ("/data/jump/deep/er/a.mp4", "jump"),
        ("/jump/run/other/a.mp4", "run"),  # the nearest counts
        ("/jump/other/v_run_g01_c01.mp4", "run"),  # the name counts before a folder further up
        ("/data/other/a.mp4", None),
    ],
)
def test_label_of(path, expected):
    assert label_of(Path(path), ["jump", "run"]) == expected


def test_label_of_a_relative_path(tmp_path, monkeypatch):
    (tmp_path / "jump").mkdir()
    monkeypatch.chdir(tmp_path / "jump")
    assert label_of(Path("a.mp4"), ["jump"]) == "jump"


def test_label_of_a_folder_whose_accents_are_spelled_otherwise():
    assert label_of(Path("/data/cafe\u0301/a.mp4"), ["caf\xe9"]) == "caf\xe9"
    assert label_of(Path("/data/caf\xe9/a.mp4"), ["cafe\u0301"]) == "cafe\u0301"


# Links


def test_a_class_folder_that_is_a_link_is_followed(tmp_path):
    make_files(tmp_path / "elsewhere", "yoga/y1.mp4", "yoga/deep/y2.mp4")
    make_files(tmp_path / "videos", "golf/g1.mp4")
    (tmp_path / "videos" / "yoga").symlink_to("../elsewhere/yoga")
    assert scanned(tmp_path / "videos") == [
        ("golf/g1.mp4", "golf", "golf/g1.mp4"),
        ("yoga/deep/y2.mp4", "yoga", "yoga/deep/y2.mp4"),
        ("yoga/y1.mp4", "yoga", "yoga/y1.mp4"),
    ]


@pytest.mark.parametrize("target", ["..", ".", "../..", "deep"])
def test_a_link_to_what_is_read_anyway_is_not_followed(tmp_path, target):
    make_files(tmp_path, "run/r.mp4", "run/deep/d.mp4")
    (tmp_path / "run" / "again").symlink_to(target)
    found = find_files(tmp_path)
    assert [str(path) for path in found.videos] == ["run/deep/d.mp4", "run/r.mp4"]
    assert [str(path) for path in found.repeated_links] == ["run/again"]


def test_folders_that_all_link_to_each_other_are_read_once(tmp_path):
    for i in range(12):
        make_files(tmp_path / "elsewhere", f"c{i}/a.mp4")
    for i in range(12):
        for j in range(12):
            (tmp_path / "elsewhere" / f"c{i}" / f"to{j}").symlink_to(f"../c{j}")
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "c0").symlink_to("../elsewhere/c0")
    assert len(find_files(tmp_path / "videos").videos) == 12
    assert len(find_files(tmp_path / "elsewhere").videos) == 12


def test_files_that_are_passed_over_are_known(tmp_path):
    make_files(tmp_path, "run/a.mp4", "run/b.rm", "run/c", "run/notes.txt", "run/cover.jpg", "run/.hidden.rm")
    (tmp_path / "jump").symlink_to("nowhere")
    found = find_files(tmp_path)
    assert [str(path) for path in found.ignored] == ["run/b.rm", "run/c"]
    assert [str(path) for path in found.broken_links] == ["jump"]


@pytest.mark.parametrize(
    ("listed", "found"),
    [
        ("run/a.avi", 0),
        ("run/a.mp4", 0),
        ("run/a", 0),
        ("a.avi", 0),  # a bare name for a video in a folder
        ("jump/a.avi", None),  # but no other folder's
        ("top.mkv", 2),
        ("run/top.mp4", 2),  # a class folder for videos that lie all in one
        ("run/b.avi", 1),
        ("b.avi", None),  # two of them
        ("jump/c.mp4", 4),
        ("jump/c.avi", 5),
        ("jump/c", None),
        ("run/v1.2.mp4", 6),
        ("run/v1.2", 6),
        ("nothing.mp4", None),
    ],
)
def test_finding_listed_videos(listed, found):
    names = ("run/a.avi", "run/b.mp4", "top.mp4", "jump/b.mp4", "jump/c.mp4", "jump/c.avi", "run/v1.2.avi")
    assert Finder([Path(name) for name in names]).find(listed) == found


COMPOSED, DECOMPOSED = "run/caf\xe9.avi", "run/cafe\u0301.avi"


@pytest.mark.parametrize("on_disk", [COMPOSED, DECOMPOSED])
@pytest.mark.parametrize("listed", [COMPOSED, DECOMPOSED, COMPOSED[:-4], DECOMPOSED[:-4], "cafe\u0301.avi"])
def test_accents_may_be_spelled_otherwise_in_a_list(on_disk, listed):
    assert Finder([Path("run/a.avi"), Path(on_disk)]).find(listed) == 1


def test_names_that_differ_in_their_spelling_alone_are_told_apart():
    finder = Finder([Path(COMPOSED), Path(DECOMPOSED)])
    assert (finder.find(COMPOSED), finder.find(DECOMPOSED)) == (0, 1)
