"""The report of `evaluate`, and the figures of scored videos in it.

Legend: V videos, C classes.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnrec.evaluation.intervals import (
    Interval,
    accuracy_statistic,
    bootstrap_interval,
    class_accuracy_statistic,
    map_statistic,
    of_all,
)
from attnrec.metrics import average_precision, binary_log_loss, confusion, log_loss, per_class_accuracy

# Fields that must agree for an earlier test of attention to be kept; the run fixes the store.
_TESTED = ("model_sha256", "split_sha256", "part", "reduction", "last_steps", "block_stride")


@dataclass(frozen=True)
class VideoFigure:
    """A video with its true and predicted class and the probability of the prediction."""

    path: str
    label: str  # true class; several are joined by semicolons
    predicted: str  # most probable class
    probability: float  # probability of that class


@dataclass(frozen=True)
class ClassFigure:
    """A class: number of its videos in the part, and how well they are recognised."""

    name: str
    num_videos: int  # videos of the class
    accuracy: float | None = None  # share of them recognised; None without videos and for several labels a video
    average_precision: float | None = None  # for several labels a video; None without videos of the class


@dataclass(frozen=True, kw_only=True)
class Faithfulness:
    """How much a run's predictions depend on its attention, and whether it attends to annotated boxes.

    Figures that could not be measured are None, and missing from dictionaries.
    """

    metric: str  # `accuracy`, or `map` if videos may have several labels
    # The metric with the learned attention, and with replacements of it.
    learned: float
    uniform: float
    other_video: float | None = None  # attention of another video, of another class if possible; None for one video
    time_shuffled: float  # its own attention, the steps of each block in random order
    untrained: float  # attention of an untrained scorer in the trained model, mean over several
    changed: dict[str, float]  # share of videos whose most probable class changes, by name of the replacement
    shift: dict[str, float]  # mean total variation distance from the learned predictions, by name of the replacement
    other_class_share: float | None = None  # share of videos given the attention of a video of another class
    # Area under the probability of the predicted class as cells are removed, rescaled to 1 for all cells, 0 for none.
    deletion: float | None = None  # most attended cells removed first: the smaller, the more they matter
    insertion: float | None = None  # least attended cells removed first: the larger, the more the others matter
    random: float | None = None  # cells removed in random order
    curve_shares: list[float]  # share of cells removed at each point of `curves`
    curves: dict[str, list[float]]  # mean probability of that class, by `deletion`, `insertion` and `random`
    num_curve_blocks: int  # number of blocks behind the curves
    # Share of annotated frames whose most attended cell touches a box; None without boxes, like all below.
    pointing: float | None = None
    pointing_uniform: float | None = None  # for a random cell
    pointing_centre: float | None = None  # for the centre of the frame
    pointing_frequent: float | None = None  # for the cell that training videos' boxes touch most; None without such
    # Share of the attention inside the boxes.
    mass: float | None = None
    mass_uniform: float | None = None  # for uniform attention: the boxes' share of the area
    mass_centre: float | None = None  # for a Gaussian in the centre of the frame
    mass_frequent: float | None = None  # for the cell of `pointing_frequent`: how much of it boxes cover
    num_boxed_videos: int | None = None
    num_boxed_frames: int | None = None
    # Each box figure above, by its name, for each of the report's videos; None for a video without a box.
    by_video: dict[str, list[float | None]] = field(default_factory=dict)
    # Differences that favour the learned attention when over 0: `learned` less each replacement, by its name;
    # `random` less `deletion` as `deletion`, `insertion` less `random` as `insertion`; and `pointing` and `mass` less
    # those of each baseline, by the baseline's name.
    differences: dict[str, float]
    intervals: dict[str, Interval]  # paired 95 % bootstrap intervals of `differences`, over groups


@dataclass(frozen=True)
class Agreement:
    """How alike the attention of two runs is on the same frames."""

    runs: tuple[str, str]  # folders of the runs
    num_maps: int  # number of time-steps compared
    jensen_shannon: float | None  # mean divergence of their maps in bits, from 0 (equal) to 1
    rank_correlation: float | None  # mean Spearman correlation of their maps; None if one is always uniform
    other_jensen_shannon: float | None  # divergence of maps of different videos: what habit alone gives
    other_rank_correlation: float | None  # rank correlation of maps of different videos


@dataclass(frozen=True, kw_only=True)
class EvaluationReport:
    """A run's figures on a part of its split. Figures that do not apply to its kind of labels are None."""

    run: str  # folder of the run
    preset: str  # preset of its training
    model: str  # architecture
    attention: str | None  # form of the attention; None without attention
    backbone: str  # CNN that its features come from
    weights_sha256: str = field(repr=False)  # hash of that CNN's weights
    model_sha256: str = field(repr=False)  # hash of the recogniser's own weights
    dataset: str
    multilabel: bool  # a video may have several labels
    split: str
    split_sha256: str = field(repr=False)
    leaking_groups: list[str]  # groups on both sides of the split: with any, the figures are too good
    part: str  # `test`, `validation` or `train`
    trained_on: bool  # whether the run trained on these videos, as `--retrain` does on those for validation
    reduction: str  # how the probabilities of blocks are reduced to a video's, `mean` or `vote`
    last_steps: int  # number of last time-steps of a block to predict from
    block_stride: int  # stored frames between the starts of blocks
    samples: int = 0  # passes averaged over, in which hard attention draws; 0 for the most probable locations
    num_videos: int  # videos in the part
    num_groups: int  # groups among them
    num_blocks: int  # blocks scored
    accuracy: float | None = None  # share of videos recognised
    mean_class_accuracy: float | None = None  # mean over the classes that have videos
    top_k: int | None = None  # k of `top_k_accuracy`
    top_k_accuracy: float | None = None  # share of videos whose class is among the k most probable
    map: float | None = None  # mean average precision over the classes that have videos, not interpolated
    # Chance level: the share of the largest class; for mAP the mean share of videos that a class has, which is the
    # mAP of random scores.
    chance: float
    log_loss: float  # mean negative log probability of the true class, or of each class's true label, in nats
    intervals: dict[str, Interval]  # 95 % bootstrap intervals of accuracies and mAP, over groups, by name
    attention_entropy: float | None = None  # mean entropy, 1 for uniform; None without attention
    penalty_above_floor: float | None = None  # penalty of Eq. 7 above its minimum; None without attention
    classes: list[ClassFigure] = field(repr=False)
    # Videos by true class (rows) and predicted class (columns); None where they may have several labels.
    confusion: list[list[int]] | None = field(default=None, repr=False)
    videos: list[VideoFigure] = field(repr=False)
    seconds: float  # time taken
    # Test of the attention, of this call or an earlier one that still fits.
    faithfulness: Faithfulness | None = field(default=None, repr=False)
    unsaved: str | None = None  # why the report could not be written into the run; None if it was

    @property
    def saved_as(self) -> str:
        """What the names of its files in the run end in."""
        return f"{self.part}-samples{self.samples}" if self.samples else self.part

    def _repr_html_(self) -> str:
        from attnrec.drawing.notebook import plot_html, table_html
        from attnrec.evaluation.plots import confusion_plot
        from attnrec.evaluation.tables import class_table, faithfulness_tables, figure_table

        tables = [figure_table(self), class_table(self)]
        tables += [] if self.faithfulness is None else faithfulness_tables(self.faithfulness)
        plot = confusion_plot(self.confusion, [of.name for of in self.classes])
        return "".join(map(table_html, tables)) + ("" if plot is None else plot_html(plot))


