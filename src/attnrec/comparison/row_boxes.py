"""Box figures of a row over its seeds and folds: whether its runs look at annotated boxes.

Legend: V videos.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from attnrec.comparison.results import ComparedRow
from attnrec.comparison.row_scores import RowScores, ScoredRun
from attnrec.evaluation.intervals import Interval, bootstrap_interval, known_interval, mean_statistic
from attnrec.evaluation.measures import BOX_FIGURES

Column = NDArray[np.float64]  # a figure of each video, NaN where it has no box


def with_boxes(row: ComparedRow, scores: RowScores) -> ComparedRow:
    """Add figures over the videos with boxes to a row, mean over its seeds.

    The row is unchanged if a run that counts lacks them for some video, or no video has a box.
    """
    tables = [_columns(run) for run in scores.counted]
    names = [name for name in BOX_FIGURES if all(name in table for table in tables)]
    if not {"pointing", "pointing_centre"} <= set(names):
        return row
    # Runs are ordered by seed, then fold; the videos of a seed's folds together are the row's.
    shape = len(scores.seeds), len(scores.videos)
    means = {name: np.concatenate([table[name] for table in tables]).reshape(shape).mean(axis=0) for name in names}
    boxed = np.isfinite(np.stack(list(means.values()))).all(axis=0)
    if not boxed.any():
        return row
    groups = [group for group, has_box in zip(scores.groups, boxed, strict=True) if has_box]
    known = {name: values[boxed] for name, values in means.items()}
    over = known["pointing"] - known["pointing_centre"]

    def interval(values: Column) -> Interval | None:
        return known_interval(bootstrap_interval(mean_statistic(values), groups, seed=0))

    return replace(
        row,
        faithfulness=row.faithfulness | {name: float(values.mean()) for name, values in known.items()},
        pointing_interval=interval(known["pointing"]),
        pointing_over_centre=float(over.mean()),
        pointing_over_centre_interval=interval(over),
    )


def _columns(run: ScoredRun) -> dict[str, Column]:
    """Box figures of a run's videos, as far as its file has valid ones."""
    found = (run.evaluation.get("faithfulness") or {}).get("by_video")
    if not isinstance(found, dict) or run.predictions is None:
        return {}
    columns = {name: _column(found.get(name), len(run.predictions.paths)) for name in BOX_FIGURES}
    return {name: column for name, column in columns.items() if column is not None}


def _column(values: object, num_videos: int) -> Column | None:
    """Check a column of shares, None for a missing one; return None if it is invalid or of another length."""
    if not isinstance(values, list) or len(values) != num_videos:
        return None
    if not all(value is None or (isinstance(value, int | float) and 0 <= value <= 1) for value in values):
        return None
    return np.array([np.nan if value is None else value for value in values], np.float64)
