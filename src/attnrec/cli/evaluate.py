"""`attnrec evaluate`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from attnrec.cli.options import (
    DeviceOption,
    FeaturesOption,
    JobsOption,
    JsonOption,
    PartOption,
    QuietOption,
    RunOption,
    RunsDirOption,
    examples,
)
from attnrec.cli.output import Output, duration, percent, printable, table
from attnrec.config import Reduction

if TYPE_CHECKING:
    from attnrec.workflows.evaluate import EvaluationReport

_MATRIX_CLASSES = 12  # a confusion matrix of more does not fit a screen

EXAMPLES = examples(
    "attnrec evaluate",
    "attnrec evaluate --run runs/attention-lambda1-fps6-1 --part validation",
    "attnrec evaluate --json > figures.json",
)


def evaluate(
    run: RunOption = None,
    features: FeaturesOption = None,
    part: PartOption = "test",
    reduction: Annotated[
        Reduction, typer.Option("--reduce", help="How blocks make a video's prediction: mean probability, or vote.")
    ] = "mean",
    block_stride: Annotated[
        int | None,
        typer.Option("--stride", help="Stored frames between the starts of blocks; the run's if not given.", min=1),
    ] = None,
    runs: RunsDirOption = Path("runs"),
    device: DeviceOption = "auto",
    jobs: JobsOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Score a run on the test part of its split: accuracy, per class, confusion, per video.

    Writes evaluation-<part>.json and predictions-<part>.npz into the run.
    """
    from attnrec.run import Run, newest_run
    from attnrec.workflows import evaluate as workflow

    with Output(json=json, quiet=quiet) as output:
        chosen = Run(run) if run is not None else newest_run(runs)
        if run is None:
            output.note(f"run {chosen.path}")
        report = workflow.evaluate(
            chosen,
            features,
            part=part,
            reduction=reduction,
            block_stride=block_stride,
            device=device,
            jobs=jobs,
            on_progress=output.progress,
        )
        output.result(report, lambda: _show(report))
        if report.leaking_groups:
            output.warn("the split has groups on both sides: these figures are too good")
        output.note("next: attnrec visualize CLIP --out where.gif")


def _show(report: "EvaluationReport") -> None:
    print(
        f"{printable(report.run)}: {report.part} accuracy {percent(report.accuracy)} % of {report.num_videos} videos "
        f"({report.dataset}, split {report.split}), mean over classes {percent(report.mean_class_accuracy)} %, "
        f"largest class {percent(report.chance)} %"
    )
    if report.attention_entropy is not None and report.penalty_above_floor is not None:
        print(
            f"attention entropy {report.attention_entropy:.3f} of uniform, "
            f"penalty {report.penalty_above_floor:.2f} above its floor"
        )
    if len(report.classes) <= _MATRIX_CLASSES:
        _show_matrix(report)
    else:
        _show_worst(report)
    print(f"{report.num_blocks} blocks in {duration(report.seconds)}")


def _show_matrix(report: "EvaluationReport") -> None:
    rows = [
        (figure.name, str(figure.num_videos), percent(figure.accuracy), *(str(count) for count in row))
        for figure, row in zip(report.classes, report.confusion, strict=True)
    ]
    table("Videos by true class (rows) and predicted class (columns)",
          ["class", "videos", "accuracy %", *(figure.name for figure in report.classes)], rows)  # fmt: skip


def _show_worst(report: "EvaluationReport") -> None:
    """Classes by accuracy, each with what it is most often taken for: a matrix of so many classes fits nowhere."""
    rows = []
    for i, figure in enumerate(report.classes):
        others = [count if j != i else 0 for j, count in enumerate(report.confusion[i])]
        taken = report.classes[others.index(max(others))].name if any(others) else "-"
        rows.append((figure.name, str(figure.num_videos), percent(figure.accuracy), taken))
    rows.sort(key=lambda row: (row[2] == "-", float(row[2]) if row[2] != "-" else 0.0))
    table("Classes, the least accurate first", ["class", "videos", "accuracy %", "most taken for"], rows)
