"""`evaluate`: scores runs on a part of their split, per video and per class, and tests their attention."""

import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import nn

from attnrec.errors import AttnrecError, ConfigError, RunError
from attnrec.evaluation.agreement import attention_agreement
from attnrec.evaluation.faithfulness import attention_faithfulness, require_attention
from attnrec.evaluation.localization import Targets, read_targets, stored_targets
from attnrec.evaluation.report import (
    EvaluationReport,
    EvaluationSummary,
    Faithfulness,
    VideoFigure,
    earlier_faithfulness,
    video_figures,
)
from attnrec.features.store import FeatureStore
from attnrec.metrics import attention_entropy, block_means, reduce_blocks, require_fitting
from attnrec.models.losses import penalty_floor
from attnrec.runtime import OnProgress, Progress, no_progress, prepare_cpu, resolve_device
from attnrec.settings import Reduction
from attnrec.training.origin import store_of_run
from attnrec.training.plan import run_blocks
from attnrec.training.run import Run, RunLike, as_run
from attnrec.training.score import BATCH_BLOCKS, RunBlocks, passes_of, require_draws, score_blocks

DEFAULT_TOP_K = 5
CHUNK_BLOCKS = 64 * BATCH_BLOCKS  # blocks whose time-steps and attention are in memory at a time


def evaluate(
    run: RunLike,
    store: str | Path | None = None,
    *,
    part: str = "test",
    reduction: Reduction | None = None,
    last_steps: int | None = None,
    block_stride: int | None = None,
    top_k: int | None = None,
    samples: int = 0,
    faithfulness: bool = False,
    boxes: str | Path | None = None,
    device: str = "auto",
    jobs: int | None = None,
    on_progress: OnProgress = no_progress,
) -> EvaluationReport:
    """Evaluate a run on a part of the split that it was trained with.

    Writes `evaluation-<part>.json` and `predictions-<part>.npz` into the run; with samples, the part's name in theirs
    is followed by `-samples<N>`, so that the figures that `compare` reads stay. If writing fails, possibly after hours,
    the figures are returned all the same, with the reason in `unsaved`.

    Args:
        run: The run, its folder, or a report of it.
        store: The feature store that it was trained on; None looks where it was, then in the current folder.
        part: `test`, `validation` or `train`.
        reduction: `mean` of the block probabilities as in the paper, or majority `vote` as in the authors' code; None
            takes the run's.
        last_steps: Number of last time-steps of a block to predict from; None takes the run's.
        block_stride: Stored frames between the starts of blocks; None takes the run's.
        top_k: k of the top-k accuracy; None takes 5 if there are more classes.
        samples: Number of passes to average over in which hard attention draws where it looks; 0 for one that looks at
            the most probable locations.
        faithfulness: Test the attention as well; otherwise an earlier test of the same weights, videos and settings
            is kept in the report.
        boxes: A file of boxes or points for that test, see `features.boxes.read_boxes`; None takes the store's boxes,
            if it has some of these videos.
        device: Device to run on, see `runtime.resolve_device`.
        jobs: CPU threads.
        on_progress: Called after every batch.

    Returns:
        The figures.

    Raises:
        RunError: The run cannot be used, belongs to another store, or has no attention to test.
        ConfigError: A setting does not fit the run or its kind of labels.
        FeatureStoreError: The store cannot be used.
        DataError: The boxes cannot be used.
        VideoError: A video that has boxes cannot be opened.
    """
    started = time.monotonic()
    run = as_run(run)
    if boxes is not None and not faithfulness:
        raise ConfigError(f"--boxes {boxes}: boxes are for --faithfulness; give that as well")
    if faithfulness:
        require_attention(run)
        if samples:
            raise ConfigError(f"--samples {samples}: --faithfulness tests the most probable locations; leave one out")
    require_draws(run, samples)
    features = store_of_run(run, store, on_progress)
    settings = _settings(run, features, reduction, last_steps, block_stride, top_k, samples)
    prepare_cpu(jobs)
    model = run.load_model(resolve_device(device))
    table = run_blocks(features, run.manifest.training, part, settings.block_stride)
    if not len(table):
        raise RunError(f"{run.path}: split {_split(run)} has no {part} video; evaluate another part by --part")
    blocks = RunBlocks(run, features, table)
    targets = _box_targets(blocks, boxes) if faithfulness else None
    number, stride = f"{len(table)} blocks of {len(blocks.videos)} videos", settings.block_stride
    on_progress(Progress("evaluate", message=f"{run.name}: {number}, one every {stride} stored frames"))
    if targets is not None and (note := _note_on_boxes(features, targets, boxes)) is not None:
        on_progress(Progress("evaluate", message=note))
    block_probs, gaze = _score(blocks, model, settings, on_progress)
    probs = reduce_blocks(block_probs[:, None], table.video, settings.reduction)
    tested = None
    if faithfulness:
        tested = attention_faithfulness(
            blocks,
            model,
            reduction=settings.reduction,
            last_steps=settings.last_steps,
            targets=targets,
            on_progress=on_progress,
        )
    report = _report(blocks, probs, gaze, part, settings, tested, started)
    if tested is None and not samples and (kept := _kept_faithfulness(run, report)) is not None:
        report = replace(report, faithfulness=kept)
        on_progress(Progress("evaluate", message=f"{run.name}: the test of its attention is that of an earlier call"))
    try:
        _write(blocks, block_probs, probs, report)
    except AttnrecError as error:
        return replace(report, unsaved=str(error))
    return report


