import os
from pathlib import Path

import numpy as np
import pytest

from attnrec.data.layouts import (
    TEST,
    TRAIN,
    UNUSED,
    VALIDATION,
    VideoEntry,
    class_names,
    dataset_root,
    default_splits,
    label_of,
    leaking_groups,
    scan_videos,
)
from attnrec.errors import DataError

FOLDS = ("cv3-1", "cv3-2", "cv3-3")


def make_files(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def scanned(root: Path) -> list[tuple[str, str | None, str]]:
    return [(str(entry.path), entry.label, entry.group) for entry in scan_videos(root)]


def make_dataset(num_classes: int, num_groups: int, clips: int) -> tuple[np.ndarray, list[str]]:
    """Every group has `clips` videos of every class, in an order that says nothing."""
    pairs = [(c, f"g{g:02d}") for c in range(num_classes) for g in range(num_groups) for _ in range(clips)]
    order = np.random.default_rng(0).permutation(len(pairs))
    return np.array([pairs[i][0] for i in order], np.int32), [pairs[i][1] for i in order]


# Finding videos


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
    with pytest.raises(DataError, match=r"no videos in it; expected class folders of files that end in \.3gp .*\.mp4"):
        scan_videos(tmp_path)


def test_class_names_are_sorted_and_unique():
    entries = [VideoEntry(Path(f"{i}.mp4"), label, "g") for i, label in enumerate(["run", None, "jump", "run"])]
    assert class_names(entries) == ["jump", "run"]
    assert class_names(entries[1:2]) == []


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/data/jump/a.mp4", "jump"),
        ("/data/v_run_g01_c01.mp4", "run"),
        ("/data/jump/v_run_g01_c01.mp4", "jump"),
        ("/data/other/v_run_g01_c01.mp4", "run"),
        ("/data/other/v_fall_g01_c01.mp4", None),
        ("/data/other/run.mp4", None),
        ("/jump/other/a.mp4", None),
    ],
)
def test_label_of(path, expected):
    assert label_of(Path(path), ["jump", "run"]) == expected


def test_label_of_a_relative_path(tmp_path, monkeypatch):
    (tmp_path / "jump").mkdir()
    monkeypatch.chdir(tmp_path / "jump")
    assert label_of(Path("a.mp4"), ["jump"]) == "jump"


# Splits


@pytest.mark.parametrize("seed", [0, 1, 7])
@pytest.mark.parametrize(
    ("num_classes", "num_groups", "clips"), [(4, 9, 2), (11, 25, 1), (2, 40, 3), (3, 8, 5), (1, 9, 2)]
)
def test_groups_are_whole_in_every_split(num_classes, num_groups, clips, seed):
    labels, groups = make_dataset(num_classes, num_groups, clips)
    splits = default_splits(labels, groups, seed)
    assert list(splits) == ["default", *FOLDS]
    for codes in splits.values():
        assert codes.dtype == np.uint8
        assert codes.shape == labels.shape
        sides = {}
        for code, group in zip(codes, groups, strict=True):
            sides.setdefault(group, set()).add(int(code))
        assert all(len(side) == 1 for side in sides.values())
        assert leaking_groups(codes, groups) == []
        assert {int(code) for code in codes} == {TRAIN, VALIDATION, TEST}


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_folds_test_every_video_once(seed):
    labels, groups = make_dataset(4, 9, 2)
    splits = default_splits(labels, groups, seed)
    tested = sum((splits[name] == TEST).astype(int) for name in FOLDS)
    assert (tested == 1).all()
    assert [int((splits[name] == TEST).sum()) for name in FOLDS] == [24, 24, 24]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_shares_and_classes_are_balanced(seed):
    labels, groups = make_dataset(5, 40, 1)
    codes = default_splits(labels, groups, seed)["default"]
    for part, share in ((TRAIN, 0.6), (VALIDATION, 0.15), (TEST, 0.25)):
        assert (codes == part).mean() == pytest.approx(share, abs=0.05)
        counts = np.bincount(labels[codes == part], minlength=5)
        assert counts.max() == counts.min()


