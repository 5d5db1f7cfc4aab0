import os
import shutil
import time
from collections import Counter, defaultdict
from pathlib import Path

import pytest
from dataset_trees import (
    make_files,
    make_hmdb51,
    make_jhmdb,
    make_ucf11,
    make_ucf101,
    write_lists,
    write_synthetic_clip_sets,
)

from attnrec.datasets.dataset import Dataset
from attnrec.datasets.lists import HOLLYWOOD2_CLASSES
from attnrec.datasets.read import read_dataset
from attnrec.datasets.splits import TEST, TRAIN, VALIDATION
from attnrec.errors import DataError

SEEDED = ["default", "cv3-1", "cv3-2", "cv3-3"]
TRAINLIST, TESTLIST = "Archery/v_Archery_g08_c01.avi 2\r\n", "Archery/v_Archery_g01_c01.avi\r\n"


def labels_of(dataset: Dataset) -> dict[str, tuple[str, ...]]:
    return {str(entry.path): entry.labels for entry in dataset.entries}


def kinds_of(dataset: Dataset) -> list[str]:
    return [problem.kind for problem in dataset.problems]


def counts_of(dataset: Dataset, split: str) -> tuple[int, int, int]:
    """Videos to train on with those held out for validation, to test on, and unused."""
    counts = dataset.split_counts[split]
    return counts["train"] + counts["validation"], counts["test"], counts["unused"]


def assert_validation_is_fair(dataset: Dataset) -> None:
    """About 15 % of each split's training videos, in whole groups that are in no other part."""
    for codes in dataset.splits.values():
        sides = defaultdict(set)
        for group, code in zip(dataset.groups, codes, strict=True):
            sides[group].add(int(code))
        assert not [group for group, parts in sides.items() if VALIDATION in parts and parts & {TRAIN, TEST}]
        share = (codes == VALIDATION).sum() / (codes <= VALIDATION).sum()
        assert share == pytest.approx(0.15, abs=0.02)


# Folders and names


def test_class_folders(tmp_path):
    make_files(tmp_path / "mine", "run/b.mp4", "jump/deep/a.mp4", "jump/v_x_g02_c01.avi", "v_walk_g01_c01.avi", "c.mp4")
    dataset = read_dataset(tmp_path / "mine")
    assert labels_of(dataset) == {
        "c.mp4": (),
        "jump/deep/a.mp4": ("jump",),
        "jump/v_x_g02_c01.avi": ("jump",),
        "run/b.mp4": ("run",),
        "v_walk_g01_c01.avi": ("walk",),
    }
    assert (dataset.name, dataset.layout, dataset.root) == ("mine", "folders", tmp_path / "mine")
    assert dataset.classes == ("jump", "run", "walk")
    assert list(dataset.splits) == SEEDED
    assert kinds_of(dataset) == ["lone-group"]


def test_names_in_a_flat_folder(tmp_path):
    dataset = read_dataset(make_files(tmp_path, "v_run_g01_c01.avi", "v_run_g02_c01.avi", "other.avi"))
    assert dataset.layout == "names"
    assert labels_of(dataset) == {"other.avi": (), "v_run_g01_c01.avi": ("run",), "v_run_g02_c01.avi": ("run",)}
    assert dataset.groups == ["other.avi", "g01", "g02"]


def test_a_folder_without_labels(tmp_path):
    dataset = read_dataset(make_files(tmp_path, "a.avi", "b.avi"))
    assert (dataset.layout, dataset.classes, dataset.label_index.tolist()) == ("unlabelled", (), [-1, -1])
    assert counts_of(dataset, "default") == (0, 0, 2)


def test_forced_layouts(tmp_path):
    make_files(tmp_path, "jump/v_run_g01_c01.avi", "jump/b.avi")
    assert labels_of(read_dataset(tmp_path)) == {"jump/b.avi": ("jump",), "jump/v_run_g01_c01.avi": ("jump",)}
    assert labels_of(read_dataset(tmp_path, "names")) == {"jump/b.avi": (), "jump/v_run_g01_c01.avi": ("run",)}
    assert labels_of(read_dataset(tmp_path, "unlabelled")) == {"jump/b.avi": (), "jump/v_run_g01_c01.avi": ()}


