"""Columns of a comparison's table: how a row's values read, sort, and what they mean in plain words."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

Interval = tuple[float, float]


class Published(Protocol):
    """A figure of the paper, in percent."""

    @property
    def model(self) -> str: ...
    @property
    def dataset(self) -> str: ...
    @property
    def metric(self) -> str: ...
    @property
    def attention_penalty(self) -> float | None: ...
    @property
    def value(self) -> float: ...
    @property
    def source(self) -> str: ...


class Row(Protocol):
    """A row; `workflows.comparison.ComparedRow`, which says what its fields are, is one."""

    @property
    def name(self) -> str: ...
    @property
    def model(self) -> str: ...
    @property
    def attention(self) -> str | None: ...
    @property
    def attention_penalty(self) -> float | None: ...
    @property
    def fps(self) -> float: ...
    @property
    def settings(self) -> Mapping[str, Any]: ...
    @property
    def figure(self) -> float | None: ...
    @property
    def sd(self) -> float | None: ...
    @property
    def interval(self) -> Interval | None: ...
    @property
    def mean_class_accuracy(self) -> float | None: ...
    @property
    def validation_figure(self) -> float | None: ...
    @property
    def difference(self) -> float | None: ...
    @property
    def difference_interval(self) -> Interval | None: ...
    @property
    def corrected_p_value(self) -> float | None: ...
    @property
    def attention_entropy(self) -> float | None: ...
    @property
    def penalty_above_floor(self) -> float | None: ...
    @property
    def num_parameters(self) -> int | None: ...
    @property
    def train_seconds(self) -> float: ...
    @property
    def blocks_per_second(self) -> float | None: ...
    @property
    def published(self) -> Published | None: ...
    @property
    def differs(self) -> Sequence[str]: ...
    @property
    def flags(self) -> Sequence[str]: ...
    @property
    def faithfulness(self) -> Mapping[str, float]: ...
    @property
    def pointing_interval(self) -> Interval | None: ...
    @property
    def pointing_over_centre(self) -> float | None: ...
    @property
    def pointing_over_centre_interval(self) -> Interval | None: ...


@dataclass(frozen=True)
class Cell:
    """What stands in a cell, and what it sorts by; None sorts last."""

    text: str
    key: float | str | None


@dataclass(frozen=True)
class Column:
    """A column.

    Attributes:
        heading: Its name.
        meaning: What it says, for readers who have not met it.
        value: Of a row; None where it has none. Of a tuple the first item sorts.
        text: The value for people.
    """

    heading: str
    meaning: str
    value: Callable[[Row], Any]
    text: Callable[[Any], str]

    def cell(self, row: Row) -> Cell:
        """The row's cell."""
        if (value := self.value(row)) is None:
            return Cell("", None)
        return Cell(self.text(value), value[0] if isinstance(value, tuple) else value)


def shown_columns(rows: Sequence[Row]) -> list[Column]:
    """Those that have something to say of any row."""
    return [column for column in COLUMNS if any(column.value(row) is not None for row in rows)]


def _percent(value: float) -> str:
    return f"{100 * value:.1f}"


def _between(bounds: Interval) -> str:
    return f"{_percent(bounds[0])} to {_percent(bounds[1])}"


def _duration(seconds: float) -> str:
    minutes, hours = seconds / 60, seconds / 3600
    return f"{seconds:.0f} s" if minutes < 2 else f"{minutes:.1f} min" if hours < 2 else f"{hours:.1f} h"


def _difference(value: tuple[float, Interval | None]) -> str:
    difference, bounds = value
    between = "" if bounds is None else f" ({100 * bounds[0]:+.1f} to {100 * bounds[1]:+.1f})"
    return f"{100 * difference:+.1f}{between}"


def _published(value: tuple[float, Sequence[str]]) -> str:
    figure, differs = value
    return f"{figure:.2f}" + (f" (differs in {', '.join(differs)})" if differs else "")


def _faithful(heading: str, name: str, meaning: str) -> Column:
    return Column(heading, meaning, lambda r: r.faithfulness.get(name), _percent)


