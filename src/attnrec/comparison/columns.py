"""The columns of a comparison, each once: terminal, Markdown, CSV and the page of `--html` read them here."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from attnrec.comparison.results import ComparedRow, ComparedTable, Interval, PublishedFigure
from attnrec.runtime import duration


@dataclass(frozen=True)
class Column:
    """A column.

    Attributes:
        csv: Its name in CSV files; two with a space between for the ends of an interval, empty where they lack it.
        value: Of a row of a table, unrounded; None where it has none.
        heading: Over it for people, who do not see it without; `{metric}` stands for the table's metric.
        text: The value for people.
        meaning: What it says, for readers who have not met it.
        of: What the heading is of, for the page, where the column is not under the title of its own table.
    """

    csv: str
    value: Callable[[ComparedTable, ComparedRow], Any]
    heading: str = ""
    text: Callable[[Any], str] = str
    meaning: str = ""
    of: str = ""

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
    return [name for column in COLUMNS for name in column.csv.split()]


def csv_values(table: ComparedTable, row: ComparedRow) -> list[Any]:
    """A row of a CSV file, unrounded."""
    values: list[Any] = []
    for column in COLUMNS:
        value, number = column.known(table, row), len(column.csv.split())
        values += value or (None, None) if number == 2 else [value] * number
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


def _faithful(name: str, heading: str, meaning: str, of: str = "") -> Column:
    return Column(name, lambda _, row: row.faithfulness.get(name), heading, _percent, meaning, of)


# Those between the first and the last of these each make a table on the terminal and in Markdown, where the names of
# the rows go first; the page and CSV files have them all in one.
ABOUT = (
    Column("dataset", lambda table, _: table.dataset),
    Column("splits", lambda _, row: " ".join(row.splits)),
    Column("part", lambda table, _: table.part),
    Column("store_fingerprint", lambda table, _: table.store_fingerprint),
    Column("row", lambda _, row: row.name, "row", str, "The model, and the settings in which the rows differ."),
    Column("model", lambda _, row: row.model),
    Column("attention", lambda _, row: row.attention),
    Column("lambda", lambda _, row: row.attention_penalty),
    Column("fps", lambda _, row: row.fps),
    Column("preset", lambda _, row: row.preset),
    Column("seeds", lambda _, row: " ".join(map(str, row.seeds))),
    Column("videos", lambda _, row: row.num_videos),
    Column("metric", lambda table, _: table.metric),
)  # fmt: skip
FIGURES = (
    Column(
        "", lambda _, row: len(row.seeds), "seeds", lambda number: str(number or "-"),
        "Seeds that count: trainings that are alike but for chance.",
    ),
    Column(
        "figure", lambda _, row: row.figure, "{metric} %", _percent,
        "Share of the test videos recognised, or the mean average precision where videos have several labels: the "
        "mean over the seeds, in percent.",
    ),
    Column(
        "sd", lambda _, row: row.sd, "sd", _percent,
        "How much the figure varies between seeds, that is, by chance in training alone: standard deviation in "
        "points.",
    ),
    Column(
        "low high", lambda _, row: row.interval, "95 %", _between,
        "Where that figure would mostly lie with other videos of the same kind: whole groups of videos are drawn "
        "anew. Rows whose intervals overlap much are not told apart by these videos.",
    ),
    Column(
        "mean_class_accuracy", lambda _, row: row.mean_class_accuracy, "class %", _percent,
        "Mean over the classes of the share recognised: large classes count no more than small ones.",
    ),
)  # fmt: skip
DIFFERENCES = (
    Column("against", lambda table, _: table.against),
    Column(
        "difference", lambda _, row: row.difference, "points", _points,
        "Figure less that of the row compared with, on the same videos.", of="difference",
    ),
    Column(
        "difference_low difference_high", lambda _, row: row.difference_interval, "95 %", _points_between,
        "Interval of that difference. One that holds 0 means that these videos do not tell which row is better.",
        of="difference",
    ),
    Column(
        "p_value", lambda _, row: row.p_value, "p", _p_value,
        "How often chance alone would give such a difference, were there none.",
    ),
    Column(
        "corrected_p_value", lambda _, row: row.corrected_p_value, "p corrected", _p_value,
        "The same, made larger for the number of rows (Holm), since of many rows some differ by luck. Under 0.05 "
        "counts as real by custom.",
    ),
)  # fmt: skip
TRAINING = (
    Column(
        "validation", lambda _, row: row.validation_figure, "val %", _percent,
        "The figure on the validation videos, which chose the epoch; no measure of the model.",
    ),
    Column(
        "attention_entropy", lambda _, row: row.attention_entropy, "entropy", "{:.3f}".format,
        "How spread the attention is: 1 where all places count the same, near 0 where it is on one.",
    ),
    Column(
        "penalty_above_floor", lambda _, row: row.penalty_above_floor, "penalty", "{:.2f}".format,
        "How unevenly the places of the frame are looked at over a block (Eq. 7), above the least that is possible; "
        "lambda presses it down.",
    ),
    Column("parameters", lambda _, row: row.num_parameters, "parameters", str, "Numbers that were trained."),
    Column(
        "train_seconds", lambda _, row: row.train_seconds, "trained", duration,
        "Time that a training took, on the machine where it ran.",
    ),
    Column(
        "blocks_per_second", lambda _, row: row.blocks_per_second, "blocks/s", "{:.0f}".format,
        "Blocks a second in training.",
    ),
    Column(
        "published_percent", lambda _, row: row.published and row.published.value, "paper %", "{:.2f}".format,
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
    Column(
        "pointing_low pointing_high", lambda _, row: row.pointing_interval, "95 %", _between,
        "Where that share would mostly lie with other videos of the same kind.", of="peak in box",
    ),
    Column(
        "pointing_over_centre", lambda _, row: row.pointing_over_centre, "over centre", _points,
        "Peak in box less that of the centre of the frame, in points, on the same videos.",
    ),
    Column(
        "pointing_over_centre_low pointing_over_centre_high", lambda _, row: row.pointing_over_centre_interval, "95 %",
        _points_between,
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
        "differs", lambda _, row: "; ".join(row.differs) or None, "unlike the paper", str,
        "In what the row differs from how the paper's figure was made.",
    ),
    Column("flags", lambda _, row: "; ".join(row.flags) or None, "note", str, "What to know before believing the row."),
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
