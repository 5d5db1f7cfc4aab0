"""What readers of layouts say of a dataset, matched against lists of splits and made into one `Dataset`."""

import itertools
import os
import posixpath
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from attnrec.datasets.dataset import (
    Dataset,
    Problem,
    VideoEntry,
    class_names,
    found_problems,
    label_matrix,
    rarest_label,
)
from attnrec.datasets.folders import composed, find_files, find_videos
from attnrec.datasets.lists import SplitList
from attnrec.datasets.splits import TEST, UNUSED, VALIDATION, default_splits, hold_out_validation, leaking_groups
from attnrec.errors import DataError


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
    """What a reader says of a dataset, before the splits are worked out.

    Attributes:
        root: Folder that paths are relative to.
        entries: The videos.
        lists: Splits that the dataset brings along.
        lists_path: Where those come from.
        classes: Names in order; None for the labels found, sorted.
        multilabel: A video may have several labels.
        test_share: Of the seeded default split, which is made where there are no lists.
        masks: Folder of masks that say where people are, as J-HMDB's.
        findings: What the reader found odd.
    """

    root: Path
    entries: Sequence[VideoEntry]
    lists: Sequence[SplitList] = ()
    lists_path: Path | None = None
    classes: tuple[str, ...] | None = None
    multilabel: bool = False
    test_share: float = 0.25
    masks: Path | None = None
    findings: Findings = field(default_factory=Findings)


class Finder:
    """Finds videos by the names that lists give them.

    A list may spell accents otherwise than the disk, leave out the suffix, or have another one as videos get converted;
    and it may name class folders where the videos lie all in one, or the other way round.

    Args:
        paths: Of the videos, relative to the dataset's folder.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        names = [path.as_posix() for path in paths]
        self._exact, self._composed = _Names(names), _Names([composed(name) for name in names])

    def find(self, listed: str) -> int | None:
        """Index of the video that a list means; None where there is none or it may be any of several."""
        found = self._exact.find(listed)
        return self._composed.find(composed(listed)) if found is None else found


class _Names:
    """Names of videos in one spelling."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names
        self._by_path = _unambiguous(names)
        self._by_stem = _unambiguous(_stem(name) for name in names)
        self._by_name = _unambiguous(posixpath.basename(_stem(name)) for name in names)

    def find(self, listed: str) -> int | None:
        for candidates, name in ((self._by_path, listed), (self._by_stem, listed), (self._by_stem, _stem(listed))):
            if (found := candidates.get(name)) is not None:
                return found
        found = self._by_name.get(posixpath.basename(_stem(listed)))
        # A bare name may stand for a path, but no path for one in another folder.
        if found is not None and ("/" not in listed or "/" not in self._names[found]):
            return found
        return None


def read_listed(
    videos: Path, folder: Path, lists: Sequence[SplitList], group_of: Callable[[Path], str]
) -> Reading | None:
    """A dataset whose lists name videos as `<class>/<video>`.

    Args:
        videos: Folder of the videos, or one that holds it.
        folder: Of the lists.
        lists: What they say.
        group_of: Group of a video by its path.

    Returns:
        The reading; None where not one listed video is there.

    Raises:
        DataError: The videos may be in any of several folders.
    """
    listed = dict.fromkeys(itertools.chain.from_iterable(split.codes for split in lists))
    root = _listed_root(videos, folder, listed)
    if root is None:
        return None
    found = find_videos(root)
    finder = Finder(found)
    labels = {finder.find(name): composed(name.split("/")[0]) for name in listed}
    if not labels.keys() - {None}:
        return None
    classes = set(labels.values())
    entries = []
    for i, path in enumerate(found):
        label = labels.get(i, composed(path.parts[0]))
        entries.append(VideoEntry(path, (label,) if label in classes else (), group_of(path)))
    return Reading(root, entries, lists, folder)


def _listed_root(videos: Path, lists_folder: Path, listed: Iterable[str]) -> Path | None:
    """The folder whose files or folders are named in lists: `videos` itself, or one in it.

    Folders in it are not looked at where the lists lie beside `videos`: they may belong to another dataset there.
    """
    heads = {part for name in listed for part in (name.split("/")[0], posixpath.basename(_stem(name)))}
    if any(_stem(name) in heads for name in names_in(videos)):
        return videos
    if lists_folder.absolute().parent == videos.absolute().parent:
        return None
    folders = [videos / name for name in names_in(videos) if (videos / name).is_dir()]
    fitting = [folder for folder in folders if any(_stem(name) in heads for name in names_in(folder))]
    if len(fitting) > 1:
        raise DataError(f"{videos}: {' and '.join(path.name for path in fitting)} both fit the lists; name one of them")
    return fitting[0] if fitting else None