def test_a_single_video(tmp_path):
    make_files(tmp_path, "jump/v_run_g01_c01.avi")
    dataset = read_dataset(tmp_path / "jump/v_run_g01_c01.avi")
    assert (dataset.layout, dataset.root) == ("names", tmp_path / "jump")
    assert labels_of(dataset) == {"v_run_g01_c01.avi": ("run",)}


def test_names_of_any_bytes(tmp_path):
    odd = os.fsdecode(b"caf\xe9 bar\n")
    make_files(tmp_path, *(f"{odd}/{i}\n.mp4" for i in range(9)), *(f"b/{odd}{i}.mp4" for i in range(9)))
    dataset = read_dataset(tmp_path)
    assert dataset.classes == ("b", odd)
    assert counts_of(dataset, "default")[1] > 0


# UCF-11


def test_ucf11_by_its_official_names(real_data, tmp_path):
    videos = make_ucf11(tmp_path / "UCF11_updated_mpg", real_data)
    dataset = read_dataset(videos)
    assert (dataset.name, dataset.layout, len(dataset.entries)) == ("ucf11", "ucf11", 1600)
    groups = defaultdict(set)
    for entry in dataset.entries:
        groups[entry.label].add(entry.group)
    assert {label: len(members) for label, members in groups.items()} == dict.fromkeys(dataset.classes, 25)
    assert len(dataset.classes) == 11
    assert len(set(dataset.groups)) == 275
    assert list(dataset.splits) == SEEDED
    train, test, unused = counts_of(dataset, "default")
    assert unused == 0
    assert test / (train + test) == pytest.approx(0.4, abs=0.01)
    assert_validation_is_fair(dataset)
    assert dataset.problems == ()
    outer = read_dataset(tmp_path)
    assert (outer.layout, outer.root) == ("ucf11", videos)
    assert outer.entries == dataset.entries


def test_ucf11_with_lists_of_others(real_data, tmp_path):
    videos = make_ucf11(tmp_path / "v", real_data)
    dataset = read_dataset(videos, splits=real_data / "splits/ucf11")
    assert dataset.split_counts == {"ucf11": {"train": 948, "validation": 318, "test": 334, "unused": 0}}
    assert dataset.problems == ()


def test_folders_named_like_groups_are_not_always_ucf11(tmp_path):
    make_files(tmp_path, "basketball/v_shooting_01/v_shooting_01_01.mpg", "dancing/v_tango_01/v_tango_01_01.mpg")
    assert read_dataset(tmp_path).layout == "folders"
    with pytest.raises(DataError, match="not laid out like ucf11; expected folders like basketball/v_shooting_01 of"):
        read_dataset(tmp_path, "ucf11")


# UCF-101


@pytest.fixture(scope="module")
def ucf101(real_data, tmp_path_factory) -> Path:
    return make_ucf101(tmp_path_factory.mktemp("ucf101"), real_data)


def test_ucf101_by_its_official_names(ucf101):
    started = time.monotonic()
    dataset = read_dataset(ucf101 / "UCF-101")
    assert time.monotonic() - started < 20
    assert (dataset.name, dataset.layout, len(dataset.entries), len(dataset.classes)) == (
        "ucf101",
        "ucf101",
        13320,
        101,
    )
    assert counts_of(dataset, "ucf101-1") == (9537, 3783, 0)
    assert counts_of(dataset, "ucf101-2") == (9586, 3734, 0)
    assert counts_of(dataset, "ucf101-3") == (9624, 3696, 0)
    assert len(set(dataset.groups)) == 2525
    assert_validation_is_fair(dataset)
    assert dataset.problems == ()


def small_ucf101(root: Path, videos: str = "UCF-101", lists: str = "ucfTrainTestlist") -> Path:
    names = [f"Archery/v_Archery_g{g:02}_c01.avi" for g in (1, 2, 8, 9)]
    make_files(root / videos, *names)
    write_lists(
        root / lists,
        classInd="1 Apply Make up\r\n2 Archery\r\n",
        trainlist01="".join(f"{name} 2\r\n" for name in names[2:]),
        testlist01="".join(f"{name}\r\n" for name in names[:2]),
    )
    return root