@dataclass(frozen=True)
class EvaluationSummary:
    """Reports of several runs, such as seeds or folds."""

    runs: list[EvaluationReport]
    agreement: list[Agreement]  # for each pair of runs that see the same blocks, if the attention is tested


def labels_of(video: Mapping[str, Any], classes: Sequence[str]) -> list[str]:
    """True classes of an evaluated video: several, or one that may have a semicolon in its name."""
    label: str = video["label"]
    return [label] if label in classes else label.split(";")


def is_right(video: Mapping[str, Any], classes: Sequence[str]) -> bool:
    """Whether the predicted class of an evaluated video is one of its true classes."""
    return video["predicted"] in labels_of(video, classes)


def video_figures(
    targets: NDArray[Any],
    probs: NDArray[np.float64],
    groups: Sequence[str],
    classes: Sequence[str],
    *,
    top_k: int | None,
) -> dict[str, Any]:
    """Compute the figures of scored videos that apply to their labels, by their names in `EvaluationReport`.

    Args:
        targets: Class indices (V,), or 0 / 1 for each class (V, C) if videos may have several labels.
        probs: Class probabilities, shape (V, C).
        groups: Group of each video.
        classes: Names of the classes.
        top_k: k of the top-k accuracy; None leaves it out.
    """
    if targets.ndim == 1:
        matrix = confusion(targets, probs)
        counts, by_class, kind = matrix.sum(axis=1), per_class_accuracy(matrix), "accuracy"
        chance, loss, others = counts.max() / counts.sum(), log_loss(targets, probs), {"confusion": matrix.tolist()}
        statistics = {
            "accuracy": accuracy_statistic(targets, probs),
            "mean_class_accuracy": class_accuracy_statistic(targets, probs),
        }
        if top_k is not None:
            statistics["top_k_accuracy"] = accuracy_statistic(targets, probs, top_k)
    else:
        targets = targets.astype(np.uint8)
        counts, by_class, kind = targets.sum(axis=0), average_precision(targets, probs), "average_precision"
        chance = counts[counts > 0].mean() / len(targets) if counts.any() else math.nan
        loss, others = binary_log_loss(targets, probs), {}
        statistics = {"map": map_statistic(targets, probs)}
    return {
        **{name: of_all(statistic, len(probs)) for name, statistic in statistics.items()},
        "intervals": {name: bootstrap_interval(each, groups, seed=0) for name, each in statistics.items()},
        "chance": float(chance),
        "log_loss": loss,
        "classes": [
            ClassFigure(name, int(count), **({kind: float(figure)} if count else {}))
            for name, count, figure in zip(classes, counts, by_class, strict=True)
        ],
        **others,
    }


def earlier_faithfulness(earlier: dict[str, Any], report: EvaluationReport) -> Faithfulness | None:
    """The test of attention in an earlier report, if that is of the same weights, videos and settings; else None.

    Args:
        earlier: The earlier report as JSON, which has None for NaN.
        report: The current report.
    """
    found = earlier.get("faithfulness")
    if not isinstance(found, dict) or any(earlier.get(name) != getattr(report, name) for name in _TESTED):
        return None
    try:
        intervals = {name: (_number(low), _number(high)) for name, (low, high) in found["intervals"].items()}
        differences = {name: _number(value) for name, value in found["differences"].items()}
        return Faithfulness(**found | {"intervals": intervals, "differences": differences})
    except (KeyError, TypeError, ValueError, AttributeError):
        return None  # written by another version of attnrec, with another test


def _number(value: float | None) -> float:
    return math.nan if value is None else value
