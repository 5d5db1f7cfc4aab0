"""Whether the runs of a row look where the annotated things are, over its seeds and folds.

Legend: V videos.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from attnrec.comparison.results import Interval
from attnrec.comparison.row_scores import RowScores, ScoredRun
from attnrec.evaluation.intervals import bootstrap_interval, mean_statistic
from attnrec.evaluation.measures import BOX_FIGURES

Column = NDArray[np.float64]  # a figure of each video, NaN where it has no box


class RowBoxes(NamedTuple):
    """Figures over the videos with boxes, of the mean over the seeds.

    Attributes:
        figures: Their means, by names in `BOX_FIGURES`.
        pointing_interval: 95 % interval of `pointing` over groups; NaN with fewer than two.
        over_centre: `pointing` less that of the centre.
        over_centre_interval: Of that difference, paired.
    """

    figures: dict[str, float]
    pointing_interval: Interval
    over_centre: float
    over_centre_interval: Interval


def row_boxes(scores: RowScores) -> RowBoxes | None:
    """Figures of a row; None where a run that counts does not have them of each video, or no video has a box."""
    tables = [_columns(run) for run in scores.counted]
    names = [name for name in BOX_FIGURES if all(name in table for table in tables)]
    if not {"pointing", "pointing_centre"} <= set(names):
        return None
    # Runs come seed by seed, of each its folds, whose videos together are the row's.
    shape = len(scores.seeds), len(scores.videos)
    means = {name: np.concatenate([table[name] for table in tables]).reshape(shape).mean(axis=0) for name in names}
    boxed = np.isfinite(np.stack(list(means.values()))).all(axis=0)
    if not boxed.any():
        return None
    groups = [group for group, has_box in zip(scores.groups, boxed, strict=True) if has_box]
    known = {name: values[boxed] for name, values in means.items()}
    over = known["pointing"] - known["pointing_centre"]
    return RowBoxes(
        {name: float(values.mean()) for name, values in known.items()},
        _interval(known["pointing"], groups),
        float(over.mean()),
        _interval(over, groups),
    )


def _interval(values: Column, groups: Sequence[str]) -> Interval:
    return bootstrap_interval(mean_statistic(values), groups, seed=0)


def _columns(run: ScoredRun) -> dict[str, Column]:
    """Figures of a run's videos, as far as its file holds what can be so."""
    found = (run.evaluation.get("faithfulness") or {}).get("by_video")
    if not isinstance(found, dict) or run.predictions is None:
        return {}
    columns = {name: _column(found.get(name), len(run.predictions.paths)) for name in BOX_FIGURES}
    return {name: column for name, column in columns.items() if column is not None}


def _column(values: object, num_videos: int) -> Column | None:
    """Shares, or None where they are not of so many videos."""
    if not isinstance(values, list) or len(values) != num_videos:
        return None
    if not all(value is None or (isinstance(value, int | float) and 0 <= value <= 1) for value in values):
        return None
    return np.array([np.nan if value is None else value for value in values], np.float64)
