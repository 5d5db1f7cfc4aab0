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
from attnrec.drawing.document import document
from attnrec.drawing.figure import Shown
from attnrec.drawing.plots import Dot, Line, Point, confusion, differences, intervals, lines
from attnrec.evaluation.plots import attention_plots
from attnrec.metrics import capital, metric_name
from attnrec.pictures.examples import ExampleClip
from attnrec.runtime import percent
from attnrec.training.curves import training_plots

_LEVEL = 0.05  # of corrected p-values


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
class TableDetail:
    """What the page shows of a table besides its rows."""

    table: ComparedTable
    notes: list[str]  # what is left out, and why
    classes: list[str]
    class_counts: list[int]  # number of videos of each class, over all splits of one seed
    rows: list[RowDetail]  # in the table's order
    gallery: list[ExampleClip]  # clips of one of the rows
    gallery_of: str | None  # name of the row of the gallery

    @property
    def metric(self) -> str:
        """The metric as text."""
        return metric_name(self.table.metric)


class Cell(NamedTuple):
    """The text of a table cell, and the key it is sorted by; None sorts last."""

    text: str
    key: float | str | None


@dataclass(frozen=True)
class _Section:
    """A table with its figures, as the template shows it."""

    heading: str
    headline: str
    detail: TableDetail
    headings: list[str]
    cells: list[list[Cell]]
    results: list[Shown]
    training: list[Shown]
    classes: list[Shown]
    attention: list[Shown]


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
        headline=_headline(detail),
        detail=detail,
        headings=[column.headed_on_page(table) for column in columns],
        cells=[[_cell(column, table, row) for column in columns] for row in table.rows],
        results=_results(table.rows, detail.metric),
        training=training_plots([(each.row.name, each.logs) for each in detail.rows], detail.table.metric),
        classes=_by_class(detail),
        attention=_attention(detail),
    )


def _cell(column: Column, table: ComparedTable, row: ComparedRow) -> Cell:
    value = column.known(table, row)
    return Cell(column.said(table, row) or "", value[0] if isinstance(value, tuple) else value)


def _results(rows: Sequence[ComparedRow], metric: str) -> list[Shown]:
    dots = [Dot(row.name, row.figure, row.interval) for row in rows if row.figure is not None]
    if not dots:
        return []
    figures = [Shown("All rows", intervals(dots))]
    for heading, name, x_label in (
        (f"{capital(metric)} by lambda", "attention_penalty", "lambda"),
        (f"{capital(metric)} by frames a second", "fps", "frames a second"),
    ):
        if drawn := _by_setting([row for row in rows if row.figure is not None], name):
            plot = lines(drawn, x_label, f"{metric}, %, with 95 % intervals", marked=True, percent=True)
            figures.append(Shown(heading, plot))
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


def _headline(detail: TableDetail) -> str:
    """The comparison in two or three sentences: which row is best, what chance is, and which rows differ."""
    table = detail.table
    known = [row for row in table.rows if row.figure is not None]
    if not known:
        return "No row has been evaluated."
    best = max(known, key=lambda row: row.figure or 0)
    interval = f" ({percent(best.interval[0])} to {percent(best.interval[1])})" if best.interval else ""
    top = f"{percent(best.figure)} %{interval}"
    said = [f"The highest {detail.metric} is {top}, of {best.name}, on features of {table.backbone}."]
    total = sum(detail.class_counts)
    if table.metric == "accuracy" and total:
        largest = percent(max(detail.class_counts) / total)
        said.append(f"Always naming the largest class would be right for {largest} %.")
    tested = [row for row in known if row.corrected_p_value is not None]
    if tested:
        apart = len([row for row in tested if (row.corrected_p_value or 0) < _LEVEL])
        said.append(f"{apart or 'None'} of {len(tested)} rows can be told apart from {table.against}.")
    return " ".join(said)


def _by_class(detail: TableDetail) -> list[Shown]:
    figures = [
        Shown(f"Confusion: {each.row.name}", confusion(each.confusion, detail.classes))
        for each in detail.rows
        if each.confusion is not None
    ]
    base = next((each for each in detail.rows if each.row.name == detail.table.against), None)
    if base is None or base.class_figures is None:
        return figures
    for each in detail.rows:
        if each is base or each.class_figures is None:
            continue
        values = each.class_figures - base.class_figures
        if np.nan_to_num(values).any():  # else there is nothing to see
            heading = f"{each.row.name} less {base.row.name}"
            figures.append(Shown(heading, differences(values, detail.classes, detail.class_counts)))
    return figures


def _attention(detail: TableDetail) -> list[Shown]:
    return [
        shown
        for each in detail.rows
        for shown in attention_plots(each.class_attention, each.step_attention, detail.classes, f": {each.row.name}")
    ]
