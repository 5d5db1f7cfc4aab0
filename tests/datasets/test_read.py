from pathlib import Path

import numpy as np
import pytest
from dataset_trees import make_files

from attnrec.datasets.dataset import Reading, VideoEntry
from attnrec.datasets.lists import split_list
from attnrec.datasets.read import assemble, read_dataset
from attnrec.datasets.splits import TEST, TRAIN, UNUSED, VALIDATION, leaking_groups
from attnrec.errors import ConfigError, DataError


def test_the_seed_decides_the_split(tmp_path):
    make_files(tmp_path, *(f"{c}/{i}.mp4" for c in "ab" for i in range(20)))
    first, again, other = (read_dataset(tmp_path, seed=seed).splits["default"] for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


@pytest.mark.parametrize("layout", ["auto", "folders", "ucf11", "ucf101", "hmdb51", "hollywood2"])
def test_no_videos(tmp_path, layout):
    with pytest.raises(DataError, match=r"nothing: (no such folder|not laid out like)"):
        read_dataset(tmp_path / "nothing", layout)


def test_unknown_layout(tmp_path):
    with pytest.raises(ConfigError, match=r"dataset must be one of auto, folders, .*, csv, got 'kinetics'"):
        read_dataset(tmp_path, "kinetics")


# Splits that are given


def test_given_splits_replace_seeded_ones(tmp_path):
    make_files(tmp_path / "videos", *(f"run/v_run_g{g:02}_c0{c}.avi" for g in range(9) for c in (1, 2)))
    table = tmp_path / "mine.csv"
    table.write_text(
        "path,split\nrun/v_run_g01_c01.avi,test\nrun/v_run_g02_c01.avi,test\nrun/v_run_g02_c02.mp4,train\n"
    )
    dataset = read_dataset(tmp_path / "videos", splits=table)
    assert list(dataset.splits) == ["mine"]
    assert dataset.split_counts["mine"] == {"train": 1, "validation": 0, "test": 2, "unused": 15}
    assert [problem.kind for problem in dataset.problems] == ["unlisted", "leak"]
    assert str(dataset.problems[1]) == "groups on both sides of split mine: 1 (g02)"


def test_a_leaky_split_of_real_clips_is_told(real_data, tmp_path):
    table = tmp_path / "leaky.csv"
    rows = [f"{path.parent.name}/{path.name},{'test' if '_c02' in path.name else 'train'}"
            for path in sorted((real_data / "weizmann4").rglob("*.*"))]  # fmt: skip
    table.write_text("\n".join(["path,split", *rows]))
    dataset = read_dataset(real_data / "weizmann4", splits=table)
    (leak,) = [problem for problem in dataset.problems if problem.kind == "leak"]
    assert leak.count == 9
    for codes in read_dataset(real_data / "weizmann4").splits.values():
        assert leaking_groups(codes, dataset.groups) == []


# Tables of labels


@pytest.mark.parametrize("how", ["the table", "the folder with it", "named"])
def test_a_table_of_labels(tmp_path, how):
    make_files(tmp_path / "v", "a.mp4", "b.mp4")
    table = tmp_path / ("labels.csv" if how == "named" else "v/labels.csv")
    table.write_text("path,label,split\na.mp4,run;jump,train\nb.mp4,run,test\n")
    dataset = {
        "the table": lambda: read_dataset(table),
        "the folder with it": lambda: read_dataset(tmp_path / "v"),
        "named": lambda: read_dataset(tmp_path / "v", labels=table),
    }[how]()
    assert (dataset.layout, dataset.multilabel, dataset.classes) == ("csv", True, ("jump", "run"))
    assert dataset.root == tmp_path / "v"
    assert dataset.splits["default"].tolist() == [TRAIN, TEST]
    assert dataset.problems == ()


def test_tables_that_do_not_go_with_the_layout(tmp_path):
    make_files(tmp_path, "a.mp4", "labels.csv")
    with pytest.raises(ConfigError, match="a file of labels makes the dataset csv, not folders"):
        read_dataset(tmp_path, "folders", labels=tmp_path / "labels.csv")
    assert read_dataset(tmp_path, "unlabelled").layout == "unlabelled"
    (tmp_path / "labels.csv").unlink()
    with pytest.raises(DataError, match=r"no labels\.csv in it; name the file of labels"):
        read_dataset(tmp_path, "csv")


# Assembly


def test_classes_whose_accents_are_spelled_otherwise_are_one():
    videos = [VideoEntry(Path(f"{i}.mp4"), (name,), str(i)) for i, name in enumerate(["caf\xe9", "cafe\u0301", "tea"])]
    dataset = assemble(Reading(Path("/x"), videos), name="n", layout="csv", lists=[], seed=0)
    assert dataset.class_counts == {"caf\xe9": 2, "tea": 1}


def entries(count: int, groups: int) -> list[VideoEntry]:
    return [VideoEntry(Path(f"{i:03}.mp4"), ("ab"[i % 2],), f"g{i % groups}") for i in range(count)]


def test_lists_become_codes():
    videos = [*entries(4, 4), VideoEntry(Path("x.mp4"), (), "x")]
    split = split_list(
        "mine",
        [
            ("000", TRAIN),
            ("001", TEST),
            ("002", VALIDATION),
            ("gone", TRAIN),
            ("x", TEST),
            ("000", TEST),
            ("001", TEST),
        ],
    )
    dataset = assemble(Reading(Path("/x"), videos[::-1]), name="n", layout="csv", lists=[split], seed=0)
    assert list(dataset.entries) == videos
    assert dataset.splits["mine"].tolist() == [TRAIN, TEST, VALIDATION, UNUSED, UNUSED]
    assert {(problem.kind, problem.examples) for problem in dataset.problems} == {
        ("missing", ("gone",)),
        ("unlisted", ("003.mp4",)),
        ("repeated", ("001",)),
        ("contradictory", ("000",)),
        ("unlabelled", ("x.mp4",)),
    }


def test_lists_without_validation_give_some_up():
    videos = entries(120, 60)
    split = split_list("mine", [(str(v.path), TEST if v.group in ("g0", "g1", "g2") else TRAIN) for v in videos])
    dataset = assemble(Reading(Path("/x"), videos), name="n", layout="csv", lists=[split], seed=0)
    counts = dataset.split_counts["mine"]
    assert counts["test"] == 6
    assert counts["unused"] == 0
    assert counts["validation"] / (counts["train"] + counts["validation"]) == pytest.approx(0.15, abs=0.03)
    parts = [{v.group for v, code in zip(videos, dataset.splits["mine"], strict=True) if code == p} for p in range(3)]
    assert not parts[0] & parts[1]
    assert dataset.problems == ()


@pytest.mark.parametrize("published", [False, True])
def test_parted_groups_are_told(published):
    videos = entries(8, 4)
    lists = [split_list("mine", [(str(v.path), TEST if i < 2 else TRAIN) for i, v in enumerate(videos)])]
    reading = Reading(Path("/x"), videos, lists, Path("/lists") if published else None)
    (problem,) = assemble(reading, name="n", layout="csv", lists=lists, seed=0).problems
    assert problem.kind == "leak"
    assert problem.examples == ("g0", "g1")
    assert problem.what == "groups on both sides of split mine" + (" as published" if published else "")


def test_videos_without_any_class_are_used_where_several_are_possible():
    videos = [VideoEntry(Path(f"{i}.mp4"), labels, str(i)) for i, labels in enumerate([("a", "b"), (), ("b",), ()])]
    split = split_list("mine", [("0", TRAIN), ("1", TRAIN), ("2", TEST), ("3", TEST)])
    reading = Reading(Path("/x"), videos, multilabel=True)
    dataset = assemble(reading, name="n", layout="csv", lists=[split], seed=0)
    assert dataset.splits["mine"].tolist()[2:] == [TEST, TEST]
    assert UNUSED not in dataset.splits["mine"]
    assert dataset.problems == ()


def test_seeded_splits_without_lists():
    videos = [*entries(36, 9), VideoEntry(Path("x.mp4"), ("c",), "g0"), VideoEntry(Path("y.mp4"), (), "y")]
    dataset = assemble(Reading(Path("/x"), videos), name="n", layout="folders", lists=[], seed=0)
    assert list(dataset.splits) == ["default", "cv3-1", "cv3-2", "cv3-3"]
    assert dataset.splits["default"][-1] == UNUSED
    (problem,) = dataset.problems
    assert (problem.kind, problem.examples) == ("lone-group", ("c",))
