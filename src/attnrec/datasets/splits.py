"""Splits of videos into parts: seeded ones that keep groups whole, validation parts, and leaks between the parts.

Legend: N videos.
"""

import itertools
import warnings
from collections.abc import Collection, Sequence
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

SPLIT_PARTS = ("train", "validation", "test", "unused")
TRAIN, VALIDATION, TEST, UNUSED = range(4)

VALIDATION_SHARE = 0.15  # of the training videos, as the authors held out


def default_splits(
    labels: NDArray[np.int32], groups: Sequence[str], seed: int, test_share: float = 0.25
) -> dict[str, NDArray[np.uint8]]:
    """Seeded, class-stratified splits that keep groups whole.

    `default` holds out a share of the videos for test, `cv3-1` to `cv3-3` are three folds, each video being tested
    in exactly one; in each, 15 % of the rest are for validation. Shares are as near as whole groups allow that leave
    every class a video to train on (in the folds every class of several groups). With two groups a split has no
    validation part, with one no test part either.

    Args:
        labels: Class index of each video, shape (N,); -1 where there is none, which makes the video unused.
        groups: Group of each video.
        seed: Of the shuffle.
        test_share: Share of `default`'s test part, in (0, 0.5].

    Returns:
        Codes (TRAIN, VALIDATION, TEST or UNUSED) of each video by split name, shape (N,) each.
    """
    labelled = np.flatnonzero(labels >= 0)
    group_ids = _group_ids(groups)
    tests = {"default": _held_out(labels, group_ids, labelled, test_share, seed)}
    folds = _with_classes_parted(_folds(labels, group_ids, labelled, 3, seed), labels, group_ids)
    tests |= {f"cv3-{i}": fold for i, fold in enumerate(folds, start=1)}
    splits = {}
    for name, test in tests.items():
        codes = np.full(len(labels), UNUSED, np.uint8)
        codes[labelled] = TRAIN
        codes[test] = TEST
        splits[name] = hold_out_validation(codes, labels, groups, seed)
    return splits


def hold_out_validation(
    codes: NDArray[np.uint8], labels: NDArray[np.int32], groups: Sequence[str], seed: int
) -> NDArray[np.uint8]:
    """Move whole groups of the training part, about 15 % of its videos, to the validation part.

    Args:
        codes: Part of each video, shape (N,); left as it is.
        labels: Class index of each video, shape (N,), whose shares both parts keep; -1, for none, is one of them.
        groups: Group of each video.
        seed: Of the choice.

    Returns:
        Codes, shape (N,); nothing is moved where the training part has a single group.
    """
    codes = codes.copy()
    rest = np.flatnonzero(codes == TRAIN)
    codes[_held_out(labels, _group_ids(groups), rest, VALIDATION_SHARE, seed)] = VALIDATION
    return codes


def preferred_split(names: Collection[str]) -> str:
    """The split to take where none is named: `default`, or else the first by name."""
    return "default" if "default" in names else min(names)


def leaking_groups(codes: NDArray[np.uint8], groups: Sequence[str]) -> list[str]:
    """Groups with videos both in the test part and in another used part of a split, sorted."""
    sides: dict[str, set[bool]] = {}
    for code, group in zip(codes.tolist(), groups, strict=True):
        if code != UNUSED:
            sides.setdefault(group, set()).add(code == TEST)
    return sorted(group for group, seen in sides.items() if len(seen) == 2)


def _group_ids(groups: Sequence[str]) -> NDArray[np.intp]:
    return np.unique(np.asarray(groups, dtype=object).astype(str), return_inverse=True)[1]


def _held_out(
    labels: NDArray[np.int32], group_ids: NDArray[np.intp], members: NDArray[np.intp], share: float, seed: int
) -> NDArray[np.intp]:
    """The folds that together come nearest to a share of the members, without the last group of any class."""
    ratio = Fraction(share).limit_denominator(7)
    folds = [fold for fold in _folds(labels, group_ids, members, ratio.denominator, seed) if len(fold)]
    unions = [
        np.concatenate(chosen)
        for count in range(1, ratio.numerator + 1)
        for chosen in itertools.combinations(folds, count)
    ]
    unions = [union for union in unions if len(union) < len(members)]
    nearest = min(unions, key=lambda union: abs(len(union) - share * len(members)), default=members[:0])
    return _without_last_groups(nearest, labels, group_ids, members)


def _without_last_groups(
    held: NDArray[np.intp], labels: NDArray[np.int32], group_ids: NDArray[np.intp], members: NDArray[np.intp]
) -> NDArray[np.intp]:
    """Held-out members without the smallest group of every class that has no other member."""
    for label in np.unique(labels[held]):
        mine = held[labels[held] == label]
        if len(mine) == np.count_nonzero(labels[members] == label):
            held = held[group_ids[held] != _smallest_group(mine, group_ids)]
    return held


def _with_classes_parted(
    folds: list[NDArray[np.intp]], labels: NDArray[np.int32], group_ids: NDArray[np.intp]
) -> list[NDArray[np.intp]]:
    """Folds of which none holds all groups of a class: its smallest one goes to the fold of fewest videos."""
    for _ in range(sum(len(np.unique(group_ids[fold])) for fold in folds)):
        whole = _whole_class(folds, labels, group_ids)
        if whole is None:
            break
        source, mine = whole
        moved = _smallest_group(mine, group_ids)
        target = min((k for k in range(len(folds)) if k != source), key=lambda k: len(folds[k]))
        goes = group_ids[folds[source]] == moved
        folds[target] = np.sort(np.concatenate([folds[target], folds[source][goes]]))
        folds[source] = folds[source][~goes]
    return folds


def _whole_class(
    folds: list[NDArray[np.intp]], labels: NDArray[np.int32], group_ids: NDArray[np.intp]
) -> tuple[int, NDArray[np.intp]] | None:
    """A fold that holds all of a class of several groups, and those members; None where there is none."""
    everyone = np.concatenate(folds)
    for k, fold in enumerate(folds):
        for label in np.unique(labels[fold]):
            mine = fold[labels[fold] == label]
            several = len(np.unique(group_ids[mine])) > 1
            if several and len(mine) == np.count_nonzero(labels[everyone] == label):
                return k, mine
    return None


def _smallest_group(members: NDArray[np.intp], group_ids: NDArray[np.intp]) -> int:
    """Of the groups of some videos the one that has fewest of them, the first of several."""
    groups, counts = np.unique(group_ids[members], return_counts=True)
    return int(groups[counts.argmin()])


def _folds(
    labels: NDArray[np.int32], group_ids: NDArray[np.intp], members: NDArray[np.intp], num_folds: int, seed: int
) -> list[NDArray[np.intp]]:
    """Members of each held-out fold; all empty where there are not two groups to part."""
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    num_groups = len(np.unique(group_ids[members]))
    most_common = np.unique(labels[members], return_counts=True)[1].max(initial=0)
    possible = min(num_folds, num_groups, int(most_common))
    if possible < 2:
        return [members[:0]] * num_folds  # nothing can be held out
    # The splitter for groups weighs them one by one: minutes for thousands, and no use where each is a single video.
    kind = StratifiedKFold if num_groups == len(members) else StratifiedGroupKFold
    splitter = kind(possible, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a class with fewer videos than folds is no fault here
        folds = [members[held] for _, held in splitter.split(members, labels[members], group_ids[members])]
    return folds + [members[:0]] * (num_folds - possible)
