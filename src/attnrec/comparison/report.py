"""The page of a comparison: gathers its content from the runs, and writes it.

Legend: C classes.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnrec.comparison.report_page import RowDetail, TableDetail, report_page
from attnrec.comparison.results import ComparedRow, ComparedTable, CompareReport
from attnrec.errors import AttnrecError
from attnrec.evaluation.averages import mean_attention
from attnrec.files import require_free
from attnrec.metrics import per_class_accuracy
from attnrec.pictures.examples import ExampleClip, PageSources, example_clips
from attnrec.pictures.write import write_picture
from attnrec.runtime import OnProgress, Progress, no_progress, versions
from attnrec.training.curves import epochs_of
from attnrec.training.identity import commands_of
from attnrec.training.run import Run, utc_now


def write_report(
    path: str | Path,
    report: CompareReport,
    config: PageSources | None = None,
    *,
    overwrite: bool = False,
    on_progress: OnProgress = no_progress,
) -> None:
    """Write a comparison as one self-contained HTML file.

    Content whose source is missing, such as the store for the mean attention or the videos for the gallery, is left
    out, and the page says why.

    Args:
        path: The file to write.
        report: The report of `compare`.
        config: Where store and videos are.
        overwrite: Replace an existing file.
        on_progress: Called for every row and clip.

    Raises:
        RunError: A run is missing or damaged.
        AttnrecError: The file exists already or cannot be written.
    """
    config, path = config or PageSources(), Path(path)
    require_free(path, overwrite=overwrite)
    details = [_table(table, config, on_progress) for table in report.tables]
    facts = [("Made by", f"attnrec {versions()['attnrec']}"), ("At", utc_now()[:16].replace("T", " ") + " UTC")]
    if report.grid is not None:
        facts += [("Failed", f"{cell.name}: {cell.reason}") for cell in report.grid.failed]
    write_picture(path, report_page(report, details, facts).encode("utf-8"), overwrite=overwrite)


def _table(table: ComparedTable, config: PageSources, on_progress: OnProgress) -> TableDetail:
    notes = [f"Stands apart: {table.apart}"] if table.apart else []
    rows = []
    for done, row in enumerate(table.rows):
        on_progress(Progress("report", done, len(table.rows), row.name))
        detail, note = _detail(row, table.part, config)
        rows.append(detail)
        notes += [note] if note else []
    on_progress(Progress("report", len(table.rows), len(table.rows)))
    shown = max((row for row in table.rows if _looking_runs(row)), key=lambda row: row.figure or 0, default=None)
    gallery, lacking = _gallery(_looking_runs(shown)[0], table.part, config, on_progress) if shown else ([], [])
    classes = Run(table.rows[0].runs[0].path).manifest.classes
    return TableDetail(
        table=table,
        notes=notes + lacking,
        classes=classes,
        class_counts=_class_counts(table) or [0] * len(classes),
        rows=rows,
        gallery=gallery,
        gallery_of=shown.name if shown and gallery else None,
    )


def _detail(row: ComparedRow, part: str, config: PageSources) -> tuple[RowDetail, str | None]:
    """A row's part of the page, and a note on what is missing from it."""
    runs = [Run(each.path) for each in row.runs]
    found = [run.read_evaluation(part) or {} for run in runs]
    counted = [evaluation for of, evaluation in zip(row.runs, found, strict=True) if of.counts and evaluation]
    matrices = [evaluation["confusion"] for evaluation in counted if evaluation["confusion"] is not None]
    confusion = np.array(matrices, np.int64).sum(axis=0) if matrices else None
    by_class = by_step = note = None
    if first := _looking_runs(row):
        try:
            by_class, by_step = mean_attention(first, part, store=config.store, device=config.device, jobs=config.jobs)
        except AttnrecError as error:
            note = f"No mean attention of {row.name}: {error}"
    detail = RowDetail(
        row=row,
        logs=[epochs_of(run.read_log()) for run in runs],
        confusion=confusion,
        class_figures=_precisions(counted) if confusion is None else per_class_accuracy(confusion),
        class_attention=by_class,
        step_attention=by_step,
        commands=[line for run, of in zip(runs, found, strict=True) for line in commands_of(run, part, of)],
    )
    return detail, note


def _first_seed(row: ComparedRow) -> list[Run]:
    """The runs of a row's first seed that count, one for each split."""
    return [Run(run.path) for run in row.runs if run.counts and run.seed == row.seeds[0]]


def _looking_runs(row: ComparedRow) -> list[Run]:
    """The runs of `_first_seed` for a row with attention; none for other rows."""
    return [] if row.attention is None else _first_seed(row)


def _precisions(evaluations: Sequence[dict[str, Any]]) -> NDArray[np.float64] | None:
    """Average precision of each class, mean over evaluations, shape (C,); None without evaluations."""
    if not evaluations:
        return None
    figures = [[entry["average_precision"] for entry in evaluation["classes"]] for evaluation in evaluations]
    values = np.ma.masked_invalid(np.array(figures, np.float64))
    return np.asarray(values.mean(axis=0).filled(np.nan))


def _class_counts(table: ComparedTable) -> list[int] | None:
    """Number of videos of each class, from the first seed of the first evaluated row; None without such a row."""
    evaluated = (runs for row in table.rows if (runs := _first_seed(row)))
    found = [evaluation for run in next(evaluated, []) if (evaluation := run.read_evaluation(table.part))]
    counts = [[entry["num_videos"] for entry in evaluation["classes"]] for evaluation in found]
    return [sum(of_class) for of_class in zip(*counts, strict=True)] or None


def _gallery(run: Run, part: str, config: PageSources, on_progress: OnProgress) -> tuple[list[ExampleClip], list[str]]:
    return example_clips(run, (run.read_evaluation(part) or {})["videos"], config, on_progress)
