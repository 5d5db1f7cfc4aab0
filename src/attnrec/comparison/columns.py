"""The columns of a comparison, each once: terminal, Markdown, CSV and the page of `--html` read them here."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from attnrec.comparison.results import ComparedRow, ComparedTable, Interval, PublishedFigure
from attnrec.runtime import duration


@dataclass(frozen=True)
class Column:
    """A column."""

    csv: tuple[str, ...]  # its name in CSV files, two for the ends of an interval; none where they lack it
    value: Callable[[ComparedTable, ComparedRow], Any]  # unrounded; None where the row has none
    heading: str = ""  # for people, who do not see the column without; `{metric}` stands for the table's metric
    text: Callable[[Any], str] = str  # the value for people
    meaning: str = ""  # what it says, for readers who have not met it
    of: str = ""  # what the heading is of, for the page, where the column is not under the title of its own table

    def known(self, table: ComparedTable, row: ComparedRow) -> Any:
        """The value, None where it is not a number either."""
        value = self.value(table, row)
        return None if value != value else value

    def said(self, table: ComparedTable, row: ComparedRow) -> str | None:
        """The value for people, None where there is none."""
        value = self.known(table, row)
        return None if value is None else self.text(value)

    def headed(self, table: ComparedTable) -> str:
        """The heading under the title of its own table."""
        return self.heading.format(metric="mAP" if table.metric == "map" else "acc")

    def headed_on_page(self, table: ComparedTable) -> str:
        """The heading among all others."""
        return f"{self.of}, {self.headed(table)}" if self.of else self.headed(table)


def shown_columns(columns: Sequence[Column], table: ComparedTable) -> list[Column]:
    """Those for people that have something to say of any row."""
    return [
        column
        for column in columns
        if column.heading and any(column.known(table, row) is not None for row in table.rows)
    ]


def csv_names() -> list[str]:
    """Names of the columns of a CSV file."""
    return [name for column in COLUMNS for name in column.csv]


def csv_values(table: ComparedTable, row: ComparedRow) -> list[Any]:
    """A row of a CSV file, unrounded."""
    values: list[Any] = []
    for column in COLUMNS:
        value = column.known(table, row)
        values += (value or (None, None)) if len(column.csv) == 2 else [value] * len(column.csv)
    return values


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"


def _points(difference: float) -> str:
    return f"{100 * difference:+.1f}"


def _between(bounds: Interval) -> str:
    return f"{_percent(bounds[0])}-{_percent(bounds[1])}"


def _points_between(bounds: Interval) -> str:
    return f"{_points(bounds[0])} to {_points(bounds[1])}"


def _p_value(value: float) -> str:
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def _of_table(name: str) -> Column:
    return Column((name,), lambda table, _: getattr(table, name))


def _of_row(
    name: str,
    heading: str = "",
    text: Callable[[Any], str] = str,
    meaning: str = "",
    *,
    csv: str | None = None,
    of: str = "",
) -> Column:
    return Column((csv or name,), lambda _, row: getattr(row, name), heading, text, meaning, of)


def _ends(name: str, prefix: str, text: Callable[[Interval], str], meaning: str, of: str = "") -> Column:
    """An interval of a row."""
    return Column((f"{prefix}low", f"{prefix}high"), lambda _, row: getattr(row, name), "95 %", text, meaning, of)


def _faithful(name: str, heading: str, meaning: str, of: str = "") -> Column:
    """A figure of `evaluate --faithfulness`."""
    return Column((name,), lambda _, row: row.faithfulness.get(name), heading, _percent, meaning, of)


# Those between the first and the last of these each make a table on the terminal and in Markdown, where the names of
# the rows go first; the page and CSV files have them all in one.
ABOUT = (
    _of_table("dataset"),
    Column(("splits",), lambda _, row: " ".join(row.splits)),
    _of_table("part"),
    _of_table("store_fingerprint"),
    _of_row("name", "row", str, "The model, and the settings in which the rows differ.", csv="row"),
    _of_row("model"),
    _of_row("attention"),
    _of_row("attention_penalty", csv="lambda"),
    _of_row("fps"),
    _of_row("preset"),
    Column(("seeds",), lambda _, row: " ".join(map(str, row.seeds))),
    _of_row("num_videos", csv="videos"),
    _of_table("metric"),
)  # fmt: skip
FIGURES = (
    Column(
        (), lambda _, row: len(row.seeds), "seeds", lambda number: str(number or "-"),
        "Seeds that count: trainings that are alike but for chance.",
    ),
    _of_row(
        "figure", "{metric} %", _percent,
        "Share of the test videos recognised, or the mean average precision where videos have several labels: the "
        "mean over the seeds, in percent.",
    ),
    _of_row(
        "sd", "sd", _percent,
        "How much the figure varies between seeds, that is, by chance in training alone: standard deviation in "
        "points.",
    ),
    _ends(
        "interval", "", _between,
        "Where that figure would mostly lie with other videos of the same kind: whole groups of videos are drawn "
        "anew. Rows whose intervals overlap much are not told apart by these videos.",
    ),
    _of_row(
        "mean_class_accuracy", "class %", _percent,
        "Mean over the classes of the share recognised: large classes count no more than small ones.",
    ),
)  # fmt: skip
DIFFERENCES = (
    _of_table("against"),
    _of_row(
        "difference", "points", _points,
        "Figure less that of the row compared with, on the same videos.", of="difference",
    ),
    _ends(
        "difference_interval", "difference_", _points_between,
        "Interval of that difference. One that holds 0 means that these videos do not tell which row is better.",
        of="difference",
    ),
    _of_row("p_value", "p", _p_value, "How often chance alone would give such a difference, were there none."),
    _of_row(
        "corrected_p_value", "p corrected", _p_value,
        "The same, made larger for the number of rows (Holm), since of many rows some differ by luck. Under 0.05 "
        "counts as real by custom.",
    ),
)  # fmt: skip
TRAINING = (
    _of_row(
        "validation_figure", "val %", _percent,
        "The figure on the validation videos, which chose the epoch; no measure of the model.", csv="validation",
    ),
    _of_row(
        "attention_entropy", "entropy", "{:.3f}".format,
        "How spread the attention is: 1 where all places count the same, near 0 where it is on one.",
    ),
    _of_row(
        "penalty_above_floor", "penalty", "{:.2f}".format,
        "How unevenly the places of the frame are looked at over a block (Eq. 7), above the least that is possible; "
        "lambda presses it down.",
    ),
    _of_row("num_parameters", "parameters", str, "Numbers that were trained.", csv="parameters"),
    _of_row("train_seconds", "trained", duration, "Time that a training took, on the machine where it ran."),
    _of_row("blocks_per_second", "blocks/s", "{:.0f}".format, "Blocks a second in training."),
    Column(
        ("published_percent",), lambda _, row: row.published and row.published.value, "paper %", "{:.2f}".format,
        "The paper's own figure for this model on this dataset.",
    ),
)  # fmt: skip
FAITHFULNESS = (
    _faithful("learned", "learned", "The figure with the learned attention, of the runs that were asked."),
    _faithful(
        "uniform", "uniform",
        "The figure with uniform attention in place of the learned: near it, looking hardly matters.",
    ),
    _faithful("other_video", "other video", "The same with the attention of another video."),
    _faithful("time_shuffled", "shuffled", "The same with the steps' attention in another order."),
    _faithful("untrained", "untrained", "The same with the attention of a scorer that was not trained."),
    _faithful(
        "deletion", "deletion",
        "Area under the predicted class's probability as cells go, the most attended first: the less beside random, "
        "the more the prediction rests on them.",
    ),
    _faithful("insertion", "insertion", "The same with the least attended first: here more is better."),
    _faithful("random", "random", "The same with cells in random order."),
)  # fmt: skip
POINTING = (
    _faithful("pointing", "peak in box", "Share of frames whose most attended cell lies in the given box."),
    _ends(
        "pointing_interval", "pointing_", _between,
        "Where that share would mostly lie with other videos of the same kind.", of="peak in box",
    ),
    _of_row(
        "pointing_over_centre", "over centre", _points,
        "Peak in box less that of the centre of the frame, in points, on the same videos.",
    ),
    _ends(
        "pointing_over_centre_interval", "pointing_over_centre_", _points_between,
        "Interval of that difference.", of="over centre",
    ),
    _faithful(
        "pointing_centre", "centre",
        "Share of frames whose centre lies in it: what needs no looking.", of="peak in box",
    ),
    _faithful("pointing_uniform", "uniform", "That share for a cell that is drawn by lot.", of="peak in box"),
    _faithful(
        "pointing_frequent", "frequent cell",
        "That share for the cell that boxes of training videos touch most often.", of="peak in box",
    ),
)  # fmt: skip
MASS = (
    _faithful("mass", "mass in box", "Share of the attention that lies in the given box."),
    _faithful("mass_centre", "centre", "The same for attention that is always on the centre.", of="mass in box"),
    _faithful("mass_uniform", "uniform", "The same for uniform attention: the box's share.", of="mass in box"),
    _faithful(
        "mass_frequent", "frequent cell",
        "The same for attention on the cell that boxes of training videos touch most often.", of="mass in box",
    ),
)  # fmt: skip
NOTES = (
    Column(
        ("differs",), lambda _, row: "; ".join(row.differs) or None, "unlike the paper", str,
        "In what the row differs from how the paper's figure was made.",
    ),
    Column(
        ("flags",), lambda _, row: "; ".join(row.flags) or None, "note", str, "What to know before believing the row.",
    ),
)  # fmt: skip
COLUMNS = (*ABOUT, *FIGURES, *DIFFERENCES, *TRAINING, *FAITHFULNESS, *POINTING, *MASS, *NOTES)

PUBLISHED: dict[str, Callable[[PublishedFigure], str]] = {
    "model": lambda figure: figure.model,
    "dataset": lambda figure: figure.dataset,
    "lambda": lambda figure: "-" if figure.attention_penalty is None else f"{figure.attention_penalty:g}",
    "metric": lambda figure: figure.metric,
    "published %": lambda figure: f"{figure.value:.2f}",
    "source": lambda figure: figure.source,
}
"""Columns of the table of the paper's figures: heading and text."""


def published_texts(figures: Sequence[PublishedFigure]) -> list[list[str]]:
    """The table of the paper's figures, a list of texts for each."""
    return [[text(figure) for text in PUBLISHED.values()] for figure in figures]
