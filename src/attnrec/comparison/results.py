"""What `compare` reports."""

from dataclasses import dataclass
from typing import Any

Interval = tuple[float, float]


@dataclass(frozen=True)
class PublishedFigure:
    """A figure of the paper, in percent."""

    dataset: str
    metric: str
    model: str
    attention_penalty: float | None
    value: float
    source: str


@dataclass(frozen=True)
class ComparedRun:
    """A run of a row: one seed on one split.

    Attributes:
        run: Its name.
        path: Its folder.
        seed: Of the training.
        split: Name of its split.
        counts: Whether its figures are in the row's.
        figure: The table's metric; None where the run has not been evaluated.
        validation_figure: The same at training; None without validation videos.
        train_seconds: Taken by the training.
    """

    run: str
    path: str
    seed: int
    split: str
    counts: bool
    figure: float | None
    validation_figure: float | None
    train_seconds: float


@dataclass(frozen=True)
class ComparedRow:
    """One configuration, over its seeds and folds. Figures are None where there are none.

    Attributes:
        name: The model, and the settings in which the table's rows differ.
        model: Architecture.
        attention: Form of the location scorer; None without attention.
        attention_penalty: lambda; likewise.
        fps: Samples per second.
        preset: Of the training.
        settings: All settings that its runs share.
        seeds: That count: those of which there is a run for each of the row's splits.
        splits: Names of the splits that count.
        num_videos: In the part of these splits, each counted once.
        figure: The table's metric over these videos, mean over the seeds.
        sd: Standard deviation over the seeds, of a sample; None with one.
        interval: 95 % bootstrap interval of `figure` over groups of videos.
        mean_class_accuracy: Mean over the classes, likewise; None where videos have several labels.
        validation_figure: Mean over the runs.
        difference: `figure` less that of the table's row `against`; None for that row, and where not all videos are
            the same. So are the next three.
        difference_interval: 95 % interval of it, by a paired bootstrap.
        p_value: That there is no difference, two-sided.
        corrected_p_value: The same, corrected for the number of rows by Holm's procedure.
        attention_entropy: 1 for uniform attention; mean over the runs, as are all below.
        penalty_above_floor: Of Eq. 7.
        faithfulness: Figures of `evaluate --faithfulness`, by name, mean over the runs that have them; those of boxes
            are of all videos with a box, mean over the seeds, where every run has them of each video.
        pointing_interval: 95 % interval of `pointing` among these over groups; None where a run lacks them, as the next
            two.
        pointing_over_centre: `pointing` less that of the centre of the frame.
        pointing_over_centre_interval: Of that, paired.
        num_parameters: Of the model; None where its weights have gone or are damaged.
        train_seconds: Taken by a training.
        blocks_per_second: In training, median over its epochs.
        published: The paper's figure for this model on this dataset.
        differs: In what the row differs from how that was made.
        flags: What to know before believing the row.
        runs: Its runs.
    """

    name: str
    model: str
    attention: str | None
    attention_penalty: float | None
    fps: float
    preset: str
    settings: dict[str, Any]
    seeds: list[int]
    splits: list[str]
    num_videos: int
    figure: float | None
    sd: float | None
    interval: Interval | None
    mean_class_accuracy: float | None
    validation_figure: float | None
    difference: float | None
    difference_interval: Interval | None
    p_value: float | None
    corrected_p_value: float | None
    attention_entropy: float | None
    penalty_above_floor: float | None
    faithfulness: dict[str, float]
    pointing_interval: Interval | None
    pointing_over_centre: float | None
    pointing_over_centre_interval: Interval | None
    num_parameters: int | None
    train_seconds: float
    blocks_per_second: float | None
    published: PublishedFigure | None
    differs: list[str]
    flags: list[str]
    runs: list[ComparedRun]


@dataclass(frozen=True)
class ComparedTable:
    """Rows whose figures are of the same videos, and so may be ranked.

    Attributes:
        dataset: Name of the dataset.
        store_fingerprint: Of the features.
        backbone: Network that made them.
        weights_sha256: Hash of its weights.
        splits: Names of the splits; several are folds, each of whose videos is in one part of them alone.
        split_sha256: Their hashes.
        leaking: Whether a split parts a group, so that its figures are too good.
        part: Part of the splits.
        metric: `accuracy`, or `map` where videos may have several labels.
        num_videos: In that part, over all splits.
        num_groups: Among them.
        against: Name of the row that the others are compared with; None where there is no such row.
        apart: Why the rows stand in a table of their own; None for the first table.
        rows: Of the table.
    """

    dataset: str
    store_fingerprint: str
    backbone: str
    weights_sha256: str
    splits: list[str]
    split_sha256: list[str]
    leaking: bool
    part: str
    metric: str
    num_videos: int
    num_groups: int
    against: str | None
    apart: str | None
    rows: list[ComparedRow]


@dataclass(frozen=True)
class FailedCell:
    """A run that a grid could not make.

    Attributes:
        name: Of the run, without its number.
        reason: In a line.
    """

    name: str
    reason: str


@dataclass(frozen=True)
class GridSummary:
    """What a grid came to.

    Attributes:
        num_cells: Asked for.
        num_trained: Now, from the start or from where they had been interrupted.
        num_resumed: Of these, from where they had been interrupted.
        num_evaluated: Now.
        failed: That could not be made; the rest is there.
    """

    num_cells: int
    num_trained: int
    num_resumed: int
    num_evaluated: int
    failed: list[FailedCell]


@dataclass(frozen=True)
class CompareReport:
    """The tables.

    Attributes:
        tables: Of rows that may be ranked against each other.
        grid: What was trained for them; None where finished runs were tabulated.
        published: The paper's figures on the datasets of the runs.
        published_source: Where they are from.
    """

    tables: list[ComparedTable]
    grid: GridSummary | None
    published: list[PublishedFigure]
    published_source: str
