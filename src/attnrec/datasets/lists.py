"""Lists that come with datasets: which video is in which part of a split, which classes it has.

Lines are read as bytes that need not be UTF-8, ended by LF or CRLF. Each mistake in a list is a `DataError` of one
line that names the file and the line.
"""

import posixpath
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from attnrec.datasets.splits import TEST, TRAIN, UNUSED, VALIDATION
from attnrec.errors import DataError
from attnrec.files import read_regular

PARTS = {
    "train": TRAIN,
    "validation": VALIDATION,
    "valid": VALIDATION,
    "val": VALIDATION,
    "test": TEST,
    "unused": UNUSED,
    "": UNUSED,
}
# In the order of the authors' code.
HOLLYWOOD2_CLASSES = (
    *("AnswerPhone", "DriveCar", "Eat", "FightPerson", "GetOutCar", "HandShake"),
    *("HugPerson", "Kiss", "Run", "SitDown", "SitUp", "StandUp"),
)

_MOST_BYTES = 2**28  # of a list or a table: two million boxes are half as much
_LIST_FILE = re.compile(
    r"(?:.*[^a-z])?(?P<part>train|validation|valid|val|test)(?:list)?[_-]?(?P<number>\d*)\.txt", re.I
)
_LIST_LINE = re.compile(r"(?P<path>\S.*?\.\w+)(?:\s+(?P<number>\d+))?")
_HMDB51_FILE = re.compile(r"(?P<label>.+)_test_split(?P<number>\d+)\.txt")
_HMDB51_LINE = re.compile(r"(?P<clip>\S.*?)\s+(?P<code>[012])")
_HMDB51_PARTS = {"0": UNUSED, "1": TRAIN, "2": TEST}
_CLIP_LINE = re.compile(r"(?P<clip>\S.*?)\s+(?P<sign>-?1)")
_CLASS_LINE = re.compile(r"(?P<number>\d+)\s+(?P<label>\S.*)")


@dataclass(frozen=True)
class SplitList:
    """A split as its lists tell it."""

    name: str
    codes: dict[str, int]  # part of each listed video, by its name in the list; the first mention counts
    repeated: tuple[str, ...] = ()  # videos listed more than once in one part
    contradictory: tuple[str, ...] = ()  # videos listed in several parts


def split_list(name: str, mentions: Iterable[tuple[str, int]]) -> SplitList:
    """Collect mentions of videos, each with the code of its part."""
    codes: dict[str, int] = {}
    repeated, contradictory = [], []
    for video, code in mentions:
        if video not in codes:
            codes[video] = code
        elif codes[video] == code:
            repeated.append(video)
        else:
            contradictory.append(video)
    return SplitList(name, codes, tuple(repeated), tuple(contradictory))


def read_lines(path: Path) -> list[tuple[int, str]]:
    """Lines of a text that hold something, stripped, each with its number.

    Raises:
        DataError: The file cannot be read, is no text or is empty.
    """
    lines = [(number, line.strip()) for number, line in enumerate(read_text(path).split("\n"), start=1)]
    lines = [(number, line) for number, line in lines if line]
    if not lines:
        raise DataError(f"{path}: empty; expected a list of videos")
    return lines


def _matched_lines(path: Path, form: re.Pattern[str], expected: str) -> Iterator[tuple[int, re.Match[str]]]:
    """Lines of a text that all have one form, each with its number."""
    for number, line in read_lines(path):
        match = form.fullmatch(line)
        if match is None:
            raise bad_line(path, number, f"expected {expected}, got {line!r}")
        yield number, match


def is_list_folder(folder: Path) -> bool:
    """Whether a folder holds lists like UCF-101's `trainlist01.txt` and `testlist01.txt`."""
    return folder.is_dir() and any(_LIST_FILE.fullmatch(path.name) for path in files_in(folder))


def read_list_folder(folder: Path, name: str, classes: dict[str, int] | None = None) -> list[SplitList]:
    """Splits from lists in the manner of UCF-101: `trainlist01.txt`, `testlist01.txt` and, if so, `validlist01.txt`.

    A line is a video's path, a class number may follow. Lists of one number are one split; without number there is
    one split.

    Args:
        folder: Of the lists.
        name: Of the splits; a list's number is added as in `name-1`.
        classes: Number of each class by its name, to check folders and numbers against.

    Returns:
        The splits by rising number.

    Raises:
        DataError: A list is missing, malformed, or names an unknown class.
    """
    files: dict[str, dict[int, Path]] = {}
    for path in files_in(folder):
        if match := _LIST_FILE.fullmatch(path.name):
            parts = files.setdefault(match["number"], {})
            code = PARTS[match["part"].lower()]
            if code in parts:
                raise DataError(f"{folder}: both {parts[code].name} and {path.name} list one part; leave one of them")
            parts[code] = path
    splits = []
    for number, parts in sorted(files.items(), key=lambda item: int(item[0] or 0)):
        for code, part in ((TRAIN, "train"), (TEST, "test")):
            if code not in parts:
                raise DataError(f"{folder}: no {part}list{number}.txt; a split needs a train and a test list")
        mentions = [(video, code) for code, path in sorted(parts.items()) for video in _read_list(path, classes)]
        splits.append(split_list(f"{name}-{int(number)}" if number else name, mentions))
    if not splits:
        raise DataError(f"{folder}: no lists in it; expected trainlist01.txt and testlist01.txt, or a CSV file instead")
    return splits


