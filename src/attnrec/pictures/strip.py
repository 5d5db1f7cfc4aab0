"""Still pictures for print: steps of a clip in columns, the frame above and the attended frame below it.

Legend: N columns, H and W of a frame in px.
"""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from attnrec.drawing.light import LEGEND_PX, Picture, attended_frame, draw_legend
from attnrec.drawing.outlines import outlined, outlined_cells
from attnrec.drawing.text import LIGHT, drawable, fitted, font, text_width, verdict_colour, wrapped
from attnrec.pictures.look import Look, shown_frames
from attnrec.runtime import OnProgress, no_progress
from attnrec.settings import PictureConfig

GAP_PX, MARGIN_PX = 8, 10
TEXT_PX, LINE_PX = 14, 21
NOTE_PX, NOTE_LINE_PX = 12, 17
TIME_PX = 11
HEAD_PX = LINE_PX + TIME_PX + 5  # the clip's name, and the times of the steps
LEAST_WIDTH_PX = 320


class StripRow(NamedTuple):
    """A row of a strip: some steps of a look."""

    look: Look  # a run's look at the whole clip, which decides the brightness
    steps: NDArray[np.int64]  # indices of the samples to show, rising, shape (N,)
    frames: Sequence[Picture]  # RGB frames of these samples, shape (H, W, 3), of one size


def strip_row(
    look: Look,
    config: PictureConfig,
    steps: NDArray[np.int64] | None = None,
    on_progress: OnProgress = no_progress,
) -> StripRow:
    """Decode the frames of a look's steps; without steps, of equally spaced ones."""
    steps = look.equal_steps(config.strip) if steps is None else steps
    return StripRow(look, steps, list(shown_frames(look, config.width, steps, on_progress)))


def strip(rows: Sequence[StripRow], config: PictureConfig) -> Picture:
    """Draw steps of a clip: its name, the first row's plain frames, and below them each row's attended frames.

    Args:
        rows: The rows, one for each run.
        config: Style and scale.

    Returns:
        RGB picture.

    Raises:
        ValueError: The rows differ in their number of steps.
    """
    if len({len(part) for row in rows for part in (row.steps, row.frames)}) != 1:
        raise ValueError("the rows must have one number of steps")
    first = rows[0]
    height, width, _ = first.frames[0].shape
    inner = max(len(first.steps) * (width + GAP_PX) - GAP_PX, LEAST_WIDTH_PX)
    head = HEAD_PX + height + GAP_PX
    notes = [wrapped(row.look.note, NOTE_PX, inner) for row in rows]
    captions = [len(_captions(row.look, inner)) for row in rows]
    blocks = [
        said * LINE_PX + len(lines) * NOTE_LINE_PX + height + 4 + LEGEND_PX + GAP_PX
        for said, lines in zip(captions, notes, strict=True)
    ]
    total = (inner + 2 * MARGIN_PX, 2 * MARGIN_PX + head + sum(blocks) - GAP_PX)
    canvas = Image.new("RGB", total, LIGHT.ground)
    draw = ImageDraw.Draw(canvas)
    name = fitted(Path(first.look.clip).name, TEXT_PX, inner)
    draw.text((MARGIN_PX, MARGIN_PX), name, fill=LIGHT.plain, font=font(TEXT_PX))
    for x, time in zip(_lefts(first), first.look.times[first.steps], strict=True):
        draw.text((x, MARGIN_PX + LINE_PX), f"{time:.2f} s", fill=LIGHT.muted, font=font(TIME_PX))
    _paste(canvas, first, first.frames, MARGIN_PX + HEAD_PX)
    top = MARGIN_PX + head
    for row, lines, block in zip(rows, notes, blocks, strict=True):
        _draw_row(canvas, row, lines, top, inner, config)
        top += block
    return np.asarray(canvas)


