"""`attnrec compare`."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from attnrec.cli.compare_tables import show_comparison, show_grid_plan, show_plan, write_csv, write_markdown
from attnrec.cli.options import (
    CSV_SUFFIXES,
    HTML_SUFFIXES,
    DryRunOption,
    ForceOption,
    JsonOption,
    PartOption,
    QuietOption,
    RunsDirOption,
    VideosOption,
    examples,
    given_settings,
    is_given,
    takes,
)
from attnrec.cli.output import Output
from attnrec.cli.run_plots import save_missing
from attnrec.files import require_free
from attnrec.runtime import counted
from attnrec.settings import GridConfig, TrainConfig, settings_of

if TYPE_CHECKING:
    from attnrec.comparison.results import CompareReport

EXAMPLES = examples(
    "attnrec compare",
    "attnrec compare runs/attention-1 runs/avg-pool-1 --part validation",
    "attnrec compare --features out.h5 --lambdas 0,1,10 --fps 6,30 --seeds 2 --dry-run",
    "attnrec compare --models attention,avg-pool --attention location,content --splits cv3-1,cv3-2,cv3-3",
    "attnrec compare --against avg-pool --csv table.csv --markdown table.md",
    "attnrec compare --html report.html",
    "attnrec compare --json > table.json",
)

# Settings of every training of a grid; the others are given by --set, or by the grid.
_TRAINING = (
    "preset", "add_mean", "block_frames", "block_stride", "retrain", "hidden_dim", "num_layers", "batch_size",
    "epochs", "learning_rate", "max_steps", "precision", "seed", "device", "jobs",
)  # fmt: skip
_OF_GRID = ("model", "attention", "glimpse", "attention_penalty", "fps", "layer", "split")


@takes(GridConfig, "grid")
@takes(TrainConfig, "training", options=_TRAINING, reserved=_OF_GRID)
def compare(
    context: typer.Context,
    grid: GridConfig,
    training: TrainConfig,
    names: Annotated[
        list[Path] | None,
        typer.Argument(help="Runs to compare; default: all finished ones.", metavar="[RUN]..."),
    ] = None,
    part: PartOption = "test",
    against: Annotated[
        str | None,
        typer.Option(help="Row (or a run in it) to compare the other rows with; default: the first row."),
    ] = None,
    csv_path: Annotated[Path | None, typer.Option("--csv", help="Also write the rows as CSV.", metavar="FILE")] = None,
    markdown_path: Annotated[
        Path | None, typer.Option("--markdown", help="Also write the tables as Markdown.", metavar="FILE")
    ] = None,
    html_path: Annotated[
        Path | None,
        typer.Option("--html", help="Also write a one-page report: tables, plots, clips, commands.", metavar="FILE"),
    ] = None,
    videos: VideosOption = None,
    force: ForceOption = False,
    features: Annotated[
        Path | None,
        typer.Option(
            help="Feature store to train a grid on; default: the only one in the current folder. With named runs: the "
            "runs' store, for --html.",
            metavar="STORE",
        ),
    ] = None,
    runs: RunsDirOption = Path("runs"),
    dry_run: DryRunOption = False,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Compare configurations over seeds and folds, and test their differences.

    Without grid options, finished runs are tabulated. With --features, --models or any other grid option, the runs of
    the grid that are missing are trained and evaluated first; repeating the command resumes where it stopped, and
    trains nothing once all runs are there. Every model is trained at every --fps on every split and set of layers,
    attention models also with every form of attention and every lambda.

    Results on different videos are shown in separate tables. Within a table, each row is compared with the first by a
    paired bootstrap over groups of videos; p-values are corrected for the number of rows.
    """
    from attnrec.comparison import compare as workflow

    kinds = ((csv_path, CSV_SUFFIXES), (markdown_path, (".md", ".markdown", ".txt")), (html_path, HTML_SUFFIXES))
    for path, suffixes in kinds:
        if path is not None:
            require_free(path, overwrite=force, suffixes=suffixes)
    with Output(json=json, quiet=quiet) as output:
        asked = given_settings(context, GridConfig) | {
            name for name in given_settings(context, TrainConfig) if settings_of(TrainConfig)[name].decides
        }
        if is_given(context, "features") and not (names and html_path is not None):
            asked.add("features")
        if asked and names:
            raise typer.BadParameter("name runs or give grid options, not both")
        wanted = dataclasses.replace(grid, training=training) if asked else None
        if dry_run:
            output.begin("planning")
            _plan(wanted, names or [], features, runs, part, output)
            return
        if wanted is not None:
            output.begin()
        report = workflow.compare(
            names or [],
            grid=wanted,
            store=features,
            runs_dir=runs,
            part=part,
            against=against,
            on_progress=output.progress,
        )
        if wanted is not None:
            save_missing(report, part, output)
        if csv_path is not None:
            write_csv(csv_path, report, force)
        if markdown_path is not None:
            write_markdown(markdown_path, report, force)
        if html_path is not None:
            output.begin(f"drawing {html_path}")
            from attnrec.comparison.report import write_report
            from attnrec.pictures.examples import PageSources

            sources = PageSources(features, videos, training.device, training.jobs)
            write_report(html_path, report, sources, overwrite=force, on_progress=output.progress)
        output.result(report, lambda: show_comparison(report))
        for path, _ in kinds:
            if path is not None:
                output.note(f"wrote {path}")
        _tell(report, part, output)
        if report.grid is not None and report.grid.num_trained:
            _note_form(wanted, output)


def _plan(
    grid: GridConfig | None, names: list[Path], features: Path | None, runs: Path, part: str, output: Output
) -> None:
    from attnrec.comparison import compare as workflow

    if grid is not None:
        from attnrec.comparison.forecast import plan_grid

        plan = plan_grid(grid, features, runs_dir=runs, part=part, on_progress=output.progress)
        output.result(plan, lambda: show_grid_plan(plan))
        _note_form(grid, output)
        return
    tables = workflow.compare(names, runs_dir=runs, part=part).tables
    found = {run.run: run.figure is not None for table in tables for row in table.rows for run in row.runs}
    document = {"runs": [{"run": name, "evaluated": evaluated} for name, evaluated in found.items()]}
    output.result(document, lambda: show_plan(found, part))


def _note_form(grid: GridConfig | None, output: Output) -> None:
    """Note which attention a grid trains where none is named."""
    if grid is not None and "attention" in grid.models and grid.training.preset == "auto" and not grid.attention:
        beside = "" if grid.training.add_mean is False else ", with the mean beside the glimpse"
        output.note(f"attention is saliency{beside}; the paper's is --preset paper")


def _tell(report: "CompareReport", part: str, output: Output) -> None:
    """Print warnings and notes about the tables on stderr; exit with code 1 if a run of the grid failed."""
    for table in report.tables:
        if table.leaking:
            output.warn(f"{table.dataset}, split {', '.join(table.splits)}: groups on both sides, figures are too good")
        for run in (run for row in table.rows for run in row.runs if run.figure is None):
            output.note(f"{run.run} has no {part} figures: attnrec evaluate --run {run.path} --part {part}")
    if (grid := report.grid) is None:
        return
    resumed = f" ({grid.num_resumed} of them resumed)" if grid.num_resumed else ""
    output.note(
        f"{counted(grid.num_cells, 'run')}: trained {grid.num_trained}{resumed}, evaluated {grid.num_evaluated}"
    )
    if grid.failed:
        output.warn(f"{counted(len(grid.failed), 'run')} failed; the same command tries again:")
        for cell in grid.failed:
            output.warn(f"  {cell.name}: {cell.reason}")
        raise typer.Exit(1)
