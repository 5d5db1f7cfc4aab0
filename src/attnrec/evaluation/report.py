"""What `evaluate` reports."""

import math
from dataclasses import dataclass, field
from typing import Any

from attnrec.evaluation.figures import ClassFigure, Interval

# What a test of attention belongs to; the run's folder pins the store.
_TESTED = ("model_sha256", "split_sha256", "part", "reduction", "last_steps", "block_stride")


@dataclass(frozen=True)
class VideoFigure:
    """A video: what it is, what it was taken for, with what probability.

    Attributes:
        path: Of the video.
        label: Its class; several are joined by semicolons.
        predicted: Most probable class.
        probability: Of that class.
    """

    path: str
    label: str
    predicted: str
    probability: float


@dataclass(frozen=True, kw_only=True)
class Faithfulness:
    """How much a run's predictions rest on where it looks, and whether it looks at what was annotated.

    What could not be measured is None, and absent from the tables by name.

    Attributes:
        metric: `accuracy`, or `map` where videos may have several labels.
        learned: The metric with the attention that was learned.
        uniform: With uniform attention in its place.
        other_video: With that of another video, of another class wherever possible; None of a single video.
        time_shuffled: With its own, the steps of each block in random order.
        untrained: With that of an untrained scorer in the trained model, mean over several.
        changed: Share of videos whose most probable class is another then, by the name of the replacement.
        shift: Mean total variation distance of the videos' predictions from those with the learned attention.
        other_class_share: Share of videos whose attention came from a video of another class.
        deletion: Area under the probability of the predicted class as the most attended cells are removed first,
            brought to 1 for all cells and 0 for none; the less, the more attention tells what matters.
        insertion: As the least attended cells are removed first, that is, the most attended come first.
        random: As cells are removed in random order.
        curve_shares: Share of the cells that is removed at each point of `curves`.
        curves: Mean probability of the predicted class, by `deletion`, `insertion` and `random`.
        num_curve_blocks: Blocks that the curves are of.
        pointing: Share of annotated frames whose most attended cell touches a box; None without boxes, as all below.
        pointing_uniform: Of a cell at random.
        pointing_centre: Of the centre of the frame.
        pointing_frequent: Of the cell that boxes of the training videos touch most often; None where those have none.
        mass: Share of the attention inside the boxes.
        mass_uniform: Of uniform attention, which is the share of the area.
        mass_centre: Of a Gaussian in the centre of the frame.
        mass_frequent: Of that one cell, which is how much of it boxes cover.
        num_boxed_videos: Videos with boxes.
        num_boxed_frames: Frames with boxes.
        by_video: The figures of boxes, by their names above, of each of the report's videos; None where it has no box.
        differences: What speaks for the learned attention when over 0: `learned` less each replacement, by its name;
            `random` less `deletion`, and `insertion` less `random`, as `deletion` and `insertion`; and `pointing` and
            `mass` less those of the baselines, by the baselines' names.
        intervals: Paired 95 % bootstrap intervals of the differences over groups.
    """

    metric: str
    learned: float
    uniform: float
    other_video: float | None = None
    time_shuffled: float
    untrained: float
    changed: dict[str, float]
    shift: dict[str, float]
    other_class_share: float | None = None
    deletion: float | None = None
    insertion: float | None = None
    random: float | None = None
    curve_shares: list[float]
    curves: dict[str, list[float]]
    num_curve_blocks: int
    pointing: float | None = None
    pointing_uniform: float | None = None
    pointing_centre: float | None = None
    pointing_frequent: float | None = None
    mass: float | None = None
    mass_uniform: float | None = None
    mass_centre: float | None = None
    mass_frequent: float | None = None
    num_boxed_videos: int | None = None
    num_boxed_frames: int | None = None
    by_video: dict[str, list[float | None]] = field(default_factory=dict)
    differences: dict[str, float]
    intervals: dict[str, Interval]


