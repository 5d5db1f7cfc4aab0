"""What `evaluate` reports, and the figures in it of scored videos.

Legend: V videos, C classes.
"""

import math
from collections.abc import Sequence
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

# What a test of attention belongs to; the run's folder pins the store.
_TESTED = ("model_sha256", "split_sha256", "part", "reduction", "last_steps", "block_stride")


@dataclass(frozen=True)
class VideoFigure:
    """A video: what it is, what it was taken for, with what probability."""

    path: str
    label: str  # its class; several are joined by semicolons
    predicted: str  # most probable class
    probability: float  # of that class


@dataclass(frozen=True)
class ClassFigure:
    """A class: its videos in the part, and how well they are recognised."""

    name: str
    num_videos: int  # that have it
    accuracy: float | None = None  # share of them recognised; None without videos and where videos have several labels
    average_precision: float | None = None  # where they have; None without videos


@dataclass(frozen=True, kw_only=True)
class Faithfulness:
    """How much a run's predictions rest on where it looks, and whether it looks at what was annotated.

    What could not be measured is None, and absent from the tables by name.
    """

    metric: str  # `accuracy`, or `map` where videos may have several labels
    # The metric with the attention that was learned, and with others in its place.
    learned: float
    uniform: float
    other_video: float | None = None  # that of another video, of another class wherever possible; None of one video
    time_shuffled: float  # its own, the steps of each block in random order
    untrained: float  # that of an untrained scorer in the trained model, mean over several
    changed: dict[str, float]  # share of videos whose most probable class is another then, by name of the replacement
    shift: dict[str, float]  # mean total variation distance from the predictions with the learned attention, likewise
    other_class_share: float | None = None  # of videos whose attention came from a video of another class
    # Area under the probability of the predicted class as cells are removed, brought to 1 for all cells and 0 for none.
    deletion: float | None = None  # the most attended first: the less, the more attention tells what matters
    insertion: float | None = None  # the least attended first, that is, the most attended come first
    random: float | None = None  # in random order
    curve_shares: list[float]  # share of the cells that is removed at each point of `curves`
    curves: dict[str, list[float]]  # mean probability of that class, by `deletion`, `insertion` and `random`
    num_curve_blocks: int  # that the curves are of
    # Share of annotated frames whose most attended cell touches a box; None without boxes, as all below.
    pointing: float | None = None
    pointing_uniform: float | None = None  # of a cell at random
    pointing_centre: float | None = None  # of the centre of the frame
    pointing_frequent: float | None = None  # of the cell that boxes of training videos touch most; None without such
    # Share of the attention inside the boxes.
    mass: float | None = None
    mass_uniform: float | None = None  # of uniform attention, which is the share of the area
    mass_centre: float | None = None  # of a Gaussian in the centre of the frame
    mass_frequent: float | None = None  # of that one cell, which is how much of it boxes cover
    num_boxed_videos: int | None = None
    num_boxed_frames: int | None = None
    # The figures of boxes, by their names above, of each of the report's videos; None where it has no box.
    by_video: dict[str, list[float | None]] = field(default_factory=dict)
    # What speaks for the learned attention when over 0: `learned` less each replacement, by its name; `random` less
    # `deletion`, and `insertion` less `random`, as `deletion` and `insertion`; and `pointing` and `mass` less those of
    # the baselines, by the baselines' names.
    differences: dict[str, float]
    intervals: dict[str, Interval]  # paired 95 % bootstrap intervals of these over groups


@dataclass(frozen=True)
class Agreement:
    """How alike two runs look at the same frames."""

    runs: tuple[str, str]  # their folders
    num_maps: int  # time-steps that were compared
    jensen_shannon: float | None  # mean divergence of their maps in bits, from 0 for equal ones to 1
    rank_correlation: float | None  # mean of Spearman's between them; None where a run's attention is uniform
    other_jensen_shannon: float | None  # the same of maps of different videos, which is what a habit alone gives
    other_rank_correlation: float | None  # likewise


