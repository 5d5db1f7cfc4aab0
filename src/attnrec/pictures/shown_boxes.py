"""Boxes that were annotated, for the samples of a clip that a picture shows."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from attnrec.errors import AttnrecError, ConfigError
from attnrec.evaluation.predict import AttendedClip
from attnrec.features.boxes import BoxTable, Clip, boxes_at, boxes_of_clip, placed_boxes, read_boxes
from attnrec.features.parts import file_sha256
from attnrec.features.store import FeatureStore
from attnrec.pictures.look import Look
from attnrec.runtime import OnProgress, Progress
from attnrec.settings import PictureConfig
from attnrec.training.origin import features_of_run
from attnrec.training.run import Run
from attnrec.video.decode import Region

BoxSource = BoxTable | FeatureStore
"""A file of boxes, or a feature store that holds some."""


def box_source(
    boxes: str | Path | None, run: Run, config: PictureConfig, store: str | Path | None = None
) -> BoxSource | None:
    """Where a run's pictures take boxes from; None for none.

    Args:
        boxes: A file of them, see `features.boxes.read_boxes`; None takes those in the run's own feature store.
        run: The run.
        config: Whether boxes are drawn at all.
        store: Feature store of the run; None looks for it as `evaluate` does. A picture needs none, so one that is not
            there, or is of no use, is no error.

    Raises:
        DataError: The file is malformed.
        ConfigError: A file is given, and none is to be drawn.
    """
    if boxes is not None:
        if not config.boxes:
            raise ConfigError(f"--boxes {boxes} and --no-boxes: give one of them")
        return read_boxes(Path(boxes))
    if not config.boxes:
        return None
    try:
        features = features_of_run(run, store)
    except AttnrecError:
        return None
    return None if features.boxes is None else features


def sample_boxes(
    source: BoxSource,
    clip: Path,
    attended: AttendedClip,
    times: NDArray[np.float64],
    size: tuple[int, int],
    sample_fps: float | None,
) -> dict[int, list[Region]]:
    """Boxes of samples of a clip.

    Args:
        source: Boxes, of this clip or not.
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
    if isinstance(source, FeatureStore):
        found = _of_store(source, clip, size)
    else:
        found = _of_table(source, clip, attended, size)
    # A sample stands for the time to its neighbours among the frames that are kept, as in a test of the attention.
    kept_fps = min(attended.own_fps, sample_fps or math.inf)
    return boxes_at(found, times, 0.5 / kept_fps) if found else {}


def _of_table(table: BoxTable, clip: Path, attended: AttendedClip, size: tuple[int, int]) -> dict[float, list[Region]]:
    """Boxes of a clip by time, from a file that names it."""
    own = boxes_of_clip(table, clip)
    if own is None:
        return {}
    described = Clip(0, str(clip), attended.own_fps, attended.is_variable_rate)
    return placed_boxes(own, [described], 1, lambda _: size).by_time(0)


def _of_store(store: FeatureStore, clip: Path, size: tuple[int, int]) -> dict[float, list[Region]]:
    """Boxes of a clip by time, from a store that holds a video of its content.

    Nobody has said that they are of this clip, and another may have its name; only the content tells, wherever the clip
    lies. To read it takes next to nothing beside decoding it.
    """
    assert store.boxes is not None
    try:
        content = file_sha256(clip).encode()
    except OSError:
        return {}
    for video in np.flatnonzero(store.videos.fingerprint == content).tolist():
        if store.boxes.size_of(video) == size:
            return store.boxes.by_time(video)
    return {}


def note_unboxed(looks: Sequence[Look], source: BoxSource | None, on_progress: OnProgress) -> None:
    """Say so where a file of boxes is given and none is of what is shown of a clip."""
    if isinstance(source, BoxTable) and not any(look.boxes for look in looks):
        message = f"{looks[0].clip}: {source.path} has no box of what is shown; its paths are those in the data set"
        on_progress(Progress("look", message=message))
