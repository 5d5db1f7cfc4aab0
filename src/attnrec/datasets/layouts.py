"""What a folder of videos says about labels, groups and splits: one reader for each way of laying a dataset out.

A reader is given the videos and the path of lists, if a user named one; it returns None where the layout is another.
"""

import itertools
import posixpath
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from attnrec.datasets.dataset import Reading, VideoEntry
from attnrec.datasets.folders import (
    Finder,
    composed,
    dataset_root,
    find_videos,
    group_by_name,
    labels_by_name,
    scan_videos,
    stem,
)
from attnrec.datasets.lists import (
    HOLLYWOOD2_CLASSES,
    SplitList,
    files_in,
    hmdb51_labels,
    is_clip_sets,
    is_list_folder,
    read_class_numbers,
    read_clip_sets,
    read_hmdb51_folder,
    read_lines,
    read_list_folder,
)
from attnrec.errors import DataError
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

_UCF11_GROUP = re.compile(r"v_\w+_\d\d")
_CLIP_NUMBER = re.compile(r"_c\d+$")
_HMDB51_TAGS = re.compile(r"_[a-z]_(cm|nm)_np\d+_(fr|ba|le|ri)_(bad|med|goo)_\d+$")
_OTHER_HOLLYWOOD2_CLIPS = re.compile(r"sceneclip|actionclipauto")


def read_folders(videos: Path, lists: Path | None = None) -> Reading:
    """Class folders; videos beside them are labelled by names like `v_<class>_g<group>_c<clip>`."""
    return Reading(dataset_root(videos), scan_videos(videos))


def read_names(videos: Path, lists: Path | None = None) -> Reading:
    """Videos anywhere below a folder, named `v_<class>_g<group>_c<clip>`."""
    return Reading(dataset_root(videos), scan_videos(videos, labels_by_name))


def read_unlabelled(videos: Path, lists: Path | None = None) -> Reading:
    """Videos to predict: no labels, wherever they lie."""
    return Reading(dataset_root(videos), scan_videos(videos, lambda path: ()))


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
    return _read_listed(videos, folder, read_list_folder(folder, "ucf101", classes), _CLIP_NUMBER)


def read_hmdb51(videos: Path, lists: Path | None = None) -> Reading | None:
    """HMDB-51: videos in class folders, `testTrainMulti_7030_splits` in or beside their folder.

    Splits `hmdb51-1` to `hmdb51-3`. A group is a source video within a class, the name before its tags: that is what
    the official splits keep whole, while scenes of one film may be on both sides under different classes.
    """
    folder = _lists_folder(videos, lists, HMDB51_LISTS, hmdb51_labels)
    if folder is None:
        return None
    return _read_listed(videos, folder, read_hmdb51_folder(folder), _HMDB51_TAGS)


def read_jhmdb(videos: Path, lists: Path | None = None) -> Reading | None:
    """J-HMDB: videos in class folders, `splits` in or beside their folder, and `puppet_mask` beside either.

    Splits `jhmdb-1` to `jhmdb-3`. Groups are as in HMDB-51, whose clips these are.
    """
    folder = _lists_folder(videos, lists, JHMDB_LISTS, hmdb51_labels if lists is not None else is_jhmdb_folder)
    if folder is None:
        return None
    root = _jhmdb_root(videos, hmdb51_labels(folder))
    reading = _read_listed(root, folder, read_hmdb51_folder(folder, "jhmdb"), _HMDB51_TAGS)
    if reading is None:
        return None
    nearby = [base / "puppet_mask" for base in (folder.absolute().parent, videos, root, root.absolute().parent)]
    return replace(reading, masks=next((path for path in nearby if path.is_dir()), nearby[0]))


def _jhmdb_root(videos: Path, labels: set[str]) -> Path:
    """The folder whose class folders hold videos: those beside it hold pictures, masks and joints of the same names."""
    for root in (videos, *files_in(videos)):
        folders = [root / label for label in sorted(labels) if (root / label).is_dir()]
        if any(path.suffix.lower() in VIDEO_SUFFIXES for folder in folders for path in files_in(folder)):
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


def is_ucf101_folder(folder: Path) -> bool:
    """Whether a folder holds UCF-101's own lists."""
    numbers = folder / "classInd.txt"
    return folder.name in UCF101_LISTS or (numbers.is_file() and len(read_lines(numbers)) == 101)


def is_jhmdb_folder(folder: Path) -> bool:
    """Whether a folder holds J-HMDB's own lists."""
    return folder.name in JHMDB_LISTS and bool(labels := hmdb51_labels(folder)) and labels <= JHMDB_CLASSES


def _lists_folder(
    videos: Path, given: Path | None, names: Sequence[str], is_such: Callable[[Path], object]
) -> Path | None:
    """A folder of lists: the one a user names if it is such a folder, or else one in or beside the videos' folder."""
    if not videos.is_dir():
        return None
    nearby = [base / name for base in (videos, videos.absolute().parent) for name in names]
    folders = [given, *nearby] if given is not None and given.is_dir() else nearby
    return next((folder for folder in folders if is_such(folder)), None)


def _read_listed(
    videos: Path, folder: Path, lists: Sequence[SplitList], clip_ending: re.Pattern[str]
) -> Reading | None:
    """A dataset whose lists name videos as `<class>/<video>`.

    Args:
        videos: Folder of the videos, or one that holds it.
        folder: Of the lists.
        lists: What they say.
        clip_ending: What follows the group in a video's name.

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
        group = clip_ending.sub("", path.stem)
        entries.append(VideoEntry(path, (label,) if label in classes else (), group))
    return Reading(root, entries, lists, folder)


def _listed_root(videos: Path, lists_folder: Path, listed: Iterable[str]) -> Path | None:
    """The folder whose files or folders are named in lists: `videos` itself, or one in it.

    Folders in it are not looked at where the lists lie beside `videos`: they may belong to another dataset there.
    """
    heads = {part for name in listed for part in (name.split("/")[0], posixpath.basename(stem(name)))}
    if any(stem(path.name) in heads for path in files_in(videos)):
        return videos
    if lists_folder.absolute().parent == videos.absolute().parent:
        return None
    folders = [path for path in files_in(videos) if path.is_dir()]
    fitting = [folder for folder in folders if any(stem(path.name) in heads for path in files_in(folder))]
    if len(fitting) > 1:
        raise DataError(f"{videos}: {' and '.join(path.name for path in fitting)} both fit the lists; name one of them")
    return fitting[0] if fitting else None
