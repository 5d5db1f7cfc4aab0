"""The columns of a comparison, each defined once for the terminal, Markdown, CSV and the page of `--html`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from attnrec.comparison.results import ComparedRow, ComparedTable, Interval, PublishedFigure
from attnrec.runtime import duration


@dataclass(frozen=True)
class Column:
    """A column of a comparison's tables."""

    csv: tuple[str, ...]  # name in CSV files, two for the ends of an interval; empty if CSV files lack the column
    value: Callable[[ComparedTable, ComparedRow], Any]  # unrounded value; None if the row has none
    heading: str = ""  # heading, with `{metric}` for the table's metric; empty for columns of CSV files only
    text: Callable[[Any], str] = str  # formats the value for people
    meaning: str = ""  # explanation of the column on the page
    of: str = ""  # what to put before the heading on the page, which has all columns in one table

    def known(self, table: ComparedTable, row: ComparedRow) -> Any:
        """The unrounded value of a row; None if it has none or it is NaN."""
        value = self.value(table, row)
        return None if value != value else value

    def said(self, table: ComparedTable, row: ComparedRow) -> str | None:
        """The value of a row as text; None if it has none."""
        value = self.known(table, row)
        return None if value is None else self.text(value)

    def headed(self, table: ComparedTable) -> str:
        """The heading on the terminal and in Markdown."""
        return self.heading.format(metric="mAP" if table.metric == "map" else "acc")

    def headed_on_page(self, table: ComparedTable) -> str:
        """The heading on the page, among all columns."""
        return f"{self.of}, {self.headed(table)}" if self.of else self.headed(table)


def shown_columns(columns: Sequence[Column], table: ComparedTable) -> list[Column]:
    """The columns with a heading that have a value in at least one row."""
    return [
        column
        for column in columns
        if column.heading and any(column.known(table, row) is not None for row in table.rows)
    ]


def csv_names() -> list[str]:
    """The names of the columns of a CSV file."""
    return [name for column in COLUMNS for name in column.csv]


def csv_values(table: ComparedTable, row: ComparedRow) -> list[Any]:
    """The unrounded values of a row of a CSV file."""
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
    """The column of an interval of a row."""
    return Column((f"{prefix}low", f"{prefix}high"), lambda _, row: getattr(row, name), "95 %", text, meaning, of)


def _faithful(name: str, heading: str, meaning: str, of: str = "") -> Column:
    """The column of a figure of `evaluate --faithfulness`."""
    return Column((name,), lambda _, row: row.faithfulness.get(name), heading, _percent, meaning, of)