COLUMNS = (
    Column("row", "The model, and the settings in which the rows differ.", lambda r: r.name, str),
    Column(
        "%",
        "Share of the test videos recognised, or the mean average precision where videos have several labels: the mean "
        "over the seeds, in percent.",
        lambda r: r.figure,
        _percent,
    ),
    Column(
        "95 %",
        "Where that figure would mostly lie with other videos of the same kind: whole groups of videos are drawn anew. "
        "Rows whose intervals overlap much are not told apart by these videos.",
        lambda r: r.interval,
        _between,
    ),
    Column(
        "sd",
        "How much the figure varies between seeds, that is, by chance in training alone: standard deviation in points.",
        lambda r: r.sd,
        _percent,
    ),
    Column(
        "difference",
        "Figure less that of the row compared with, in points, on the same videos, with its 95 % interval. An interval "
        "that holds 0 means that these videos do not tell which row is better.",
        lambda r: None if r.difference is None else (r.difference, r.difference_interval),
        _difference,
    ),
    Column(
        "p",
        "How often chance alone would give such a difference, were there none; made larger for the number of rows "
        "(Holm), since of many rows some differ by luck. Under 0.05 counts as real by custom.",
        lambda r: r.corrected_p_value,
        "{:.3f}".format,
    ),
    Column(
        "class %",
        "Mean over the classes of the share recognised: large classes count no more than small ones.",
        lambda r: r.mean_class_accuracy,
        _percent,
    ),
    Column(
        "val %",
        "The figure on the validation videos, which chose the epoch; no measure of the model.",
        lambda r: r.validation_figure,
        _percent,
    ),
    Column(
        "entropy",
        "How spread the attention is: 1 where all places count the same, near 0 where it is on one.",
        lambda r: r.attention_entropy,
        "{:.3f}".format,
    ),
    Column(
        "penalty",
        "How unevenly the places of the frame are looked at over a block (Eq. 7), above the least that is possible; "
        "lambda presses it down.",
        lambda r: r.penalty_above_floor,
        "{:.2f}".format,
    ),
    Column(
        "parameters",
        "Numbers that were trained.",
        lambda r: r.num_parameters,
        lambda number: f"{number / 1e6:.2f} M",
    ),
    Column(
        "trained",
        "Time that a training took, on the machine where it ran.",
        lambda r: r.train_seconds,
        _duration,
    ),
    Column(
        "blocks/s",
        "Blocks a second in training.",
        lambda r: r.blocks_per_second,
        "{:.0f}".format,
    ),
    Column(
        "paper %",
        "The paper's own figure for this model on this dataset.",
        lambda r: r.published and (r.published.value, r.differs),
        _published,
    ),
    _faithful(
        "uniform",
        "uniform",
        "The figure with uniform attention in place of the learned: near it, looking hardly matters.",
    ),
    _faithful("other video", "other_video", "The same with the attention of another video."),
    _faithful("shuffled", "time_shuffled", "The same with the steps' attention in another order."),
    _faithful("untrained", "untrained", "The same with the attention of a scorer that was not trained."),
    _faithful(
        "deletion",
        "deletion",
        "Area under the predicted class's probability as cells go, the most attended first: the less beside random, "
        "the more the prediction rests on them.",
    ),
    _faithful("insertion", "insertion", "The same with the least attended first: here more is better."),
    _faithful("random", "random", "The same with cells in random order."),
    _faithful("pointing", "pointing", "Share of frames whose most attended cell lies in the given box."),
    Column(
        "pointing, 95 %",
        "Where that share would mostly lie with other videos of the same kind.",
        lambda r: r.pointing_interval,
        _between,
    ),
    _faithful("centre", "pointing_centre", "The same for the centre of the frame: what needs no looking."),
    Column(
        "over centre",
        "Pointing less that of the centre, in points, on the same videos, with its 95 % interval.",
        lambda r: None if r.pointing_over_centre is None else (r.pointing_over_centre, r.pointing_over_centre_interval),
        _difference,
    ),
    _faithful("mass", "mass", "Share of the attention that lies in the given box."),
    _faithful("mass, centre", "mass_centre", "The same for attention that is always on the centre."),
    Column(
        "note",
        "What to know before believing the row.",
        lambda r: "; ".join(r.flags) or None,
        str,
    ),
)
