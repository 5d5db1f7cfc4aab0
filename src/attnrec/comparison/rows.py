"""One row of a table: a configuration, what it reaches, what it costs, and what to know before believing it."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from attnrec.comparison.published import differences_from_paper, published_for
from attnrec.comparison.results import ComparedRow, ComparedRun, Interval
from attnrec.comparison.row_boxes import row_boxes
from attnrec.comparison.row_scores import RowScores, ScoredRun
from attnrec.evaluation.intervals import bootstrap_interval
from attnrec.training.run import Run


def build_row(
    name: str,
    settings: dict[str, Any],
    runs: Sequence[ScoredRun],
    scores: RowScores | None,
    splits: Sequence[tuple[str, str]],
) -> ComparedRow:
    """A row but for its comparison with another.

    Args:
        name: Of the row.
        settings: That its runs share.
        runs: All of the row.
        scores: As `row_scores` gives them.
        splits: Of the table.
    """
    first = runs[0].run
    model, training = first.manifest.model, first.manifest.training
    counted = scores.counted if scores else []
    attentive, published = model.architecture == "attention", published_for(first)
    evaluations = [run.evaluation for run in counted]
    boxes = row_boxes(scores) if scores else None
    return ComparedRow(
        name=name,
        model=model.architecture,
        attention=model.attention if attentive else None,
        attention_penalty=training.attention_penalty if attentive else None,
        fps=training.fps,
        preset=training.preset,
        settings=settings,
        seeds=scores.seeds if scores else [],
        splits=[split for split, _ in scores.splits] if scores else [],
        num_videos=len(scores.videos) if scores else 0,
        figure=float(np.mean(scores.seed_figures)) if scores else None,
        sd=float(np.std(scores.seed_figures, ddof=1)) if scores and len(scores.seeds) > 1 else None,
        interval=_interval(scores) if scores else None,
        mean_class_accuracy=scores.mean_class_accuracy if scores else None,
        validation_figure=_mean(_validation_figure(run.run) for run in runs),
        difference=None,
        difference_interval=None,
        p_value=None,
        corrected_p_value=None,
        attention_entropy=_mean(evaluation.get("attention_entropy") for evaluation in evaluations),
        penalty_above_floor=_mean(evaluation.get("penalty_above_floor") for evaluation in evaluations),
        faithfulness=_faithfulness(evaluations) | (boxes.figures if boxes else {}),
        pointing_interval=known_interval(boxes.pointing_interval) if boxes else None,
        pointing_over_centre=boxes.over_centre if boxes else None,
        pointing_over_centre_interval=known_interval(boxes.over_centre_interval) if boxes else None,
        num_parameters=first.num_parameters,
        train_seconds=float(np.mean([run.run.manifest.result["seconds"] for run in runs])),
        blocks_per_second=_mean(_blocks_per_second(run) for run in runs),
        published=published,
        differs=differences_from_paper(first) if published else [],
        flags=_flags(runs, scores, splits),
        runs=[_compared_run(run, run in counted) for run in runs],
    )


def known_interval(interval: Interval) -> Interval | None:
    """An interval, or None where its ends are NaN."""
    return None if np.isnan(interval).any() else interval


def _interval(scores: RowScores) -> Interval | None:
    return known_interval(bootstrap_interval(scores.statistic, scores.groups, seed=0))


def _mean(values: Iterable[float | None]) -> float | None:
    """Mean of what is known; None where nothing is."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _faithfulness(evaluations: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Mean over the runs of which it is known."""
    known = [evaluation["faithfulness"] for evaluation in evaluations if evaluation.get("faithfulness")]
    names = [name for name in known[0] if all(isinstance(of.get(name), float) for of in known)] if known else []
    return {name: float(np.mean([of[name] for of in known])) for name in names}


def _validation_figure(run: Run) -> float | None:
    figure: float | None = run.manifest.result.get(
        "validation_map" if run.manifest.model.multilabel else "validation_accuracy"
    )
    return figure


def _blocks_per_second(run: ScoredRun) -> float | None:
    speeds = [line["blocks_per_second"] for line in run.log if line.get("kind") == "epoch"]
    return float(np.median(speeds)) if speeds else None


def _compared_run(scored: ScoredRun, counts: bool) -> ComparedRun:
    run = scored.run
    return ComparedRun(
        run=run.name,
        path=str(run.path),
        seed=scored.seed,
        split=scored.split[0],
        counts=counts,
        figure=scored.evaluation.get("map" if run.manifest.model.multilabel else "accuracy"),
        validation_figure=_validation_figure(run),
        train_seconds=run.manifest.result["seconds"],
    )


def _flags(runs: Sequence[ScoredRun], scores: RowScores | None, splits: Sequence[tuple[str, str]]) -> list[str]:
    """What to know before believing a row."""
    flags = [f"{run.run.name} is not evaluated" for run in runs if run.predictions is None]
    if scores is None:
        return flags
    missing = [name for name, sha256 in splits if (name, sha256) not in scores.splits]
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
