"""How `attnrec compare` shows its tables: on the terminal, as Markdown and as CSV."""

import html
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from attnrec.cli.lines import printable
from attnrec.cli.output import say, table
from attnrec.comparison import columns
from attnrec.comparison.results import CompareReport
from attnrec.comparison.sections import sections
from attnrec.files import atomic_path, write_table
from attnrec.runtime import counted, duration

if TYPE_CHECKING:
    from attnrec.comparison.forecast import GridPlan


def show_comparison(report: CompareReport) -> None:
    """Print the tables of a comparison."""
    for shown in sections(report):
        table(shown.title, shown.columns, shown.rows)
        for line in shown.notes:
            say(line)
        if shown.notes:
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
    say(f"takes about {duration(plan.seconds)} at most")


def write_markdown(path: Path, report: CompareReport, force: bool) -> None:
    """Write, as Markdown, the tables that the terminal shows."""
    blocks = []
    for title, headings, rows, _, lines in sections(report):
        grid = [headings, ["---", *["---:"] * (len(headings) - 1)], *rows]
        cells = "\n".join(f"| {' | '.join(_escaped(cell) for cell in row)} |" for row in grid)
        blocks += [f"### {_escaped(title)}", cells, *(["  \n".join(map(_escaped, lines))] if lines else [])]
    with atomic_path(path, overwrite=force) as temporary:
        temporary.write_text("\n\n".join(blocks) + "\n", encoding="utf-8")


def write_csv(path: Path, report: CompareReport, force: bool) -> None:
    """Write the rows of all tables, with unrounded figures."""
    rows = (columns.csv_values(of, row) for of in report.tables for row in of.rows)
    write_table(path, columns.csv_names(), rows, overwrite=force)


def _escaped(text: str) -> str:
    """Escape what Markdown tables and HTML would interpret."""
    return html.escape(printable(text), quote=False).replace("|", "\\|")
