"""Attention drawn over a frame: its strength, the styles that draw it, and the legend.

A style is a function, with an entry in `STYLES` and its name in `settings.PictureStyle`.

Legend: S samples of a clip, K grid side, H and W of a picture in px.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy.ndimage import gaussian_filter1d

from attnrec.drawing.text import Theme, fitted, font, text_width
from attnrec.settings import PictureConfig, PictureScale, PictureStyle
from attnrec.video.decode import Region

Picture = NDArray[np.uint8]
Light = NDArray[np.float32]
Mask = NDArray[np.bool_]

CELL_PX, SIGMA_PX = 32, 20  # the authors enlarge each cell to 32 px and smooth with sigma 20 px
LEAST_FULL = 2.0  # times uniform: nearly uniform attention must not fill a clip with light
FIXED_FULL = 4.0  # times uniform, for the same brightness in all pictures

ALPHA = 0.8  # share of the light in `paper` and `grid`; the rest is the frame
HEAT_ALPHA = 0.6
LEVELS = (0.25, 0.5, 0.75)  # of full strength, where `contour` draws its lines
UNSEEN = 0.35  # brightness of what a crop hides from the model, in `heat` and `contour`
_LINE, _LINE_ALPHA = 128, 0.4  # between the cells of `grid`
_LEAST_CELL_PX = (18, 12)  # narrower or lower cells have no numbers

LEGEND_PX, LETTERS_PX = 13, 11
_BAR_PX, _SPACE_PX = 48, 5
_SCALES: dict[PictureScale, str] = {"frame": "the frame's peak", "clip": "the clip's peak", "fixed": "fixed"}


class Style(NamedTuple):
    """A way to draw attention."""

    blend: Callable[[Picture, Light, Mask], Light]
    """Blends a frame (H, W, 3) with its light (H, W) in 0 to 1, given the mask of what the model sees (H, W)."""
    is_smooth: bool = True  # whether the light is the smoothed map, or else the cells themselves
    mark: Callable[[Light, Light, float, Region], Picture] | None = None
    """Draws over the blend, given it, the attention (K, K), the attention at full strength and the seen region."""
    legend: str = ""  # note beside the legend's bar


def attended_frame(
    frame: Picture, attention: Light, *, style: PictureStyle, full: float, region: Region | None = None
) -> Picture:
    """Draw attention over a frame.

    Args:
        frame: RGB frame, shape (H, W, 3).
        attention: Location probabilities, shape (K, K).
        style: How attention is drawn, see `PictureConfig`.
        full: Attention of one location that is drawn at full strength, see `full_levels`.
        region: x0, y0, x1, y1 in px of the part of the frame that the model sees, half-open; None for all.

    Returns:
        RGB picture, shape (H, W, 3).
    """
    height, width, _ = frame.shape
    region = region or (0, 0, width, height)
    rows, columns = _cells_of(len(attention), height, width, region)
    seen = (rows >= 0)[:, None] & (columns >= 0)
    drawn = STYLES[style]
    smooth = drawn.is_smooth
    values = upsample(attention, height, width, region) if smooth else attention[rows][:, columns] * seen
    mixed = drawn.blend(frame, np.minimum(values / full, 1), seen)
    return drawn.mark(mixed, attention, full, region) if drawn.mark else _rounded(mixed)


def peaks_of(attention: Light, style: PictureStyle) -> NDArray[np.float64]:
    """Largest value that a style draws for each sample, shape (S,).

    Args:
        attention: Location probabilities of the samples, shape (S, K, K).
        style: How attention is drawn.
    """
    return smooth_peaks(attention) if STYLES[style].is_smooth else attention.max(axis=(1, 2)).astype(np.float64)


def smooth_peaks(attention: Light) -> NDArray[np.float64]:
    """Largest value of each smoothed map, shape (S,), given attention of shape (S, K, K)."""
    weights = _fine_weights(attention.shape[1])
    return np.array([(weights @ cells @ weights.T).max() for cells in attention], np.float64)


def full_levels(attention: Light, peaks: NDArray[np.float64], scale: PictureScale) -> NDArray[np.float64]:
    """Attention of one location that is drawn at full strength, for each sample, shape (S,).

    Args:
        attention: Location probabilities of a clip's samples, shape (S, K, K).
        peaks: Largest value drawn for each sample, shape (S,).
        scale: `frame` takes each sample's peak, as the authors do; `clip` the clip's peak, but at least `LEAST_FULL`
            times uniform; `fixed` takes `FIXED_FULL` times uniform.
    """
    S, K, _ = attention.shape
    if scale == "frame":
        return np.maximum(peaks, 1e-12)
    full = FIXED_FULL / K**2 if scale == "fixed" else max(float(peaks.max()), LEAST_FULL / K**2)
    return np.full(S, full)


def upsample(attention: Light, height: int, width: int, region: Region | None = None) -> Light:
    """Smooth attention at a picture's size, as the authors do: linear between cell centres, then Gaussian.

    Args:
        attention: Location probabilities, rows from the top, shape (K, K).
        height: Height of the picture in px.
        width: Width of the picture in px.
        region: x0, y0, x1, y1 in px of the part of the picture that the model sees, half-open; None for all.

    Returns:
        Smooth attention, shape (H, W), 0 outside the region. A uniform map stays uniform.
    """
    x0, y0, x1, y1 = region or (0, 0, width, height)
    K = len(attention)
    return np.asarray(axis_weights(K, height, y0, y1) @ attention @ axis_weights(K, width, x0, x1).T, np.float32)


def cells_at(num_cells: int, length: int, begin: float, end: float) -> NDArray[np.int64]:
    """Cell that covers each pixel's centre on an axis whose seen part is `begin` to `end` in px; -1 outside it."""
    cells = np.floor((np.arange(length) + 0.5 - begin) * num_cells / (end - begin))
    return np.where((cells < 0) | (cells >= num_cells), -1, cells).astype(np.int64)