def names_in(folder: Path) -> list[str]:
    """Names in a folder, sorted.

    Raises:
        DataError: It cannot be read.
    """
    try:
        return sorted(path.name for path in folder.iterdir())
    except OSError as error:
        raise DataError(f"{folder}: cannot be read: {error.strerror}") from None


def assemble(reading: Reading, *, name: str, layout: str, lists: Sequence[SplitList], seed: int) -> Dataset:
    """Work out the splits of a dataset and look for what is odd about them.

    Args:
        reading: Of a layout.
        name: Of the dataset.
        layout: That was read.
        lists: Splits; without any, seeded ones are made.
        seed: Of the seeded splits and of validation parts, for which lists without them give up 15 % of the training
            videos in whole groups.

    Returns:
        The dataset, entries sorted by path.
    """
    entries = tuple(sorted(map(_composed_labels, reading.entries), key=lambda entry: os.fsencode(entry.path)))
    classes = reading.classes if reading.classes is not None else tuple(class_names(entries))
    strata = rarest_label(label_matrix(entries, classes))
    groups = [entry.group for entry in entries]
    if lists:
        splits = _splits_of_lists(reading, entries, lists)
        splits = {
            name: codes if (codes == VALIDATION).any() else hold_out_validation(codes, strata, groups, seed)
            for name, codes in splits.items()
        }
    else:
        splits = default_splits(strata, groups, seed, reading.test_share)
        _note_lone_groups(reading.findings, entries)
    for split, codes in splits.items():
        published = " as published" if lists is reading.lists and reading.lists_path is not None else ""
        reading.findings.add("leak", f"groups on both sides of split {split}{published}", leaking_groups(codes, groups))
    return Dataset(
        name,
        layout,
        reading.root,
        entries,
        classes,
        reading.multilabel,
        splits,
        reading.findings.problems(),
        reading.masks,
    )


def _composed_labels(entry: VideoEntry) -> VideoEntry:
    return replace(entry, labels=tuple(dict.fromkeys(map(composed, entry.labels))))


def note_files(reading: Reading) -> None:
    """Say which files were passed over that the user may have taken for videos."""
    files = find_files(reading.root)
    suffixes = ", ".join(sorted({path.suffix or "none" for path in files.ignored}))
    ignored = f"files left out, as their suffix ({suffixes}) is not known as a video's"
    reading.findings.add("ignored", ignored, map(str, files.ignored))
    reading.findings.add("broken-link", "links that lead nowhere", map(str, files.broken_links))
    repeated = "links to folders that are read anyway, not followed"
    reading.findings.add("repeated-link", repeated, map(str, files.repeated_links))


def _splits_of_lists(
    reading: Reading, entries: Sequence[VideoEntry], lists: Sequence[SplitList]
) -> dict[str, NDArray[np.uint8]]:
    finder = Finder([entry.path for entry in entries])
    listed = np.zeros(len(entries), np.bool_)
    splits = {}
    for split in lists:
        codes = np.full(len(entries), UNUSED, np.uint8)
        found = {video: finder.find(video) for video in split.codes}
        for video, index in found.items():
            if index is not None:
                codes[index], listed[index] = split.codes[video], True
        missing = [video for video, index in found.items() if index is None]
        reading.findings.add("missing", "listed videos that are missing", missing)
        reading.findings.add("repeated", "videos listed more than once", split.repeated)
        contradiction = f"videos in two parts of split {split.name}, of which the first counts"
        reading.findings.add("contradictory", contradiction, split.contradictory)
        if not reading.multilabel:
            unknown = [i for i, entry in enumerate(entries) if not entry.labels and codes[i] <= TEST]
            codes[unknown] = UNUSED
            what = f"videos in split {split.name} without a label, left unused"
            reading.findings.add("unlabelled", what, (str(entries[i].path) for i in unknown))
        splits[split.name] = codes
    unlisted = (str(entry.path) for entry, is_listed in zip(entries, listed, strict=True) if not is_listed)
    reading.findings.add("unlisted", "videos in no list", unlisted)
    return splits


def _note_lone_groups(findings: Findings, entries: Sequence[VideoEntry]) -> None:
    groups = defaultdict(set)
    for entry in entries:
        for label in entry.labels:
            groups[label].add(entry.group)
    lone = [label for label, members in groups.items() if len(members) == 1]
    findings.add("lone-group", "classes of a single group, which cannot be both trained on and tested", lone)


def _stem(name: str) -> str:
    return posixpath.splitext(name)[0]


def _unambiguous(names: Iterable[str]) -> dict[str, int | None]:
    """Index of each name, None for those of several videos."""
    index: dict[str, int | None] = {}
    for i, name in enumerate(names):
        index[name] = None if name in index else i
    return index
