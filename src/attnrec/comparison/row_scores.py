"""The scores of a row's runs for each video, over its seeds and folds.

Legend: V videos, R resamples.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from attnrec.errors import RunError
from attnrec.evaluation.intervals import (
    Statistic,
    accuracy_statistic,
    class_accuracy_statistic,
    map_statistic,
    mean_of_statistics,
)
from attnrec.evaluation.predictions import Predictions, read_predictions
from attnrec.runtime import OnProgress
from attnrec.training.run import Run, left_out


class Split(NamedTuple):
    """A split of a store."""

    name: str
    sha256: str


@dataclass(frozen=True, eq=False)
class ScoredRun:
    """A run with its log and its evaluation on a part; `predictions` is None if it has not been evaluated."""

    run: Run
    log: list[dict[str, Any]]
    evaluation: dict[str, Any]
    predictions: Predictions | None

    @property
    def seed(self) -> int:
        """Seed of the run's training."""
        return self.run.manifest.training.seed

    @property
    def split(self) -> Split:
        """Split that the run was trained with."""
        return Split(self.run.manifest.split["name"], self.run.manifest.split["sha256"])


class RowScores(NamedTuple):
    """The scores of each video by the runs that count in a row."""

    seeds: dict[int, list[ScoredRun]]  # runs by seed, one on each of the splits
    splits: list[Split]  # splits of these runs
    videos: NDArray[np.bytes_]  # paths of the videos, split after split, shape (V,)
    groups: list[str]  # group of each video
    statistics: list[Statistic]  # the metric of resampled videos, for each seed
    class_statistics: list[Statistic]  # mean class accuracy, for each seed; empty if videos have several labels

    @property
    def counted(self) -> list[ScoredRun]:
        """The runs that count, seed by seed."""
        return [run for of in self.seeds.values() for run in of]

    @property
    def statistic(self) -> Statistic:
        """The metric of resampled videos, mean over the seeds."""
        return mean_of_statistics(self.statistics)


def scored_run(run: Run, part: str) -> ScoredRun:
    """Read a run's log and its evaluation on a part.

    Raises:
        RunError: A file is damaged.
    """
    evaluation = run.read_evaluation(part)
    return ScoredRun(run, run.read_log(), evaluation or {}, read_predictions(run, part) if evaluation else None)


def readable_runs(runs: Sequence[Run], part: str, on_progress: OnProgress) -> list[ScoredRun]:
    """The runs whose log and evaluation can be read and are of the videos of their split; reports the others.

    If runs on one split of one store were scored on different videos, those of the majority are kept.
    """
    found: list[ScoredRun] = []
    for run in runs:
        try:
            found.append(scored_run(run, part))
        except RunError as error:
            on_progress(left_out(error))
    votes: dict[tuple[str, str], Counter[bytes]] = {}
    for scored in found:
        if scored.predictions is not None:
            votes.setdefault(_videos_of(scored), Counter())[scored.predictions.paths.tobytes()] += 1
    kept = []
    for scored in found:
        if scored.predictions is not None:
            ((usual, _),) = votes[_videos_of(scored)].most_common(1)
            if scored.predictions.paths.tobytes() != usual:
                on_progress(left_out(_of_other_videos(scored.run)))
                continue
        kept.append(scored)
    return kept


def _videos_of(scored: ScoredRun) -> tuple[str, str]:
    """The store and split that decide which videos a run is scored on."""
    return scored.run.manifest.store["fingerprint"], scored.split.sha256


def row_scores(runs: Sequence[ScoredRun]) -> RowScores | None:
    """The scores of a row's videos; None if no run has been evaluated.

    The row's splits are those of the seed with the most; a seed counts if it has a run on each of them. Of several runs
    of one seed on one split, the last finished counts.

    Raises:
        RunError: Runs of one split scored different videos.
    """
    by_seed: dict[int, dict[Split, ScoredRun]] = {}
    for run in sorted(runs, key=lambda each: (each.seed, each.run.manifest.finished_at or "")):
        if run.predictions is not None:
            by_seed.setdefault(run.seed, {})[run.split] = run
    if not by_seed:
        return None
    splits = max((sorted(of) for of in by_seed.values()), key=lambda names: len(names))
    chosen = {seed: [of[split] for split in splits] for seed, of in by_seed.items() if of.keys() >= set(splits)}
    per_seed = [[run.predictions for run in of if run.predictions is not None] for of in chosen.values()]
    first = per_seed[0]
    for of, folds in zip(chosen.values(), per_seed, strict=True):
        for run, own, other in zip(of, folds, first, strict=True):
            require_same_videos(run.run, own.paths, other.paths)
    return RowScores(
        seeds=chosen,
        splits=splits,
        videos=np.concatenate([fold.paths for fold in first]),
        groups=[group.decode("utf-8", "surrogateescape") for fold in first for group in fold.groups],
        statistics=[metric_of(folds) for folds in per_seed],
        class_statistics=[] if first[0].multilabel else [class_accuracy_statistic(*_pooled(of)) for of in per_seed],
    )


def require_same_videos(run: Run, videos: NDArray[np.bytes_], others: NDArray[np.bytes_]) -> None:
    """Check that two predictions on one split are of the same videos.

    Raises:
        RunError: The videos differ.
    """
    if not np.array_equal(videos, others):
        raise _of_other_videos(run)


def _of_other_videos(run: Run) -> RunError:
    return RunError(f"{run.path}: its predictions are of other videos than its split has; evaluate it again")


def metric_of(folds: Sequence[Predictions]) -> Statistic:
    """The metric of one seed: accuracy over the videos of all folds, or the mean over folds of each one's mAP.

    mAP over all folds at once would rank the scores of different models among each other.
    """
    if not folds[0].multilabel:
        return accuracy_statistic(*_pooled(folds))
    ends = np.cumsum([len(fold.paths) for fold in folds])
    parts = [slice(end - len(fold.paths), end) for end, fold in zip(ends, folds, strict=True)]
    return mean_of_statistics(
        [_within(part, map_statistic(fold.targets, fold.probs)) for fold, part in zip(folds, parts, strict=True)]
    )


def _pooled(folds: Sequence[Predictions]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Labels (V,) and class probabilities (V, C) of the videos of all folds."""
    labels = np.concatenate([fold.targets for fold in folds]).astype(np.int64)
    return labels, np.concatenate([fold.probs for fold in folds])


def _within(part: slice, statistic: Statistic) -> Statistic:
    return lambda weights: statistic(weights[:, part])
