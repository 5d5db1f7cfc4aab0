"""How `attnrec evaluate` shows its figures, and what --faithfulness found."""

from typing import TYPE_CHECKING

from attnrec.cli.output import counted, say, table
from attnrec.runtime import duration, percent

if TYPE_CHECKING:
    from attnrec.evaluation.report import EvaluationReport, EvaluationSummary, Faithfulness
    from attnrec.evaluation.tables import FigureTable

_MATRIX_CLASSES = 12  # a confusion matrix of more does not fit a screen


def show_evaluation(report: "EvaluationReport") -> None:
    """Print the figures of a run."""
    from attnrec.evaluation.tables import class_table, figure_with_interval, known_figures

    chance = "mean share of a class" if report.multilabel else "largest class"
    figures = ", ".join(" ".join(figure_with_interval(report, name)) for name in known_figures(report))
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
    if report.confusion is not None and len(report.classes) <= _MATRIX_CLASSES:
        _show_matrix(report, report.confusion)
    else:
        _show(class_table(report))
    if report.faithfulness is not None:
        _show_faithfulness(report.faithfulness)
    drawn = f", drawn {counted(report.samples, 'time')}," if report.samples else ""
    say(f"{counted(report.num_blocks, 'block')}{drawn} in {duration(report.seconds)}")


def show_evaluations(summary: "EvaluationSummary") -> None:
    """Print the figures of several runs."""
    from attnrec.evaluation.tables import FIGURES, agreement_table, known_figures

    runs = summary.runs
    known = [name for name in FIGURES if any(name in known_figures(report) for report in runs)]
    rows = [
        (
            report.run,
            f"{report.dataset}, {report.split}",
            str(report.num_videos),
            *(percent(getattr(report, name)) for name in known),
        )
        for report in runs
    ]
    table(f"{runs[0].part} videos", ["run", "split", "videos", *(f"{FIGURES[name]} %" for name in known)], rows)
    for report in runs:
        if report.faithfulness is not None:
            say(report.run)
            _show_faithfulness(report.faithfulness)
    if summary.agreement:
        _show(agreement_table(summary.agreement, [report.run for report in runs]))


def _show(of: "FigureTable") -> None:
    """Print a table."""
    table(of.title, of.columns, of.rows)


def _show_matrix(report: "EvaluationReport", confusion: list[list[int]]) -> None:
    rows = [
        (figure.name, str(figure.num_videos), percent(figure.accuracy), *(str(count) for count in row))
        for figure, row in zip(report.classes, confusion, strict=True)
    ]
    table("Videos by true class (rows) and predicted class (columns)",
          ["class", "videos", "accuracy %", *(figure.name for figure in report.classes)], rows)  # fmt: skip


def _show_faithfulness(found: "Faithfulness") -> None:
    """Print the tables of --faithfulness."""
    from attnrec.evaluation.tables import faithfulness_notes, faithfulness_tables

    for each in faithfulness_tables(found):
        _show(each)
    for note in faithfulness_notes(found):
        say(note)
