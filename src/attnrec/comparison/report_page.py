"""A comparison as an HTML page: tables, plots, and clips with a model's attention.

Legend: C classes, K grid side, T time-steps.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from attnrec.comparison.columns import COLUMNS, PUBLISHED, Column, published_texts, shown_columns
from attnrec.comparison.results import ComparedRow, ComparedTable, CompareReport
from attnrec.drawing.document import data_uri, document, still_of
from attnrec.drawing.plots import Dot, Line, Plot, Point, confusion, differences, intervals, lines, maps

MOST_STEPS = 10  # most maps of the mean attention by step


@dataclass(frozen=True)
class RowDetail:
    """What the page shows of a row besides its line in the table."""

    row: ComparedRow
    logs: list[list[dict[str, Any]]]  # training log of each run, a line for each epoch
    # Videos by true class (rows) and predicted class (columns), over all runs, shape (C, C); None where videos have
    # several labels, or the row has not been evaluated.
    confusion: NDArray[np.int64] | None
    # Accuracy or average precision of each class, mean over the runs, NaN for a class without videos, shape (C,); None
    # where the row has not been evaluated.
    class_figures: NDArray[np.float64] | None
    # Mean attention over each class's videos, NaN without videos, shape (C, K, K); None without attention.
    class_attention: NDArray[np.float64] | None
    step_attention: NDArray[np.float64] | None  # mean attention by step, (T, K, K); None without attention
    commands: list[str]  # command lines that make its runs again


@dataclass(frozen=True)
class GalleryClip:
    """A clip with its prediction, and the GIF of where the model looked."""

    video: dict[str, Any]  # the video's entry in the evaluation
    is_right: bool
    gif: bytes


@dataclass(frozen=True)
class TableDetail:
    """What the page shows of a table besides its rows."""

    table: ComparedTable
    notes: list[str]  # what is left out, and why
    classes: list[str]
    class_counts: list[int]  # number of videos of each class, over all splits of one seed
    rows: list[RowDetail]  # in the table's order
    gallery: list[GalleryClip]  # clips of one of the rows
    gallery_of: str | None  # name of the row of the gallery

    @property
    def metric(self) -> str:
        """The metric as text."""
        return "mAP" if self.table.metric == "map" else self.table.metric


class Cell(NamedTuple):
    """The text of a table cell, and the key it is sorted by; None sorts last."""

    text: str
    key: float | str | None


@dataclass(frozen=True)
class Figure:
    """A plot under a heading."""

    heading: str
    plot: Plot


@dataclass(frozen=True)
class _Section:
    """A table with its figures, as the template shows it."""

    heading: str
    detail: TableDetail
    headings: list[str]
    cells: list[list[Cell]]
    results: list[Figure]
    training: list[Figure]
    classes: list[Figure]
    attention: list[Figure]
    clips: list[tuple[GalleryClip, str, str]]  # each with its moving and its still picture


def report_page(report: CompareReport, details: Sequence[TableDetail], facts: Sequence[tuple[str, str]]) -> str:
    """Write the page of a comparison.

    Args:
        report: The comparison.
        details: Details of its tables, in order.
        facts: Names and values below the title.

    Returns:
        One self-contained HTML document.
    """
    meanings = {
        column.headed_on_page(table): column.meaning
        for table in report.tables
        for column in shown_columns(COLUMNS, table)
    }
    return document(
        "report.html",
        styles=["report.css"],
        scripts=["report.js"],
        facts=facts,
        sections=[_section(detail) for detail in details],
        meanings=meanings,
        published_headings=list(PUBLISHED),
        published=published_texts(report.published),
        published_source=report.published_source,
    )


def _section(detail: TableDetail) -> _Section:
    table = detail.table
    columns = shown_columns(COLUMNS, table)
    return _Section(
        heading=f"{table.dataset}, split {', '.join(table.splits)}, {table.num_videos} {table.part} videos",
        detail=detail,
        headings=[column.headed_on_page(table) for column in columns],
        cells=[[_cell(column, table, row) for column in columns] for row in table.rows],
        results=_results(table.rows, detail.metric),
        training=_training(detail),
        classes=_by_class(detail),
        attention=_attention(detail),
        clips=[(clip, data_uri(clip.gif, "image/gif"), still_of(clip.gif)) for clip in detail.gallery],
    )


def _cell(column: Column, table: ComparedTable, row: ComparedRow) -> Cell:
    value = column.known(table, row)
    return Cell(column.said(table, row) or "", value[0] if isinstance(value, tuple) else value)


def _results(rows: Sequence[ComparedRow], metric: str) -> list[Figure]:
    dots = [Dot(row.name, row.figure, row.interval) for row in rows if row.figure is not None]
    if not dots:
        return []
    figures = [Figure("All rows", intervals(dots))]
    for heading, name, x_label in (
        (f"{_capital(metric)} by lambda", "attention_penalty", "lambda"),
        (f"{_capital(metric)} by frames a second", "fps", "frames a second"),
    ):
        if drawn := _by_setting([row for row in rows if row.figure is not None], name):
            plot = lines(drawn, x_label, f"{metric}, %, with 95 % intervals", marked=True, percent=True)
            figures.append(Figure(heading, plot))
    return figures


def _by_setting(rows: Sequence[ComparedRow], name: str) -> list[Line]:
    """Lines through rows that differ only in one setting; none if no two rows do."""
    families: dict[str, dict[float, ComparedRow]] = {}
    for row in rows:
        if (x := getattr(row, name)) is not None:
            shared = {key: value for key, value in row.settings.items() if key != name}
            families.setdefault(json.dumps([row.model, shared], sort_keys=True), {}).setdefault(x, row)
    drawn = [dict(sorted(points.items())) for points in families.values() if len(points) > 1]
    labels = [_line_name(next(iter(points.values())), name) for points in drawn]
    return [
        Line(
            label if labels.count(label) == 1 else f"{label}, with {next(iter(points.values())).name}",
            [Point(x, row.figure, row.interval) for x, row in points.items()],
        )
        for label, points in zip(labels, drawn, strict=True)
    ]


def _line_name(row: ComparedRow, name: str) -> str:
    """The name of a line: what its rows share."""
    form = f" ({row.attention})" if row.attention else ""
    if name == "attention_penalty":
        return f"{row.model}{form}, {row.fps:g} a second"
    penalty = "" if row.attention_penalty is None else f", lambda {row.attention_penalty:g}"
    return f"{row.model}{form}{penalty}"


def _training(detail: TableDetail) -> list[Figure]:
    figures = []
    names, metric = [each.row.name for each in detail.rows], detail.metric
    of_videos = f"validation_{detail.table.metric}"
    for heading, field, y_label in (
        ("Loss in training", "loss", "loss"),
        ("Loss on validation videos", "validation_loss", "loss"),
        (f"{_capital(metric)} on validation videos", of_videos, f"{metric}, %"),
        ("Penalty above its floor", "penalty_above_floor", "penalty"),
        ("Entropy of the attention", "attention_entropy", "entropy, 1 for uniform"),
    ):
        drawn = [
            Line(each.row.name, [Point(epoch["epoch"], epoch.get(field)) for epoch in log])
            for each in detail.rows
            for log in each.logs
            if any(epoch.get(field) is not None for epoch in log)
        ]
        if drawn:
            plot = lines(drawn, "epoch", y_label, names=names, percent=field == of_videos)
            figures.append(Figure(heading, plot))
    return figures


def _capital(name: str) -> str:
    """A metric's name with a capital, except mAP."""
    return name if name == "mAP" else name.capitalize()


def _by_class(detail: TableDetail) -> list[Figure]:
    figures = []
    base = next((each for each in detail.rows if each.row.name == detail.table.against), None)
    if base is not None and base.class_figures is not None:
        for each in detail.rows:
            if each is not base and each.class_figures is not None:
                plot = differences(each.class_figures - base.class_figures, detail.classes, detail.class_counts)
                figures.append(Figure(f"{each.row.name} less {base.row.name}", plot))
    for each in detail.rows:
        if each.confusion is not None:
            figures.append(Figure(f"Confusion: {each.row.name}", confusion(each.confusion, detail.classes)))
    return figures


def _attention(detail: TableDetail) -> list[Figure]:
    figures = []
    for each in detail.rows:
        if each.class_attention is not None:
            figures.append(Figure(f"By class: {each.row.name}", maps(each.class_attention, detail.classes)))
        if (by_step := each.step_attention) is not None:
            steps = np.unique(np.linspace(0, len(by_step) - 1, min(MOST_STEPS, len(by_step))).round().astype(int))
            plot = maps(by_step[steps], [f"step {step + 1}" for step in steps])
            figures.append(Figure(f"By step: {each.row.name}", plot))
    return figures
