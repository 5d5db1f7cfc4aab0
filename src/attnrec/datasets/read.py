"""One call that makes a `Dataset` of videos: it recognises their layout, works out the splits and says what is odd."""

import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from attnrec.datasets.dataset import Dataset, Findings, Reading, VideoEntry, class_names, label_matrix, rarest_label
from attnrec.datasets.folders import Finder, composed, find_files
from attnrec.datasets.layouts import (
    HMDB51_NUM_CLASSES,
    OFFICIAL,
    READERS,
    is_jhmdb_folder,
    is_ucf101_folder,
    read_folders,
)
from attnrec.datasets.lists import SplitList
from attnrec.datasets.splits import TEST, UNUSED, VALIDATION, default_splits, hold_out_validation, leaking_groups
from attnrec.datasets.tables import read_labels, read_splits
from attnrec.errors import ConfigError, DataError
from attnrec.settings import DatasetLayout

LABELS_NAME = "labels.csv"


def read_dataset(
    videos: str | Path,
    dataset: DatasetLayout = "auto",
    *,
    splits: str | Path | None = None,
    labels: str | Path | None = None,
    seed: int = 0,
) -> Dataset:
    """Read labels, groups and splits of videos off their layout, without decoding any.

    Without official or given lists the splits are `default` and `cv3-1` to `cv3-3`, seeded, with whole groups. Lists
    that name no validation videos give up 15 % of the training videos for it, in whole groups.

    Args:
        videos: Folder of videos; one video; or a CSV file of labels, paths being relative to its folder.
        dataset: Layout; `auto` finds it out.
        splits: Lists that take the place of any others: a CSV file (see `tables.read_splits`) or a folder of lists
            like UCF-101's; or the folder of the dataset's own lists where they lie elsewhere.
        labels: CSV file of labels (see `tables.read_labels`), paths being relative to `videos`.
        seed: Of splits and validation parts.

    Returns:
        The dataset.

    Raises:
        DataError: There are no videos, the layout is not the one asked for, or a list is malformed.
        ConfigError: `dataset` is unknown, or does not go with `labels`.
    """
    videos, lists_path = Path(videos), None if splits is None else Path(splits)
    layout, reading = _read(videos, dataset, lists_path, None if labels is None else Path(labels))
    if videos.is_dir() and layout != "csv":  # a table says itself what belongs to it
        note_files(reading)
    lists = reading.lists
    if lists_path is not None and lists_path != reading.lists_path:
        lists = read_splits(lists_path)
    return assemble(
        reading,
        name=layout if layout in OFFICIAL and _is_whole(layout, reading) else reading.root.absolute().name,
        layout=layout,
        lists=lists,
        seed=seed,
    )


def _read(videos: Path, dataset: str, lists: Path | None, labels: Path | None) -> tuple[str, Reading]:
    if dataset not in get_args(DatasetLayout):
        raise ConfigError(f"dataset must be one of {', '.join(get_args(DatasetLayout))}, got {dataset!r}")
    if labels is not None and dataset not in ("auto", "csv"):
        raise ConfigError(f"a file of labels makes the dataset csv, not {dataset}")
    labels = labels or _own_labels(videos)
    if dataset == "csv" or (dataset == "auto" and labels is not None):
        if labels is None:
            raise DataError(f"{videos}: no {LABELS_NAME} in it; name the file of labels")
        return "csv", read_labels(labels, videos)
    if dataset == "auto":
        return _recognized(videos, lists)
    reading = READERS[dataset](videos, lists)
    if reading is None:
        raise DataError(f"{videos}: not laid out like {dataset}; expected {OFFICIAL[dataset]}")
    return dataset, reading


def _is_whole(layout: str, reading: Reading) -> bool:
    """Whether a dataset goes by its layout's name: a part of HMDB-51's classes is another task, with other figures."""
    labels = {label for entry in reading.entries for label in entry.labels}
    return layout != "hmdb51" or len(labels) == HMDB51_NUM_CLASSES


def _own_labels(videos: Path) -> Path | None:
    if videos.suffix.lower() == ".csv" and not videos.is_dir():
        return videos
    return videos / LABELS_NAME if (videos / LABELS_NAME).is_file() else None


def _recognized(videos: Path, lists: Path | None) -> tuple[str, Reading]:
    is_jhmdb = lists is not None and is_jhmdb_folder(lists)
    own = {
        "ucf101": lists if lists is not None and is_ucf101_folder(lists) else None,
        "hmdb51": None if is_jhmdb else lists,
        "jhmdb": lists if is_jhmdb else None,
    }
    readings = {layout: READERS[layout](videos, own.get(layout, lists)) for layout in OFFICIAL}
    found = [(layout, reading) for layout, reading in readings.items() if reading is not None]
    if len(found) > 1:
        names = " and ".join(layout for layout, _ in found)
        raise DataError(f"{videos}: holds {names}; name the folder of one of them, or force it by --dataset")
    if found:
        return found[0]
    reading = read_folders(videos)
    if any(len(entry.path.parts) > 1 for entry in reading.entries):
        return "folders", reading
    return ("names" if any(entry.labels for entry in reading.entries) else "unlabelled"), reading


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
