"""Learning curves of runs, drawn from the epochs in `training.jsonl`."""

from collections.abc import Iterator, Sequence
from typing import Any

from attnrec.drawing.figure import Plot, Shown
from attnrec.drawing.notebook import plot_html, table_html
from attnrec.drawing.plots import Line, Point, lines, panels
from attnrec.drawing.tables import TextTable
from attnrec.metrics import capital, metric_name
from attnrec.training.run import Run

Log = Sequence[dict[str, Any]]
_RESULTS = {
    "best_epoch": "best epoch",
    "epochs": "epochs done",
    "validation_accuracy": "validation accuracy",
    "validation_map": "validation mAP",
    "validation_loss": "validation loss",
    "attention_entropy": "entropy of the attention",
    "seconds": "seconds",
}


def epochs_of(log: Log) -> list[dict[str, Any]]:
    """The lines of a run's log that stand for its epochs, without those of a second training."""
    return [line for line in log if line.get("kind") == "epoch"]


def training_plots(
    rows: Sequence[tuple[str, Sequence[Log]]], metric: str, best_epoch: int | None = None
) -> list[Shown]:
    """Plot the curves of rows of runs: loss, validation, and penalty and entropy of attention, if any run has them.

    Args:
        rows: Name of each row, and the epochs of each of its runs.
        metric: `accuracy`, or `map` if videos may have several labels.
        best_epoch: The epoch to mark; None for no mark.
    """
    names = [name for name, _ in rows]
    return [
        Shown(heading, lines(drawn, _x_label(best_epoch), y_label, names=names, percent=percent, upright=best_epoch))
        for heading, drawn, y_label, percent in _curves(rows, metric)
    ]


def learning_curves(log: Log, metric: str, best_epoch: int | None) -> Plot | None:
    """Plot the curves of one run in panels, its best epoch marked; None if it finished no epoch."""
    drawn = list(_curves([("run", [epochs_of(log)])], metric))
    return panels(drawn, _x_label(best_epoch), best_epoch) if drawn else None


def _x_label(best_epoch: int | None) -> str:
    return "epoch" if best_epoch is None else f"epoch; {best_epoch} was kept"


def run_html(run: Run) -> str:
    """What a notebook shows of a run: its settings, its result and its curves."""
    manifest = run.manifest
    result, multilabel = manifest.result, manifest.model.multilabel
    metric = "map" if multilabel else "accuracy"
    rows = [(name, str(value)) for name, value in (manifest.given or {}).items()]
    figures = {label: result.get(name) for name, label in _RESULTS.items()}
    rows += [(label, f"{figure:.6g}") for label, figure in figures.items() if isinstance(figure, int | float)]
    curves = learning_curves(run.read_log(), metric, result.get("best_epoch"))
    table = TextTable(str(run.path), ["", ""], rows, (0, 1))
    return table_html(table) + (plot_html(curves) if curves is not None else "")


def _curves(rows: Sequence[tuple[str, Sequence[Log]]], metric: str) -> Iterator[tuple[str, list[Line], str, bool]]:
    """Heading, lines, label of the y axis and whether its values are shares, of each curve that a run has."""
    name = metric_name(metric)
    for heading, field, y_label in (
        ("Loss in training", "loss", "loss"),
        ("Loss on validation videos", "validation_loss", "loss"),
        (f"{capital(name)} on validation videos", f"validation_{metric}", f"{name}, %"),
        ("Penalty above its floor", "penalty_above_floor", "penalty"),
        ("Entropy of the attention", "attention_entropy", "entropy, 1 for uniform"),
    ):
        drawn = [
            Line(row, [Point(epoch["epoch"], epoch.get(field)) for epoch in log])
            for row, logs in rows
            for log in logs
            if any(epoch.get(field) is not None for epoch in log)
        ]
        if drawn:
            yield heading, drawn, y_label, y_label.endswith("%")
