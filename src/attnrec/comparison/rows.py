"""One row of a table: a configuration, its figures and costs, and what to know before believing it."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from attnrec.comparison.published import differences_from_paper, published_for
from attnrec.comparison.results import ComparedRow, ComparedRun
from attnrec.comparison.row_boxes import with_boxes
from attnrec.comparison.row_scores import RowScores, ScoredRun, Split, metric_of
from attnrec.evaluation.intervals import bootstrap_interval, known_interval, of_all
from attnrec.training.run import Run


def build_row(
    name: str,
    settings: dict[str, Any],
    runs: Sequence[ScoredRun],
    scores: RowScores | None,
    splits: Sequence[Split],
) -> ComparedRow:
    """Build a row, without its comparison with another row.

    Args:
        name: Name of the row.
        settings: Settings that its runs share.
        runs: All runs of the row.
        scores: Scores of the row, from `row_scores`.
        splits: Splits of the table.
    """
    first = runs[0].run
    model, training = first.manifest.model, first.manifest.training
    counted = scores.counted if scores else []
    attentive, published = model.architecture == "attention", published_for(first)
    evaluations = [run.evaluation for run in counted]
    row = ComparedRow(
        name=name,
        model=model.architecture,
        attention=model.attention if attentive else None,
        attention_penalty=training.attention_penalty if attentive else None,
        fps=training.fps,
        preset=training.preset,
        settings=settings,
        validation_figure=_mean(_validation_figure(run.run) for run in runs),
        attention_entropy=_mean(evaluation.get("attention_entropy") for evaluation in evaluations),
        penalty_above_floor=_mean(evaluation.get("penalty_above_floor") for evaluation in evaluations),
        faithfulness=_means([known for evaluation in evaluations if (known := evaluation.get("faithfulness"))], float),
        training=_means([run.run.manifest.result for run in runs], (int, float)),
        num_parameters=first.num_parameters,
        train_seconds=float(np.mean([run.run.manifest.result["seconds"] for run in runs])),
        blocks_per_second=_mean(_blocks_per_second(run) for run in runs),
        published=published,
        differs=differences_from_paper(first) if published else [],
        flags=_flags(runs, scores, splits),
        runs=[_compared_run(run, run in counted) for run in runs],
    )
    return with_boxes(_with_figures(row, scores), scores) if scores else row


def _with_figures(row: ComparedRow, scores: RowScores) -> ComparedRow:
    num_videos = len(scores.videos)
    of_seeds = [of_all(statistic, num_videos) for statistic in scores.statistics]
    return replace(
        row,
        seeds=list(scores.seeds),
        splits=[split.name for split in scores.splits],
        num_videos=num_videos,
        figure=float(np.mean(of_seeds)),
        sd=float(np.std(of_seeds, ddof=1)) if len(of_seeds) > 1 else None,
        interval=known_interval(bootstrap_interval(scores.statistic, scores.groups, seed=0)),
        mean_class_accuracy=_mean(of_all(statistic, num_videos) for statistic in scores.class_statistics),
    )


def _mean(values: Iterable[float | None]) -> float | None:
    """Mean of the known values; None if there are none."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _means(records: Sequence[dict[str, Any]], kinds: type | tuple[type, ...]) -> dict[str, float]:
    """Means of the figures of some types that all records have, by name."""
    names = [name for name in records[0] if all(isinstance(of.get(name), kinds) for of in records)] if records else []
    return {name: float(np.mean([of[name] for of in records])) for name in names}


def _validation_figure(run: Run) -> float | None:
    figure: float | None = run.manifest.result.get(
        "validation_map" if run.manifest.model.multilabel else "validation_accuracy"
    )
    return figure


def _blocks_per_second(run: ScoredRun) -> float | None:
    speeds = [line["blocks_per_second"] for line in run.log if line.get("kind") == "epoch"]
    return float(np.median(speeds)) if speeds else None


def _compared_run(scored: ScoredRun, counts: bool) -> ComparedRun:
    run, predictions = scored.run, scored.predictions
    return ComparedRun(
        run=run.name,
        path=str(run.path),
        seed=scored.seed,
        split=scored.split.name,
        counts=counts,
        figure=None if predictions is None else of_all(metric_of([predictions]), len(predictions.paths)),
        validation_figure=_validation_figure(run),
        train_seconds=run.manifest.result["seconds"],
    )


def _flags(runs: Sequence[ScoredRun], scores: RowScores | None, splits: Sequence[Split]) -> list[str]:
    """Notes on what to know before believing a row."""
    flags = [f"{run.run.name} is not evaluated" for run in runs if run.predictions is None]
    if scores is None:
        return flags
    missing = [split.name for split in splits if split not in scores.splits]
    if missing:
        flags.append(f"has no figures on {', '.join(missing)}")
    evaluated = [run for run in runs if run.predictions is not None]
    left_out = sorted({run.seed for run in evaluated} - set(scores.seeds))
    if left_out:
        flags.append(f"seed {', '.join(map(str, left_out))} left out: not on all of its splits")
    repeated = [run.run.name for run in evaluated if run.seed in scores.seeds and run not in scores.counted]
    if repeated:
        flags.append(f"{', '.join(repeated)} left out: the same again")
    faithful = sum(bool(run.evaluation.get("faithfulness")) for run in scores.counted)
    if 0 < faithful < len(scores.counted):
        flags.append(f"faithfulness of {faithful} of its {len(scores.counted)} runs")
    if any(run.evaluation.get("trained_on") for run in scores.counted):
        flags.append("was trained on these videos")
    return flags
