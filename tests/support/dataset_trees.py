"""Folders of empty files laid out like datasets, for tests of what is read before anything is decoded."""

import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import scipy.io
from numpy.typing import NDArray

from attnrec.datasets.lists import HOLLYWOOD2_CLASSES


def make_files(root: Path, *names: str) -> Path:
    """Empty files below a folder."""
    for folder in {(root / name).parent for name in names}:
        folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (root / name).touch()
    return root


def write_lists(folder: Path, **texts: str) -> Path:
    """Text files `<name>.txt`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (folder / f"{name}.txt").write_text(text)
    return folder


def make_ucf11(root: Path, data: Path) -> Path:
    """UCF-11 by its official names, with the annotations that are distributed with it."""
    names = (data / "splits/ucf11/xception_data__listfile.txt").read_text().split("\n")
    return make_files(root, *filter(None, names), "basketball/Annotation/v_shooting_01_01.xgtf")


def make_ucf101(root: Path, data: Path) -> Path:
    """UCF-101 by its official names and lists: `UCF-101` and `ucfTrainTestlist` side by side."""
    shutil.copytree(data / "splits/ucf101", root / "ucfTrainTestlist")
    texts = ((data / f"splits/ucf101/{part}list01.txt").read_text() for part in ("train", "test"))
    make_files(root / "UCF-101", *(line.split()[0] for text in texts for line in text.splitlines()))
    return root


def make_hmdb51(root: Path, data: Path) -> Path:
    """HMDB-51 by its official names and lists, side by side."""
    shutil.copytree(data / "splits/hmdb51", root / "testTrainMulti_7030_splits")
    files = (data / "splits/hmdb51").glob("*_test_split1.txt")
    names = ((f.name.removesuffix("_test_split1.txt"), line) for f in files for line in f.read_text().splitlines())
    make_files(root / "hmdb51_org", *(f"{label}/{line.rsplit(None, 1)[0]}" for label, line in names))
    return root


def write_mask(folder: Path, mask: NDArray[np.uint8], *, name: str = "part_mask", compressed: bool = True) -> Path:
    """A puppet mask (height, width, frames) as J-HMDB has them, written by scipy."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "puppet_mask.mat"
    scipy.io.savemat(path, {"noise": np.eye(3), name: mask}, do_compression=compressed)
    return path


def make_jhmdb(root: Path, *, videos: str = ".", num_films: int = 3, splits: int = 3) -> list[str]:
    """J-HMDB with empty files for videos: two classes, two clips of each film, the last film to test on; their paths.

    Folders of pictures and masks are beside the videos' class folders, or beside the folder that those are in.
    """
    names = []
    for label in ("golf", "wave"):
        clips = [f"film{film}_{label}_f_cm_np1_ba_med_{i}.avi" for film in range(num_films) for i in range(2)]
        names += make_files(root / videos / label, *clips) and [f"{label}/{clip}" for clip in clips]
        make_files(root / "Rename_Images" / label / Path(clips[0]).stem, "00001.png")
        lines = [f"{clip} {2 if f'film{num_films - 1}_' in clip else 1}" for clip in clips]
        lists = {f"{label}_test_split{number}": "\n".join(lines) + "\n" for number in range(1, splits + 1)}
        write_lists(root / "splits", **lists)
    return names


def write_synthetic_clip_sets(folder: Path, clips: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Lists in the form of Hollywood2's ClipSets with labels that are made up: clip i has class i and maybe i / 5.

    Returns:
        The labels of each clip, in the order of the classes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    labels = {}
    for i, clip in enumerate(clips):
        chosen = {i % 12} | ({i // 5 % 12} if i % 3 == 0 else set())
        labels[clip] = tuple(HOLLYWOOD2_CLASSES[c] for c in sorted(chosen))
    for label in HOLLYWOOD2_CLASSES:
        for part in ("train", "test"):
            lines = [f"{c}  {1 if label in labels[c] else -1}\n" for c in labels if part in c]
            (folder / f"{label}_{part}.txt").write_text("".join(lines))
    return labels
