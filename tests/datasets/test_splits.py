import os
import time

import numpy as np
import pytest

from attnrec.datasets.dataset import class_names
from attnrec.datasets.folders import scan_videos
from attnrec.datasets.splits import (
    TEST,
    TRAIN,
    UNUSED,
    VALIDATION,
    default_splits,
    hold_out_validation,
    leaking_groups,
    preferred_split,
)

FOLDS = ("cv3-1", "cv3-2", "cv3-3")


def make_dataset(num_classes: int, num_groups: int, clips: int) -> tuple[np.ndarray, list[str]]:
    """Every group has `clips` videos of every class, in an order that says nothing."""
    pairs = [(c, f"g{g:02d}") for c in range(num_classes) for g in range(num_groups) for _ in range(clips)]
    order = np.random.default_rng(0).permutation(len(pairs))
    return np.array([pairs[i][0] for i in order], np.int32), [pairs[i][1] for i in order]


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


@pytest.mark.parametrize(("num_groups", "test_groups"), [(25, 10), (10, 4), (5, 2), (3, 1), (2, 1)])
def test_another_share_for_test(num_groups, test_groups):
    labels, groups = make_dataset(2, num_groups, 3)
    codes = default_splits(labels, groups, 0, test_share=0.4)["default"]
    assert leaking_groups(codes, groups) == []
    assert len({g for g, code in zip(groups, codes, strict=True) if code == TEST}) == test_groups


def test_thousands_of_videos_of_their_own_groups_take_no_time():
    labels = np.arange(13_000, dtype=np.int32) % 101
    started = time.monotonic()
    splits = default_splits(labels, [str(i) for i in range(13_000)], 0)
    assert time.monotonic() - started < 5
    assert {name: int((codes == TEST).sum()) for name, codes in splits.items()} == {
        "default": 3250, "cv3-1": 4334, "cv3-2": 4333, "cv3-3": 4333
    }  # fmt: skip


@pytest.mark.parametrize("seed", [0, 1])
def test_validation_comes_from_whole_groups_of_the_training_part(seed):
    labels, groups = make_dataset(5, 40, 2)
    before = default_splits(labels, groups, 5)["default"]
    before[before == VALIDATION] = TRAIN
    before[:20] = UNUSED
    given = before.copy()
    after = hold_out_validation(before, labels, groups, seed)
    np.testing.assert_array_equal(before, given)
    np.testing.assert_array_equal(after != before, after == VALIDATION)
    assert (before[after == VALIDATION] == TRAIN).all()
    assert (after == VALIDATION).sum() / (before == TRAIN).sum() == pytest.approx(0.15, abs=0.03)
    held = {g for g, code in zip(groups, after, strict=True) if code == VALIDATION}
    assert not held & {g for g, code in zip(groups, after, strict=True) if code == TRAIN}


def test_validation_of_a_single_training_group():
    codes = np.array([TRAIN, TRAIN, TEST, UNUSED], np.uint8)
    labels = np.zeros(4, np.int32)
    assert hold_out_validation(codes, labels, ["a", "a", "b", "c"], 0).tolist() == codes.tolist()


def test_preferred_split():
    assert preferred_split(["cv3-1", "default", "cv3-2"]) == "default"
    assert preferred_split(["hmdb51-2", "hmdb51-1"]) == "hmdb51-1"


@pytest.mark.parametrize("first_seed", range(0, 200, 50))
def test_every_class_that_can_be_is_trained_on(first_seed):
    """Random classes of two to five groups, of which some are shared between classes."""
    for seed in range(first_seed, first_seed + 50):
        rng = np.random.default_rng(seed)
        labels, groups = [], []
        for label in range(int(rng.integers(2, 5))):
            for group in range(int(rng.integers(2, 6))):
                count = int(rng.integers(1, 6))
                labels += [label] * count
                groups += [f"shared{group}" if seed % 3 == 0 and rng.random() < 0.3 else f"{label}-{group}"] * count
        labels = np.array(labels, np.int32)
        splits = default_splits(labels, groups, seed)
        for name, codes in splits.items():
            parts = {}
            for group, code in zip(groups, codes.tolist(), strict=True):
                assert parts.setdefault(group, code) == code
            for label in np.unique(labels):
                several = len({g for g, other in zip(groups, labels, strict=True) if other == label}) > 1
                if several or name == "default":
                    assert TRAIN in codes[labels == label], (seed, name, label)
        tested = sum((splits[f"cv3-{i}"] == TEST).astype(int) for i in (1, 2, 3))
        assert (tested == 1).all()


def test_a_class_of_a_single_group_is_trained_on_by_default():
    labels = np.array([0] * 4 + [1] * 4 + [2] * 4, np.int32)
    groups = ["lone"] * 4 + [f"a{i}" for i in range(4)] + [f"b{i}" for i in range(4)]
    for seed in range(20):
        assert (default_splits(labels, groups, seed)["default"][:4] == TRAIN).all()