def evaluate_runs(
    runs: Sequence[RunLike],
    store: str | Path | None = None,
    *,
    part: str = "test",
    block_stride: int | None = None,
    faithfulness: bool = False,
    device: str = "auto",
    on_progress: OnProgress = no_progress,
    **settings: Any,
) -> EvaluationSummary:
    """Evaluate several runs, such as folds or seeds.

    Args:
        runs: The runs, their folders, or reports of them.
        store: The feature store, as in `evaluate`.
        part: Part of the split.
        block_stride: Stored frames between the starts of blocks; None takes each run's.
        faithfulness: Test the attention, and compare that of every pair of runs that see the same blocks.
        device: Device to run on.
        on_progress: Called after every batch.
        **settings: Further arguments of `evaluate`.

    Raises:
        AttnrecError: As in `evaluate`.
    """
    opened = list(map(as_run, runs))
    if faithfulness:
        for run in opened:
            require_attention(run)
    settings |= {"part": part, "block_stride": block_stride, "device": device, "on_progress": on_progress}
    reports = [evaluate(run, store, faithfulness=faithfulness, **settings) for run in opened]
    attending = []
    for run in opened if faithfulness else []:
        features = store_of_run(run, store)
        attending.append(RunBlocks(run, features, run_blocks(features, run.manifest.training, part, block_stride)))
    return EvaluationSummary(reports, attention_agreement(attending, resolve_device(device), on_progress=on_progress))


def _box_targets(blocks: RunBlocks, boxes: str | Path | None) -> Targets | None:
    """The boxes to test against: of a file, or else of the store, if any of its boxed frames is in these blocks."""
    store, videos = blocks.store, blocks.videos
    training = store.split_members(_split(blocks.run), "train")
    if boxes is not None:
        return read_targets(Path(boxes), store, videos, training)
    targets = stored_targets(store, videos, training)
    return targets if targets is not None and (targets.row[blocks.table.frames] >= 0).any() else None


def _note_on_boxes(store: FeatureStore, targets: Targets, boxes: str | Path | None) -> str | None:
    if boxes is None:
        return f"boxes: those in {store.path}, of {store.boxes.num_videos if store.boxes else 0} videos"
    if targets.unknown:
        return f"{boxes}: boxes of {len(targets.unknown)} videos that the store does not hold were left out"
    return None


def _split(run: Run) -> str:
    return str(run.manifest.split["name"])


class _Settings(NamedTuple):
    """Settings of an evaluation without gaps, by their names in the report."""

    reduction: Reduction
    last_steps: int
    block_stride: int
    top_k: int | None
    samples: int


def _settings(
    run: Run,
    store: FeatureStore,
    reduction: Reduction | None,
    last_steps: int | None,
    block_stride: int | None,
    top_k: int | None,
    samples: int,
) -> _Settings:
    training, multilabel, C = run.manifest.training, run.manifest.model.multilabel, len(store.classes)
    chosen = reduction or training.reduction
    require_fitting(chosen, multilabel=multilabel)
    if last_steps is not None and not 1 <= last_steps <= training.block_frames:
        raise ConfigError(f"--last-steps {last_steps}: must be from 1 to {training.block_frames}, the run's block")
    if top_k is not None:
        require_fitting("top_k_accuracy", multilabel=multilabel)
        if not 1 <= top_k <= C:
            raise ConfigError(f"--top-k {top_k}: must be from 1 to {C}, the number of classes")
    return _Settings(
        chosen,
        last_steps or training.last_steps,
        block_stride or training.block_stride,
        top_k or (DEFAULT_TOP_K if C > DEFAULT_TOP_K and not multilabel else None),
        samples,
    )


