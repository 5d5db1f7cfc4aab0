"""Plots that commands leave in a run: its learning curves and confusion matrices."""

from pathlib import Path
from typing import TYPE_CHECKING

from attnrec.cli.output import Output
from attnrec.distributed import world_of_torchrun
from attnrec.errors import AttnrecError
from attnrec.runtime import Progress

if TYPE_CHECKING:
    from attnrec.comparison.results import CompareReport
    from attnrec.drawing.figure import Plot

_CURVES = "curves"


def save_curves(path: str | Path, output: Output) -> None:
    """Draw the learning curves of a run into it; under torchrun the first process does."""
    if not world_of_torchrun().is_first:
        return
    output.begin("drawing learning curves")
    from attnrec.training.curves import learning_curves
    from attnrec.training.run import Run

    run = Run(path)
    metric = "map" if run.manifest.model.multilabel else "accuracy"
    _save(path, _CURVES, learning_curves(run.read_log(), metric, run.manifest.result.get("best_epoch")), output)


def save_confusion(path: str | Path, part: str, output: Output) -> None:
    """Draw the confusion matrix of a run's evaluation into it; nothing where videos may have several labels."""
    output.begin("drawing the confusion matrix")
    from attnrec.evaluation.plots import confusion_plot
    from attnrec.training.run import Run

    run = Run(path)
    if (found := run.read_evaluation(part)) is not None:
        _save(path, _confusion(part), confusion_plot(found["confusion"], run.manifest.classes), output)


def save_missing(report: "CompareReport", part: str, output: Output) -> None:
    """Draw what runs of a comparison lack of these."""
    runs = [Path(run.path) for table in report.tables for row in table.rows for run in row.runs]
    for done, run in enumerate(runs):
        output.progress(Progress("plots", done, len(runs), str(run)))
        if not (run / f"{_CURVES}.png").exists():
            save_curves(run, output)
        if not (run / f"{_confusion(part)}.png").exists():
            save_confusion(run, part, output)
    output.progress(Progress("plots", len(runs), len(runs)))


def _confusion(part: str) -> str:
    return f"confusion-{part}"


def _save(path: str | Path, name: str, plot: "Plot | None", output: Output) -> None:
    """Write a plot, and say where; a disk that is full by then is only a warning."""
    from attnrec.training.run import Run

    if plot is None:
        return
    try:
        output.note(f"wrote {Run(path).save_plot(name, plot)}")
    except AttnrecError as error:
        output.warn(f"no {name}: {error}")
