"""How `attnrec evaluate` shows its figures, and what --faithfulness found."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from attnrec.cli.output import counted, percent, say, table
from attnrec.runtime import duration

if TYPE_CHECKING:
    from attnrec.evaluation.report import Agreement, EvaluationReport, EvaluationSummary, Faithfulness

_REPLACEMENTS = {
    "uniform": "uniform",
    "other_video": "another video's",
    "time_shuffled": "its own, steps shuffled",
    "untrained": "an untrained scorer's",
}
_ELSEWHERE = {"centre": "centre of the frame", "uniform": "uniform", "frequent": "most frequent cell in training"}
_MATRIX_CLASSES = 12  # a confusion matrix of more does not fit a screen
_NAMES = {
    "accuracy": "accuracy",
    "mean_class_accuracy": "mean over classes",
    "top_k_accuracy": "top-k accuracy",
    "map": "mAP",
}


def show_evaluation(report: "EvaluationReport") -> None:
    """Print the figures of a run."""
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
        _show_faithfulness(report.faithfulness)
    drawn = f", drawn {counted(report.samples, 'time')}," if report.samples else ""
    say(f"{counted(report.num_blocks, 'block')}{drawn} in {duration(report.seconds)}")


def _figure(report: "EvaluationReport", name: str) -> str:
    """A figure as text, with its confidence interval if there is one."""
    low, high = report.intervals.get(name, (float("nan"),) * 2)
    interval = f" ({percent(low)}-{percent(high)})" if low == low else ""
    label = f"top-{report.top_k} accuracy" if name == "top_k_accuracy" else _NAMES[name]
    return f"{label} {percent(getattr(report, name))} %{interval}"


def show_evaluations(summary: "EvaluationSummary") -> None:
    """Print the figures of several runs."""
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
            _show_faithfulness(report.faithfulness)
    if summary.agreement:
        _show_agreement(summary.agreement, [report.run for report in runs])


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
    """Print classes by accuracy, each with the class it is most often mistaken for: a full matrix would not fit."""
    rows = []
    for i, figure in enumerate(report.classes):
        others = [count if j != i else 0 for j, count in enumerate(confusion[i])]
        taken = report.classes[others.index(max(others))].name if any(others) else "-"
        rows.append((figure.name, str(figure.num_videos), percent(figure.accuracy), taken))
    rows.sort(key=lambda row: (row[2] == "-", float(row[2]) if row[2] != "-" else 0.0))
    table("Classes, the least accurate first", ["class", "videos", "accuracy %", "most taken for"], rows)


def _show_faithfulness(found: "Faithfulness") -> None:
    """Print the tables of --faithfulness."""
    _show_replacements(found)
    if found.deletion is None:
        say("Cells removed: the predicted class stays as probable without any cell, so no order of cells can be tested")
    else:
        _show_areas(found)
    if found.pointing is not None:
        _show_boxes(found)


def _show_agreement(pairs: Sequence["Agreement"], runs: Sequence[str]) -> None:
    """Print how alike the attention of runs is on the same frames; runs are numbered as in the table before."""
    rows = [
        (
            " and ".join(str(runs.index(run) + 1) for run in pair.runs),
            *(_number(v) for v in (pair.rank_correlation, pair.other_rank_correlation)),
            *(_number(v) for v in (pair.jensen_shannon, pair.other_jensen_shannon)),
        )
        for pair in pairs
    ]
    columns = ["runs", "rank correlation", "other videos", "divergence, bit", "other videos"]
    table("Attention of two runs on the same frames, and on those of other videos", columns, rows)


def _show_replacements(found: "Faithfulness") -> None:
    metric = "mAP" if found.metric == "map" else "accuracy"
    rows = [("as learned", percent(found.learned), "", "", "", "")]
    for name, label in _REPLACEMENTS.items():
        if name in found.changed:
            moved = percent(found.changed[name]), percent(found.shift[name])
            rows.append((label, percent(getattr(found, name)), *_difference(found, name, _points), *moved))
    columns = ["attention", f"{metric} %", "learned is better by", "95 %", "class changes %", "shift %"]
    table("With other attention in its place", columns, rows)
    if found.other_class_share is not None and found.other_class_share < 1:
        say(f"{percent(found.other_class_share)} % of the other videos are of another class")


def _show_areas(found: "Faithfulness") -> None:
    rows = [
        (label, f"{getattr(found, name):.3f}", *_difference(found, name, lambda value: f"{value:+.3f}"))
        for name, label in (("deletion", "most attended"), ("insertion", "least attended"), ("random", "random"))
    ]
    title = "Area under the predicted class's probability as cells go"
    table(title, ["first to go", "area", "better than random by", "95 %"], rows)


def _show_boxes(found: "Faithfulness") -> None:
    rows = [("as learned", percent(found.pointing), "", "", percent(found.mass), "", "")]
    for name, label in _ELSEWHERE.items():
        if getattr(found, f"pointing_{name}") is None:
            continue
        cells = [
            (percent(getattr(found, f"{figure}_{name}")), *_difference(found, f"{figure}_{name}", _points))
            for figure in ("pointing", "mass")
        ]
        rows.append((label, *cells[0], *cells[1]))
    columns = ["attention", "peak in box %", "better by", "95 %", "mass in box %", "better by", "95 %"]
    table(f"Boxes in {found.num_boxed_frames} frames of {found.num_boxed_videos} videos", columns, rows)


def _difference(found: "Faithfulness", name: str, form: Callable[[float], str]) -> tuple[str, str]:
    """The text of a difference and of its confidence interval; empty where it was not computed."""
    if name not in found.differences:
        return "", ""
    low, high = found.intervals[name]
    return form(found.differences[name]), f"{form(low)} to {form(high)}" if low == low else "-"


def _points(value: float) -> str:
    return f"{round(100 * value, 1) + 0.0:+.1f}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
