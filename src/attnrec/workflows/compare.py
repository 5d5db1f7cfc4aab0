"""Runs side by side, with the paper's figures where the dataset is one of its own."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from attnrec.errors import RunError
from attnrec.run import Run, find_runs
from attnrec.workflows.presets import canonical_dataset


@dataclass(frozen=True)
class ComparedRun:
    """A row of the table.

    Attributes:
        run: Name of the run.
        path: Its folder.
        preset: Preset of its training.
        backbone: Network that its features come from.
        weights_sha256: Hash of that network's weights.
        split_sha256: Hash of the split.
        reduction: How blocks made a video's prediction; None where the run has not been evaluated.
        block_stride: Stored frames between the starts of the blocks that were evaluated; likewise.
        model: Architecture, with the form of its attention.
        attention_penalty: lambda; None for models without attention.
        fps: Samples per second.
        seed: Of the training.
        dataset: Name of the dataset.
        split: Name of the split.
        leaking: Whether the split parts a group, so that its figures are too good.
        part: Part of the split that was evaluated; None where the run has not been evaluated.
        num_videos: In that part.
        metric: What the runs are ranked by, `accuracy`, or `map` where videos may have several labels.
        accuracy: On it.
        mean_class_accuracy: On it.
        map: On it.
        interval: 95 % interval of the metric.
        validation_accuracy: At training.
        validation_map: At training.
        attention_entropy: 1 for uniform attention.
        penalty_above_floor: Of Eq. 7.
        train_seconds: Taken by the training.
    """

    run: str
    path: str
    preset: str
    backbone: str
    weights_sha256: str
    split_sha256: str
    reduction: str | None
    block_stride: int | None
    model: str
    attention_penalty: float | None
    fps: float
    seed: int
    dataset: str
    split: str
    leaking: bool
    part: str | None
    num_videos: int | None
    metric: str
    accuracy: float | None
    mean_class_accuracy: float | None
    map: float | None
    interval: tuple[float, float] | None
    validation_accuracy: float | None
    validation_map: float | None
    attention_entropy: float | None
    penalty_above_floor: float | None
    train_seconds: float

    @property
    def figure(self) -> float | None:
        """The metric's value; None where the run has not been evaluated."""
        return self.map if self.metric == "map" else self.accuracy

    @property
    def validation_figure(self) -> float | None:
        """The same at training."""
        return self.validation_map if self.metric == "map" else self.validation_accuracy


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
class CompareReport:
    """The table.

    Attributes:
        tables: Rows that may be ranked against each other, the best first: one table for each store and
            split, since figures of different test videos do not compare.
        published: The paper's figures on the datasets of the runs.
        published_source: Where they are from.
    """

    tables: list[list[ComparedRun]]
    published: list[PublishedFigure]
    published_source: str


def compare(runs: Sequence[str | Path] = (), *, runs_dir: str | Path = "runs", part: str = "test") -> CompareReport:
    """Tabulate finished runs by their evaluation.

    Args:
        runs: Their folders; none takes all finished ones in `runs_dir`.
        runs_dir: Folder of the runs.
        part: Part of the split whose evaluation counts.

    Returns:
        The table.

    Raises:
        RunError: There are no finished runs, or one that was named is not finished.
    """
    chosen = [Run(path) for path in runs] or find_runs(Path(runs_dir))
    if not chosen:
        raise RunError(f"{runs_dir}: no finished run here; make one with `attnrec train`")
    if unfinished := next((run for run in chosen if not run.finished), None):
        raise RunError(f"{unfinished.path}: is not finished")
    groups: dict[tuple[str, str], list[ComparedRun]] = {}
    for run in chosen:
        key = (run.manifest.store["fingerprint"], run.manifest.split["sha256"])
        groups.setdefault(key, []).append(_row(run, part))
    tables = [sorted(rows, key=_figure_or_least, reverse=True) for rows in groups.values()]
    datasets = {canonical_dataset(row.dataset) for rows in tables for row in rows}
    source, figures = published_figures()
    return CompareReport(tables, [figure for figure in figures if figure.dataset in datasets], source)


def published_figures() -> tuple[str, list[PublishedFigure]]:
    """The paper's figures and their source."""
    document = json.loads(files("attnrec").joinpath("published.json").read_text(encoding="utf-8"))
    return document["source"], [PublishedFigure(**row) for row in document["rows"]]


def _figure_or_least(row: ComparedRun) -> float:
    return -1.0 if row.figure is None else row.figure


def _row(run: Run, part: str) -> ComparedRun:
    manifest, training = run.manifest, run.manifest.training
    evaluation = run.read_evaluation(part) or {}
    metric = "map" if manifest.model.multilabel else "accuracy"
    interval = evaluation.get("intervals", {}).get(metric)
    attentive = manifest.model.architecture == "attention"
    return ComparedRun(
        run=run.name,
        path=str(run.path),
        preset=training.preset,
        backbone=manifest.features.backbone,
        weights_sha256=manifest.features.weights_sha256,
        split_sha256=manifest.split["sha256"],
        reduction=evaluation.get("reduction"),
        block_stride=evaluation.get("block_stride"),
        model=f"attention ({manifest.model.attention})" if attentive else manifest.model.architecture,
        attention_penalty=training.attention_penalty if attentive else None,
        fps=training.fps,
        seed=training.seed,
        dataset=manifest.store["dataset"],
        split=manifest.split["name"],
        leaking=bool(manifest.split["leaking_groups"]),
        part=evaluation.get("part"),
        num_videos=evaluation.get("num_videos"),
        metric=metric,
        accuracy=evaluation.get("accuracy"),
        mean_class_accuracy=evaluation.get("mean_class_accuracy"),
        map=evaluation.get("map"),
        interval=None if interval is None or None in interval else tuple(interval),
        validation_accuracy=manifest.result.get("validation_accuracy"),
        validation_map=manifest.result.get("validation_map"),
        attention_entropy=evaluation.get("attention_entropy"),
        penalty_above_floor=evaluation.get("penalty_above_floor"),
        train_seconds=manifest.result["seconds"],
    )