def _score(
    blocks: RunBlocks, model: nn.Module, settings: _Settings, on_progress: OnProgress
) -> tuple[NDArray[np.float64], dict[str, Any]]:
    """Class probabilities of all blocks, shape (M, C), and figures of their attention by their names in the report."""
    probs: list[NDArray[np.float64]] = []
    gaze: dict[str, Any] = {}
    run, table, feed = blocks.run, blocks.table, blocks.feed(model)
    passes = passes_of(run, settings.samples, table.video)
    for start in range(0, len(table), CHUNK_BLOCKS):
        chunk = slice(start, start + CHUNK_BLOCKS)
        scores = score_blocks(
            model,
            feed,
            table.frames[chunk],
            multilabel=run.manifest.model.multilabel,
            keep_attention=True,
            passes=passes and passes._replace(places=passes.places[chunk]),
            on_batch=lambda done, start=start: on_progress(Progress("evaluate", start + done, len(table))),  # type: ignore[misc]
        )
        if not np.isfinite(scores.frame_probs).all():
            blocks.store.require_finite(table.frames[chunk])
            raise RunError(f"{run.path}: its predictions are NaN or infinite; train again with a lower --learning-rate")
        probs.append(block_means(scores.frame_probs, settings.last_steps))
        if scores.attention is not None:
            for name, figure in _gaze(scores.attention).items():
                gaze[name] = gaze.get(name, 0.0) + figure * len(scores.attention) / len(table)
    return np.concatenate(probs), gaze


def _gaze(attention: NDArray[np.float32]) -> dict[str, float]:
    """Entropy and penalty of attention (M, T, L), means over its blocks."""
    _, T, L = attention.shape
    penalty = np.square(1 - attention.sum(axis=1, dtype=np.float64)).sum(axis=-1).mean()
    return {
        "attention_entropy": attention_entropy(attention),
        "penalty_above_floor": float(penalty) - penalty_floor(T, L),
    }


def _report(
    blocks: RunBlocks,
    probs: NDArray[np.float64],
    gaze: dict[str, Any],
    part: str,
    settings: _Settings,
    tested: Faithfulness | None,
    started: float,
) -> EvaluationReport:
    run, store, videos, groups = blocks.run, blocks.store, blocks.videos, blocks.groups
    manifest = run.manifest
    return EvaluationReport(
        run=str(run.path),
        preset=manifest.training.preset,
        model=manifest.model.architecture,
        attention=manifest.model.attention if manifest.model.architecture == "attention" else None,
        backbone=manifest.features.backbone,
        weights_sha256=manifest.features.weights_sha256,
        model_sha256=run.model_sha256,
        dataset=store.dataset,
        multilabel=store.multilabel,
        split=_split(run),
        split_sha256=manifest.split["sha256"],
        leaking_groups=manifest.split["leaking_groups"],
        part=part,
        trained_on=part == "train" or (part == "validation" and manifest.training.retrain),
        num_videos=len(videos),
        num_groups=len(set(groups)),
        num_blocks=len(blocks.table),
        videos=[
            VideoFigure(
                store.path_of(video), ";".join(store.labels_of(video)), store.classes[row.argmax()], float(row.max())
            )
            for video, row in zip(videos, probs, strict=True)
        ],
        faithfulness=tested,
        seconds=time.monotonic() - started,
        **settings._asdict(),
        **gaze,
        **video_figures(store.targets[videos], probs, groups, store.classes, top_k=settings.top_k),
    )


def _kept_faithfulness(run: Run, report: EvaluationReport) -> Faithfulness | None:
    try:
        earlier = run.read_evaluation(report.part)
    except RunError:
        return None  # damaged: it is about to be replaced
    return None if earlier is None else earlier_faithfulness(earlier, report)


def _write(
    blocks: RunBlocks, block_probs: NDArray[np.float64], probs: NDArray[np.float64], report: EvaluationReport
) -> None:
    """Write the report and all scores into the run."""
    store, table, videos = blocks.store, blocks.table, blocks.videos
    label = {"video_labels": store.label_matrix[videos]} if store.multilabel else {}
    arrays: dict[str, Any] = {
        "classes": np.array([name.encode("utf-8", "surrogateescape") for name in store.classes]),
        "video_path": store.videos.path[videos],
        "video_group": store.videos.group[videos],
        "video_label": store.videos.label[videos],
        "video_probs": probs,
        "block_video": np.searchsorted(videos, table.video),
        "block_start_seconds": store.pts[table.frames[:, 0]],
        "block_probs": block_probs.astype(np.float32),
    } | label
    blocks.run.write_evaluation(report.saved_as, asdict(report), arrays)