def _draw_row(
    canvas: Image.Image, row: StripRow, notes: Sequence[str], top: int, inner: int, config: PictureConfig
) -> None:
    """Draw a run's label and prediction, lines of notes, its attended frames, and the legend."""
    look, steps = row.look, row.steps
    height, width, _ = row.frames[0].shape
    draw = ImageDraw.Draw(canvas)
    captions = _captions(look, inner)
    for line, (label, verdict) in enumerate(captions):
        shown = fitted(label, TEXT_PX, inner)
        left, y = MARGIN_PX + text_width(shown, TEXT_PX), top + line * LINE_PX
        draw.text((MARGIN_PX, y), shown, fill=LIGHT.plain, font=font(TEXT_PX))
        said = fitted(verdict, TEXT_PX, MARGIN_PX + inner - left)
        draw.text((left, y), said, fill=verdict_colour(look.correct, LIGHT), font=font(TEXT_PX))
    top += (len(captions) - 1) * LINE_PX
    for line, text in enumerate(notes):
        place = (MARGIN_PX, top + LINE_PX + line * NOTE_LINE_PX)
        draw.text(place, text, fill=LIGHT.plain, font=font(NOTE_PX))
    top += len(notes) * NOTE_LINE_PX
    full, region = look.full(config.style, config.scale)[steps], look.region_in(width, height)
    lit = [
        outlined_cells(
            attended_frame(frame, look.attention[step], style=config.style, full=float(level), region=region),
            look.cells_in(step, width, height),
        )
        for frame, step, level in zip(row.frames, steps.tolist(), full, strict=True)
    ]
    _paste(canvas, row, lit, top + LINE_PX)
    place = (MARGIN_PX, top + LINE_PX + height + 4)
    draw_legend(canvas, place, inner, full * look.attention[0].size, config, LIGHT)


def _captions(look: Look, room: int) -> list[tuple[str, str]]:
    """Lines of a run's label and its prediction, each a part of the label and of the prediction: one if they fit."""
    label, verdict = drawable(f"{look.label}: " if look.label else ""), drawable(look.verdict)
    if text_width(label + verdict, TEXT_PX) <= room:
        return [(label, verdict)]
    labels = [(line, "") for line in wrapped(label, TEXT_PX, room)]
    return labels + [("", line) for line in wrapped(verdict, TEXT_PX, room)]


def _paste(canvas: Image.Image, row: StripRow, pictures: Sequence[Picture], top: int) -> None:
    """Paste pictures of a row's steps, with the boxes of each."""
    for x, step, picture in zip(_lefts(row), row.steps, pictures, strict=True):
        height, width, _ = picture.shape
        boxed = outlined(picture, row.look.boxes_in(int(step), width, height))
        canvas.paste(Image.fromarray(boxed), (x, top))


def _lefts(row: StripRow) -> list[int]:
    """Left edge of each column in px."""
    return [MARGIN_PX + column * (row.frames[0].shape[1] + GAP_PX) for column in range(len(row.steps))]


def stacked(titles: Sequence[str], strips: Sequence[Sequence[Picture]]) -> Picture:
    """Stack strips in sections under titles.

    Args:
        titles: Title of each section.
        strips: RGB pictures of each section.

    Returns:
        RGB picture, as wide as the widest strip.
    """
    pictures = [picture for section in strips for picture in section]
    width = max([LEAST_WIDTH_PX + 2 * MARGIN_PX, *(picture.shape[1] for picture in pictures)])
    height = sum(picture.shape[0] for picture in pictures) + len(titles) * (LINE_PX + MARGIN_PX)
    canvas = Image.new("RGB", (width, height), LIGHT.ground)
    draw, top = ImageDraw.Draw(canvas), 0
    for title, section in zip(titles, strips, strict=True):
        line = fitted(title, TEXT_PX + 2, width - 2 * MARGIN_PX)
        draw.text((MARGIN_PX, top + MARGIN_PX), line, fill=LIGHT.plain, font=font(TEXT_PX + 2))
        top += LINE_PX + MARGIN_PX
        for picture in section:
            canvas.paste(Image.fromarray(picture), (0, top))
            top += picture.shape[0]
    return np.asarray(canvas)


def png_bytes(picture: Picture) -> bytes:
    """Encode a picture as PNG."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="PNG")
    return buffer.getvalue()