@functools.lru_cache(maxsize=16)
def axis_weights(num_cells: int, length: int, begin: float, end: float) -> Light:
    """Weight of each cell at each pixel of an axis, shape (length, num_cells); rows sum to 1, or 0 outside."""
    fine = _fine_weights(num_cells)
    cells = (np.arange(length) + 0.5 - begin) * num_cells / (end - begin)
    positions = np.clip(cells * CELL_PX - 0.5, 0, len(fine) - 1)
    below = np.minimum(positions.astype(int), len(fine) - 2)
    share = (positions - below)[:, None]
    weights = (1 - share) * fine[below] + share * fine[below + 1]
    weights[(cells < 0) | (cells >= num_cells)] = 0
    return np.asarray(weights, np.float32)


@functools.lru_cache(maxsize=16)
def _fine_weights(num_cells: int) -> Light:
    """Weight of each cell at each of 32 points across every cell, shape (32 K, K); rows sum to 1."""
    positions = (np.arange(CELL_PX * num_cells) + 0.5) / CELL_PX - 0.5  # in cells
    near = np.clip(positions, 0, num_cells - 1)
    linear = np.maximum(0, 1 - np.abs(near[:, None] - np.arange(num_cells)))
    return np.asarray(gaussian_filter1d(linear, SIGMA_PX, axis=0, mode="reflect", truncate=4), np.float32)


