"""The report of `compare`."""

from dataclasses import dataclass, field
from typing import Any

Interval = tuple[float, float]  # as in `evaluation.intervals`, whose import would load numpy for `--help`


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

    run: str  # name of the run
    path: str
    seed: int
    split: str
    counts: bool  # whether its figures are part of the row's
    figure: float | None  # the table's metric; None if the run has not been evaluated
    validation_figure: float | None  # the metric on validation videos in training; None without such
    train_seconds: float


@dataclass(frozen=True, kw_only=True)
class ComparedRow:
    """One configuration over its seeds and folds. Unknown figures are None."""

    name: str  # the model, and the settings in which the table's rows differ
    model: str  # architecture
    attention: str | None  # form of the attention; None without attention
    attention_penalty: float | None  # lambda; None without attention
    fps: float  # samples per second
    preset: str  # preset of the training
    settings: dict[str, Any]  # settings that its runs share
    seeds: list[int] = field(default_factory=list)  # seeds that count: those with a run on each of `splits`
    splits: list[str] = field(default_factory=list)  # splits that figures are of
    num_videos: int = 0  # videos in the part of these splits, each counted once
    figure: float | None = None  # the table's metric over these videos, mean over the seeds
    sd: float | None = None  # sample standard deviation over the seeds; None with one seed
    interval: Interval | None = None  # 95 % bootstrap interval of `figure` over groups of videos
    mean_class_accuracy: float | None = None  # mean over the seeds; None if videos have several labels
    validation_figure: float | None  # the metric on validation videos, mean over the runs
    # `figure` less that of the table's row `against`; None for that row, and if the videos are not all the same.
    difference: float | None = None
    difference_interval: Interval | None = None  # 95 % interval of `difference`, by a paired bootstrap
    p_value: float | None = None  # two-sided p-value of no difference
    corrected_p_value: float | None = None  # p-value corrected for the number of rows by Holm's procedure
    attention_entropy: float | None  # 1 for uniform attention; mean over the runs
    penalty_above_floor: float | None  # penalty of Eq. 7 above its minimum, mean over the runs
    # Figures of `evaluate --faithfulness`, by name, mean over the runs that have them; box figures are over all videos
    # with a box, mean over the seeds, if every run has them for each video.
    faithfulness: dict[str, float]
    # Numbers of the report of `train`, such as `epochs`, by name, mean over the runs.
    training: dict[str, float] = field(default_factory=dict)
    # 95 % interval of `pointing` over groups; None if a run lacks it, like the next two.
    pointing_interval: Interval | None = None
    pointing_over_centre: float | None = None  # `pointing` less that of the centre of the frame
    pointing_over_centre_interval: Interval | None = None  # 95 % interval of that difference, paired
    num_parameters: int | None  # parameters of the model; None if its weights are missing or damaged
    train_seconds: float  # time of a training, mean over the runs
    blocks_per_second: float | None  # training speed, median over epochs, mean over the runs
    published: PublishedFigure | None  # the paper's figure for this model on this dataset
    differs: list[str]  # how the row's settings differ from the paper's
    flags: list[str]  # what to know before believing the row
    runs: list[ComparedRun]


@dataclass(frozen=True)
class ComparedTable:
    """Rows whose figures are of the same videos, and so can be ranked."""

    dataset: str
    store_fingerprint: str  # fingerprint of the feature store
    backbone: str  # CNN that made the features
    weights_sha256: str  # hash of that CNN's weights
    splits: list[str]  # one split, or folds that share no video of `part`
    split_sha256: list[str]
    leaking: bool  # whether a split has groups on both sides, so that its figures are too good
    part: str  # part of the splits
    metric: str  # `accuracy`, or `map` if videos may have several labels
    num_videos: int  # videos in that part, over all splits
    num_groups: int  # groups among these videos
    against: str | None  # name of the row that the others are compared with; None if there is no such row
    apart: str | None  # why the rows are in a separate table; None for the first table
    rows: list[ComparedRow]

    def __repr__(self) -> str:
        figures = ((row.name, "-" if row.figure is None else f"{100 * row.figure:.1f} %") for row in self.rows)
        rows = ", ".join(f"{name} {figure}" for name, figure in figures)
        return f"ComparedTable({self.dataset}, {self.num_videos} {self.part} videos, {self.metric}: {rows})"

    def _repr_html_(self) -> str:
        from attnrec.comparison.sections import sections_of
        from attnrec.drawing.notebook import table_html

        return "".join(map(table_html, sections_of(self)))


@dataclass(frozen=True)
class FailedCell:
    """A run of a grid that failed."""

    name: str  # name of the run, without its number
    reason: str  # reason in one line


@dataclass(frozen=True)
class GridSummary:
    """What was done for a grid."""

    num_cells: int  # runs in the grid
    num_trained: int  # runs trained by this call, including resumed ones
    num_resumed: int  # interrupted runs that this call resumed
    num_evaluated: int  # runs evaluated by this call
    failed: list[FailedCell]  # runs that failed; all others are complete


@dataclass(frozen=True)
class CompareReport:
    """The tables of a comparison."""

    tables: list[ComparedTable]
    grid: GridSummary | None  # what was done for the grid; None if finished runs were tabulated
    published: list[PublishedFigure]  # the paper's figures on the datasets of the runs
    published_source: str

    def _repr_html_(self) -> str:
        from attnrec.comparison.sections import sections
        from attnrec.drawing.notebook import table_html

        return "".join(map(table_html, sections(self)))
