"""How `attnrec compare` shows its tables: on the terminal, as Markdown and as CSV."""

import html
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from attnrec.cli.output import counted, duration, percent, printable, say, table
from attnrec.files import atomic_path, write_table

if TYPE_CHECKING:
    from attnrec.workflows.comparison import ComparedRow, ComparedTable, CompareReport, Interval, PublishedFigure
    from attnrec.workflows.forecast import GridPlan

_CSV_COLUMNS = (
    "dataset", "splits", "part", "store_fingerprint", "row", "model", "attention", "lambda", "fps", "preset", "seeds",
    "videos", "metric", "figure", "sd", "low", "high", "mean_class_accuracy", "validation", "against", "difference",
    "difference_low", "difference_high", "p_value", "corrected_p_value", "attention_entropy", "penalty_above_floor",
    "parameters", "train_seconds", "blocks_per_second", "published_percent", "differs", "flags",
)  # fmt: skip
_FAITHFULNESS = {
    "learned": "learned", "uniform": "uniform", "other_video": "other video", "time_shuffled": "shuffled",
    "untrained": "untrained", "deletion": "deletion", "insertion": "insertion", "random": "random",
}  # fmt: skip
_POINTING = {
    "pointing": "peak in box", "pointing_centre": "centre", "pointing_uniform": "uniform",
    "pointing_frequent": "frequent cell",
}  # fmt: skip
_MASS = {
    "mass": "mass in box", "mass_centre": "centre", "mass_uniform": "uniform", "mass_frequent": "frequent cell",
}  # fmt: skip
_INTERVALS = (
    "pointing_low", "pointing_high", "pointing_over_centre", "pointing_over_centre_low", "pointing_over_centre_high",
)  # fmt: skip
_LEVEL = 0.05


