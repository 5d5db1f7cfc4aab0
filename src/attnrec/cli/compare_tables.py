"""How `attnrec compare` shows its tables: on the terminal, as Markdown and as CSV."""

import html
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from attnrec.cli.lines import printable
from attnrec.cli.output import counted, say, table
from attnrec.comparison import columns
from attnrec.comparison.results import ComparedTable, CompareReport
from attnrec.files import atomic_path, write_table
from attnrec.runtime import duration

if TYPE_CHECKING:
    from attnrec.comparison.forecast import GridPlan

_LEVEL = 0.05


class _Shown(NamedTuple):
    """A table as text, with lines to print under it."""

    title: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    lines: Sequence[str]


def show_comparison(report: CompareReport) -> None:
    """Print the tables of a comparison."""
    for shown in _shown(report):
        table(shown.title, shown.headings, shown.rows)
        for line in shown.lines:
            say(line)
        if shown.lines:
            say("")


def show_plan(runs: Mapping[str, bool], part: str) -> None:
    """Print which runs would be in the tables, and whether they have been evaluated."""
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


def write_markdown(path: Path, report: CompareReport, force: bool) -> None:
    """Write, as Markdown, the tables that the terminal shows."""
    blocks = []
    for title, headings, rows, lines in _shown(report):
        grid = [headings, ["---", *["---:"] * (len(headings) - 1)], *rows]
        cells = "\n".join(f"| {' | '.join(_escaped(cell) for cell in row)} |" for row in grid)
        blocks += [f"### {_escaped(title)}", cells, *(["  \n".join(map(_escaped, lines))] if lines else [])]
    with atomic_path(path, overwrite=force) as temporary:
        temporary.write_text("\n\n".join(blocks) + "\n", encoding="utf-8")


def write_csv(path: Path, report: CompareReport, force: bool) -> None:
    """Write the rows of all tables, with unrounded figures."""
    rows = (columns.csv_values(of, row) for of in report.tables for row in of.rows)
    write_table(path, columns.csv_names(), rows, overwrite=force)


def _shown(report: CompareReport) -> list[_Shown]:
    shown = [each for of in report.tables for each in _sections(of) if each.rows]
    if report.published:
        rows = columns.published_texts(report.published)
        shown.append(_Shown(f"Published: {report.published_source}", list(columns.PUBLISHED), rows, []))
    return shown


def _sections(of: ComparedTable) -> list[_Shown]:
    """A table split into parts that fit a terminal, each with the columns and rows that have values in it."""
    apart = [] if of.apart is None else [f"A table of its own: {of.apart}."]
    flags = [f"{row.name}: {flag}" for row in of.rows for flag in row.flags]
    unlike = [f"{row.name} differs from the paper's: {'; '.join(row.differs)}" for row in of.rows if row.published]
    pointing = "Does the attention peak in the boxes? In %, with maps that ignore the frame"
    return [
        _section(of, _title(of), columns.FIGURES, [*apart, *flags]),
        _section(of, f"Differences from {of.against}", columns.DIFFERENCES, _about_differences(of)),
        _section(of, "Training, mean over the runs of a row", columns.TRAINING, unlike),
        _section(of, "Is the attention faithful? In %", columns.FAITHFULNESS, []),
        _section(of, pointing, columns.POINTING, []),
        _section(of, "How much of the attention is in the boxes? In %", columns.MASS, []),
    ]


def _section(of: ComparedTable, title: str, own: Sequence[columns.Column], lines: Sequence[str]) -> _Shown:
    shown = columns.shown_columns(own, of)
    texts = [[row.name, *(column.said(of, row) for column in shown)] for row in of.rows]
    rows = [[text or "-" for text in said] for said in texts if any(said[1:])]
    return _Shown(title, ["row", *(column.headed(of) for column in shown)], rows, lines)


def _title(of: ComparedTable) -> str:
    leaking = ", LEAKING: groups on both sides" if of.leaking else ""
    splits = f"split{'s' if len(of.splits) > 1 else ''} {', '.join(of.splits)}"
    return f"{of.dataset}, {splits}, {of.num_videos} {of.part} videos in {counted(of.num_groups, 'group')}{leaking}"


def _about_differences(of: ComparedTable) -> list[str]:
    groups = counted(of.num_groups, "group")
    lines = [f"Paired bootstrap over {groups} of videos, of the mean over the seeds; p corrected by Holm."]
    if 2 ** (1 - of.num_groups) > _LEVEL:
        lines.append(f"Too few to tell: with {groups} p cannot fall below {2 ** (1 - of.num_groups):g}.")
    return lines


def _escaped(text: str) -> str:
    """Escape what Markdown tables and HTML would interpret."""
    return html.escape(printable(text), quote=False).replace("|", "\\|")