@dataclass(frozen=True)
class Agreement:
    """How alike two runs look at the same frames.

    Attributes:
        runs: Their folders.
        num_maps: Time-steps that were compared.
        jensen_shannon: Mean divergence of their maps in bits, from 0 for equal ones to 1.
        rank_correlation: Mean correlation of Spearman between them; None where a run's attention is uniform.
        other_jensen_shannon: The same of maps of different videos, which is what a habit alone gives.
        other_rank_correlation: Likewise.
    """

    runs: tuple[str, str]
    num_maps: int
    jensen_shannon: float | None
    rank_correlation: float | None
    other_jensen_shannon: float | None
    other_rank_correlation: float | None


@dataclass(frozen=True, kw_only=True)
class EvaluationReport:
    """A run's figures on a part of its split.

    Attributes:
        run: Folder of the run.
        preset: Preset of its training.
        model: Architecture.
        attention: Form of its location scorer; None without attention.
        backbone: Network that its features come from.
        weights_sha256: Hash of that network's weights.
        model_sha256: Hash of the recogniser's own.
        dataset: Name of the dataset.
        multilabel: A video may have several labels.
        split: Name of the split.
        split_sha256: Its hash.
        leaking_groups: Groups with videos on both sides of the split; the figures are too good where there are any.
        part: `test`, `validation` or `train`.
        trained_on: Whether these videos were trained on, as those for validation are in the end by `--retrain`.
        reduction: How blocks make a video's probabilities, `mean` or `vote`.
        last_steps: Time-steps at a block's end that count.
        block_stride: Stored frames between the starts of blocks.
        num_videos: In the part.
        num_groups: Among them.
        num_blocks: Scored.
        accuracy: Share of videos recognised. This, as any below, is None where it says nothing about such labels.
        mean_class_accuracy: Mean over the classes that have videos.
        top_k: k of the next.
        top_k_accuracy: Share of videos whose class is among the k most probable.
        map: Mean average precision over the classes that have videos, not interpolated, where videos may have several
            labels.
        chance: What knowing nothing gives: the share of the largest class; for mAP the mean share of videos that a
            class has, which is the mAP of scores that know nothing.
        log_loss: Mean negative log probability of the true class, in nats; for several labels of what is so of each.
        intervals: 95 % bootstrap intervals over groups of accuracies and mAP, by name.
        attention_entropy: Of the location probabilities, 1 for uniform; None without attention.
        penalty_above_floor: Of Eq. 7, mean over blocks, over the least that T and L allow; None without attention.
        classes: Figures of each class.
        confusion: Videos by true class (rows) and predicted class (columns).
        videos: Figures of each video.
        seconds: Taken.
        faithfulness: Of the attention, where it was asked for, now or in an earlier call that the figures belong to.
        unsaved: Why all this could not be written into the run; None where it was.
    """

    run: str
    preset: str
    model: str
    attention: str | None
    backbone: str
    weights_sha256: str
    model_sha256: str
    dataset: str
    multilabel: bool
    split: str
    split_sha256: str
    leaking_groups: list[str]
    part: str
    trained_on: bool
    reduction: str
    last_steps: int
    block_stride: int
    num_videos: int
    num_groups: int
    num_blocks: int
    accuracy: float | None = None
    mean_class_accuracy: float | None = None
    top_k: int | None = None
    top_k_accuracy: float | None = None
    map: float | None = None
    chance: float
    log_loss: float
    intervals: dict[str, Interval]
    attention_entropy: float | None
    penalty_above_floor: float | None
    classes: list[ClassFigure]
    confusion: list[list[int]] | None = None
    videos: list[VideoFigure]
    seconds: float
    faithfulness: Faithfulness | None = None
    unsaved: str | None = None


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


@dataclass(frozen=True)
class EvaluationSummary:
    """Several runs, such as the folds of a dataset.

    Attributes:
        runs: Figures of each.
        mean: Of each figure that all runs have.
        sd: Standard deviation over the runs, of a sample.
        agreement: Of the attention of each two runs on the same blocks, such as seeds, where it was asked for.
    """

    runs: list[EvaluationReport]
    mean: dict[str, float]
    sd: dict[str, float]
    agreement: list[Agreement] = field(default_factory=list)
