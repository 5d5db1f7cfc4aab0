"""Where the person is in J-HMDB's videos: boxes around the puppet masks that are distributed with them."""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from attnrec.datasets.dataset import Findings, Problem, VideoEntry
from attnrec.errors import DataError
from attnrec.features.boxes import Box, BoxTable
from attnrec.features.matlab import read_uint8_array

MASK_NAME = "puppet_mask.mat"
_VARIABLE = "part_mask"


class Mask(NamedTuple):
    """The shape of a video's mask: width and height in px, and frames."""

    size: tuple[int, int]
    num_frames: int


class Puppets(NamedTuple):
    """What the masks of a data set say.

    Attributes:
        table: A box around the person in each frame that shows one, by number of frame.
        masks: Shape of each video's mask, by the video's path.
        problems: Masks that are missing or cannot be used.
    """

    table: BoxTable
    masks: dict[str, Mask]
    problems: tuple[Problem, ...]


def read_puppets(folder: Path, entries: Iterable[VideoEntry]) -> Puppets:
    """Boxes around the people of videos, from masks in `<class>/<clip>/puppet_mask.mat`.

    Args:
        folder: Of the masks.
        entries: The videos.
    """
    videos: dict[str, list[Box]] = {}
    masks: dict[str, Mask] = {}
    findings = Findings()
    for entry in entries:
        name = str(entry.path)
        path = folder / (entry.label or entry.path.parent.name) / entry.path.stem / MASK_NAME
        if not path.is_file():
            findings.add("mask", "videos without a puppet mask", [name])
            continue
        try:
            mask = read_mask(path)
        except DataError as error:
            findings.add("mask", "puppet masks that cannot be used, left out", [str(error)])
            continue
        masks[name] = Mask((mask.shape[1], mask.shape[0]), mask.shape[2])
        if boxes := mask_boxes(mask):
            videos[name] = boxes
    return Puppets(BoxTable(folder, False, videos), masks, findings.problems())


def read_mask(path: Path) -> NDArray[np.uint8]:
    """A video's mask, not 0 where the person is, shape (height, width, frames).

    Raises:
        DataError: The file cannot be read or holds no such mask.
    """
    mask = read_uint8_array(path, _VARIABLE)
    if mask.ndim > 3:
        raise DataError(f"{path}: {_VARIABLE} is of shape {mask.shape}, not height, width and frames")
    return mask.reshape(*mask.shape[:2], -1)  # MATLAB drops the last axis of a single frame


def mask_boxes(mask: NDArray[np.uint8]) -> list[Box]:
    """The box around what is not 0 in each frame, by number of frame; none in frames without.

    Args:
        mask: Shape (height, width, frames).
    """
    boxes = []
    for frame in range(mask.shape[2]):
        rows, columns = (np.flatnonzero(mask[:, :, frame].any(axis=axis)) for axis in (1, 0))
        if len(rows):
            corners = (float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1))
            boxes.append(Box(0, float(frame), corners))
    return boxes
