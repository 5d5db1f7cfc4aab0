"""`attnrec evaluate`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from attnrec.cli.evaluate_tables import show_evaluation, show_evaluations
from attnrec.cli.options import (
    HTML_SUFFIXES,
    DeviceOption,
    FeaturesOption,
    ForceOption,
    JobsOption,
    JsonOption,
    PartOption,
    QuietOption,
    RunsDirOption,
    SamplesOption,
    VideosOption,
    examples,
    listed,
)
from attnrec.cli.output import Output
from attnrec.cli.run_plots import save_confusion
from attnrec.errors import RunError
from attnrec.files import require_free
from attnrec.runtime import counted, percent
from attnrec.settings import Reduction

if TYPE_CHECKING:
    from attnrec.evaluation.report import EvaluationReport, EvaluationSummary

_FEW_GROUPS = 20

EXAMPLES = examples(
    "attnrec evaluate",
    "attnrec evaluate --run runs/attention-lambda1-fps6-1 --part validation",
    "attnrec evaluate --faithfulness --run runs/attention-1,runs/attention-seed1-1",
    "attnrec evaluate --reduce vote --last-steps 16 --top-k 5",
    "attnrec evaluate --html run.html",
    "attnrec evaluate --json > figures.json",
    "attnrec evaluate --faithfulness --boxes boxes.csv",
)


def evaluate(
    run: Annotated[
        list[str] | None,
        typer.Option("--run", help="Run to evaluate, or several, comma-separated; default: the newest.", metavar="DIR"),
    ] = None,
    features: FeaturesOption = None,
    part: PartOption = "test",
    reduction: Annotated[
        Reduction | None,
        typer.Option(
            "--reduce",
            help="Prediction of a video from its blocks: mean probability, or majority vote; default: as in training.",
        ),
    ] = None,
    last_steps: Annotated[
        int | None,
        typer.Option(help="Predict from the last N steps of each block; default: as in training.", min=1, metavar="N"),
    ] = None,
    block_stride: Annotated[
        int | None,
        typer.Option("--stride", help="Stored frames between the starts of blocks; default: as in training.", min=1),
    ] = None,
    top_k: Annotated[
        int | None,
        typer.Option(help="Also report how often the true class is among the K most probable.", min=1, metavar="K"),
    ] = None,
    samples: SamplesOption = 0,
    faithfulness: Annotated[
        bool,
        typer.Option(
            "--faithfulness",
            help="Test the attention: replace it, remove cells, compare it with boxes and, for several runs, between "
            "runs.",
        ),
    ] = False,
    boxes: Annotated[
        Path | None,
        typer.Option(
            help="CSV of boxes or points for --faithfulness: path, seconds or frame, and x0,y0,x1,y1 or x,y in px; "
            "default: those in the feature store.",
            metavar="FILE",
        ),
    ] = None,
    html_path: Annotated[
        Path | None,
        typer.Option("--html", help="Also write a page of the run: figures, curves, clips.", metavar="FILE"),
    ] = None,
    videos: VideosOption = None,
    force: ForceOption = False,
    runs: RunsDirOption = Path("runs"),
    device: DeviceOption = "auto",
    jobs: JobsOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Evaluate a run on the test part of its split: accuracy or mAP, per class, with confusion.

    Writes evaluation-<part>.json, predictions-<part>.npz and the confusion matrix as confusion-<part>.svg and .png into
    the run; with --samples N, evaluation-<part>-samplesN and so on.
    --faithfulness takes as long as about eight evaluations, and 37 passes over at most four blocks per video.
    For means over seeds and folds, use `attnrec compare`.
    """
    from attnrec.training.run import Run, newest_run

    if videos is not None and html_path is None:
        raise typer.BadParameter("is for --html; give that as well", param_hint="--videos")
    if html_path is not None:
        if len(listed(run)) > 1:
            raise typer.BadParameter(
                "is the page of one run; attnrec compare --html takes several", param_hint="--html"
            )
        require_free(html_path, overwrite=force, suffixes=HTML_SUFFIXES)
    with Output(json=json, quiet=quiet) as output:
        output.begin()
        chosen = [Run(path) for path in listed(run)] or [
            newest_run(runs, with_attention=faithfulness, on_progress=output.progress)
        ]
        if not run:
            output.note(f"run {chosen[0].path}")
        from attnrec.evaluation.evaluate import evaluate_runs  # takes seconds, which an error above need not wait for

        summary = evaluate_runs(
            chosen,
            features,
            part=part,
            reduction=reduction,
            last_steps=last_steps,
            block_stride=block_stride,
            top_k=top_k,
            samples=samples,
            faithfulness=faithfulness,
            boxes=boxes,
            device=device,
            jobs=jobs,
            on_progress=output.progress,
        )
        _tell(summary, output)
        if html_path is not None:
            from attnrec.pictures.examples import PageSources
            from attnrec.pictures.run_page import write_run_page

            output.begin(f"drawing {html_path}")
            sources = PageSources(features, videos, device, jobs)
            write_run_page(html_path, summary.runs[0], sources, overwrite=force, on_progress=output.progress)
            output.note(f"wrote {html_path}")
        if unsaved := [report.unsaved for report in summary.runs if report.unsaved is not None]:
            raise RunError(f"{unsaved[0]}; the figures are not saved")
        output.note("next: attnrec visualize CLIP --out where.gif")


def _doubts(report: "EvaluationReport") -> list[str]:
    """What makes a figure worth little: few videos, or no more than chance."""
    doubts = []
    if report.num_groups < _FEW_GROUPS:
        few = counted(report.num_groups, "group")
        doubts.append(f"{few} of videos are few to judge by; `attnrec compare --splits cv3-1,cv3-2,cv3-3` tests on all")
    low, _ = report.intervals.get("map" if report.multilabel else "accuracy", (float("nan"),) * 2)
    if low <= report.chance:
        doubts.append(f"cannot be told apart from chance, {percent(report.chance)} %")
    return doubts


def _tell(summary: "EvaluationSummary", output: Output) -> None:
    """Print the figures, draw their confusion matrices, and say what to know before believing them."""
    from attnrec.evaluation.gaze import gaze_advice

    if len(summary.runs) == 1:
        output.result(summary.runs[0], lambda: show_evaluation(summary.runs[0]))
    else:
        output.result(summary, lambda: show_evaluations(summary))
    for report in summary.runs:
        if report.unsaved is None:
            save_confusion(report.run, report.saved_as, output)
        if words := gaze_advice(report.attention_entropy, report.attention):
            output.note(f"{report.run}: {words}")
        if report.leaking_groups:
            output.warn(f"split {report.split} has groups on both sides: these figures are too good")
        if report.trained_on and report.part == "validation":
            output.warn(f"{report.run}: its final training (--retrain) included these videos")
        for words in _doubts(report):
            output.note(f"{report.run}: {words}")