class _Shown(NamedTuple):
    """A table in words, with lines under it."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    lines: Sequence[str]


def show_comparison(report: "CompareReport") -> None:
    """Print the tables of a comparison."""
    for shown in _shown(report):
        table(shown.title, shown.columns, shown.rows)
        for line in shown.lines:
            say(line)
        if shown.lines:
            say("")


def show_plan(runs: Mapping[str, bool], part: str) -> None:
    """Print which runs would be in the tables, and whether they have figures."""
    for name, evaluated in runs.items():
        say(f"{name}: {'has' if evaluated else 'has no'} {part} figures")


def show_grid_plan(plan: "GridPlan") -> None:
    """Print a grid before it is run."""
    rows = [
        (cell.name, cell.state, "-" if cell.run is None else cell.run, duration(cell.seconds) if cell.seconds else "-")
        for cell in plan.cells
    ]
    splits, seeds = ", ".join(plan.splits), ", ".join(map(str, plan.seeds))
    title = f"{plan.store}: {counted(plan.num_rows, 'row')} on {splits} with {counted(len(plan.seeds), 'seed')} {seeds}"
    table(title, ["run", "state", "there", "at most"], rows)
    states = Counter(cell.state for cell in plan.cells)
    say(f"{counted(len(plan.cells), 'run')}: {', '.join(f'{number} {state}' for state, number in states.items())}")
    say(f"takes about {duration(plan.seconds)} at most; early stopping makes it shorter")


def write_markdown(path: Path, report: "CompareReport", force: bool) -> None:
    """Write the tables that are shown as Markdown."""
    blocks = []
    for title, columns, rows, lines in _shown(report):
        grid = [columns, ["---", *["---:"] * (len(columns) - 1)], *rows]
        cells = "\n".join(f"| {' | '.join(_escaped(cell) for cell in row)} |" for row in grid)
        blocks += [f"### {_escaped(title)}", cells, *(["  \n".join(map(_escaped, lines))] if lines else [])]
    with atomic_path(path, overwrite=force) as temporary:
        temporary.write_text("\n\n".join(blocks) + "\n", encoding="utf-8")


def write_csv(path: Path, report: "CompareReport", force: bool) -> None:
    """Write the rows of all tables, with unrounded figures."""
    rows = (_csv_cells(of, row) for of in report.tables for row in of.rows)
    write_table(path, [*_CSV_COLUMNS, *_FAITHFULNESS, *_POINTING, *_MASS, *_INTERVALS], rows, overwrite=force)


def _csv_cells(of: "ComparedTable", row: "ComparedRow") -> list[Any]:
    low, high = row.interval or (None, None)
    difference_low, difference_high = row.difference_interval or (None, None)
    pointing_low, pointing_high = row.pointing_interval or (None, None)
    over_low, over_high = row.pointing_over_centre_interval or (None, None)
    return [
        of.dataset, " ".join(row.splits), of.part, of.store_fingerprint, row.name, row.model, row.attention,
        row.attention_penalty, row.fps, row.preset, " ".join(map(str, row.seeds)), row.num_videos, of.metric,
        row.figure, row.sd, low, high, row.mean_class_accuracy, row.validation_figure, of.against, row.difference,
        difference_low, difference_high, row.p_value, row.corrected_p_value, row.attention_entropy,
        row.penalty_above_floor, row.num_parameters, row.train_seconds, row.blocks_per_second,
        row.published and row.published.value, "; ".join(row.differs), "; ".join(row.flags),
        *(row.faithfulness.get(name) for name in (*_FAITHFULNESS, *_POINTING, *_MASS)),
        pointing_low, pointing_high, row.pointing_over_centre, over_low, over_high,
    ]  # fmt: skip


def _shown(report: "CompareReport") -> list[_Shown]:
    shown = []
    for of in report.tables:
        shown.append(_figures(of))
        if any(row.difference is not None for row in of.rows):
            shown.append(_differences(of))
        shown.append(_trainings(of))
        if any(row.faithfulness for row in of.rows):
            shown.append(_faithfulness(of, "Is the attention faithful? In %", _FAITHFULNESS))
        if any("pointing" in row.faithfulness for row in of.rows):
            shown.append(_pointing(of))
            shown.append(_faithfulness(of, "How much of it is in the boxes? In %", _MASS))
    if report.published:
        columns = ["model", "dataset", "lambda", "metric", "published %", "source"]
        shown.append(_Shown(f"Published: {report.published_source}", columns, _published(report.published), []))
    return shown


def _figures(of: "ComparedTable") -> _Shown:
    """How good the rows are."""
    leaking = ", LEAKING: groups on both sides" if of.leaking else ""
    splits = f"split{'s' if len(of.splits) > 1 else ''} {', '.join(of.splits)}"
    title = f"{of.dataset}, {splits}, {of.num_videos} {of.part} videos in {counted(of.num_groups, 'group')}{leaking}"
    classes = [] if of.metric == "map" else ["class %"]
    columns = ["row", "seeds", "mAP %" if of.metric == "map" else "acc %", "sd", "95 %", *classes]
    rows = [
        [
            row.name,
            str(len(row.seeds)) if row.seeds else "-",
            percent(row.figure),
            percent(row.sd),
            _between(row.interval),
            *([percent(row.mean_class_accuracy)] if classes else []),
        ]
        for row in of.rows
    ]
    lines = [] if of.apart is None else [f"A table of its own: {of.apart}."]
    return _Shown(title, columns, rows, lines + [f"{row.name}: {flag}" for row in of.rows for flag in row.flags])


def _differences(of: "ComparedTable") -> _Shown:
    """Whether the rows differ from one of them."""
    rows = [
        [
            row.name,
            _points(row.difference),
            _points_between(row.difference_interval),
            _p_value(row.p_value),
            _p_value(row.corrected_p_value),
        ]
        for row in of.rows
        if row.difference is not None
    ]
    groups = counted(of.num_groups, "group")
    lines = [f"Paired bootstrap over {groups} of videos, of the mean over the seeds; p corrected by Holm."]
    if 2 ** (1 - of.num_groups) > _LEVEL:
        lines.append(f"Too few to tell: with {groups} p cannot fall below {2 ** (1 - of.num_groups):g}.")
    return _Shown(f"Differences from {of.against}", ["row", "points", "95 %", "p", "p corrected"], rows, lines)


def _trainings(of: "ComparedTable") -> _Shown:
    """What the rows cost and what their attention is like."""
    with_paper = any(row.published for row in of.rows)
    columns = ["row", "val %", "entropy", "penalty", "parameters", "trained", "blocks/s"]
    rows = [
        [
            row.name,
            percent(row.validation_figure),
            _number(row.attention_entropy, ".3f"),
            _number(row.penalty_above_floor, ".2f"),
            str(row.num_parameters),
            duration(row.train_seconds),
            _number(row.blocks_per_second, ".0f"),
            *([f"{row.published.value:.2f}" if row.published else "-"] if with_paper else []),
        ]
        for row in of.rows
    ]
    columns += ["paper %"] if with_paper else []
    lines = [f"{row.name} differs from the paper's: {'; '.join(row.differs)}" for row in of.rows if row.published]
    return _Shown("Training, mean over the runs of a row", columns, rows, lines)


def _faithfulness(of: "ComparedTable", title: str, columns: Mapping[str, str]) -> _Shown:
    """Those of the figures of `evaluate --faithfulness` that are known, by the names in `columns`."""
    known = [name for name in columns if any(name in row.faithfulness for row in of.rows)]
    rows = [[row.name, *(percent(row.faithfulness.get(name)) for name in known)] for row in of.rows if row.faithfulness]
    return _Shown(title, ["row", *(columns[name] for name in known)], rows, [])


def _pointing(of: "ComparedTable") -> _Shown:
    """How often the attention's peak is in a box, beside others that know nothing of the frame."""
    shown = _faithfulness(of, "Is it where the boxes are? In %, with what knows nothing of the frame", _POINTING)
    columns, rows = list(shown.columns), [list(cells) for cells in shown.rows]
    columns[2:2] = ["95 %", "over centre", "95 %"]
    for cells, row in zip(rows, (row for row in of.rows if row.faithfulness), strict=True):
        over = row.pointing_over_centre, row.pointing_over_centre_interval
        cells[2:2] = [_between(row.pointing_interval), _points(over[0]), _points_between(over[1])]
    return shown._replace(columns=columns, rows=rows)


def _between(bounds: "Interval | None") -> str:
    return "-" if bounds is None else f"{percent(bounds[0])}-{percent(bounds[1])}"


def _points(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:+.1f}"


def _points_between(bounds: "Interval | None") -> str:
    return "-" if bounds is None else f"{_points(bounds[0])} to {_points(bounds[1])}"


def _p_value(value: float | None) -> str:
    return "<0.001" if value is not None and value < 0.001 else _number(value, ".3f")


def _published(figures: Sequence["PublishedFigure"]) -> list[list[str]]:
    return [
        [f.model, f.dataset, _number(f.attention_penalty, "g"), f.metric, f"{f.value:.2f}", f.source] for f in figures
    ]


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _escaped(text: str) -> str:
    """A line that means nothing to Markdown's tables and brings no HTML of its own."""
    return html.escape(printable(text), quote=False).replace("|", "\\|")