# All groups but the first and the last each make a table on the terminal and in Markdown, with the row names first;
# the page and CSV files have all columns in one table.
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
        "Number of seeds: trainings that differ by chance alone.",
    ),
    _of_row(
        "figure", "{metric} %", _percent,
        "Share of the videos recognised, or the mean average precision if videos have several labels: the "
        "mean over the seeds, in percent.",
    ),
    _of_row(
        "sd", "sd", _percent,
        "Standard deviation of the figure over the seeds in points: how much it varies by chance in training.",
    ),
    _ends(
        "interval", "", _between,
        "95 % confidence interval of that figure for other videos of the same kind, by a bootstrap over groups of "
        "videos. These videos do not tell rows apart whose intervals overlap much.",
    ),
    _of_row(
        "mean_class_accuracy", "class %", _percent,
        "Mean class accuracy: large classes count no more than small ones.",
    ),
)  # fmt: skip
DIFFERENCES = (
    _of_table("against"),
    _of_row(
        "difference", "points", _points,
        "Figure less that of the row it is compared with, on the same videos.", of="difference",
    ),
    _ends(
        "difference_interval", "difference_", _points_between,
        "95 % interval of that difference. If it holds 0, these videos do not tell which row is better.",
        of="difference",
    ),
    _of_row("p_value", "p", _p_value, "How often chance alone would give such a difference if there were none."),
    _of_row(
        "corrected_p_value", "p corrected", _p_value,
        "The p-value corrected for the number of rows (Holm), since of many rows some differ by chance. Below 0.05 "
        "it counts as significant by custom.",
    ),
)  # fmt: skip
TRAINING = (
    _of_row(
        "validation_figure", "val %", _percent,
        "The figure on the validation videos, which chose the epoch; no measure of the model.", csv="validation",
    ),
    _of_row(
        "attention_entropy", "entropy", "{:.3f}".format,
        "Entropy of the attention: 1 if all locations count the same, near 0 if it is on one.",
    ),
    _of_row(
        "penalty_above_floor", "penalty", "{:.2f}".format,
        "Attention penalty (Eq. 7) above its minimum: how unevenly locations are attended to over a block; a "
        "larger lambda lowers it.",
    ),
    _of_row("num_parameters", "parameters", str, "Number of trained parameters.", csv="parameters"),
    _of_row("train_seconds", "trained", duration, "Time of a training, on the machine where it ran."),
    _of_row("blocks_per_second", "blocks/s", "{:.0f}".format, "Training speed in blocks per second."),
    Column(
        ("published_percent",), lambda _, row: row.published and row.published.value, "paper %", "{:.2f}".format,
        "The paper's own figure for this model on this dataset.",
    ),
)  # fmt: skip
FAITHFULNESS = (
    _faithful("learned", "learned", "The figure with the learned attention, of the runs tested by --faithfulness."),
    _faithful(
        "uniform", "uniform",
        "The figure with uniform attention instead: if it is near the learned, attention hardly matters.",
    ),
    _faithful("other_video", "other video", "The figure with the attention of another video."),
    _faithful("time_shuffled", "shuffled", "The figure with the attention of the steps in random order."),
    _faithful("untrained", "untrained", "The figure with the attention of an untrained scorer."),
    _faithful(
        "deletion", "deletion",
        "Area under the predicted class's probability as cells are removed, the most attended first: the further "
        "below random, the more the prediction rests on them.",
    ),
    _faithful("insertion", "insertion", "That area with the least attended cells removed first: larger is better."),
    _faithful("random", "random", "That area with cells removed in random order."),
)  # fmt: skip
POINTING = (
    _faithful("pointing", "peak in box", "Share of frames whose most attended cell touches an annotated box."),
    _ends(
        "pointing_interval", "pointing_", _between,
        "95 % confidence interval of that share for other videos of the same kind.", of="peak in box",
    ),
    _of_row(
        "pointing_over_centre", "over centre", _points,
        "Peak in box less that of the centre of the frame, in points, on the same videos.",
    ),
    _ends(
        "pointing_over_centre_interval", "pointing_over_centre_", _points_between,
        "95 % interval of that difference.", of="over centre",
    ),
    _faithful(
        "pointing_centre", "centre",
        "That share for the centre of the frame, which needs no attention.", of="peak in box",
    ),
    _faithful("pointing_uniform", "uniform", "That share for a random cell.", of="peak in box"),
    _faithful(
        "pointing_frequent", "frequent cell",
        "That share for the cell that boxes of training videos touch most often.", of="peak in box",
    ),
)  # fmt: skip
MASS = (
    _faithful("mass", "mass in box", "Share of the attention inside the annotated boxes."),
    _faithful("mass_centre", "centre", "That share for a Gaussian in the centre of the frame.", of="mass in box"),
    _faithful("mass_uniform", "uniform", "That share for uniform attention: the boxes' area.", of="mass in box"),
    _faithful(
        "mass_frequent", "frequent cell",
        "That share for attention on the cell that boxes of training videos touch most often.", of="mass in box",
    ),
)  # fmt: skip
NOTES = (
    Column(
        ("differs",), lambda _, row: "; ".join(row.differs) or None, "unlike the paper", str,
        "How the row's settings differ from those of the paper's figure.",
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
"""Columns of the table of the paper's figures: heading, and the text of a figure."""


def published_texts(figures: Sequence[PublishedFigure]) -> list[list[str]]:
    """The rows of the table of the paper's figures, as text."""
    return [[text(figure) for text in PUBLISHED.values()] for figure in figures]
