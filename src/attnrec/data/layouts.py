"""What a folder of videos says about labels, groups and splits."""

import os
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from attnrec.data.video import VIDEO_SUFFIXES
from attnrec.errors import DataError

SPLIT_PARTS = ("train", "validation", "test", "unused")
TRAIN, VALIDATION, TEST, UNUSED = range(4)

_NAME = re.compile(r"v_(?P<label>.+)_g(?P<group>\d+)_c\d+$")


@dataclass(frozen=True)
class VideoEntry:
    """A video in a dataset.

    Attributes:
        path: Relative to the dataset's folder.
        label: Class name; None where the layout gives none.
        group: Videos of one group share a person, scene or source and belong on the same side of any split.
    """

    path: Path
    label: str | None
    group: str


def scan_videos(root: Path) -> list[VideoEntry]:
    """Find the videos below a folder and read labels and groups off their names.

    The class is the first folder below `root`; for videos that lie in `root` itself it comes from names like
    `v_<class>_g<group>_c<clip>`. Groups come from such names everywhere; any other video is a group of its own.

    Args:
        root: A folder, or a single video.

    Returns:
        Entries sorted by path.

    Raises:
        DataError: `root` is not there, cannot be read or holds no video.
    """
    if root.is_file():
        return [_entry(Path(root.name))]
    if not root.is_dir():
        raise DataError(f"{root}: no such folder")
    found = []
    for folder, subfolders, names in os.walk(root, onerror=_raise_unreadable):
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        relative = Path(folder).relative_to(root)
        found += [relative / name for name in names if _is_video_name(name)]
    if not found:
        suffixes = " ".join(sorted(VIDEO_SUFFIXES))
        raise DataError(f"{root}: no videos in it; expected class folders of files that end in {suffixes}")
    return [_entry(path) for path in sorted(found, key=os.fsencode)]


def dataset_root(videos: Path) -> Path:
    """The folder that `scan_videos` paths are relative to."""
    return videos.parent if videos.is_file() else videos


def label_of(video: Path, classes: Sequence[str]) -> str | None:
    """Class of a single video by its name or its folder's, if it is one of the given classes."""
    named = _NAME.match(video.stem)
    candidates = (video.absolute().parent.name, named["label"] if named else "")
    return next((label for label in candidates if label in classes), None)


def class_names(entries: Sequence[VideoEntry]) -> list[str]:
    """All labels, sorted."""
    return sorted({entry.label for entry in entries if entry.label is not None})


def default_splits(labels: NDArray[np.int32], groups: Sequence[str], seed: int) -> dict[str, NDArray[np.uint8]]:
    """Seeded, class-stratified splits that keep groups whole.

    `default` holds out a quarter of the videos for test, `cv3-1` to `cv3-3` are three folds, each video being tested
    in exactly one; in each, 15 % of the rest are for validation. Shares are as near as whole groups allow. With two
    groups a split has no validation part, with one no test part either.

    Args:
        labels: Class index of each video, shape (N,); -1 where there is none, which makes the video unused.
        groups: Group of each video.
        seed: Of the shuffle.

    Returns:
        Codes (TRAIN, VALIDATION, TEST or UNUSED) of each video by split name, shape (N,) each.
    """
    labelled = np.flatnonzero(labels >= 0)
    group_ids = np.unique(np.asarray(groups, dtype=object).astype(str), return_inverse=True)[1]
    test = _fold_of_share(labels, group_ids, labelled, 0.25, seed)
    splits = {"default": _split_of(test, labels, group_ids, labelled, seed)}
    for i, test in enumerate(_folds(labels, group_ids, labelled, 3, seed), start=1):
        splits[f"cv3-{i}"] = _split_of(test, labels, group_ids, labelled, seed)
    return splits


def leaking_groups(codes: NDArray[np.uint8], groups: Sequence[str]) -> list[str]:
    """Groups with videos both in the test part and in another used part of a split, sorted."""
    sides: dict[str, set[bool]] = {}
    for code, group in zip(codes.tolist(), groups, strict=True):
        if code != UNUSED:
            sides.setdefault(group, set()).add(code == TEST)
    return sorted(group for group, seen in sides.items() if len(seen) == 2)


def _split_of(
    test: NDArray[np.intp],
    labels: NDArray[np.int32],
    group_ids: NDArray[np.intp],
    labelled: NDArray[np.intp],
    seed: int,
) -> NDArray[np.uint8]:
    codes = np.full(len(labels), UNUSED, np.uint8)
    codes[labelled] = TRAIN
    codes[test] = TEST
    rest = np.flatnonzero(codes == TRAIN)
    codes[_fold_of_share(labels, group_ids, rest, 0.15, seed)] = VALIDATION
    return codes


def _fold_of_share(
    labels: NDArray[np.int32], group_ids: NDArray[np.intp], members: NDArray[np.intp], share: float, seed: int
) -> NDArray[np.intp]:
    """Members of the fold that comes nearest to a share of them."""
    folds = _folds(labels, group_ids, members, round(1 / share), seed)
    folds = [fold for fold in folds if len(fold)] or folds[:1]
    return min(folds, key=lambda fold: abs(len(fold) - share * len(members)))


def _folds(
    labels: NDArray[np.int32], group_ids: NDArray[np.intp], members: NDArray[np.intp], num_folds: int, seed: int
) -> list[NDArray[np.intp]]:
    """Members of each held-out fold; all empty where there are not two groups to part."""
    from sklearn.model_selection import StratifiedGroupKFold

    num_groups = len(np.unique(group_ids[members]))
    most_common = np.bincount(labels[members]).max(initial=0)
    possible = min(num_folds, num_groups, int(most_common))
    if possible < 2:
        return [members[:0]] * num_folds  # nothing can be held out
    splitter = StratifiedGroupKFold(possible, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a class with fewer videos than folds is no fault here
        folds = [members[held] for _, held in splitter.split(members, labels[members], group_ids[members])]
    return folds + [members[:0]] * (num_folds - possible)


def _entry(path: Path) -> VideoEntry:
    named = _NAME.match(path.stem)
    label = path.parts[0] if len(path.parts) > 1 else named["label"] if named else None
    return VideoEntry(path, label, f"g{named['group']}" if named else os.fspath(path))


def _is_video_name(name: str) -> bool:
    return Path(name).suffix.lower() in VIDEO_SUFFIXES and not name.startswith(".")


def _raise_unreadable(error: OSError) -> None:
    raise DataError(f"{error.filename}: cannot be read: {error.strerror}")
