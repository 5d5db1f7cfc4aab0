"""The page of a comparison: gathers from runs what it shows, and writes it.

Legend: C classes.
"""

import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnrec.comparison.averages import mean_attention
from attnrec.comparison.columns import COLUMNS, PUBLISHED, Column, published_texts, shown_columns
from attnrec.comparison.report_page import Cell, Curve, GalleryClip, ReportData, ReportTable, RowDetail, report_page
from attnrec.comparison.results import ComparedRow, ComparedTable, CompareReport
from attnrec.errors import AttnrecError
from attnrec.evaluation.predict import Recognizer
from attnrec.pictures.boxes import BoxSource, box_source
from attnrec.pictures.gallery import examples, is_right, labels_of
from attnrec.pictures.look import Look, look_at, reason_of
from attnrec.pictures.visualize import WRITERS, write_picture
from attnrec.runtime import OnProgress, Progress, no_progress, versions
from attnrec.settings import PictureConfig
from attnrec.training.repeating import commands_of
from attnrec.training.run import Run, utc_now

EXAMPLES = 3  # clips of the gallery, right and wrong each
PICTURES = PictureConfig(width=160, duration=4.0)
PICTURES_FPS = 8.0  # at the clips' own rates the page would be several times as large


@dataclass(frozen=True)
class ReportConfig:
    """Where the page finds what the table does not hold.

    Attributes:
        store: As in `evaluate`.
        videos: Folder of the videos; None takes the one that they were extracted from.
        device: See `runtime.resolve_device`.
        jobs: CPU threads.
    """

    store: Path | None = None
    videos: Path | None = None
    device: str = "auto"
    jobs: int | None = None


def write_report(
    path: Path,
    report: CompareReport,
    config: ReportConfig | None = None,
    *,
    overwrite: bool = False,
    on_progress: OnProgress = no_progress,
) -> None:
    """Write a comparison as one HTML file that holds all it shows.

    What cannot be had, as the store for the mean attention or the videos for the gallery, is left out, and the page
    says so and why.

    Args:
        path: The file.
        report: As `compare` gives it.
        config: Where store and videos are.
        overwrite: Replace a file that is there.
        on_progress: Told of every row and clip.

    Raises:
        RunError: A run has gone or is damaged.
        AttnrecError: The file is there already or cannot be written.
    """
    config = config or ReportConfig()
    tables = [_table(table, config, on_progress) for table in report.tables]
    facts = [("Made by", f"attnrec {versions()['attnrec']}"), ("At", utc_now()[:16].replace("T", " ") + " UTC")]
    if report.grid is not None:
        facts += [("Failed", f"{cell.name}: {cell.reason}") for cell in report.grid.failed]
    meanings = {
        column.headed_on_page(table): column.meaning
        for table in report.tables
        for column in shown_columns(COLUMNS, table)
    }
    published = published_texts(report.published)
    page = report_page(ReportData(facts, tables, meanings, published, list(PUBLISHED), report.published_source))
    write_picture(path, page.encode("utf-8"), overwrite=overwrite)


def _table(table: ComparedTable, config: ReportConfig, on_progress: OnProgress) -> ReportTable:
    notes = [f"Stands apart: {table.apart}"] if table.apart else []
    rows = []
    for done, row in enumerate(table.rows):
        on_progress(Progress("report", done, len(table.rows), row.name))
        detail, note = _detail(row, table.part, config)
        rows.append(detail)
        notes += [note] if note else []
    on_progress(Progress("report", len(table.rows), len(table.rows)))
    shown = max((row for row in table.rows if _gallery_runs(row)), key=lambda row: row.figure or 0, default=None)
    gallery, lacking = _gallery(_gallery_runs(shown)[0], table.part, config, on_progress) if shown else ([], [])
    first, columns = Run(table.rows[0].runs[0].path), shown_columns(COLUMNS, table)
    return ReportTable(
        heading=f"{table.dataset}, split {', '.join(table.splits)}, {table.num_videos} {table.part} videos",
        headings=[column.headed_on_page(table) for column in columns],
        cells=[[_cell(column, table, row) for column in columns] for row in table.rows],
        metric="mAP" if table.metric == "map" else table.metric,
        against=table.against,
        warnings=["Groups on both sides of the split: the figures are too good."] if table.leaking else [],
        notes=notes + lacking,
        classes=first.manifest.classes,
        class_counts=_class_counts(table, len(first.manifest.classes)),
        rows=rows,
        gallery=gallery,
        gallery_of=shown.name if shown and gallery else None,
    )


def _cell(column: Column, table: ComparedTable, row: ComparedRow) -> Cell:
    value = column.known(table, row)
    return Cell(column.said(table, row) or "", value[0] if isinstance(value, tuple) else value)


def _detail(row: ComparedRow, part: str, config: ReportConfig) -> tuple[RowDetail, str | None]:
    """A row's part of the page, and what is lacking in it."""
    runs = [Run(each.path) for each in row.runs]
    evaluations = _evaluations(row, part)
    by_class = by_step = note = None
    if row.attention is not None and (first := _gallery_runs(row)):
        try:
            by_class, by_step = mean_attention(first, part, store=config.store, device=config.device, jobs=config.jobs)
        except AttnrecError as error:
            note = f"No mean attention of {row.name}: {error}"
    detail = RowDetail(
        row=row,
        curves=[_curve(run) for run in runs],
        confusion=_confusion(evaluations),
        class_figures=_class_figures(evaluations),
        class_attention=by_class,
        step_attention=by_step,
        commands=[line for run in runs for line in commands_of(run, part, run.read_evaluation(part) or {})],
    )
    return detail, note


