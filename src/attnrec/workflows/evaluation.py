"""What `evaluate` reports."""

from dataclasses import dataclass

from attnrec.workflows.figures import ClassFigure, Interval


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


@dataclass(frozen=True)
class EvaluationReport:
    """A run's figures on a part of its split.

    Attributes:
        run: Folder of the run.
        preset: Preset of its training.
        model: Architecture.
        attention: Form of its location scorer; None without attention.
        backbone: Network that its features come from.
        weights_sha256: Hash of that network's weights.
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
        accuracy: Share of videos recognised. This and the following are None where they say nothing, see `Figures`.
        mean_class_accuracy: Mean over the classes that have videos.
        top_k: k of the next.
        top_k_accuracy: Share of videos whose class is among the k most probable.
        map: Mean average precision over the classes that have videos, where videos may have several labels.
        chance: What knowing nothing gives: the share of the largest class; for mAP the mean share of a class.
        log_loss: Mean negative log probability of the true class, in nats.
        intervals: 95 % bootstrap intervals over groups, by the name of the figure.
        attention_entropy: Of the location probabilities, 1 for uniform; None without attention.
        penalty_above_floor: Of Eq. 7, mean over blocks, over the least that T and L allow; None without attention.
        classes: Figures of each class.
        confusion: Videos by true class (rows) and predicted class (columns).
        videos: Figures of each video.
        seconds: Taken.
    """

    run: str
    preset: str
    model: str
    attention: str | None
    backbone: str
    weights_sha256: str
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
    accuracy: float | None
    mean_class_accuracy: float | None
    top_k: int | None
    top_k_accuracy: float | None
    map: float | None
    chance: float
    log_loss: float
    intervals: dict[str, Interval]
    attention_entropy: float | None
    penalty_above_floor: float | None
    classes: list[ClassFigure]
    confusion: list[list[int]] | None
    videos: list[VideoFigure]
    seconds: float


@dataclass(frozen=True)
class EvaluationSummary:
    """Several runs, such as the folds of a dataset.

    Attributes:
        runs: Figures of each.
        mean: Of each figure that all runs have.
        sd: Standard deviation over the runs, of a sample.
    """

    runs: list[EvaluationReport]
    mean: dict[str, float]
    sd: dict[str, float]
