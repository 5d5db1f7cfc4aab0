"""The figures of an evaluation as tables of text, for the terminal and for pages."""

from collections.abc import Callable, Iterator, Sequence

from attnrec.drawing.tables import TextTable
from attnrec.evaluation.report import Agreement, EvaluationReport, Faithfulness, is_right
from attnrec.runtime import percent

FIGURES = {
    "accuracy": "accuracy",
    "mean_class_accuracy": "mean over classes",
    "top_k_accuracy": "top-k accuracy",
    "map": "mAP",
}
_REPLACEMENTS = {
    "uniform": "uniform",
    "other_video": "another video's",
    "time_shuffled": "its own, steps shuffled",
    "untrained": "an untrained scorer's",
}
_ELSEWHERE = {"centre": "centre of the frame", "uniform": "uniform", "frequent": "most frequent cell in training"}


def figure_with_interval(report: EvaluationReport, name: str) -> tuple[str, str]:
    """The label of a figure, and its text in percent with its 95 % interval if there is one."""
    label = f"top-{report.top_k} accuracy" if name == "top_k_accuracy" else FIGURES[name]
    low, high = report.intervals.get(name, (float("nan"),) * 2)
    interval = f" ({percent(low)}-{percent(high)})" if low == low else ""
    return label, f"{percent(getattr(report, name))} %{interval}"


def known_figures(report: EvaluationReport) -> list[str]:
    """Names of the accuracies or the mAP that a report has."""
    return [name for name in FIGURES if getattr(report, name) is not None]


def figure_table(report: EvaluationReport) -> TextTable:
    """The figures of a run over all videos."""
    rows = [figure_with_interval(report, name) for name in known_figures(report)]
    rows += [("chance", f"{percent(report.chance)} %"), ("log loss", f"{report.log_loss:.3f}")]
    if report.attention_entropy is not None and report.penalty_above_floor is not None:
        rows.append(("entropy of the attention, 1 for uniform", f"{report.attention_entropy:.3f}"))
        rows.append(("attention penalty above its floor", f"{report.penalty_above_floor:.2f}"))
    return TextTable(report.run, ["figure", f"{report.num_videos} {report.part} videos"], rows)


def class_table(report: EvaluationReport) -> TextTable:
    """Each class with what it is most often taken for, the least accurate first; for mAP its average precision."""
    if report.confusion is None:
        listed = [(of.name, str(of.num_videos), percent(of.average_precision)) for of in report.classes]
        return TextTable("Classes", ["class", "videos", "average precision %"], listed)
    rows = []
    for i, of in enumerate(report.classes):
        others = [count if j != i else 0 for j, count in enumerate(report.confusion[i])]
        taken = report.classes[others.index(max(others))].name if any(others) else "-"
        rows.append((of.name, str(of.num_videos), percent(of.accuracy), taken))
    rows.sort(key=lambda row: (row[2] == "-", float(row[2]) if row[2] != "-" else 0.0))
    columns = ["class", "videos", "accuracy %", "most taken for"]
    return TextTable("Classes, the least accurate first", columns, rows, words=(0, 3))


def video_tables(report: EvaluationReport) -> list[TextTable]:
    """The videos that were not recognised and those that were, each with its prediction, the surest first."""
    classes = [of.name for of in report.classes]
    videos = sorted(report.videos, key=lambda video: (-video.probability, video.path))
    tables = []
    for right, kind in ((False, "not recognised"), (True, "recognised")):
        chosen = [of for of in videos if is_right(vars(of), classes) is right]
        rows = [(of.path, of.label, of.predicted, percent(of.probability)) for of in chosen]
        title = f"{len(rows)} of {len(videos)} videos {kind}"
        tables.append(TextTable(title, ["video", "is", "predicted", "probability %"], rows, words=(0, 1, 2)))
    return tables


def faithfulness_tables(found: Faithfulness) -> Iterator[TextTable]:
    """The tables of a test of attention: replacements, cells removed, and boxes, as far as they were tested."""
    yield _replacements(found)
    if found.deletion is not None:
        yield _areas(found)
    if found.pointing is not None:
        yield _boxes(found)


def agreement_table(pairs: Sequence[Agreement], runs: Sequence[str]) -> TextTable:
    """How alike the attention of runs is on the same frames; runs are numbered by their places in `runs`."""
    rows = [
        (
            " and ".join(str(runs.index(run) + 1) for run in pair.runs),
            *(_number(v) for v in (pair.rank_correlation, pair.other_rank_correlation)),
            *(_number(v) for v in (pair.jensen_shannon, pair.other_jensen_shannon)),
        )
        for pair in pairs
    ]
    columns = ["runs", "rank correlation", "other videos", "divergence, bit", "other videos"]
    return TextTable("Attention of two runs on the same frames, and on those of other videos", columns, rows)


def faithfulness_notes(found: Faithfulness) -> list[str]:
    """What the tables of a test of attention do not say."""
    notes = []
    if found.other_class_share is not None and found.other_class_share < 1:
        notes.append(f"{percent(found.other_class_share)} % of the other videos are of another class")
    if found.deletion is None:
        notes.append(
            "Cells removed: the predicted class stays as probable without any cell, so no order of cells can be tested"
        )
    return notes


def _replacements(found: Faithfulness) -> TextTable:
    metric = "mAP" if found.metric == "map" else "accuracy"
    rows = [("as learned", percent(found.learned), "", "", "", "")]
    for name, label in _REPLACEMENTS.items():
        if name in found.changed:
            moved = percent(found.changed[name]), percent(found.shift[name])
            rows.append((label, percent(getattr(found, name)), *_difference(found, name, _points), *moved))
    columns = ["attention", f"{metric} %", "learned is better by", "95 %", "class changes %", "shift %"]
    return TextTable("With other attention in its place", columns, rows)


def _areas(found: Faithfulness) -> TextTable:
    rows = [
        (label, f"{getattr(found, name):.3f}", *_difference(found, name, lambda value: f"{value:+.3f}"))
        for name, label in (("deletion", "most attended"), ("insertion", "least attended"), ("random", "random"))
    ]
    title = "Area under the predicted class's probability as cells go"
    return TextTable(title, ["first to go", "area", "better than random by", "95 %"], rows)


def _boxes(found: Faithfulness) -> TextTable:
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
    return TextTable(f"Boxes in {found.num_boxed_frames} frames of {found.num_boxed_videos} videos", columns, rows)


def _difference(found: Faithfulness, name: str, form: Callable[[float], str]) -> tuple[str, str]:
    """The text of a difference and of its confidence interval; empty where it was not computed."""
    if name not in found.differences:
        return "", ""
    low, high = found.intervals[name]
    return form(found.differences[name]), f"{form(low)} to {form(high)}" if low == low else "-"


def _points(value: float) -> str:
    return f"{round(100 * value, 1) + 0.0:+.1f}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
