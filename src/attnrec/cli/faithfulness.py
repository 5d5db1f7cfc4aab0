"""How `attnrec evaluate --faithfulness` shows what it found."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from attnrec.cli.output import percent, say, table

if TYPE_CHECKING:
    from attnrec.evaluation.report import Agreement, Faithfulness

_REPLACEMENTS = {
    "uniform": "uniform",
    "other_video": "another video's",
    "time_shuffled": "its own, steps shuffled",
    "untrained": "an untrained scorer's",
}
_ELSEWHERE = {"centre": "centre of the frame", "uniform": "uniform", "frequent": "most frequent cell in training"}


def show_faithfulness(found: "Faithfulness") -> None:
    """Print the tables of a test of attention."""
    _show_replacements(found)
    if found.deletion is None:
        say("Cells removed: the predicted class stays as probable without any cell, so no order of them tells")
    else:
        _show_areas(found)
    if found.pointing is not None:
        _show_boxes(found)


def show_agreement(pairs: Sequence["Agreement"], runs: Sequence[str]) -> None:
    """Print how alike runs look at the same frames, the runs by their place in the table before."""
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
    """A difference and its interval, where there is one."""
    if name not in found.differences:
        return "", ""
    low, high = found.intervals[name]
    return form(found.differences[name]), f"{form(low)} to {form(high)}" if low == low else "-"


def _points(value: float) -> str:
    return f"{round(100 * value, 1) + 0.0:+.1f}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
