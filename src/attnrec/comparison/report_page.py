"""A comparison as a page: its tables, plots, and clips with where a model looked.

Legend: C classes, K grid side, T time-steps.
"""

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from attnrec.comparison.plots import Line, Plot, confusion, differences, intervals, lines, maps
from attnrec.pictures.document import data_uri, document

MOST_STEPS = 10  # maps of the mean attention by step


class Row(Protocol):
    """What is plotted of a row; `comparison.results.ComparedRow`, which says what its fields are, is one."""

    @property
    def name(self) -> str: ...
    @property
    def model(self) -> str: ...
    @property
    def attention(self) -> str | None: ...
    @property
    def attention_penalty(self) -> float | None: ...
    @property
    def fps(self) -> float: ...
    @property
    def settings(self) -> Mapping[str, Any]: ...
    @property
    def figure(self) -> float | None: ...
    @property
    def interval(self) -> tuple[float, float] | None: ...


class Cell(NamedTuple):
    """What stands in a cell of a table, and what it sorts by; None sorts last."""

    text: str
    key: float | str | None


@dataclass(frozen=True)
class Curve:
    """How a training of a row went: values after each epoch, None where there is none."""

    epochs: list[int]
    loss: list[float | None]
    validation_loss: list[float | None]
    validation_figure: list[float | None]
    penalty_above_floor: list[float | None]
    attention_entropy: list[float | None]


@dataclass(frozen=True)
class RowDetail:
    """What the page shows of a row besides the table.

    Attributes:
        row: What is plotted of it.
        curves: One for each run.
        confusion: Videos by true class (rows) and predicted class (columns), over all runs, shape (C, C); None where
            videos have several labels, or the row has not been evaluated.
        class_figures: Accuracy or average precision of each class, mean over the runs, NaN for a class without
            videos, shape (C,); None where the row has not been evaluated.
        class_attention: Mean attention over the videos of each class, NaN for a class without, shape (C, K, K); None
            without attention.
        step_attention: Mean attention at each step of a block, shape (T, K, K); likewise.
        commands: Lines that make its runs again.
    """

    row: Row
    curves: list[Curve]
    confusion: NDArray[np.int64] | None
    class_figures: NDArray[np.float64] | None
    class_attention: NDArray[np.float64] | None
    step_attention: NDArray[np.float64] | None
    commands: list[str]


@dataclass(frozen=True)
class GalleryClip:
    """A clip, what it was taken for, and the GIF of where the model looked."""

    name: str
    truth: str
    predicted: str
    probability: float
    is_right: bool
    gif: bytes


@dataclass(frozen=True)
class ReportTable:
    """Rows that may be ranked against each other.

    Attributes:
        heading: What they are of.
        headings: Of the columns.
        cells: A list for each row, its name first.
        metric: What ranks them, `accuracy` or `mAP`.
        against: Name of the row that the others are compared with; None where there is none.
        warnings: What to know before believing the table.
        notes: What is left out, and why.
        classes: Class names.
        class_counts: Videos of each class, of one seed over all its splits.
        rows: In the table's order.
        gallery: Clips of one of the rows.
        gallery_of: Name of that row.
    """

    heading: str
    headings: list[str]
    cells: list[list[Cell]]
    metric: str
    against: str | None
    warnings: list[str]
    notes: list[str]
    classes: list[str]
    class_counts: list[int]
    rows: list[RowDetail]
    gallery: list[GalleryClip]
    gallery_of: str | None


@dataclass(frozen=True)
class ReportData:
    """All that the page shows.

    Attributes:
        facts: Names and values below the title.
        tables: One or more.
        meanings: Of the columns, by their headings.
        published: The paper's figures, a list of texts for each.
        published_headings: Of its columns.
        published_source: Where they are from.
    """

    facts: Sequence[tuple[str, str]]
    tables: Sequence[ReportTable]
    meanings: Mapping[str, str]
    published: Sequence[Sequence[str]]
    published_headings: Sequence[str]
    published_source: str


@dataclass(frozen=True)
class Figure:
    """A plot under a heading."""

    heading: str
    plot: Plot


@dataclass(frozen=True)
class _Section:
    """A table as the template shows it."""

    table: ReportTable
    results: list[Figure]
    training: list[Figure]
    classes: list[Figure]
    attention: list[Figure]
    clips: list[tuple[GalleryClip, str, str]]


def report_page(data: ReportData) -> str:
    """Write the page.

    Args:
        data: What it shows.

    Returns:
        One HTML document that holds all it shows.
    """
    sections = [_section(table) for table in data.tables]
    return document("report.html", styles=["report.css"], scripts=["report.js"], data=data, sections=sections)


def _section(table: ReportTable) -> _Section:
    return _Section(
        table=table,
        results=_results(table, [detail.row for detail in table.rows]),
        training=_training(table.rows, table.metric),
        classes=_by_class(table),
        attention=_attention(table),
        clips=[(clip, data_uri(clip.gif, "image/gif"), _still(clip.gif)) for clip in table.gallery],
    )


