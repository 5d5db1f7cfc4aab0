"""Finding videos on disk, by the names in lists too, and what their paths say about labels and groups."""

import os
import posixpath
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from attnrec.datasets.dataset import VideoEntry
from attnrec.errors import DataError
from attnrec.video.decode import VIDEO_SUFFIXES

_NAME = re.compile(r"v_(?P<label>.+)_g(?P<group>\d+)_c\d+$")


# What lies beside videos and is none, not worth a word: texts and tables, pictures and sound, what programs write.
_OTHERS = """
.csv .doc .docx .html .ini .json .log .m .md .pdf .py .srt .sub .tsv .txt .url .vtt .xgtf .xls .xlsx .xml .yaml .yml
.bmp .jpeg .jpg .mp3 .png .svg .tif .tiff .wav .webp
.db .h5 .mat .npy .npz .pickle .pkl .zip
"""
_OTHER_SUFFIXES = frozenset(_OTHERS.split())


class FoundFiles(NamedTuple):
    """What lies below a folder, relative to it and sorted."""

    videos: list[Path]
    ignored: list[Path]  # not videos by their suffix, though they might be
    broken_links: list[Path]  # that might have been folders of videos
    repeated_links: list[Path]  # to folders that are read anyway, or that hold the one they lie in


def find_files(root: Path) -> FoundFiles:
    """What lies below a folder, and in the folders that links there lead to, each folder once.

    Raises:
        DataError: A folder cannot be read.
    """
    found = FoundFiles([], [], [], [])
    seen = {_identity(parent) for parent in root.absolute().parents}
    waiting = [Path()]  # the folder itself, then links: a folder's own place counts before any link to it
    while waiting:
        start = waiting.pop(0)
        if _identity(root / start) in seen:
            found.repeated_links.append(start)
            continue
        for folder, subfolders, names in os.walk(root / start, onerror=_raise_unreadable):
            seen.add(_identity(Path(folder)))
            relative = Path(folder).relative_to(root)
            subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
            waiting += [relative / name for name in subfolders if Path(folder, name).is_symlink()]
            for name in names:
                _sort_file(root, relative / name, found)
    return FoundFiles(*(sorted(paths, key=os.fsencode) for paths in found))


def _sort_file(root: Path, path: Path, found: FoundFiles) -> None:
    if path.name.startswith("."):
        return
    suffix = path.suffix.lower()
    if suffix in VIDEO_SUFFIXES:
        found.videos.append(path)
    elif not (root / path).exists():
        found.broken_links.append(path)
    elif suffix not in _OTHER_SUFFIXES:
        found.ignored.append(path)


def _identity(folder: Path) -> tuple[int, int]:
    try:
        status = folder.stat()
    except OSError as error:
        raise DataError(f"{folder}: cannot be read: {error.strerror}") from None
    return status.st_dev, status.st_ino


def _raise_unreadable(error: OSError) -> None:
    raise DataError(f"{error.filename}: cannot be read: {error.strerror}")


def find_videos(root: Path) -> list[Path]:
    """Paths of the videos below a folder, relative to it and sorted; or a single video's name.

    Raises:
        DataError: `root` is not there, cannot be read or holds no video.
    """
    if root.is_file():
        return [Path(root.name)]
    if not root.is_dir():
        raise DataError(f"{root}: no such folder")
    found = find_files(root).videos
    if not found:
        suffixes = " ".join(sorted(VIDEO_SUFFIXES))
        raise DataError(f"{root}: no videos in it; expected class folders of files that end in {suffixes}")
    return found


def composed(text: str) -> str:
    """A name in one of its spellings in Unicode: systems differ on whether an accent is a part of its letter."""
    return unicodedata.normalize("NFC", text)


def labels_by_place(path: Path) -> tuple[str, ...]:
    """The class as the first folder of a path; for a bare name as `labels_by_name` has it."""
    return path.parts[:1] if len(path.parts) > 1 else labels_by_name(path)


def scan_videos(root: Path, labels_of: Callable[[Path], tuple[str, ...]] = labels_by_place) -> list[VideoEntry]:
    """Find the videos below a folder and read labels and groups off their paths.

    Groups come from names like `v_<class>_g<group>_c<clip>`; any other video is a group of its own.

    Args:
        root: A folder, or a single video.
        labels_of: Labels of a video by its path.

    Returns:
        Entries sorted by path.

    Raises:
        DataError: `root` is not there, cannot be read or holds no video.
    """
    return [VideoEntry(path, labels_of(path), group_by_name(path)) for path in find_videos(root)]


def dataset_root(videos: Path) -> Path:
    """The folder that `find_videos` paths are relative to."""
    return videos.parent if videos.is_file() else videos


def labels_by_name(path: Path) -> tuple[str, ...]:
    """The class in a name like `v_<class>_g<group>_c<clip>`, none in other names."""
    named = _NAME.match(path.stem)
    return (named["label"],) if named else ()


def group_by_name(path: Path) -> str:
    """The group in a name like `v_<class>_g<group>_c<clip>`; other videos are groups of their own."""
    named = _NAME.match(path.stem)
    return f"g{named['group']}" if named else os.fspath(path)


def label_of(video: Path, classes: Sequence[str]) -> str | None:
    """Class of a single video by its folder, its name or a folder further up, if it is one of the given classes."""
    folder, *further = (parent.name for parent in video.absolute().parents)
    known = {composed(name): name for name in classes}
    candidates = (known.get(composed(name)) for name in (folder, *labels_by_name(video), *further))
    return next((label for label in candidates if label is not None), None)


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
        self._by_stem = _unambiguous(stem(name) for name in names)
        self._by_name = _unambiguous(posixpath.basename(stem(name)) for name in names)

    def find(self, listed: str) -> int | None:
        for candidates, name in ((self._by_path, listed), (self._by_stem, listed), (self._by_stem, stem(listed))):
            if (found := candidates.get(name)) is not None:
                return found
        found = self._by_name.get(posixpath.basename(stem(listed)))
        # A bare name may stand for a path, but no path for one in another folder.
        if found is not None and ("/" not in listed or "/" not in self._names[found]):
            return found
        return None


def stem(name: str) -> str:
    """A name without its suffix."""
    return posixpath.splitext(name)[0]


def _unambiguous(names: Iterable[str]) -> dict[str, int | None]:
    """Index of each name, None for those of several videos."""
    index: dict[str, int | None] = {}
    for i, name in enumerate(names):
        index[name] = None if name in index else i
    return index
