"""Outlines over a picture: of annotated boxes, and of cells that hard attention looked at.

Legend: H and W of a picture in px.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from attnrec.video.decode import Region

# A colour that no style of attention uses, with a dark edge for bright ground.
LINE, EDGE = (130, 235, 255), (0, 0, 0)
LINE_PX, EDGE_PX = 1, 3  # widths of the line, and of the dark one below it
LOOKED = (90, 255, 90)  # outline of the cells that hard attention looked at, in no style either
LOOKED_PX, LOOKED_EDGE_PX = 2, 4
_POINT_PX = 2  # from a point to the line around it


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
