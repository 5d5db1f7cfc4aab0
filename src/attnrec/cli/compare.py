"""`attnrec compare`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from attnrec.cli.options import DryRunOption, JsonOption, PartOption, QuietOption, RunsDirOption, examples
from attnrec.cli.output import Output, duration, percent, printable, table

if TYPE_CHECKING:
    from attnrec.workflows.compare import ComparedRun, CompareReport, PublishedFigure

EXAMPLES = examples(
    "attnrec compare",
    "attnrec compare runs/attention-1 runs/avg-pool-1 --part validation",
    "attnrec compare --json > table.json",
)


def compare(
    names: Annotated[
        list[Path] | None,
        typer.Argument(help="Runs to compare; all finished ones where not given.", metavar="[RUN]..."),
    ] = None,
    part: PartOption = "test",
    dry_run: DryRunOption = False,
    runs: RunsDirOption = Path("runs"),
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Put runs side by side, the most accurate first, with the paper's figures where they apply.

    Runs of different stores or splits stand in different tables, since their test videos differ.
    """
    from attnrec.workflows import compare as workflow

    with Output(json=json, quiet=quiet) as output:
        report = workflow.compare(names or [], runs_dir=runs, part=part)
        rows = [row for table_rows in report.tables for row in table_rows]
        if dry_run:
            plan = {"runs": [{"run": row.run, "evaluated": row.figure is not None} for row in rows]}
            output.result(plan, lambda: _show_plan(rows, part))
            return
        output.result(report, lambda: show_comparison(report, part))
        for name in sorted({f"{row.dataset}, split {row.split}" for row in rows if row.leaking}):
            output.warn(f"{name}: groups on both sides, figures are too good")
        for row in (row for row in rows if row.figure is None):
            output.note(f"{row.run} has no {part} figures: attnrec evaluate --run {row.path} --part {part}")


def show_comparison(report: "CompareReport", part: str) -> None:
    """Print the tables of a comparison."""
    for rows in report.tables:
        leaking = ", LEAKING: groups on both sides" if rows[0].leaking else ""
        videos = next((f", {row.num_videos} {part} videos" for row in rows if row.num_videos), "")
        metrics = ["mAP %", "95 %"] if rows[0].metric == "map" else ["acc %", "95 %", "class %"]
        columns = ["run", *metrics, "val %", "entropy", "penalty", "trained"]
        table(f"{rows[0].dataset}, split {rows[0].split}{videos}{leaking}", columns, [_cells(row) for row in rows])
    if report.published:
        columns = ["model", "dataset", "lambda", "metric", "published %", "source"]
        table(f"Published: {report.published_source}", columns, _published(report.published))


def _show_plan(rows: Sequence["ComparedRun"], part: str) -> None:
    for row in rows:
        print(f"{printable(row.run)}: {'has' if row.figure is not None else 'has no'} {part} figures")


def _cells(row: "ComparedRun") -> list[str]:
    reduced = "" if row.reduction in (None, "mean") else f" ({row.reduction})"
    interval = "-" if row.interval is None else f"{percent(row.interval[0])}-{percent(row.interval[1])}"
    return [
        row.run,
        percent(row.figure) + reduced,
        interval,
        *([] if row.metric == "map" else [percent(row.mean_class_accuracy)]),
        percent(row.validation_figure),
        _number(row.attention_entropy, ".3f"),
        _number(row.penalty_above_floor, ".2f"),
        duration(row.train_seconds),
    ]


def _published(figures: Sequence["PublishedFigure"]) -> list[list[str]]:
    return [
        [f.model, f.dataset, _number(f.attention_penalty, "g"), f.metric, f"{f.value:.2f}", f.source] for f in figures
    ]


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