def _results(table: ReportTable, rows: Sequence[Row]) -> list[Figure]:
    known = [row for row in rows if row.figure is not None]
    if not known:
        return []
    plot = intervals([row.name for row in known], [row.figure or 0.0 for row in known], [row.interval for row in known])
    figures = [Figure("All rows", plot)]
    for heading, name, x_label in (
        (f"{_capital(table.metric)} by lambda", "attention_penalty", "lambda"),
        (f"{_capital(table.metric)} by frames a second", "fps", "frames a second"),
    ):
        if drawn := _by_setting(known, name):
            figures.append(
                Figure(
                    heading, lines(drawn, x_label, f"{table.metric}, %, with 95 % intervals", marked=True, percent=True)
                )
            )
    return figures


def _by_setting(rows: Sequence[Row], name: str) -> list[Line]:
    """A line through the rows that differ in one setting alone; none where no two do."""
    families: dict[str, dict[float, Row]] = {}
    for row in rows:
        if (x := getattr(row, name)) is not None:
            shared = {key: value for key, value in row.settings.items() if key != name}
            families.setdefault(json.dumps([row.model, shared], sort_keys=True), {}).setdefault(x, row)
    drawn = [dict(sorted(points.items())) for points in families.values() if len(points) > 1]
    labels = [_line_name(next(iter(points.values())), name) for points in drawn]
    return [
        Line(
            label if labels.count(label) == 1 else f"{label}, with {next(iter(points.values())).name}",
            list(points),
            [row.figure for row in points.values()],
            [row.interval for row in points.values()],
        )
        for label, points in zip(labels, drawn, strict=True)
    ]


def _line_name(row: Row, name: str) -> str:
    """What the rows of a line share, in a few words."""
    form = f" ({row.attention})" if row.attention else ""
    if name == "attention_penalty":
        return f"{row.model}{form}, {row.fps:g} a second"
    penalty = "" if row.attention_penalty is None else f", lambda {row.attention_penalty:g}"
    return f"{row.model}{form}{penalty}"


def _training(rows: Sequence[RowDetail], metric: str) -> list[Figure]:
    figures = []
    names = [detail.row.name for detail in rows]
    for heading, field, y_label in (
        ("Loss in training", "loss", "loss"),
        ("Loss on validation videos", "validation_loss", "loss"),
        (f"{_capital(metric)} on validation videos", "validation_figure", f"{metric}, %"),
        ("Penalty above its floor", "penalty_above_floor", "penalty"),
        ("Entropy of the attention", "attention_entropy", "entropy, 1 for uniform"),
    ):
        drawn = [
            Line(detail.row.name, curve.epochs, getattr(curve, field))
            for detail in rows
            for curve in detail.curves
            if any(value is not None for value in getattr(curve, field))
        ]
        if drawn:
            percent = field == "validation_figure"
            figures.append(Figure(heading, lines(drawn, "epoch", y_label, names=names, percent=percent)))
    return figures


def _capital(name: str) -> str:
    """A metric's name at the head of a line; mAP keeps its letters."""
    return name if name == "mAP" else name.capitalize()


def _by_class(table: ReportTable) -> list[Figure]:
    figures = []
    base = next((detail for detail in table.rows if detail.row.name == table.against), None)
    if base is not None and base.class_figures is not None:
        for detail in table.rows:
            if detail is not base and detail.class_figures is not None:
                plot = differences(detail.class_figures - base.class_figures, table.classes, table.class_counts)
                figures.append(Figure(f"{detail.row.name} less {base.row.name}", plot))
    for detail in table.rows:
        if detail.confusion is not None:
            figures.append(Figure(f"Confusion: {detail.row.name}", confusion(detail.confusion, table.classes)))
    return figures


def _attention(table: ReportTable) -> list[Figure]:
    figures = []
    for detail in table.rows:
        if detail.class_attention is not None:
            figures.append(Figure(f"By class: {detail.row.name}", maps(detail.class_attention, table.classes)))
        if (by_step := detail.step_attention) is not None:
            steps = np.unique(np.linspace(0, len(by_step) - 1, min(MOST_STEPS, len(by_step))).round().astype(int))
            plot = maps(by_step[steps], [f"step {step + 1}" for step in steps])
            figures.append(Figure(f"By step: {detail.row.name}", plot))
    return figures


def _still(gif: bytes) -> str:
    """The middle frame of a GIF, for readers who want no motion."""
    with Image.open(io.BytesIO(gif)) as picture:
        picture.seek(getattr(picture, "n_frames", 1) // 2)
        buffer = io.BytesIO()
        picture.convert("RGB").save(buffer, format="JPEG", quality=85)
    return data_uri(buffer.getvalue(), "image/jpeg")