def _cells_of(num_cells: int, height: int, width: int, region: Region) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Row and column of the grid at each row and column of pixels, -1 outside the region."""
    x0, y0, x1, y1 = region
    return cells_at(num_cells, height, y0, y1), cells_at(num_cells, width, x0, x1)


def _rounded(picture: NDArray[Any]) -> Picture:
    return np.asarray(np.clip(np.rint(picture), 0, 255), np.uint8)


@functools.cache
def heat_colours() -> NDArray[np.uint8]:
    """Colours of `heat` from none to full in equal steps of perceived lightness, shape (256, 3)."""
    return _rounded(255 * matplotlib.colormaps["inferno"](np.arange(256))[:, :3])


def _white_light(frame: Picture, light: Light, seen: Mask) -> Light:
    return np.asarray((1 - ALPHA) * frame + ALPHA * 255 * light[..., None], np.float32)


def _heat(frame: Picture, light: Light, seen: Mask) -> Light:
    # On grey, as the frame's own colours could be taken for attention.
    grey = (frame @ np.array([0.299, 0.587, 0.114], np.float32))[..., None]
    coloured = (1 - HEAT_ALPHA) * grey + HEAT_ALPHA * heat_colours()[np.rint(255 * light).astype(int)]
    return np.asarray(np.where(seen[..., None], coloured, UNSEEN * grey), np.float32)


def _contour(frame: Picture, light: Light, seen: Mask) -> Light:
    mixed = np.where(seen[..., None], frame, UNSEEN * frame).astype(np.float32)
    for level in LEVELS:
        inside = (light >= level) | ~seen  # the edge of a crop is not a contour
        line = _grown(_grown(~inside)) & inside & seen
        mixed[_grown(line) & seen] *= 0.4  # a dark rim, so that lines show on bright ground
        mixed[line] = heat_colours()[round(255 * (0.3 + 0.65 * level))]
    return mixed


def _grown(mask: Mask) -> Mask:
    """Dilate a mask by a pixel, like `scipy.ndimage.binary_dilation`, which takes ten times as long."""
    grown = mask.copy()
    grown[1:] |= mask[:-1]
    grown[:-1] |= mask[1:]
    grown[:, 1:] |= mask[:, :-1]
    grown[:, :-1] |= mask[:, 1:]
    return grown


def _cells_told_apart(mixed: Light, attention: Light, full: float, region: Region) -> Picture:
    """Draw lines between the cells, and each cell's weight in percent if there is room."""
    height, width, _ = mixed.shape
    rows, columns = _cells_of(len(attention), height, width, region)
    across, down = (np.diff(cells, prepend=cells[:1]) != 0 for cells in (columns, rows))
    between = (rows >= 0)[:, None] & (columns >= 0) & (down[:, None] | across)
    mixed[between] += _LINE_ALPHA * (_LINE - mixed[between])
    return _numbered(_rounded(mixed), attention, full, region)


def _numbered(picture: Picture, attention: Light, full: float, region: Region) -> Picture:
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
    "paper": Style(_white_light),
    "heat": Style(_heat),
    "contour": Style(_contour),
    "grid": Style(_white_light, is_smooth=False, mark=_cells_told_apart, legend="numbers in %"),
}


def draw_legend(
    canvas: Image.Image,
    place: tuple[int, int],
    room: int,
    multiples: NDArray[np.float64],
    config: PictureConfig,
    theme: Theme,
) -> None:
    """Draw the legend into a picture: a bar whose ends are labelled.

    Args:
        canvas: The picture.
        place: Left and top in px.
        room: Width in px; text that does not fit is cut.
        multiples: Attention at full strength in multiples of uniform, for each sample shown.
        config: Style and scale.
        theme: Colours.
    """
    draw, letters = ImageDraw.Draw(canvas), font(LETTERS_PX)
    x, y = place
    draw.text((x, y), "0", fill=theme.muted, font=letters)
    bar = x + text_width("0", LETTERS_PX) + _SPACE_PX
    canvas.paste(Image.fromarray(legend_bar(config.style, _BAR_PX, LEGEND_PX - 2)), (bar, y + 1))
    after = bar + _BAR_PX + _SPACE_PX
    text = fitted(legend_text(multiples, config), LETTERS_PX, x + room - after)
    draw.text((after, y), text, fill=theme.muted, font=letters)


def legend_text(multiples: NDArray[np.float64], config: PictureConfig) -> str:
    """Label of the bar's end: attention at full strength in multiples of uniform, from least to most."""
    low, high = f"{multiples.min():.1f}", f"{multiples.max():.1f}"
    # If the clip's peak is below the least full strength, calling this the peak would be wrong.
    raised = config.scale == "clip" and multiples.max() <= LEAST_FULL * (1 + 1e-6)
    meaning = "over the clip's peak" if raised else _SCALES[config.scale]
    text = f"{low if low == high else f'{low} to {high}'} x uniform, {meaning}"
    return "; ".join(filter(None, (text, STYLES[config.style].legend)))


def legend_bar(style: PictureStyle, width: int, height: int) -> Picture:
    """A bar of none to full attention over mid-grey, from left to right, shape (height, width, 3)."""
    ramp = np.broadcast_to(np.linspace(0, 1, width, dtype=np.float32), (height, width))
    grey = np.full((height, width, 3), 110, np.uint8)
    return _rounded(STYLES[style].blend(grey, ramp, np.ones((height, width), np.bool_)))
