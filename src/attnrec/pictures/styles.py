"""How attention is laid over a frame: white light, colours, lines, or the bare cells.

Legend: K grid side, H and W of a picture in px.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from attnrec.pictures.overlay import Region, cells_at, smooth_peaks, upsample
from attnrec.pictures.text import font
from attnrec.settings import PictureStyle

Picture = NDArray[np.uint8]
Light = NDArray[np.float32]

ALPHA = 0.8  # share of the light in `paper` and `grid`, the rest is the frame
HEAT_ALPHA = 0.6
LEVELS = (0.25, 0.5, 0.75)  # of full strength, where `contour` draws its lines
UNSEEN = 0.35  # brightness of what a crop hides from the model, in `heat` and `contour`
_LINE, _LINE_ALPHA = 128, 0.4  # between the cells of `grid`
_LEAST_CELL_PX = (18, 12)  # narrower or lower cells have no numbers


class Style(NamedTuple):
    """A way to draw attention.

    Attributes:
        is_smooth: Whether it draws the smoothed map; the cells themselves otherwise.
        blend: From a frame (H, W, 3), its light (H, W) from 0 to 1, and where the model sees it (H, W), to a picture.
    """

    is_smooth: bool
    blend: Callable[[Picture, Light, NDArray[np.bool_]], NDArray[np.float32]]


def attended_frame(
    frame: Picture, attention: Light, *, style: PictureStyle, full: float, region: Region | None = None
) -> Picture:
    """Lay attention over a frame.

    Args:
        frame: RGB, shape (H, W, 3).
        attention: Location probabilities, shape (K, K).
        style: Which way, see `PictureConfig`.
        full: Attention of one location that is drawn at full strength, see `full_levels`.
        region: x0, y0, x1, y1 in px of the part of the frame that the model sees, half-open; None: all of it.

    Returns:
        RGB, shape (H, W, 3).
    """
    height, width, _ = frame.shape
    K = len(attention)
    x0, y0, x1, y1 = region = region or (0, 0, width, height)
    rows, columns = cells_at(K, height, y0, y1), cells_at(K, width, x0, x1)
    seen = (rows >= 0)[:, None] & (columns >= 0)
    smooth = STYLES[style].is_smooth
    values = upsample(attention, height, width, region) if smooth else attention[rows][:, columns] * seen
    mixed = STYLES[style].blend(frame, np.minimum(values / full, 1), seen)
    if style == "grid":
        between = seen & (
            (np.diff(rows, prepend=rows[:1]) != 0)[:, None] | (np.diff(columns, prepend=columns[:1]) != 0)
        )
        mixed[between] += _LINE_ALPHA * (_LINE - mixed[between])
    picture = _rounded(mixed)
    return _numbered(picture, attention, full, region) if style == "grid" else picture


def peaks_of(attention: NDArray[np.float32], style: PictureStyle) -> NDArray[np.float64]:
    """Largest value that a style draws of each sample, shape (S,).

    Args:
        attention: Shape (S, K, K).
        style: Which way it is drawn.
    """
    if STYLES[style].is_smooth:
        return smooth_peaks(attention)
    return np.asarray(attention.max(axis=(1, 2)), np.float64)


def legend_bar(style: PictureStyle, width: int, height: int) -> Picture:
    """What none to full attention looks like over a mid-grey frame, from left to right, shape (height, width, 3)."""
    ramp = np.broadcast_to(np.linspace(0, 1, width, dtype=np.float32), (height, width))
    grey = np.full((height, width, 3), 110, np.uint8)
    return _rounded(STYLES[style].blend(grey, ramp, np.ones((height, width), np.bool_)))


@functools.cache
def heat_colours() -> NDArray[np.uint8]:
    """Colours of `heat` from none to full, equal steps in perceived lightness, shape (256, 3)."""
    import matplotlib

    return _rounded(255 * matplotlib.colormaps["inferno"](np.arange(256))[:, :3])


def _rounded(picture: NDArray[Any]) -> Picture:
    return np.asarray(np.clip(np.rint(picture), 0, 255), np.uint8)


def _white_light(frame: Picture, light: Light, seen: NDArray[np.bool_]) -> NDArray[np.float32]:
    return np.asarray((1 - ALPHA) * frame + ALPHA * 255 * light[..., None], np.float32)


def _heat(frame: Picture, light: Light, seen: NDArray[np.bool_]) -> NDArray[np.float32]:
    # On grey, as the frame's own colours would pass for attention.
    grey = _grey(frame)[..., None]
    coloured = (1 - HEAT_ALPHA) * grey + HEAT_ALPHA * heat_colours()[np.rint(255 * light).astype(int)]
    return np.asarray(np.where(seen[..., None], coloured, UNSEEN * grey), np.float32)


def _contour(frame: Picture, light: Light, seen: NDArray[np.bool_]) -> NDArray[np.float32]:
    mixed = np.where(seen[..., None], frame, UNSEEN * frame).astype(np.float32)
    for level in LEVELS:
        line = _border((light >= level) | ~seen) & seen  # the edge of a crop is no line
        mixed[_grown(line) & seen] *= 0.4  # a dark rim, so that lines show on bright ground
        mixed[line] = heat_colours()[round(255 * (0.3 + 0.65 * level))]
    return mixed


def _grey(frame: Picture) -> NDArray[np.float32]:
    return np.asarray(frame @ np.array([0.299, 0.587, 0.114], np.float32), np.float32)


def _border(inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Pixels inside that touch the outside, two px wide."""
    return inside & _grown(_grown(~inside))


def _grown(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    grown = mask.copy()
    grown[1:] |= mask[:-1]
    grown[:-1] |= mask[1:]
    grown[:, 1:] |= mask[:, :-1]
    grown[:, :-1] |= mask[:, 1:]
    return grown


def _numbered(picture: Picture, attention: Light, full: float, region: Region) -> Picture:
    """Write the weight of each cell into it, in percent."""
    K = len(attention)
    x0, y0, x1, y1 = region
    cell_width, cell_height = (x1 - x0) / K, (y1 - y0) / K
    if cell_width < _LEAST_CELL_PX[0] or cell_height < _LEAST_CELL_PX[1]:
        return picture
    canvas = Image.fromarray(picture)
    draw = ImageDraw.Draw(canvas)
    letters = font(int(min(14, 0.42 * cell_width, 0.75 * cell_height)))
    for row, column in np.ndindex(K, K):
        weight = attention[row, column]
        centre = (x0 + (column + 0.5) * cell_width, y0 + (row + 0.5) * cell_height)
        colour = (0, 0, 0) if weight > 0.5 * full else (255, 225, 120)
        draw.text(centre, f"{100 * weight:.0f}", fill=colour, font=letters, anchor="mm")
    return np.asarray(canvas)


STYLES: dict[PictureStyle, Style] = {
    "paper": Style(True, _white_light),
    "heat": Style(True, _heat),
    "contour": Style(True, _contour),
    "grid": Style(False, _white_light),
}
