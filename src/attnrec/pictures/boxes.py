"""Boxes that users annotated, as thin lines over a frame.

Legend: H and W of a picture in px.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from attnrec.pictures.overlay import Region

# Neither the white of attention's light nor a colour of its lines and maps, and dark beside it for bright ground.
LINE, EDGE = (130, 235, 255), (0, 0, 0)
LINE_PX, EDGE_PX = 1, 3  # widths of the line, and of the dark one below it
_POINT_PX = 2  # from a point to the line around it

Picture = NDArray[np.uint8]
Pixels = tuple[int, int, int, int]


def outlined(picture: Picture, boxes: Sequence[Region]) -> Picture:
    """Draw boxes over a picture.

    Args:
        picture: RGB, shape (H, W, 3).
        boxes: x0, y0, x1, y1 of each in px of the picture, half-open; a point is a box without extent.

    Returns:
        RGB, shape (H, W, 3).
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


def outermost(box: Region, width: int, height: int) -> Pixels:
    """Columns and rows of a picture of W x H px on which a box's line runs: left, top, right, bottom.

    They are the box's first and last pixels, cut off at the picture's edge; a point gets a small square around it.
    """
    x0, y0, x1, y1 = box
    left, right = _ends(x0, x1, width)
    top, bottom = _ends(y0, y1, height)
    return left, top, right, bottom


def _ends(low: float, high: float, length: int) -> tuple[int, int]:
    """First and last of the pixels whose centres are from `low` to `high` on an axis of so many px."""
    if low == high:
        first, last = int(np.floor(low)) - _POINT_PX, int(np.floor(low)) + _POINT_PX
    else:
        first, last = int(np.ceil(low - 0.5)), int(np.ceil(high - 0.5)) - 1
    first = min(max(first, 0), length - 1)
    return first, min(max(last, first), length - 1)
