"""The page of one run: its figures, curves, confusion, clips, and whether it needs where it looks."""

import shlex
from pathlib import Path

from attnrec.drawing.document import document
from attnrec.drawing.figure import Plot, Shown
from attnrec.errors import AttnrecError
from attnrec.evaluation.averages import mean_attention
from attnrec.evaluation.gaze import gaze_advice
from attnrec.evaluation.plots import attention_plots, confusion_plot, removal_plot
from attnrec.evaluation.report import EvaluationReport
from attnrec.evaluation.tables import (
    class_table,
    faithfulness_notes,
    faithfulness_tables,
    figure_table,
    figure_with_interval,
    known_figures,
    video_tables,
)
from attnrec.files import require_free
from attnrec.pictures.examples import ExampleClip, PageSources, example_clips
from attnrec.pictures.write import write_picture
from attnrec.runtime import OnProgress, Progress, duration, no_progress, versions
from attnrec.training.curves import epochs_of, training_plots
from attnrec.training.identity import commands_of
from attnrec.training.run import Run, utc_now


def write_run_page(
    path: str | Path,
    report: EvaluationReport,
    sources: PageSources | None = None,
    *,
    overwrite: bool = False,
    on_progress: OnProgress = no_progress,
) -> None:
    """Write an evaluated run as one self-contained HTML file.

    Content whose source is missing, such as the videos for the clips, is left out, and the page says why.

    Args:
        path: The file to write.
        report: The run's evaluation.
        sources: Where store and videos are.
        overwrite: Replace an existing file.
        on_progress: Called for every part and clip.

    Raises:
        RunError: The run is missing or damaged.
        AttnrecError: The file exists already or cannot be written.
    """
    sources, run, path = sources or PageSources(), Run(report.run), Path(path)
    require_free(path, overwrite=overwrite)
    clips, averages, notes = list[ExampleClip](), list[Shown](), list[str]()
    if report.attention is not None:
        videos = [vars(video) for video in report.videos]
        clips, notes = example_clips(run, videos, sources, on_progress)
        on_progress(Progress("page", detail="mean attention of each class"))
        try:
            by_class, by_step = mean_attention(
                [run], report.part, store=sources.store, device=sources.device, jobs=sources.jobs
            )
            averages = attention_plots(by_class, by_step, run.manifest.classes)
        except AttnrecError as error:
            notes.append(f"No mean attention: {error}")
    found, commands = report.faithfulness, commands_of(run, report.part, vars(report))
    without_draws = commands_of(run, report.part, vars(report) | {"samples": 0})[-1]  # a test of attention refuses them
    page = document(
        "run.html",
        styles=["report.css"],
        scripts=["report.js"],
        name=run.name,
        headline=_headline(report),
        facts=_facts(run, report),
        warnings=_warnings(report),
        results=figure_table(report),
        chance=_chance(report),
        attention=report.attention,
        clips=clips,
        notes=notes,
        classes=class_table(report),
        confusion=_shown(
            f"{report.num_videos} {report.part} videos", confusion_plot(report.confusion, run.manifest.classes)
        ),
        videos=video_tables(report),
        faithfulness=[] if found is None else list(faithfulness_tables(found)),
        faithfulness_notes=[] if found is None else faithfulness_notes(found),
        faithfulness_command=f"{without_draws} --faithfulness {shlex.join(['--html', str(path), '--force'])}",
        removal=_shown("Mean over blocks", removal_plot(found)) if found else [],
        averages=averages,
        training=training_plots(
            [(run.name, [epochs_of(run.read_log())])],
            "map" if report.multilabel else "accuracy",
            run.manifest.result.get("best_epoch"),
        ),
        commands=commands,
    )
    write_picture(path, page.encode("utf-8"), overwrite=overwrite)


def _headline(report: EvaluationReport) -> str:
    label, text = figure_with_interval(report, known_figures(report)[0])
    return f"{report.part} {label} {text} of {report.num_videos} videos"


def _facts(run: Run, report: EvaluationReport) -> list[tuple[str, str]]:
    manifest = run.manifest
    recipe, result, spec = manifest.training, manifest.result, manifest.features
    hard = ", hard" if manifest.model.glimpse == "hard" else ""
    form = f", {report.attention}{hard}" if report.attention else ""
    penalty = f", lambda {recipe.attention_penalty:g}" if report.attention else ""
    drawn = f", {report.samples} draws of hard attention" if report.samples else ""
    grids = " and ".join(f"{layer} {K} x {K} x {D}" for layer, K, D in spec.grids)
    kept = f"epoch {result['best_epoch']} best, " if "best_epoch" in result else ""
    if isinstance(again := result.get("retrained"), dict):
        kept += f"{again.get('epochs')} more on training and validation videos, "
    return [
        ("Model", f"{report.model}{form}{penalty}, preset {report.preset}"),
        ("Predicted by", f"{report.reduction} of blocks{drawn}"),
        ("Features", f"{report.backbone}, {grids}, {recipe.fps:g} frames a second"),
        ("Videos", f"{report.dataset}, split {report.split}, {report.num_groups} groups in {report.part}"),
        ("Trained", f"{kept}{duration(float(result.get('seconds', 0.0)))}"),
        ("Made by", f"attnrec {versions()['attnrec']}, {utc_now()[:16].replace('T', ' ')} UTC"),
    ]


def _warnings(report: EvaluationReport) -> list[str]:
    warnings = [gaze_advice(report.attention_entropy, report.attention)]
    if report.leaking_groups:
        warnings.append("Groups on both sides of the split: the figures are too good.")
    if report.trained_on:
        warnings.append("The run was trained on these videos: the figures are too good.")
    return [words for words in warnings if words]


def _chance(report: EvaluationReport) -> str:
    return "Chance is random scores." if report.multilabel else "Chance is always naming the largest class."


def _shown(heading: str, plot: Plot | None) -> list[Shown]:
    return [] if plot is None else [Shown(heading, plot)]
