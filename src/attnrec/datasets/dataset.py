"""What is known of a collection of videos before any is decoded: labels, groups, splits, and what is wrong with them.

Legend: N videos, C classes.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from attnrec.datasets.lists import SplitList
from attnrec.datasets.splits import SPLIT_PARTS, leaking_groups

MAX_EXAMPLES = 5


@dataclass(frozen=True)
class VideoEntry:
    """A video in a dataset."""

    path: Path  # relative to the dataset's folder
    labels: tuple[str, ...]  # none where nothing is known, or, in a dataset of several labels a video, none applies
    group: str  # videos of one group share a person, scene or source and belong on the same side of any split

    @property
    def label(self) -> str | None:
        """The first label, the only one where videos have one each."""
        return self.labels[0] if self.labels else None


@dataclass(frozen=True)
class Problem:
    """Something about a dataset that its user should know."""

    # `missing`, `unlisted`, `repeated`, `contradictory`, `incomplete`, `left-out`, `unlabelled`, `ignored`,
    # `broken-link`, `repeated-link`, `lone-group`, `leak`, `boxes` or `mask`
    kind: str
    what: str  # is counted, in words
    count: int
    examples: tuple[str, ...]  # the first few

    def __str__(self) -> str:
        more = ", ..." if self.count > len(self.examples) else ""
        return f"{self.what}: {self.count} ({', '.join(self.examples)}{more})"


def found_problems(kind: str, what: str, names: Iterable[str]) -> list[Problem]:
    """One problem that counts the names and shows the first few; none without names."""
    names = sorted(set(names))
    return [Problem(kind, what, len(names), tuple(names[:MAX_EXAMPLES]))] if names else []


class Findings:
    """What is odd about a dataset, gathered by kind and words; a video that is found twice counts once."""

    def __init__(self) -> None:
        self._names: defaultdict[tuple[str, str], set[str]] = defaultdict(set)

    def add(self, kind: str, what: str, names: Iterable[str]) -> None:
        """Note names that something is the matter with, if there are any."""
        self._names[kind, what].update(names)

    def problems(self) -> tuple[Problem, ...]:
        """Everything noted, in the order of its first mention."""
        return tuple(problem for key, names in self._names.items() for problem in found_problems(*key, names))


@dataclass(frozen=True)
class Reading:
    """What a reader of a layout says of a dataset, before the splits are worked out."""

    root: Path  # folder that paths are relative to
    entries: Sequence[VideoEntry]
    lists: Sequence[SplitList] = ()  # splits that the dataset brings along
    lists_path: Path | None = None  # where those come from
    classes: tuple[str, ...] | None = None  # names in order; None for the labels found, sorted
    multilabel: bool = False  # a video may have several labels
    test_share: float = 0.25  # of the seeded default split, which is made where there are no lists
    masks: Path | None = None  # folder of masks that say where people are, as J-HMDB's
    findings: Findings = field(default_factory=Findings)  # what the reader found odd


@dataclass(frozen=True, eq=False)
class Dataset:
    """Videos with their labels, groups and splits."""

    # `ucf11`, `ucf101`, `hmdb51`, `jhmdb` or `hollywood2`; for other datasets, and for a part of HMDB-51's classes, the
    # name of their folder
    name: str
    layout: str  # of the reader that found this, one of `attnrec.settings.DatasetLayout`
    root: Path  # folder that paths are relative to
    entries: tuple[VideoEntry, ...]  # sorted by path
    classes: tuple[str, ...]  # names in the order of the class indices
    multilabel: bool  # a video may have several labels
    splits: dict[str, NDArray[np.uint8]]  # part of each video by split name, codes as in `SPLIT_PARTS`, shape (N,) each
    problems: tuple[Problem, ...]  # what is odd about all this
    masks: Path | None = None  # folder of masks that say where people are; None for most datasets

    @property
    def groups(self) -> list[str]:
        """Group of each video."""
        return [entry.group for entry in self.entries]

    @property
    def label_matrix(self) -> NDArray[np.uint8]:
        """1 where a class applies to a video, shape (N, C)."""
        return label_matrix(self.entries, self.classes)

    @property
    def label_index(self) -> NDArray[np.int32]:
        """Class index of each video, -1 without a label, shape (N,).

        Raises:
            ValueError: Videos have several labels each.
        """
        if self.multilabel:
            raise ValueError(f"{self.name} has several labels a video: take label_matrix")
        return rarest_label(self.label_matrix)

    @property
    def leaking_splits(self) -> list[str]:
        """Splits with a group both in the test part and in another."""
        return [name for name, codes in self.splits.items() if leaking_groups(codes, self.groups)]

    @property
    def class_counts(self) -> dict[str, int]:
        """Videos of each class."""
        return dict(zip(self.classes, self.label_matrix.sum(axis=0, dtype=int).tolist(), strict=True))

    @property
    def split_counts(self) -> dict[str, dict[str, int]]:
        """Videos in each part of each split."""
        return {
            name: {part: int((codes == code).sum()) for code, part in enumerate(SPLIT_PARTS)}
            for name, codes in self.splits.items()
        }

    def restricted_to(self, paths: Collection[Path]) -> "Dataset":
        """The dataset without the videos that are not among `paths`; each other video keeps its part of each split.

        Classes that no video is left of go as well, except where a video may have several labels.
        """
        kept = [i for i, entry in enumerate(self.entries) if entry.path in paths]
        entries = tuple(self.entries[i] for i in kept)
        left = {label for entry in entries for label in entry.labels}
        return replace(
            self,
            entries=entries,
            classes=tuple(name for name in self.classes if self.multilabel or name in left),
            splits={name: codes[kept] for name, codes in self.splits.items()},
        )


def class_names(entries: Iterable[VideoEntry]) -> list[str]:
    """All labels, sorted."""
    return sorted({label for entry in entries for label in entry.labels})


def label_matrix(entries: Sequence[VideoEntry], classes: Sequence[str]) -> NDArray[np.uint8]:
    """1 where a class applies to a video, shape (N, C)."""
    index = {name: i for i, name in enumerate(classes)}
    matrix = np.zeros((len(entries), len(classes)), np.uint8)
    for row, entry in zip(matrix, entries, strict=True):
        row[[index[label] for label in entry.labels]] = 1
    return matrix


def rarest_label(matrix: NDArray[np.uint8]) -> NDArray[np.int32]:
    """Of each video's classes the one that fewest videos have, -1 for none: what a split of videos is balanced by.

    Args:
        matrix: 1 where a class applies to a video, shape (N, C).

    Returns:
        Shape (N,).
    """
    counts = matrix.sum(axis=0, dtype=np.int64)
    rarity = np.where(matrix, counts, len(matrix) + 1)
    return np.where(matrix.any(axis=1), rarity.argmin(axis=1) if matrix.size else 0, -1).astype(np.int32)
