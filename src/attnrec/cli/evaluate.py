"""`attnrec evaluate`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from attnrec.cli.faithfulness import show_agreement, show_faithfulness
from attnrec.cli.options import (
    DeviceOption,
    FeaturesOption,
    JobsOption,
    JsonOption,
    PartOption,
    QuietOption,
    RunsDirOption,
    examples,
    listed,
)
from attnrec.cli.output import Output, counted, percent, say, table
from attnrec.errors import RunError
from attnrec.runtime import duration
from attnrec.settings import Reduction

if TYPE_CHECKING:
    from attnrec.evaluation.report import EvaluationReport, EvaluationSummary

_MATRIX_CLASSES = 12  # a confusion matrix of more does not fit a screen
_NAMES = {
    "accuracy": "accuracy",
    "mean_class_accuracy": "mean over classes",
    "top_k_accuracy": "top-k accuracy",
    "map": "mAP",
}

EXAMPLES = examples(
    "attnrec evaluate",
    "attnrec evaluate --run runs/attention-lambda1-fps6-1 --part validation",
    "attnrec evaluate --faithfulness --run runs/attention-1,runs/attention-seed1-1",
    "attnrec evaluate --reduce vote --last-steps 16 --top-k 5",
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
            help="How the blocks of a video make its prediction: mean probability, or vote; default: as in training.",
        ),
    ] = None,
    last_steps: Annotated[
        int | None,
        typer.Option(
            help="Last steps of a block that make its prediction; default: as in training.", min=1, metavar="N"
        ),
    ] = None,
    block_stride: Annotated[
        int | None,
        typer.Option("--stride", help="Stored frames between the starts of blocks; default: as in training.", min=1),
    ] = None,
    top_k: Annotated[
        int | None,
        typer.Option(help="Report also how often the true class is among the K most probable.", min=1, metavar="K"),
    ] = None,
    faithfulness: Annotated[
        bool,
        typer.Option(
            "--faithfulness",
            help="Test the attention: replace it, remove cells, compare it with boxes and, for several runs, between "
            "them.",
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
    runs: RunsDirOption = Path("runs"),
    device: DeviceOption = "auto",
    jobs: JobsOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Evaluate a run on the test part of its split: accuracy or mAP, per class, with confusion.

    Writes evaluation-<part>.json and predictions-<part>.npz into the run.
    --faithfulness costs about eight such evaluations and 37 passes over at most four blocks per video.
    For means over seeds and folds see `attnrec compare`.
    """
    from attnrec.evaluation.evaluate import evaluate_runs
    from attnrec.evaluation.gaze import gaze_advice
    from attnrec.training.run import Run, newest_run

    with Output(json=json, quiet=quiet) as output:
        chosen = [Run(path) for path in listed(run)] or [
            newest_run(runs, with_attention=faithfulness, on_progress=output.progress)
        ]
        if not run:
            output.note(f"run {chosen[0].path}")
        summary = evaluate_runs(
            chosen,
            features,
            part=part,
            reduction=reduction,
            last_steps=last_steps,
            block_stride=block_stride,
            top_k=top_k,
            faithfulness=faithfulness,
            boxes=boxes,
            device=device,
            jobs=jobs,
            on_progress=output.progress,
        )
        if len(chosen) == 1:
            output.result(summary.runs[0], lambda: _show(summary.runs[0]))
        else:
            output.result(summary, lambda: _show_summary(summary))
        for report in summary.runs:
            if words := gaze_advice(report.attention_entropy, report.attention):
                output.note(f"{report.run}: {words}")
            if report.leaking_groups:
                output.warn(f"split {report.split} has groups on both sides: these figures are too good")
            if report.trained_on and report.part == "validation":
                output.warn(f"{report.run}: trained on these videos in the end, by --retrain")
        if unsaved := [report.unsaved for report in summary.runs if report.unsaved is not None]:
            raise RunError(f"{unsaved[0]}; the figures are not saved")
        output.note("next: attnrec visualize CLIP --out where.gif")


def _show(report: "EvaluationReport") -> None:
    chance = "mean share of a class" if report.multilabel else "largest class"
    figures = ", ".join(_figure(report, name) for name in _NAMES if getattr(report, name) is not None)
    leaking = ", LEAKING" if report.leaking_groups else ""
    say(
        f"{report.run}: {report.part} {figures} of {counted(report.num_videos, 'video')} in "
        f"{counted(report.num_groups, 'group')} "
        f"({report.dataset}, split {report.split}{leaking}), {chance} {percent(report.chance)} %"
    )
    if report.attention_entropy is not None and report.penalty_above_floor is not None:
        say(
            f"attention entropy {report.attention_entropy:.3f} of uniform, "
            f"penalty {report.penalty_above_floor:.2f} above its floor"
        )
    if report.confusion is None:
        _show_precisions(report)
    elif len(report.classes) <= _MATRIX_CLASSES:
        _show_matrix(report, report.confusion)
    else:
        _show_worst(report, report.confusion)
    if report.faithfulness is not None:
        show_faithfulness(report.faithfulness)
    say(f"{counted(report.num_blocks, 'block')} in {duration(report.seconds)}")


def _figure(report: "EvaluationReport", name: str) -> str:
    """A figure in words, with its interval where there is one."""
    low, high = report.intervals.get(name, (float("nan"),) * 2)
    interval = f" ({percent(low)}-{percent(high)})" if low == low else ""
    label = f"top-{report.top_k} accuracy" if name == "top_k_accuracy" else _NAMES[name]
    return f"{label} {percent(getattr(report, name))} %{interval}"


def _show_summary(summary: "EvaluationSummary") -> None:
    runs = summary.runs
    known = [name for name in _NAMES if any(getattr(report, name) is not None for report in runs)]
    rows = [
        (
            report.run,
            f"{report.dataset}, {report.split}",
            str(report.num_videos),
            *(percent(getattr(report, name)) for name in known),
        )
        for report in runs
    ]
    table(f"{runs[0].part} videos", ["run", "split", "videos", *(f"{_NAMES[name]} %" for name in known)], rows)
    for report in runs:
        if report.faithfulness is not None:
            say(report.run)
            show_faithfulness(report.faithfulness)
    if summary.agreement:
        show_agreement(summary.agreement, [report.run for report in runs])


def _show_precisions(report: "EvaluationReport") -> None:
    rows = [(figure.name, str(figure.num_videos), percent(figure.average_precision)) for figure in report.classes]
    table("Classes", ["class", "videos", "average precision %"], rows)


def _show_matrix(report: "EvaluationReport", confusion: list[list[int]]) -> None:
    rows = [
        (figure.name, str(figure.num_videos), percent(figure.accuracy), *(str(count) for count in row))
        for figure, row in zip(report.classes, confusion, strict=True)
    ]
    table("Videos by true class (rows) and predicted class (columns)",
          ["class", "videos", "accuracy %", *(figure.name for figure in report.classes)], rows)  # fmt: skip


def _show_worst(report: "EvaluationReport", confusion: list[list[int]]) -> None:
    """Classes by accuracy, each with what it is most often taken for: a matrix of so many classes fits nowhere."""
    rows = []
    for i, figure in enumerate(report.classes):
        others = [count if j != i else 0 for j, count in enumerate(confusion[i])]
        taken = report.classes[others.index(max(others))].name if any(others) else "-"
        rows.append((figure.name, str(figure.num_videos), percent(figure.accuracy), taken))
    rows.sort(key=lambda row: (row[2] == "-", float(row[2]) if row[2] != "-" else 0.0))
    table("Classes, the least accurate first", ["class", "videos", "accuracy %", "most taken for"], rows)
