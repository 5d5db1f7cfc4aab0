"""Boxes that users annotated, for the samples of a clip that a picture shows."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from attnrec.data.boxes import BoxTable, Clip, boxes_at, boxes_of_clip, placed_boxes, read_boxes
from attnrec.data.geometry import Region
from attnrec.render.look import Look
from attnrec.runtime import OnProgress, Progress
from attnrec.workflows.predict import AttendedClip


def box_table(boxes: str | Path | None) -> BoxTable | None:
    """The boxes that pictures show; None for none.

    Args:
        boxes: A file of them, see `data.boxes.read_boxes`.

    Raises:
        DataError: The file is malformed.
    """
    return None if boxes is None else read_boxes(Path(boxes))


def sample_boxes(
    table: BoxTable,
    clip: Path,
    attended: AttendedClip,
    times: NDArray[np.float64],
    size: tuple[int, int],
    sample_fps: float | None,
) -> dict[int, list[Region]]:
    """Boxes of samples of a clip.

    Args:
        table: Boxes, of this clip or not.
        clip: A video.
        attended: The run's look at it.
        times: Of the samples in seconds, rising, shape (S,).
        size: Width and height of the clip's frames in px, as they are shown.
        sample_fps: Most frames a second that are kept of it; None keeps all.

    Returns:
        By the index of each sample that has any, the corners of its boxes in px of `size`.

    Raises:
        DataError: A box lies outside of the frame, or boxes are at numbers of frames and the clip is of variable rate.
    """
    own = boxes_of_clip(table, clip)
    if own is None:
        return {}
    described = Clip(0, str(clip), attended.own_fps, attended.is_variable_rate)
    placed = placed_boxes(own, [described], 1, lambda _: size)
    # A sample stands for the time to its neighbours among the frames that are kept, as in a test of the attention.
    kept_fps = min(attended.own_fps, sample_fps or math.inf)
    return boxes_at(placed.by_time(0), times, 0.5 / kept_fps)


def note_unboxed(looks: Sequence[Look], table: BoxTable | None, on_progress: OnProgress) -> None:
    """Say so where boxes are given and none is of what is shown of a clip."""
    if table is not None and not any(look.boxes for look in looks):
        message = f"{looks[0].clip}: {table.path} has no box of what is shown; its paths are those in the data set"
        on_progress(Progress("look", message=message))
