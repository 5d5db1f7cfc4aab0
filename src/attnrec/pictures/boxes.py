"""Annotated boxes in pictures: finds those of a clip, and draws them, and cells, as thin lines.

Legend: S samples of a clip, H and W of a picture in px.
"""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from attnrec.errors import AttnrecError, ConfigError
from attnrec.evaluation.predict import AttendedClip
from attnrec.features.boxes import BoxTable, Clip, boxes_at, boxes_of_clip, placed_boxes, read_boxes
from attnrec.features.parts import file_sha256
from attnrec.features.store import FeatureStore
from attnrec.settings import PictureConfig
from attnrec.training.origin import features_of_run
from attnrec.training.run import Run
from attnrec.video.decode import Region

# A colour that no style of attention uses, with a dark edge for bright ground.
LINE, EDGE = (130, 235, 255), (0, 0, 0)
LINE_PX, EDGE_PX = 1, 3  # widths of the line, and of the dark one below it
LOOKED = (90, 255, 90)  # outline of the cells that hard attention looked at, in no style either
LOOKED_PX, LOOKED_EDGE_PX = 2, 4
_POINT_PX = 2  # from a point to the line around it

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


def outlined(picture: NDArray[np.uint8], boxes: Sequence[Region]) -> NDArray[np.uint8]:
    """Draw boxes over a picture.

    Args:
        picture: RGB, shape (H, W, 3).
        boxes: x0, y0, x1, y1 of each box in px of the picture, half-open; a point is a box without extent.

    Returns:
        RGB picture, shape (H, W, 3).
    """
    if not boxes:
        return picture
    height, width, _ = picture.shape
    canvas = Image.fromarray(picture)
    draw, rims = ImageDraw.Draw(canvas), [outermost(box, width, height) for box in boxes]
    around = EDGE_PX // 2
    for x0, y0, x1, y1 in rims:  # all of them first, so that none covers the line of another box
        draw.rectangle([x0 - around, y0 - around, x1 + around, y1 + around], outline=EDGE, width=EDGE_PX)
    for rim in rims:
        draw.rectangle(rim, outline=LINE, width=LINE_PX)
    return np.asarray(canvas)


def outlined_cells(picture: NDArray[np.uint8], cells: Sequence[Region]) -> NDArray[np.uint8]:
    """Draw the cells that hard attention looked at, within their edges. Takes and returns as `outlined`."""
    if not cells:
        return picture
    height, width, _ = picture.shape
    canvas = Image.fromarray(picture)
    draw = ImageDraw.Draw(canvas)
    for colour, line in ((EDGE, LOOKED_EDGE_PX), (LOOKED, LOOKED_PX)):
        for cell in cells:
            draw.rectangle(outermost(cell, width, height), outline=colour, width=line)
    return np.asarray(canvas)


def outermost(box: Region, width: int, height: int) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of a box's outline in a picture of W x H px.

    They are the box's first and last pixels, clipped to the picture; a point gets a small square around it.
    """
    x0, y0, x1, y1 = box
    left, right = _ends(x0, x1, width)
    top, bottom = _ends(y0, y1, height)
    return left, top, right, bottom


def _ends(low: float, high: float, length: int) -> tuple[int, int]:
    """First and last pixel whose centre is between `low` and `high` on an axis of `length` px."""
    if low == high:
        first, last = int(np.floor(low)) - _POINT_PX, int(np.floor(low)) + _POINT_PX
    else:
        first, last = int(np.ceil(low - 0.5)), int(np.ceil(high - 0.5)) - 1
    first = min(max(first, 0), length - 1)
    return first, min(max(last, first), length - 1)