@pytest.mark.parametrize(
    ("videos", "lists", "given", "splits", "root"),
    [
        ("UCF-101", "ucfTrainTestlist", "UCF-101", None, "UCF-101"),
        ("UCF-101", "ucfTrainTestlist", ".", None, "UCF-101"),
        ("UCF-101", "UCF-101/ucfTrainTestlist", "UCF-101", None, "UCF-101"),
        ("a/UCF-101", "b/ucfTrainTestlist", "a/UCF-101", "b/ucfTrainTestlist", "a/UCF-101"),
        ("a/UCF-101", "b/ucfTrainTestlist", "a", "b/ucfTrainTestlist", "a/UCF-101"),
    ],
)
def test_where_lists_may_lie(tmp_path, videos, lists, given, splits, root):
    small_ucf101(tmp_path, videos, lists)
    dataset = read_dataset(tmp_path / given, splits=None if splits is None else tmp_path / splits)
    assert (dataset.layout, dataset.root) == ("ucf101", tmp_path / root)
    assert counts_of(dataset, "ucf101-1") == (2, 2, 0)
    assert list(dataset.splits) == ["ucf101-1"]
    assert dataset.problems == ()


def test_lists_are_found_from_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(small_ucf101(tmp_path) / "UCF-101")
    assert read_dataset(".").layout == "ucf101"


def test_splits_for_a_dataset_that_brings_its_own(tmp_path):
    make_files(tmp_path / "v", "Archery/v_Archery_g01_c01.avi", "Archery/v_Archery_g08_c01.avi")
    write_lists(tmp_path / "ucfTrainTestlist", trainlist01=TRAINLIST, testlist01=TESTLIST)
    write_lists(tmp_path / "swapped", trainlist=TESTLIST, testlist=TRAINLIST)
    dataset = read_dataset(tmp_path / "v", splits=tmp_path / "swapped")
    assert dataset.layout == "ucf101"
    assert {name: codes.tolist() for name, codes in dataset.splits.items()} == {"swapped": [TRAIN, TEST]}


def test_lists_of_another_name_can_be_forced(tmp_path):
    small_ucf101(tmp_path, lists="annotations")
    assert read_dataset(tmp_path / "UCF-101").layout == "folders"
    given = {"splits": tmp_path / "annotations"}
    assert read_dataset(tmp_path / "UCF-101", **given).layout == "folders"
    assert list(read_dataset(tmp_path / "UCF-101", **given).splits) == ["annotations-1"]
    assert list(read_dataset(tmp_path / "UCF-101", "ucf101", **given).splits) == ["ucf101-1"]


def test_converted_and_flat_videos_are_found(tmp_path):
    small_ucf101(tmp_path)
    flat = tmp_path / "flat"
    flat.mkdir()
    for video in (tmp_path / "UCF-101/Archery").iterdir():
        video.rename(flat / f"{video.stem}.mp4")
    dataset = read_dataset(flat)
    assert dataset.layout == "ucf101"
    assert dataset.class_counts == {"Archery": 4}
    assert counts_of(dataset, "ucf101-1") == (2, 2, 0)


def test_another_dataset_beside_the_lists_is_left_alone(tmp_path):
    small_ucf101(tmp_path)
    make_files(tmp_path / "mine", "run/a.mp4", "Archery/b.mp4")
    assert read_dataset(tmp_path / "mine").layout == "folders"
    with pytest.raises(DataError, match="mine: not laid out like ucf101; expected class folders, and the folder ucfT"):
        read_dataset(tmp_path / "mine", "ucf101")


def test_missing_and_unlisted_videos_are_told(tmp_path):
    videos = small_ucf101(tmp_path) / "UCF-101"
    (videos / "Archery/v_Archery_g08_c01.avi").unlink()
    make_files(videos, "Archery/extra.avi", "Dance/other.avi")
    dataset = read_dataset(videos)
    assert [(problem.kind, problem.examples) for problem in dataset.problems] == [
        ("missing", ("Archery/v_Archery_g08_c01.avi",)),
        ("unlisted", ("Archery/extra.avi", "Dance/other.avi")),
    ]
    assert dataset.classes == ("Archery",)
    assert labels_of(dataset)["Dance/other.avi"] == ()


def test_two_folders_that_fit_the_lists(tmp_path):
    small_ucf101(tmp_path)
    shutil.copytree(tmp_path / "UCF-101", tmp_path / "small")
    with pytest.raises(DataError, match="UCF-101 and small both fit the lists; name one of them"):
        read_dataset(tmp_path)