@dataclass(frozen=True, kw_only=True)
class EvaluationReport:
    """A run's figures on a part of its split. Those that say nothing about its kind of labels are None."""

    run: str  # its folder
    preset: str  # of its training
    model: str  # architecture
    attention: str | None  # form of the location scorer; None without attention
    backbone: str  # network that its features come from
    weights_sha256: str  # of that network
    model_sha256: str  # of the recogniser's own weights
    dataset: str
    multilabel: bool  # a video may have several labels
    split: str
    split_sha256: str
    leaking_groups: list[str]  # with videos on both sides of the split: the figures are too good where there are any
    part: str  # `test`, `validation` or `train`
    trained_on: bool  # these videos were trained on, as those for validation are in the end by `--retrain`
    reduction: str  # how blocks make a video's probabilities, `mean` or `vote`
    last_steps: int  # time-steps at a block's end that count
    block_stride: int  # stored frames between the starts of blocks
    num_videos: int  # in the part
    num_groups: int  # among them
    num_blocks: int  # scored
    accuracy: float | None = None  # share of videos recognised
    mean_class_accuracy: float | None = None  # mean over the classes that have videos
    top_k: int | None = None  # k of the next
    top_k_accuracy: float | None = None  # share of videos whose class is among the k most probable
    map: float | None = None  # mean average precision over the classes that have videos, not interpolated
    # What knowing nothing gives: the share of the largest class; for mAP the mean share of videos that a class has,
    # which is the mAP of scores that know nothing.
    chance: float
    log_loss: float  # mean negative log probability of the true class, or of what is so of each class, in nats
    intervals: dict[str, Interval]  # 95 % bootstrap intervals over groups of accuracies and mAP, by name
    attention_entropy: float | None = None  # of the location probabilities, 1 for uniform; None without attention
    penalty_above_floor: float | None = None  # of Eq. 7, mean over blocks, over the least that T and L allow; likewise
    classes: list[ClassFigure]
    confusion: list[list[int]] | None = None  # videos by true class (rows) and predicted class (columns)
    videos: list[VideoFigure]
    seconds: float  # taken
    faithfulness: Faithfulness | None = None  # as asked for now, or in an earlier call that the figures belong to
    unsaved: str | None = None  # why all this could not be written into the run; None where it was


@dataclass(frozen=True)
class EvaluationSummary:
    """Several runs, such as seeds or the folds of a dataset."""

    runs: list[EvaluationReport]
    agreement: list[Agreement]  # of each two runs that see the same blocks, where the attention is tested


def video_figures(
    targets: NDArray[Any],
    probs: NDArray[np.float64],
    groups: Sequence[str],
    classes: Sequence[str],
    *,
    top_k: int | None,
) -> dict[str, Any]:
    """Figures of scored videos by their names in `EvaluationReport`, those that say something about such labels.

    Args:
        targets: Class indices (V,), or 0 / 1 for each class (V, C) where videos may have several labels.
        probs: Class probabilities, shape (V, C).
        groups: Group of each video.
        classes: Names.
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
    """What an earlier report says of the attention, where it is of the same weights, videos and settings.

    Args:
        earlier: The report as JSON, which has None for NaN.
        report: The one of now.
    """
    found = earlier.get("faithfulness")
    if not isinstance(found, dict) or any(earlier.get(name) != getattr(report, name) for name in _TESTED):
        return None
    try:
        intervals = {name: (_number(low), _number(high)) for name, (low, high) in found["intervals"].items()}
        differences = {name: _number(value) for name, value in found["differences"].items()}
        return Faithfulness(**found | {"intervals": intervals, "differences": differences})
    except (KeyError, TypeError, ValueError, AttributeError):
        return None  # of another attnrec, which tested otherwise


def _number(value: float | None) -> float:
    return math.nan if value is None else value