def test_splits_are_stratified_when_groups_hold_one_class_each():
    labels = np.repeat(np.arange(3, dtype=np.int32), 24)
    groups = [f"{label}-{i // 2}" for label in range(3) for i in range(24)]
    for codes in default_splits(labels, groups, 0).values():
        for part in (TRAIN, VALIDATION, TEST):
            counts = np.bincount(labels[codes == part], minlength=3)
            assert counts.max() - counts.min() <= 2


def test_splits_are_a_function_of_the_seed():
    labels, groups = make_dataset(4, 12, 2)
    first, again, other = (default_splits(labels, groups, seed) for seed in (3, 3, 4))
    for name, codes in first.items():
        np.testing.assert_array_equal(codes, again[name])
        assert (codes != other[name]).any()


def test_unlabelled_videos_are_unused():
    labels, groups = make_dataset(3, 9, 2)
    rng = np.random.default_rng(0)
    labels[rng.permutation(len(labels))[:10]] = -1
    for codes in default_splits(labels, groups, 0).values():
        np.testing.assert_array_equal(codes == UNUSED, labels < 0)


def test_only_unlabelled_videos():
    for codes in default_splits(np.full(4, -1, np.int32), list("abcd"), 0).values():
        assert codes.tolist() == [UNUSED] * 4


def test_one_group_is_all_training():
    labels, groups = make_dataset(3, 1, 4)
    for codes in default_splits(labels, groups, 0).values():
        assert (codes == TRAIN).all()


def test_two_groups_have_no_validation_part():
    labels, groups = make_dataset(3, 2, 4)
    splits = default_splits(labels, groups, 0)
    for name in ("default", "cv3-1", "cv3-2"):
        assert (splits[name] == TEST).sum() == 12
        assert (splits[name] == TRAIN).sum() == 12
        assert leaking_groups(splits[name], groups) == []
    assert sum((splits[name] == TEST).astype(int) for name in FOLDS).tolist() == [1] * 24


@pytest.mark.parametrize("counts", [(1, 1, 1), (5, 1), (2, 2), (1,), (9, 1, 1)])
def test_few_videos_of_their_own_groups(counts):
    labels = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
    groups = [str(i) for i in range(len(labels))]
    for codes in default_splits(labels, groups, 0).values():
        assert (codes != UNUSED).all()
        assert (codes == TRAIN).any()


def test_group_names_that_are_not_utf8():
    labels, groups = make_dataset(2, 6, 2)
    odd = [os.fsdecode(b"\xe9\n") + group for group in groups]
    for (_, codes), (_, expected) in zip(
        default_splits(labels, odd, 0).items(), default_splits(labels, groups, 0).items(), strict=True
    ):
        np.testing.assert_array_equal(codes, expected)


def test_no_person_of_the_real_clips_is_on_both_sides(real_data):
    entries = scan_videos(real_data / "weizmann4")
    assert len(entries) == 72
    assert class_names(entries) == ["bend", "jack", "wave1", "wave2"]
    labels = np.array([class_names(entries).index(entry.label) for entry in entries], np.int32)
    groups = [entry.group for entry in entries]
    assert len(set(groups)) == 9
    for codes in default_splits(labels, groups, 0).values():
        people = [{g for g, code in zip(groups, codes, strict=True) if code == part} for part in range(3)]
        assert all(people)
        assert not people[0] & people[1]
        assert not people[0] & people[2]
        assert not people[1] & people[2]
        assert (np.bincount(labels[codes == TEST], minlength=4) > 0).all()


def test_leaks_are_named():
    codes = np.array([TRAIN, TEST, VALIDATION, TEST, TRAIN, VALIDATION, UNUSED, TEST], np.uint8)
    assert leaking_groups(codes, ["b", "b", "a", "a", "c", "c", "d", "d"]) == ["a", "b"]
    assert leaking_groups(codes[:0], []) == []


@pytest.mark.parametrize("num_groups", [3, 4, 5])
def test_three_groups_are_enough_for_all_parts(num_groups):
    groups = [f"g{g}" for g in range(num_groups) for _ in range(12)]
    labels = np.tile(np.repeat(np.arange(3, dtype=np.int32), 4), num_groups)
    for codes in default_splits(labels, groups, seed=0).values():
        assert set(codes.tolist()) == {TRAIN, VALIDATION, TEST}
