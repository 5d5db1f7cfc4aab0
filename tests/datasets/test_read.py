from pathlib import Path

import pytest

from attnrec.datasets.dataset import Reading, VideoEntry
from attnrec.datasets.lists import split_list
from attnrec.datasets.read import assemble
from attnrec.datasets.splits import TEST, TRAIN, UNUSED, VALIDATION


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
