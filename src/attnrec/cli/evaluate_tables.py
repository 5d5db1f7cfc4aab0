"""How `attnrec evaluate` shows its figures, and what --faithfulness found."""

import shutil
import sys
from typing import TYPE_CHECKING

from attnrec.cli.output import say, table
from attnrec.runtime import counted, duration, percent

if TYPE_CHECKING:
    from attnrec.drawing.tables import TextTable
    from attnrec.evaluation.report import EvaluationReport, EvaluationSummary, Faithfulness

_MATRIX_CLASSES = 12  # a confusion matrix of more does not fit a screen


def show_evaluation(report: "EvaluationReport") -> None:
    """Print the figures of a run."""
    from attnrec.evaluation.tables import class_table, figure_with_interval, known_figures

    leaking = ", LEAKING" if report.leaking_groups else ""
    videos, groups = counted(report.num_videos, "video"), counted(report.num_groups, "group")
    say(f"{report.run}: {report.part}, {videos} in {groups}, {report.dataset}, split {report.split}{leaking}")
    rows = [figure_with_interval(report, name) for name in known_figures(report)]
    of_class = "mean share of a class" if report.multilabel else "largest class"
    rows.append(("chance", f"{percent(report.chance)} %, {of_class}"))
    if report.attention_entropy is not None and report.penalty_above_floor is not None:
        rows.append(
            (
                "attention entropy",
                f"{report.attention_entropy:.3f} of uniform, penalty {report.penalty_above_floor:.2f} above its floor",
            )
        )
    for label, text in rows:
        say(f"{label:19}{text}")
    if report.confusion is not None and _fits(matrix := _matrix(report, report.confusion)):
        table(*matrix)
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


def _show(of: "TextTable") -> None:
    """Print a table."""
    table(of.title, of.columns, of.rows)


def _matrix(report: "EvaluationReport", confusion: list[list[int]]) -> tuple[str, list[str], list[tuple[str, ...]]]:
    """Title, columns and rows of the confusion matrix."""
    rows = [
        (figure.name, str(figure.num_videos), percent(figure.accuracy), *(str(count) for count in row))
        for figure, row in zip(report.classes, confusion, strict=True)
    ]
    columns = ["class", "videos", "accuracy %", *(figure.name for figure in report.classes)]
    return "Videos by true class (rows) and predicted class (columns)", columns, rows


def _fits(matrix: tuple[str, list[str], list[tuple[str, ...]]]) -> bool:
    """Whether a table fits the screen, or is small where stdout is none."""
    _, columns, rows = matrix
    width = sum(3 + max(map(len, column)) for column in zip(columns, *rows, strict=True))
    return len(rows) <= _MATRIX_CLASSES and (not sys.stdout.isatty() or width <= shutil.get_terminal_size().columns)


def _show_faithfulness(found: "Faithfulness") -> None:
    """Print the tables of --faithfulness."""
    from attnrec.evaluation.tables import faithfulness_notes, faithfulness_tables

    for each in faithfulness_tables(found):
        _show(each)
    for note in faithfulness_notes(found):
        say(note)
