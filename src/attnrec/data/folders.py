"""Finding videos on disk, and what their paths alone say about labels and groups."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from attnrec.data.dataset import VideoEntry
from attnrec.data.video import VIDEO_SUFFIXES
from attnrec.errors import DataError

_NAME = re.compile(r"v_(?P<label>.+)_g(?P<group>\d+)_c\d+$")


def find_videos(root: Path) -> list[Path]:
    """Paths of the videos below a folder, relative to it and sorted; or a single video's name.

    Raises:
        DataError: `root` is not there, cannot be read or holds no video.
    """
    if root.is_file():
        return [Path(root.name)]
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
    return sorted(found, key=os.fsencode)


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
    return [
        VideoEntry(path, path.parts[:1] if len(path.parts) > 1 else labels_by_name(path), group_by_name(path))
        for path in find_videos(root)
    ]


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
    """Class of a single video by its name or its folder's, if it is one of the given classes."""
    candidates = (video.absolute().parent.name, *labels_by_name(video))
    return next((label for label in candidates if label in classes), None)


def _is_video_name(name: str) -> bool:
    return Path(name).suffix.lower() in VIDEO_SUFFIXES and not name.startswith(".")


def _raise_unreadable(error: OSError) -> None:
    raise DataError(f"{error.filename}: cannot be read: {error.strerror}")
