"""A clip as an HTML page to step through: where a run looks, and its predictions, moment by moment.

Legend: S samples of the clip, K grid side, C classes, H and W of a frame in px.
"""

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from attnrec.drawing.document import data_uri, document
from attnrec.drawing.light import ALPHA, FIXED_FULL, axis_weights, cells_at
from attnrec.drawing.outlines import EDGE, EDGE_PX, LINE, LINE_PX, LOOKED, LOOKED_EDGE_PX, LOOKED_PX, outermost
from attnrec.drawing.text import printable
from attnrec.pictures.look import Look
from attnrec.settings import PictureConfig, PictureScale, PictureStyle

MAX_CURVES = 6  # more curves cannot be told apart
JPEG_QUALITY = 85
PAGE_STYLES: dict[PictureStyle, str] = {"paper": "Paper", "grid": "Grid"}
SCALES: dict[PictureScale, str] = {"frame": "Each frame's peak", "clip": "The clip's peak", "fixed": "Fixed"}


@dataclass(frozen=True)
class Curve:
    """A line in the plot of class probabilities: a class, and its points in a box of 1000 x 100."""

    index: int
    name: str
    is_truth: bool
    points: str


def clip_page(look: Look, frames: Iterable[NDArray[np.uint8]], config: PictureConfig) -> str:
    """Write the page of a look.

    Args:
        look: The look to show.
        frames: RGB frame of each sample, in order, shape (H, W, 3), of one size.
        config: The initial style, one of `PAGE_STYLES`, and the initial scale.

    Returns:
        One self-contained HTML document.

    Raises:
        ValueError: There are more or fewer frames than samples.
    """
    pictures, size = [], (0, 0)
    for frame in frames:
        size = (frame.shape[1], frame.shape[0])
        pictures.append(_jpeg(frame))
    if len(pictures) != len(look):
        raise ValueError(f"{len(pictures)} frames for {len(look)} samples")
    K = look.attention.shape[1]
    floor = min(0.9, np.floor(10 * float(look.entropy.min())) / 10)
    curves = _curves(look)
    return document(
        "clip.html",
        styles=["clip.css"],
        scripts=["light.js", "clip.js"],
        look=look,
        config=config,
        name=PurePath(look.clip).name,
        facts=[("Run", look.run), *([("Shown as", look.label)] if look.label else [])],
        size=size,
        num_steps=len(look),
        grid_size=K,
        layers=[(printable(layer), maps.shape[1]) for layer, maps in look.layers.items()],
        uniform_percent=100 / K**2,
        styles_offered=[*PAGE_STYLES.items(), ("none", "Frame alone")],
        scales_offered=SCALES.items(),
        curves=curves,
        num_hidden=len(look.classes) - len(curves),
        probs_label=_probs_label(curves, look.frame_probs),
        entropy_label=f"From {look.entropy.min():.2f} to {look.entropy.max():.2f}",
        entropy_points=_points(look.times, (look.entropy - floor) / (1 - floor)),
        entropy_floor=floor,
        fixed_full=f"{FIXED_FULL:g}",
        data=_script_data(look, pictures, size),
    )


def _jpeg(frame: NDArray[np.uint8]) -> str:
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, format="JPEG", quality=JPEG_QUALITY, subsampling=0)
    return data_uri(buffer.getvalue(), "image/jpeg")


def _curves(look: Look) -> list[Curve]:
    return [
        Curve(i, name, name == look.truth, _points(look.times, look.frame_probs[:, i].astype(float)))
        for i in look.likeliest(MAX_CURVES)
        for name in [look.classes[i]]
    ]


def _points(times: NDArray[np.float64], values: NDArray[np.float64]) -> str:
    """Points of a line through values from 0 (bottom) to 1 (top), in a box of 1000 x 100."""
    if len(times) == 1:
        times, values = np.array([0.0, 1.0]), np.repeat(values, 2)
    x = 1000 * (times - times[0]) / (times[-1] - times[0])
    return " ".join(f"{a:.1f},{b:.2f}" for a, b in zip(x, 100 * (1 - values), strict=True))


def _probs_label(curves: Sequence[Curve], frame_probs: NDArray[np.float32]) -> str:
    means = frame_probs.mean(axis=0)
    return "Means: " + ", ".join(f"{printable(curve.name)} {means[curve.index]:.2f}" for curve in curves)


def _script_data(look: Look, pictures: list[str], size: tuple[int, int]) -> dict[str, Any]:
    K = look.attention.shape[1]
    x0, y0, x1, y1 = region = look.region_in(*size)
    drawn: dict[str, PictureStyle] = {"smooth": "paper", "cells": "grid"}
    return {
        "times": _rounded(look.times, 6),
        "end": look.end,
        "frames": pictures,
        "size": size,
        "region": region,
        "boxes": [[outermost(box, *size) for box in look.boxes_in(step, *size)] for step in range(len(look))],
        "boxLines": [(EDGE_PX, EDGE), (LINE_PX, LINE)],
        "looked": [[outermost(cell, *size) for cell in look.cells_in(step, *size)] for step in range(len(look))],
        "lookedLines": [(LOOKED_EDGE_PX, EDGE), (LOOKED_PX, LOOKED)],
        "gridSize": K,
        "attention": _rounded(look.attention.reshape(len(look), -1), 7),
        "layers": [_rounded(maps.reshape(len(look), -1), 7) for maps in look.layers.values()],
        "rows": _rounded(axis_weights(K, size[1], y0, y1).ravel(), 5),
        "columns": _rounded(axis_weights(K, size[0], x0, x1).ravel(), 5),
        "cellRows": cells_at(K, size[1], y0, y1).tolist(),
        "cellColumns": cells_at(K, size[0], x0, x1).tolist(),
        "full": {
            scale: {kind: _rounded(look.full(style, scale), 7) for kind, style in drawn.items()} for scale in SCALES
        },
        "alpha": ALPHA,
        "entropy": _rounded(look.entropy, 5),
        "classes": [printable(name) for name in look.classes],
        "probs": _rounded(look.frame_probs, 5),
    }


def _rounded(values: NDArray[Any], digits: int) -> list[Any]:
    rounded: list[Any] = np.round(values.astype(np.float64), digits).tolist()
    return rounded
