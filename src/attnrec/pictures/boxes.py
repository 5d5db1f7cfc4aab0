"""The annotated boxes of a clip, for its pictures.

Legend: S samples of a clip.
"""

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from attnrec.errors import AttnrecError, ConfigError
from attnrec.evaluation.attended import AttendedClip
from attnrec.features.boxes import BoxTable, Clip, boxes_at, boxes_of_clip, placed_boxes, read_boxes
from attnrec.features.parts import file_sha256
from attnrec.features.store import FeatureStore
from attnrec.settings import PictureConfig
from attnrec.training.origin import features_of_run
from attnrec.training.run import Run
from attnrec.video.decode import Region

BoxSource = BoxTable | FeatureStore
"""A file of boxes, or a feature store with boxes."""


def box_source(
    boxes: str | Path | None, run: Run, config: PictureConfig, store: str | Path | None = None
) -> BoxSource | None:
    """The source of the boxes in a run's pictures; None for no boxes.

    Args:
        boxes: A file of boxes, see `features.boxes.read_boxes`; None takes those in the run's own feature store.
        run: The run.
        config: Settings that say whether boxes are drawn at all.
        store: Feature store of the run; None looks for it as `evaluate` does. A missing or unusable store is not an
            error, as pictures do not need it.

    Raises:
        DataError: The file is malformed.
        ConfigError: A file is given, but boxes are not to be drawn.
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
    """The boxes of the samples of a clip.

    Args:
        source: Source of boxes, which may have none of this clip.
        clip: A video.
        attended: The run's attention in the clip.
        times: Times of the samples in seconds, rising, shape (S,).
        size: Width and height of the clip's displayed frames in px.
        sample_fps: Most frames per second that features keep of a clip; None keeps all.

    Returns:
        Corners of the boxes in px of `size`, by the index of each sample that has any.

    Raises:
        DataError: A box lies outside the frame, or boxes of a variable-rate clip are given by frame number.
    """
    if isinstance(source, FeatureStore):
        found = _of_store(source, clip, size)
    else:
        found = _of_table(source, clip, attended, size)
    # A sample covers half the interval to each neighbouring kept frame, as in a test of the attention.
    kept_fps = min(attended.own_fps, sample_fps or math.inf)
    return boxes_at(found, times, 0.5 / kept_fps) if found else {}


def _of_table(table: BoxTable, clip: Path, attended: AttendedClip, size: tuple[int, int]) -> dict[float, list[Region]]:
    """Boxes of a clip by time, from a file."""
    own = boxes_of_clip(table, clip)
    if own is None:
        return {}
    described = Clip(0, str(clip), attended.own_fps, attended.is_variable_rate)
    return placed_boxes(own, [described], 1, lambda _: size).by_time(0)


def _of_store(store: FeatureStore, clip: Path, size: tuple[int, int]) -> dict[float, list[Region]]:
    """Boxes of a clip by time, from a store that holds a video with the same content.

    The clip is recognised by its content, wherever it is, as another may have its name. Reading it takes little time
    compared with decoding it.
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
