"""What a folder of videos says about labels, groups and splits: one reader for each way of laying a dataset out.

A reader is given the videos and the path of lists, if a user named one; it returns None where the layout is another.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import get_args

from attnrec.datasets.dataset import Dataset, VideoEntry
from attnrec.datasets.folders import dataset_root, find_videos, group_by_name, labels_by_name, scan_videos
from attnrec.datasets.lists import (
    HOLLYWOOD2_CLASSES,
    hmdb51_labels,
    is_clip_sets,
    is_hmdb51_folder,
    is_list_folder,
    read_class_numbers,
    read_clip_sets,
    read_hmdb51_folder,
    read_lines,
    read_list_folder,
)
from attnrec.datasets.matching import Finder, Reading, assemble, names_in, note_files, read_listed
from attnrec.datasets.tables import read_labels, read_splits
from attnrec.errors import ConfigError, DataError
from attnrec.settings import DatasetLayout
from attnrec.video.decode import VIDEO_SUFFIXES

Reader = Callable[[Path, Path | None], Reading | None]

UCF11_CLASSES = {
    *("basketball", "biking", "diving", "golf_swing", "horse_riding", "soccer_juggling", "swing", "tennis_swing"),
    *("trampoline_jumping", "volleyball_spiking", "walking"),
}
UCF101_LISTS = ("ucfTrainTestlist",)
HMDB51_LISTS = ("testTrainMulti_7030_splits", "test_train_splits/testTrainMulti_7030_splits")
HMDB51_NUM_CLASSES = 51
JHMDB_CLASSES = {
    *("brush_hair", "catch", "clap", "climb_stairs", "golf", "jump", "kick_ball", "pick", "pour", "pullup", "push"),
    *("run", "shoot_ball", "shoot_bow", "shoot_gun", "sit", "stand", "swing_baseball", "throw", "walk", "wave"),
}
JHMDB_LISTS = ("splits",)
LABELS_NAME = "labels.csv"

_UCF11_GROUP = re.compile(r"v_\w+_\d\d")
_CLIP_NUMBER = re.compile(r"_c\d+$")
_HMDB51_TAGS = re.compile(r"_[a-z]_(cm|nm)_np\d+_(fr|ba|le|ri)_(bad|med|goo)_\d+$")
_OTHER_HOLLYWOOD2_CLIPS = re.compile(r"sceneclip|actionclipauto")


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
    given = lists_path is not None and lists_path != reading.lists_path
    return assemble(
        reading,
        name=layout if layout in OFFICIAL and _is_whole(layout, reading) else reading.root.absolute().name,
        layout=layout,
        lists=read_splits(lists_path) if given and lists_path is not None else reading.lists,
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
    is_jhmdb = lists is not None and _is_jhmdb_folder(lists)
    own = {
        "ucf101": lists if lists is not None and _is_ucf101_folder(lists) else None,
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


def read_folders(videos: Path, lists: Path | None = None) -> Reading:
    """Class folders; videos beside them are labelled by names like `v_<class>_g<group>_c<clip>`."""
    return Reading(dataset_root(videos), scan_videos(videos))


def read_names(videos: Path, lists: Path | None = None) -> Reading:
    """Videos anywhere below a folder, named `v_<class>_g<group>_c<clip>`."""
    entries = [VideoEntry(path, labels_by_name(path), group_by_name(path)) for path in find_videos(videos)]
    return Reading(dataset_root(videos), entries)


def read_unlabelled(videos: Path, lists: Path | None = None) -> Reading:
    """Videos to predict: no labels, wherever they lie."""
    entries = [VideoEntry(path, (), group_by_name(path)) for path in find_videos(videos)]
    return Reading(dataset_root(videos), entries)


def read_ucf11(videos: Path, lists: Path | None = None) -> Reading | None:
    """UCF-11 as distributed: `<class>/v_<x>_<group>/*.mpg`, in 11 classes of 25 groups.

    There is no official split; the seeded default tests two fifths of the groups, near to the authors' 975 / 625.
    """
    if not videos.is_dir():
        return None
    found = [path for path in find_videos(videos) if "Annotation" not in path.parts]
    outer = {path.parts[0] for path in found}
    if len(outer) == 1 and not outer <= UCF11_CLASSES:  # unpacked into a folder of its own
        videos = videos / outer.pop()
        found = [Path(*path.parts[1:]) for path in found if len(path.parts) > 1]
    if not found or not all(path.parts[0] in UCF11_CLASSES for path in found):
        return None
    if not any(_UCF11_GROUP.fullmatch(path.parent.name) for path in found):
        return None
    entries = [
        VideoEntry(path, path.parts[:1], path.parts[1] if len(path.parts) > 2 else group_by_name(path))
        for path in found
    ]
    return Reading(videos, entries, test_share=0.4)


def read_ucf101(videos: Path, lists: Path | None = None) -> Reading | None:
    """UCF-101: videos in class folders or in one, `ucfTrainTestlist` in or beside their folder.

    Splits `ucf101-1` to `ucf101-3`. Groups are the 25 of each class.
    """
    folder = _lists_folder(videos, lists, UCF101_LISTS, is_list_folder)
    if folder is None:
        return None
    numbers = folder / "classInd.txt"
    classes = read_class_numbers(numbers) if numbers.is_file() else None
    return read_listed(
        videos, folder, read_list_folder(folder, "ucf101", classes), lambda path: _CLIP_NUMBER.sub("", path.stem)
    )


def read_hmdb51(videos: Path, lists: Path | None = None) -> Reading | None:
    """HMDB-51: videos in class folders, `testTrainMulti_7030_splits` in or beside their folder.

    Splits `hmdb51-1` to `hmdb51-3`. A group is a source video within a class, the name before its tags: that is what
    the official splits keep whole, while scenes of one film may be on both sides under different classes.
    """
    folder = _lists_folder(videos, lists, HMDB51_LISTS, is_hmdb51_folder)
    if folder is None:
        return None
    return read_listed(videos, folder, read_hmdb51_folder(folder), lambda path: _HMDB51_TAGS.sub("", path.stem))


def read_jhmdb(videos: Path, lists: Path | None = None) -> Reading | None:
    """J-HMDB: videos in class folders, `splits` in or beside their folder, and `puppet_mask` beside either.

    Splits `jhmdb-1` to `jhmdb-3`. Groups are as in HMDB-51, whose clips these are.
    """
    folder = _lists_folder(videos, lists, JHMDB_LISTS, is_hmdb51_folder if lists is not None else _is_jhmdb_folder)
    if folder is None:
        return None
    root = _jhmdb_root(videos, hmdb51_labels(folder))
    reading = read_listed(
        root, folder, read_hmdb51_folder(folder, "jhmdb"), lambda path: _HMDB51_TAGS.sub("", path.stem)
    )
    if reading is None:
        return None
    nearby = [base / "puppet_mask" for base in (folder.absolute().parent, videos, root, root.absolute().parent)]
    return replace(reading, masks=next((path for path in nearby if path.is_dir()), nearby[0]))


def _jhmdb_root(videos: Path, labels: set[str]) -> Path:
    """The folder whose class folders hold videos: those beside it hold pictures, masks and joints of the same names."""
    for root in (videos, *(videos / name for name in names_in(videos))):
        folders = [root / label for label in sorted(labels) if (root / label).is_dir()]
        if any(Path(name).suffix.lower() in VIDEO_SUFFIXES for folder in folders for name in names_in(folder)):
            return root
    return videos


def read_hollywood2(videos: Path, lists: Path | None = None) -> Reading | None:
    """Hollywood2's actions: `AVIClips` and `ClipSets` in one folder. A clip may have several labels.

    Split `hollywood2`, whose sides come from different films. Names do not tell the films, so that clips are groups
    of their own, and a validation part may share films with the training part.
    """
    folder = _lists_folder(videos, lists, ("ClipSets",), is_clip_sets)
    if folder is None:
        return None
    root = videos / "AVIClips" if (videos / "AVIClips").is_dir() else videos
    sets = read_clip_sets(folder)
    found = find_videos(root)
    finder = Finder(found)
    labels = {finder.find(clip): labels for clip, labels in sets.labels.items()}
    others = {i for i, path in enumerate(found) if i not in labels and _OTHER_HOLLYWOOD2_CLIPS.match(path.name)}
    if not labels.keys() - {None}:
        return None
    entries = [VideoEntry(path, labels.get(i, ()), path.stem) for i, path in enumerate(found) if i not in others]
    reading = Reading(root, entries, [sets.split], folder, HOLLYWOOD2_CLASSES, multilabel=True)
    reading.findings.add("left-out", "clips of Hollywood2's other tasks, left out", (str(found[i]) for i in others))
    incomplete = "clips that some classes' lists leave out, taken as negative there"
    reading.findings.add("incomplete", incomplete, sets.incomplete)
    return reading


OFFICIAL = {
    "ucf11": "folders like basketball/v_shooting_01 of videos",
    "ucf101": "class folders, and the folder ucfTrainTestlist in or beside theirs or given as the splits",
    "hmdb51": "class folders, and the folder testTrainMulti_7030_splits in or beside theirs or given as the splits",
    "jhmdb": "class folders, and the folder splits in or beside theirs or given as the splits",
    "hollywood2": "the folders AVIClips and ClipSets",
}
READERS: dict[str, Reader] = {
    "folders": read_folders,
    "names": read_names,
    "unlabelled": read_unlabelled,
    "ucf11": read_ucf11,
    "ucf101": read_ucf101,
    "hmdb51": read_hmdb51,
    "jhmdb": read_jhmdb,
    "hollywood2": read_hollywood2,
}


def _is_ucf101_folder(folder: Path) -> bool:
    numbers = folder / "classInd.txt"
    return folder.name in UCF101_LISTS or (numbers.is_file() and len(read_lines(numbers)) == 101)


def _is_jhmdb_folder(folder: Path) -> bool:
    return folder.name in JHMDB_LISTS and bool(labels := hmdb51_labels(folder)) and labels <= JHMDB_CLASSES


def _lists_folder(
    videos: Path, given: Path | None, names: Sequence[str], is_such: Callable[[Path], bool]
) -> Path | None:
    """A folder of lists: the one a user names if it is such a folder, or else one in or beside the videos' folder."""
    if not videos.is_dir():
        return None
    nearby = [base / name for base in (videos, videos.absolute().parent) for name in names]
    folders = [given, *nearby] if given is not None and given.is_dir() else nearby
    return next((folder for folder in folders if is_such(folder)), None)
