"""What the runs of a row say of each video, over its seeds and folds.

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


@dataclass(frozen=True, eq=False)
class ScoredRun:
    """A run with its log and what `evaluate` found of a part; `predictions` is None where it has not been evaluated."""

    run: Run
    log: list[dict[str, Any]]
    evaluation: dict[str, Any]
    predictions: Predictions | None

    @property
    def seed(self) -> int:
        """Of its training."""
        return self.run.manifest.training.seed

    @property
    def split(self) -> tuple[str, str]:
        """Name and hash of its split."""
        return self.run.manifest.split["name"], self.run.manifest.split["sha256"]


class RowScores(NamedTuple):
    """What the runs that count in a row say of each video.

    Attributes:
        counted: These runs.
        seeds: Theirs.
        splits: Theirs, by name and hash.
        videos: Paths, shape (V,), the splits one after another.
        groups: Of each video.
        statistic: The metric of resampled videos, mean over the seeds.
        seed_figures: The metric of each seed.
        mean_class_accuracy: Mean over the seeds; None where videos have several labels.
    """

    counted: list[ScoredRun]
    seeds: list[int]
    splits: list[tuple[str, str]]
    videos: NDArray[np.bytes_]
    groups: list[str]
    statistic: Statistic
    seed_figures: list[float]
    mean_class_accuracy: float | None


def scored_run(run: Run, part: str) -> ScoredRun:
    """A run with its log and its figures on a part.

    Raises:
        RunError: One of them is damaged.
    """
    evaluation = run.read_evaluation(part)
    return ScoredRun(run, run.read_log(), evaluation or {}, read_predictions(run, part) if evaluation else None)


def readable_runs(runs: Sequence[Run], part: str, on_progress: OnProgress) -> list[ScoredRun]:
    """Those of many runs whose log and figures can be read and whose videos are those of their split; says which not.

    Of runs that say to be of one split of one store but were scored on different videos, most are right.
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
    """What decides which videos a run is scored on."""
    return scored.run.manifest.store["fingerprint"], scored.split[1]


def row_scores(runs: Sequence[ScoredRun]) -> RowScores | None:
    """The scores of a row's videos; None where no run has been evaluated.

    A seed counts if it has a run on each of the splits that the row has: those of the seed with the most. Of runs of
    one seed on one split the one that was finished last counts.

    Raises:
        RunError: Runs of one split scored different videos.
    """
    by_seed: dict[int, dict[tuple[str, str], ScoredRun]] = {}
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
    statistics = [_statistic(folds) for folds in per_seed]
    every = np.ones((1, sum(len(fold.paths) for fold in first)))
    return RowScores(
        counted=[run for of in chosen.values() for run in of],
        seeds=list(chosen),
        splits=splits,
        videos=np.concatenate([fold.paths for fold in first]),
        groups=[group.decode("utf-8", "surrogateescape") for fold in first for group in fold.groups],
        statistic=mean_of_statistics(statistics),
        seed_figures=[float(statistic(every)[0]) for statistic in statistics],
        mean_class_accuracy=_mean_class_accuracy(per_seed),
    )


def require_same_videos(run: Run, videos: NDArray[np.bytes_], others: NDArray[np.bytes_]) -> None:
    """Refuse predictions that cannot be of the split that they say.

    Raises:
        RunError: The videos are others.
    """
    if not np.array_equal(videos, others):
        raise _of_other_videos(run)


def _of_other_videos(run: Run) -> RunError:
    return RunError(f"{run.path}: its predictions are of other videos than its split has; evaluate it again")


def _statistic(folds: Sequence[Predictions]) -> Statistic:
    """The metric of one seed: accuracy over the videos of all folds, or mAP within each, mean over the folds.

    Scores of different models cannot be ranked among each other, which mAP over all folds at once would do.
    """
    if folds[0].targets.ndim == 1:
        return accuracy_statistic(
            np.concatenate([fold.targets for fold in folds]).astype(np.int64),
            np.concatenate([fold.probs for fold in folds]),
        )
    ends = np.cumsum([len(fold.paths) for fold in folds])
    parts = [slice(end - len(fold.paths), end) for end, fold in zip(ends, folds, strict=True)]
    return mean_of_statistics(
        [_within(part, map_statistic(fold.targets, fold.probs)) for fold, part in zip(folds, parts, strict=True)]
    )


def _within(part: slice, statistic: Statistic) -> Statistic:
    return lambda weights: statistic(weights[:, part])


def _mean_class_accuracy(per_seed: Sequence[Sequence[Predictions]]) -> float | None:
    if per_seed[0][0].targets.ndim > 1:
        return None
    labels = np.concatenate([fold.targets for fold in per_seed[0]]).astype(np.int64)
    every = np.ones((1, len(labels)))
    probs = (np.concatenate([fold.probs for fold in folds]) for folds in per_seed)
    return float(np.mean([class_accuracy_statistic(labels, of_seed)(every) for of_seed in probs]))