# HMDB-51


@pytest.fixture(scope="module")
def hmdb51(real_data, tmp_path_factory) -> Path:
    return make_hmdb51(tmp_path_factory.mktemp("hmdb51"), real_data)


def test_hmdb51_by_its_official_names(hmdb51):
    dataset = read_dataset(hmdb51 / "hmdb51_org")
    assert (dataset.name, dataset.layout, len(dataset.entries), len(dataset.classes)) == ("hmdb51", "hmdb51", 6766, 51)
    assert list(dataset.splits) == ["hmdb51-1", "hmdb51-2", "hmdb51-3"]
    for split in dataset.splits:
        assert counts_of(dataset, split) == (3570, 1530, 1666)
    assert len(set(dataset.groups)) == 2291
    assert_validation_is_fair(dataset)
    assert dataset.problems == ()


def test_two_datasets_in_one_folder(tmp_path):
    small_ucf101(tmp_path)
    make_files(tmp_path / "hmdb51_org", "golf/x_golf_f_cm_np1_ba_med_0.avi")
    write_lists(tmp_path / "testTrainMulti_7030_splits", golf_test_split1="x_golf_f_cm_np1_ba_med_0.avi 1 \n")
    with pytest.raises(
        DataError, match="holds ucf101 and hmdb51; name the folder of one of them, or force it by --dat"
    ):
        read_dataset(tmp_path)
    assert read_dataset(tmp_path, "hmdb51").root == tmp_path / "hmdb51_org"
    assert read_dataset(tmp_path / "UCF-101").layout == "ucf101"
    assert read_dataset(tmp_path / "hmdb51_org").groups == ["x_golf"]


def test_a_parted_source_in_an_official_split_is_told_calmly(tmp_path):
    names = [f"x_golf_f_cm_np1_ba_med_{i}.avi" for i in range(2)]
    make_files(tmp_path / "videos", *(f"golf/{name}" for name in names))
    write_lists(tmp_path / "testTrainMulti_7030_splits", golf_test_split1=f"{names[0]} 1 \n{names[1]} 2 \n")
    (problem,) = read_dataset(tmp_path / "videos").problems
    assert str(problem) == "groups on both sides of split hmdb51-1 as published: 1 (x_golf)"


def test_a_part_of_hmdb51_goes_by_its_folder(tmp_path):
    make_files(tmp_path / "some", "golf/x_golf_f_cm_np1_ba_med_0.avi")
    write_lists(tmp_path / "testTrainMulti_7030_splits", golf_test_split1="x_golf_f_cm_np1_ba_med_0.avi 1 \n")
    dataset = read_dataset(tmp_path / "some")
    assert (dataset.name, dataset.layout, list(dataset.splits)) == ("some", "hmdb51", ["hmdb51-1"])


# J-HMDB


@pytest.mark.parametrize("videos", [".", "ReCompress_Videos"])
@pytest.mark.parametrize("layout", ["auto", "jhmdb"])
def test_jhmdb_by_its_names(tmp_path, videos, layout):
    names = make_jhmdb(tmp_path, videos=videos, num_films=8)
    (tmp_path / "puppet_mask").mkdir()
    dataset = read_dataset(tmp_path, layout)
    assert (dataset.name, dataset.layout, dataset.root) == ("jhmdb", "jhmdb", tmp_path / videos)
    assert dataset.masks.samefile(tmp_path / "puppet_mask")
    assert [entry.path.as_posix() for entry in dataset.entries] == sorted(names)
    assert dataset.classes == ("golf", "wave")
    assert {entry.labels for entry in dataset.entries if entry.path.parts[0] == "golf"} == {("golf",)}
    assert list(dataset.splits) == ["jhmdb-1", "jhmdb-2", "jhmdb-3"]
    assert counts_of(dataset, "jhmdb-1") == (28, 4, 0)
    assert sorted(set(dataset.groups))[:2] == ["film0_golf", "film0_wave"]
    assert dataset.problems == ()