def _read_list(path: Path, classes: dict[str, int] | None) -> list[str]:
    videos = []
    for number, match in _matched_lines(path, _LIST_LINE, "a video's path and at most a class number"):
        video = posixpath.normpath(match["path"])
        if classes is not None:
            label = video.split("/")[0] if "/" in video else ""
            if label not in classes:
                raise bad_line(path, number, f"{video!r} is of no class that classInd.txt names")
            if match["number"] and int(match["number"]) != classes[label]:
                raise bad_line(
                    path, number, f"class {match['number']}, but classInd.txt says {label} is {classes[label]}"
                )
        videos.append(video)
    return videos


def read_class_numbers(path: Path) -> dict[str, int]:
    """Number of each class from a file like UCF-101's `classInd.txt`.

    Raises:
        DataError: The file is malformed.
    """
    lines = _matched_lines(path, _CLASS_LINE, "a number and a class")
    return {match["label"]: int(match["number"]) for _, match in lines}


def hmdb51_labels(folder: Path) -> set[str]:
    """Classes that a folder's files `<class>_test_split<number>.txt` are of; none where it has no such files."""
    matches = (_HMDB51_FILE.fullmatch(path.name) for path in (files_in(folder) if folder.is_dir() else ()))
    return {match["label"] for match in matches if match}


def read_hmdb51_folder(folder: Path, name: str = "hmdb51") -> list[SplitList]:
    """Splits from HMDB-51's `<class>_test_split<number>.txt`, lines `<clip> <0 unused, 1 train or 2 test>`.

    Args:
        folder: Of the files.
        name: Of the splits, to which the number is added.

    Returns:
        The splits `<name>-<number>`, videos named `<class>/<clip>`.

    Raises:
        DataError: A file is missing or malformed.
    """
    files: dict[int, dict[str, Path]] = {}
    for path in files_in(folder):
        if match := _HMDB51_FILE.fullmatch(path.name):
            files.setdefault(int(match["number"]), {})[match["label"]] = path
    labels = {label for paths in files.values() for label in paths}
    splits = []
    for number, paths in sorted(files.items()):
        if absent := sorted(labels - paths.keys()):
            raise DataError(f"{folder}: no {absent[0]}_test_split{number}.txt; the list of that class is missing")
        mentions = [
            (f"{label}/{match['clip']}", _HMDB51_PARTS[match["code"]])
            for label, path in paths.items()
            for _, match in _matched_lines(path, _HMDB51_LINE, "a clip and 0, 1 or 2")
        ]
        splits.append(split_list(f"{name}-{number}", mentions))
    return splits


class ClipSets(NamedTuple):
    """Hollywood2's lists of actions: labels of each clip, the split, and clips that some classes' lists leave out."""

    labels: dict[str, tuple[str, ...]]
    split: SplitList
    incomplete: tuple[str, ...]


def is_clip_sets(folder: Path) -> bool:
    """Whether a folder holds Hollywood2's lists of actions."""
    return any((folder / f"{label}_train.txt").is_file() for label in HOLLYWOOD2_CLASSES)


def read_clip_sets(folder: Path) -> ClipSets:
    """Hollywood2's `<Class>_train.txt` and `<Class>_test.txt` of its 12 actions, lines `<clip> <1 or -1>`.

    Lists of scenes and of automatic labels that lie beside them are not read.

    Raises:
        DataError: A list is missing or malformed.
    """
    mentions: list[tuple[str, int]] = []
    codes: dict[str, int] = {}
    labels: dict[str, list[str]] = {}
    times: Counter[str] = Counter()
    for label in HOLLYWOOD2_CLASSES:
        seen: set[str] = set()
        for part in ("train", "test"):
            for _, match in _matched_lines(folder / f"{label}_{part}.txt", _CLIP_LINE, "a clip and 1 or -1"):
                clip, positive = match["clip"], match["sign"] == "1"
                # Every class lists every clip: a mention is news where it is the first, a repetition or at odds.
                if clip in seen or codes.get(clip) != PARTS[part]:
                    mentions.append((clip, PARTS[part]))
                codes.setdefault(clip, PARTS[part])
                if positive and clip not in seen:
                    labels.setdefault(clip, []).append(label)
                seen.add(clip)
        times.update(seen)
    split = split_list("hollywood2", mentions)
    return ClipSets(
        {clip: tuple(labels.get(clip, ())) for clip in codes},
        split,
        tuple(clip for clip, count in times.items() if count < len(HOLLYWOOD2_CLASSES)),
    )


def files_in(folder: Path) -> list[Path]:
    """Files and folders in a folder, sorted.

    Raises:
        DataError: It cannot be read.
    """
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise DataError(f"{folder}: cannot be read: {error.strerror}") from None


def bad_line(path: Path, line: int, what: str) -> DataError:
    """The error for a mistake in a line of a file."""
    return DataError(f"{path}, line {line}: {what}")


def read_text(path: Path) -> str:
    """A text that need not be UTF-8, without a byte order mark.

    Raises:
        DataError: The file cannot be read or is no text.
    """
    if not path.exists():
        raise DataError(f"{path}: no such file")
    try:
        data = read_regular(path, _MOST_BYTES)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    if b"\0" in data:
        raise DataError(f"{path}: not a text in UTF-8 or the like")
    return data.decode("utf-8", "surrogateescape").removeprefix("\ufeff")
