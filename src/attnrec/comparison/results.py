"""What `compare` reports."""

from dataclasses import dataclass, field
from typing import Any

Interval = tuple[float, float]  # that of `intervals`, which loads numpy: `--help` does without


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
    """A run of a row: one seed on one split."""

    run: str  # its name
    path: str
    seed: int
    split: str
    counts: bool  # its figures are in the row's
    figure: float | None  # the table's metric; None where the run has not been evaluated
    validation_figure: float | None  # the same at training; None without validation videos
    train_seconds: float


@dataclass(frozen=True, kw_only=True)
class ComparedRow:
    """One configuration, over its seeds and folds. Figures are None where there are none."""

    name: str  # the model, and the settings in which the table's rows differ
    model: str  # architecture
    attention: str | None  # form of the location scorer; None without attention
    attention_penalty: float | None  # lambda; likewise
    fps: float  # samples per second
    preset: str  # of the training
    settings: dict[str, Any]  # all that its runs share
    seeds: list[int] = field(default_factory=list)  # that count: there is a run for each of the row's splits
    splits: list[str] = field(default_factory=list)  # that count
    num_videos: int = 0  # in the part of these splits, each counted once
    figure: float | None = None  # the table's metric over these videos, mean over the seeds
    sd: float | None = None  # standard deviation over the seeds, of a sample; None with one
    interval: Interval | None = None  # 95 % bootstrap interval of `figure` over groups of videos
    mean_class_accuracy: float | None = None  # mean over the classes, likewise; None where videos have several labels
    validation_figure: float | None  # mean over the runs
    # `figure` less that of the table's row `against`; None for that row, and where not all videos are the same.
    difference: float | None = None
    difference_interval: Interval | None = None  # 95 %, by a paired bootstrap
    p_value: float | None = None  # that there is no difference, two-sided
    corrected_p_value: float | None = None  # the same, corrected for the number of rows by Holm's procedure
    attention_entropy: float | None  # 1 for uniform attention; mean over the runs, as are all below
    penalty_above_floor: float | None  # of Eq. 7
    # Figures of `evaluate --faithfulness`, by name, mean over the runs that have them; those of boxes are of all videos
    # with a box, mean over the seeds, where every run has them of each video.
    faithfulness: dict[str, float]
    # 95 % interval of `pointing` among these over groups; None where a run lacks them, as the next two.
    pointing_interval: Interval | None = None
    pointing_over_centre: float | None = None  # `pointing` less that of the centre of the frame
    pointing_over_centre_interval: Interval | None = None  # of that, paired
    num_parameters: int | None  # of the model; None where its weights have gone or are damaged
    train_seconds: float  # taken by a training
    blocks_per_second: float | None  # in training, median over its epochs
    published: PublishedFigure | None  # the paper's, for this model on this dataset
    differs: list[str]  # in what the row differs from how that was made
    flags: list[str]  # what to know before believing the row
    runs: list[ComparedRun]


@dataclass(frozen=True)
class ComparedTable:
    """Rows whose figures are of the same videos, and so may be ranked."""

    dataset: str
    store_fingerprint: str  # of the features
    backbone: str  # network that made them
    weights_sha256: str  # of that network
    splits: list[str]  # several are folds, each of whose videos is in one part of them alone
    split_sha256: list[str]
    leaking: bool  # a split parts a group, so that its figures are too good
    part: str  # of the splits
    metric: str  # `accuracy`, or `map` where videos may have several labels
    num_videos: int  # in that part, over all splits
    num_groups: int  # among them
    against: str | None  # name of the row that the others are compared with; None where there is no such row
    apart: str | None  # why the rows stand in a table of their own; None for the first table
    rows: list[ComparedRow]


@dataclass(frozen=True)
class FailedCell:
    """A run that a grid could not make."""

    name: str  # of the run, without its number
    reason: str  # in a line


@dataclass(frozen=True)
class GridSummary:
    """What a grid came to."""

    num_cells: int  # asked for
    num_trained: int  # now, from the start or from where they had been interrupted
    num_resumed: int  # of these, from where they had been interrupted
    num_evaluated: int  # now
    failed: list[FailedCell]  # that could not be made; the rest is there


@dataclass(frozen=True)
class CompareReport:
    """The tables."""

    tables: list[ComparedTable]
    grid: GridSummary | None  # what was trained for them; None where finished runs were tabulated
    published: list[PublishedFigure]  # the paper's figures on the datasets of the runs
    published_source: str