def _gallery_runs(row: ComparedRow) -> list[Run]:
    """Of a row with attention the runs of its first seed that count, one for each split."""
    if row.attention is None or not row.seeds:
        return []
    return [Run(run.path) for run in row.runs if run.counts and run.seed == row.seeds[0]]


def _evaluations(row: ComparedRow, part: str) -> list[dict[str, Any]]:
    found = (Run(run.path).read_evaluation(part) for run in row.runs if run.counts)
    return [evaluation for evaluation in found if evaluation is not None]


def _curve(run: Run) -> Curve:
    epochs = [line for line in run.read_log() if line.get("kind") == "epoch"]
    figure = "validation_map" if run.manifest.model.multilabel else "validation_accuracy"

    def column(name: str) -> list[float | None]:
        return [line.get(name) for line in epochs]

    return Curve(
        epochs=[line["epoch"] for line in epochs],
        loss=column("loss"),
        validation_loss=column("validation_loss"),
        validation_figure=column(figure),
        penalty_above_floor=column("penalty_above_floor"),
        attention_entropy=column("attention_entropy"),
    )


def _confusion(evaluations: Sequence[dict[str, Any]]) -> NDArray[np.int64] | None:
    matrices = [evaluation["confusion"] for evaluation in evaluations if evaluation["confusion"] is not None]
    return np.sum(matrices, axis=0, dtype=np.int64) if matrices else None


def _class_figures(evaluations: Sequence[dict[str, Any]]) -> NDArray[np.float64] | None:
    """Accuracy of each class over all its videos, or the mean of its average precisions, shape (C,)."""
    if not evaluations:
        return None
    confusion = _confusion(evaluations)
    if confusion is not None:
        totals = confusion.sum(axis=1)
        shares: NDArray[np.float64] = np.full(len(totals), np.nan)
        np.divide(confusion.diagonal(), totals, out=shares, where=totals > 0)
        return shares
    figures = [[entry["average_precision"] for entry in evaluation["classes"]] for evaluation in evaluations]
    values = np.ma.masked_invalid(np.array(figures, np.float64))
    return np.asarray(values.mean(axis=0).filled(np.nan))


def _class_counts(table: ComparedTable, num_classes: int) -> list[int]:
    """Videos of each class, over the runs of the first evaluated row's first seed."""
    for row in table.rows:
        first = [run for run in row.runs if run.counts and run.seed == row.seeds[0]]
        evaluations = _evaluations(replace(row, runs=first), table.part)
        if evaluations:
            counts = [[entry["num_videos"] for entry in evaluation["classes"]] for evaluation in evaluations]
            return [int(count) for count in np.sum(counts, axis=0)]
    return [0] * num_classes


def _gallery(run: Run, part: str, config: ReportConfig, on_progress: OnProgress) -> tuple[list[GalleryClip], list[str]]:
    """Clips that a run recognises, clips that it does not, and what could not be shown."""
    videos, classes = (run.read_evaluation(part) or {})["videos"], run.manifest.classes
    chosen = [
        video
        for right in (True, False)
        for video in examples([each for each in videos if is_right(each, classes) is right], EXAMPLES)
    ]
    folder = config.videos or Path(run.manifest.store["videos_dir"])
    if not folder.is_dir():
        return [], [f"No clips to see: {folder} is not there; name the folder of the videos by --videos."]
    clips, lacking = [], []
    try:
        recognizer = Recognizer(run, device=config.device, jobs=config.jobs)
    except AttnrecError as error:
        return [], [f"No clips to see: {error}"]
    boxes = box_source(None, run, PICTURES, config.store)
    for done, video in enumerate(chosen):
        on_progress(Progress("gallery", done, len(chosen), video["path"]))
        try:
            gif = _gif(recognizer, folder / video["path"], labels_of(video, classes), boxes)
        except AttnrecError as error:
            lacking.append(f"{video['path']} is not shown: {reason_of(error)}")
            continue
        found = video["label"], video["predicted"], video["probability"], is_right(video, classes)
        clips.append(GalleryClip(video["path"], *found, gif))
    on_progress(Progress("gallery", len(chosen), len(chosen)))
    return clips, lacking


def _gif(recognizer: Recognizer, clip: Path, truth: Sequence[str], boxes: BoxSource | None) -> bytes:
    look = _thinned(look_at(recognizer, clip, PICTURES, truth=truth, boxes=boxes))
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "clip.gif"
        WRITERS[".gif"](look, out, PICTURES, False, no_progress)
        return out.read_bytes()


def _thinned(look: Look) -> Look:
    """Every sample, or every second, third, ..., so that no more than `PICTURES_FPS` are left for a second."""
    step = math.ceil(len(look) / (look.end - look.times[0]) / PICTURES_FPS - 1e-6)
    return look.every(step)
