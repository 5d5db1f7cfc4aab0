from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from attnrec.datasets.dataset import (
    Dataset,
    Problem,
    VideoEntry,
    class_names,
    found_problems,
    label_matrix,
    rarest_label,
)
from attnrec.datasets.splits import TEST, TRAIN, UNUSED


def entries_of(*labels: tuple[str, ...]) -> tuple[VideoEntry, ...]:
    return tuple(VideoEntry(Path(f"{i}.mp4"), names, f"g{i // 2}") for i, names in enumerate(labels))


def dataset_of(*labels: tuple[str, ...], multilabel: bool = False) -> Dataset:
    codes = np.resize(np.array([TRAIN, TEST, UNUSED], np.uint8), len(labels))
    classes = ("jump", "run", "walk")
    return Dataset("mine", "csv", Path("/x"), entries_of(*labels), classes, multilabel, {"default": codes}, ())


def test_class_names_are_sorted_and_unique():
    entries = entries_of(("run",), (), ("jump", "run"), ("run",))
    assert class_names(entries) == ["jump", "run"]
    assert class_names(entries[1:2]) == []
    assert [entry.label for entry in entries] == ["run", None, "jump", "run"]


def test_labels_as_numbers():
    dataset = dataset_of(("run",), (), ("walk",), ("run",))
    assert dataset.label_index.tolist() == [1, -1, 2, 1]
    assert dataset.label_index.dtype == np.int32
    assert dataset.label_matrix.tolist() == [[0, 1, 0], [0, 0, 0], [0, 0, 1], [0, 1, 0]]
    assert dataset.class_counts == {"jump": 0, "run": 2, "walk": 1}
    assert dataset.groups == ["g0", "g0", "g1", "g1"]
    assert dataset.split_counts == {"default": {"train": 2, "validation": 0, "test": 1, "unused": 1}}


def test_several_labels_have_no_index():
    dataset = dataset_of(("run", "walk"), (), multilabel=True)
    assert dataset.label_matrix.tolist() == [[0, 1, 1], [0, 0, 0]]
    with pytest.raises(ValueError, match="mine has several labels a video: take label_matrix"):
        _ = dataset.label_index


def test_the_rarest_label():
    entries = entries_of(("a", "b"), ("a",), ("a", "c"), ("b", "c"), (), ("b",))
    assert rarest_label(label_matrix(entries, "abc")).tolist() == [0, 0, 2, 2, -1, 1]
    assert rarest_label(label_matrix(entries[4:5], "")).tolist() == [-1]
    assert rarest_label(label_matrix((), "ab")).tolist() == []


@pytest.mark.parametrize("multilabel", [False, True])
def test_restriction_to_some_videos(multilabel):
    dataset = dataset_of(("run",), ("walk",), (), ("run",), multilabel=multilabel)
    kept = dataset.restricted_to({Path("3.mp4"), Path("1.mp4"), Path("other.mp4")})
    assert [entry.path for entry in kept.entries] == [Path("1.mp4"), Path("3.mp4")]
    assert kept.splits["default"].tolist() == [TEST, TRAIN]
    assert kept.classes == (("jump", "run", "walk") if multilabel else ("run", "walk"))
    assert (kept.name, kept.root) == (dataset.name, dataset.root)


def test_problems_count_and_name():
    assert found_problems("missing", "missing videos", []) == []
    (few,) = found_problems("missing", "missing videos", iter("bab"))
    assert few == Problem("missing", "missing videos", 2, ("a", "b"))
    assert str(few) == "missing videos: 2 (a, b)"
    (many,) = found_problems("missing", "missing videos", "gfedcba")
    assert str(many) == "missing videos: 7 (a, b, c, d, e, ...)"


def test_splits_that_part_a_group_are_named():
    dataset = dataset_of(("run",), ("run",), ("walk",), ("walk",))  # g0 to train and test, g1 unused and to train
    assert dataset.leaking_splits == ["default"]
    apart = np.array([TRAIN, TRAIN, TEST, TEST], np.uint8)
    assert replace(dataset, splits={"mine": apart}).leaking_splits == []