def test_jhmdb_from_the_folder_of_its_videos_or_with_lists_elsewhere(tmp_path):
    make_jhmdb(tmp_path / "a", videos="videos")
    assert read_dataset(tmp_path / "a" / "videos").layout == "jhmdb"
    (tmp_path / "b").mkdir()
    lists = shutil.move(tmp_path / "a" / "splits", tmp_path / "b" / "splits")
    assert read_dataset(tmp_path / "a" / "videos", splits=lists).layout == "jhmdb"
    renamed = shutil.move(lists, tmp_path / "b" / "lists")
    assert read_dataset(tmp_path / "a" / "videos", "jhmdb", splits=renamed).layout == "jhmdb"
    with pytest.raises(DataError, match="not laid out like jhmdb; expected class folders, and the folder splits"):
        read_dataset(tmp_path / "a" / "videos", "jhmdb")


def test_lists_of_other_classes_named_splits_are_not_jhmdbs(tmp_path):
    make_files(tmp_path / "videos", "surf/a.avi", "surf/b.avi", "golf/c.avi")
    write_lists(tmp_path / "splits", surf_test_split1="a.avi 1\nb.avi 2\n", golf_test_split1="c.avi 1\n")
    assert read_dataset(tmp_path / "videos").layout == "folders"


def test_a_film_on_both_sides_of_jhmdb_is_told(tmp_path):
    make_jhmdb(tmp_path, splits=1)
    text = (tmp_path / "splits" / "golf_test_split1.txt").read_text()
    (tmp_path / "splits" / "golf_test_split1.txt").write_text(text.replace(" 1", " 2", 1))
    (problem,) = read_dataset(tmp_path).problems
    assert str(problem) == "groups on both sides of split jhmdb-1 as published: 1 (film0_golf)"


# Hollywood2: the clips' names are real where they are at hand, the labels are made up


@pytest.mark.parametrize("given", ["", "AVIClips"])
def test_hollywood2_by_its_official_names(real_data, tmp_path, given):
    names = (real_data / "splits/hollywood2/allClips.fastvideofeat.txt").read_text().split()
    make_files(tmp_path / "AVIClips", *names)
    others = ("sceneclipautoautotrain00001.avi", "scenecliptest00001.avi", "actionclipautoautotrain00001.avi")
    make_files(tmp_path / "AVIClips", *others)
    labels = write_synthetic_clip_sets(tmp_path / "ClipSets", [Path(name).stem for name in names])
    write_lists(tmp_path / "ClipSets", Kiss_autotrain="actionclipautoautotrain00001  1\n")
    dataset = read_dataset(tmp_path / given)
    assert (dataset.name, dataset.root, dataset.multilabel) == ("hollywood2", tmp_path / "AVIClips", True)
    assert dataset.classes == HOLLYWOOD2_CLASSES
    assert list(dataset.splits) == ["hollywood2"]
    assert counts_of(dataset, "hollywood2") == (823, 884, 0)
    assert {entry.path.stem: entry.labels for entry in dataset.entries} == labels
    expected = Counter(label for names in labels.values() for label in names)
    assert dataset.class_counts == {label: expected[label] for label in HOLLYWOOD2_CLASSES}
    assert sum(expected.values()) > 1707
    assert_validation_is_fair(dataset)
    (left_out,) = dataset.problems
    assert (left_out.kind, left_out.count, left_out.examples) == ("left-out", 3, tuple(sorted(others)))


def test_odd_clips_of_hollywood2_are_told(tmp_path):
    clips = [f"actionclip{part}{i:05}" for part in ("train", "test") for i in range(12)]
    make_files(tmp_path / "AVIClips", *(f"{clip}.avi" for clip in clips[1:]), "holiday.avi")
    write_synthetic_clip_sets(tmp_path / "ClipSets", clips)
    path = tmp_path / "ClipSets" / "Eat_train.txt"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    dataset = read_dataset(tmp_path)
    assert {(problem.kind, problem.examples) for problem in dataset.problems} == {
        ("missing", (clips[0],)),
        ("unlisted", ("holiday.avi",)),
        ("incomplete", (clips[11],)),
    }


def test_hollywood2_without_its_lists(tmp_path):
    make_files(tmp_path / "AVIClips", "actioncliptrain00001.avi")
    with pytest.raises(DataError, match="not laid out like hollywood2; expected the folders AVIClips and ClipSets"):
        read_dataset(tmp_path, "hollywood2")
