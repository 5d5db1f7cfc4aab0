"""A run's figures on a part of its split: per video, per class, confusion; how faithful its attention is."""

import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import nn

from attnrec.errors import AttnrecError, ConfigError, RunError
from attnrec.evaluation.faithfulness import attention_faithfulness, require_attention
from attnrec.evaluation.figures import resolved_top_k, video_figures
from attnrec.evaluation.localization import Targets, read_targets, stored_targets
from attnrec.evaluation.report import EvaluationReport, Faithfulness, VideoFigure, earlier_faithfulness
from attnrec.features.blocks import BlockTable
from attnrec.features.feed import CubeFeed
from attnrec.features.store import FeatureStore
from attnrec.metrics import attention_entropy, block_means, reduce_blocks, require_fitting
from attnrec.models.losses import penalty_floor
from attnrec.runtime import OnProgress, Progress, no_progress, prepare_cpu, resolve_device
from attnrec.settings import Reduction
from attnrec.training.origin import store_of_run
from attnrec.training.plan import run_blocks
from attnrec.training.run import Run
from attnrec.training.score import BATCH_BLOCKS, score_blocks

CHUNK_BLOCKS = 64 * BATCH_BLOCKS  # time-steps and attention are kept for so many blocks at a time


def evaluate(
    run: str | Path | Run,
    store: str | Path | None = None,
    *,
    part: str = "test",
    reduction: Reduction | None = None,
    last_steps: int | None = None,
    block_stride: int | None = None,
    top_k: int | None = None,
    faithfulness: bool = False,
    boxes: str | Path | None = None,
    device: str = "auto",
    jobs: int | None = None,
    on_progress: OnProgress = no_progress,
) -> EvaluationReport:
    """Score a run on a part of the split that it was trained with.

    Writes `evaluation-<part>.json` and `predictions-<part>.npz` into the run. Where that fails, which may be after
    hours, the figures are returned all the same: see `unsaved` there.

    Args:
        run: The run or its folder.
        store: The feature store that it was trained on; None looks where it was, then in the current folder.
        part: `test`, `validation` or `train`.
        reduction: `mean` of the block probabilities as in the paper, or the majority `vote` of the authors' code;
            None takes the run's.
        last_steps: Time-steps at a block's end that count; None takes the run's.
        block_stride: Stored frames between the starts of blocks; None takes the run's.
        top_k: k of the top-k accuracy; None takes 5 where there are more classes.
        faithfulness: Test the attention as well; otherwise an earlier test of the same weights, videos and settings
            stays in the report.
        boxes: A file of boxes or points for that test, see `features.boxes.read_boxes`; None takes the store's own, if
            it has some of these videos.
        device: See `runtime.resolve_device`.
        jobs: CPU threads.
        on_progress: Told of every batch.

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
    run = run if isinstance(run, Run) else Run(run)
    if boxes is not None and not faithfulness:
        raise ConfigError(f"--boxes {boxes}: boxes are for --faithfulness; give that as well")
    if faithfulness:
        require_attention(run)
    features = store_of_run(run, store, on_progress)
    settings = _settings(run, features, reduction, last_steps, block_stride, top_k)
    prepare_cpu(jobs)
    model = run.load_model(resolve_device(device))
    table = run_blocks(features, run.manifest.training, part, settings.block_stride)
    if not len(table):
        raise RunError(f"{run.path}: split {_split(run)} has no {part} video; evaluate another part by --part")
    videos = np.unique(table.video)
    targets = _box_targets(run, features, table, boxes) if faithfulness else None
    num_videos = len(videos)
    message = f"{run.name}: {len(table)} blocks of {num_videos} videos, one every {settings.block_stride} stored frames"
    on_progress(Progress("evaluate", message=message))
    if targets is not None and (note := _note_on_boxes(features, targets, boxes)) is not None:
        on_progress(Progress("evaluate", message=note))
    scores = _score(run, model, features, table, settings.last_steps, on_progress)
    probs = reduce_blocks(scores.block_probs[:, None], table.video, settings.reduction)
    tested = None
    if faithfulness:
        tested = attention_faithfulness(
            run,
            model,
            features,
            table,
            reduction=settings.reduction,
            last_steps=settings.last_steps,
            targets=targets,
            on_progress=on_progress,
        )
    report = _report(run, features, table, scores, probs, part, settings, tested, started)
    if tested is None and (kept := _kept_faithfulness(run, report)) is not None:
        report = replace(report, faithfulness=kept)
        on_progress(Progress("evaluate", message=f"{run.name}: the test of its attention is that of an earlier call"))
    try:
        _write(run, features, table, scores, probs, report)
    except AttnrecError as error:
        return replace(report, unsaved=str(error))
    return report


def _box_targets(run: Run, store: FeatureStore, table: BlockTable, boxes: str | Path | None) -> Targets | None:
    """Where annotated things are by a file, or else by the store if its boxes are in a step of these blocks."""
    videos, training = np.unique(table.video), store.split_members(_split(run), "train")
    if boxes is not None:
        return read_targets(Path(boxes), store, videos, training)
    targets = stored_targets(store, videos, training)
    return targets if targets is not None and (targets.row[table.frames] >= 0).any() else None


def _note_on_boxes(store: FeatureStore, targets: Targets, boxes: str | Path | None) -> str | None:
    if boxes is None:
        return f"boxes: those in {store.path}, of {store.boxes.num_videos if store.boxes else 0} videos"
    if targets.unknown:
        return f"{boxes}: boxes of {len(targets.unknown)} videos that the store does not hold were left out"
    return None


def _split(run: Run) -> str:
    return str(run.manifest.split["name"])


class _Settings(NamedTuple):
    """How blocks are cut and made into figures, without gaps."""

    reduction: Reduction
    last_steps: int
    block_stride: int
    top_k: int | None


def _settings(
    run: Run,
    store: FeatureStore,
    reduction: Reduction | None,
    last_steps: int | None,
    block_stride: int | None,
    top_k: int | None,
) -> _Settings:
    training, multilabel = run.manifest.training, run.manifest.model.multilabel
    chosen = reduction or training.reduction
    require_fitting(chosen, multilabel=multilabel)
    if last_steps is not None and not 1 <= last_steps <= training.block_frames:
        raise ConfigError(f"--last-steps {last_steps}: must be from 1 to {training.block_frames}, the run's block")
    return _Settings(
        chosen,
        last_steps or training.last_steps,
        block_stride or training.block_stride,
        resolved_top_k(top_k, len(store.classes), multilabel),
    )


class _Scores(NamedTuple):
    """Class probabilities (M, C) of all blocks, and the means over blocks of what their attention was like."""

    block_probs: NDArray[np.float64]
    attention_entropy: float | None
    penalty_above_floor: float | None


def _score(
    run: Run, model: nn.Module, store: FeatureStore, table: BlockTable, last_steps: int, on_progress: OnProgress
) -> _Scores:
    probs: list[NDArray[np.float64]] = []
    figures = np.zeros(2)
    feed = CubeFeed(store.features(), run.manifest.feature_scale, next(model.parameters()).device)
    for start in range(0, len(table), CHUNK_BLOCKS):
        scores = score_blocks(
            model,
            feed,
            table.frames[start : start + CHUNK_BLOCKS],
            multilabel=run.manifest.model.multilabel,
            keep_attention=True,
            on_batch=lambda done, start=start: on_progress(Progress("evaluate", start + done, len(table))),  # type: ignore[misc]
        )
        if not np.isfinite(scores.frame_probs).all():
            store.require_finite(table.frames[start : start + CHUNK_BLOCKS])
            raise RunError(f"{run.path}: its predictions are not numbers; train again with a lower --learning-rate")
        probs.append(block_means(scores.frame_probs, last_steps))
        if scores.attention is not None:
            figures += np.array(_attention_figures(scores.attention)) * len(scores.attention) / len(table)
    entropy, penalty = figures.tolist() if scores.attention is not None else (None, None)
    return _Scores(np.concatenate(probs), entropy, penalty)


def _attention_figures(attention: NDArray[np.float32]) -> tuple[float, float]:
    """Entropy, and Eq. 7's penalty above its floor, means over blocks (M, T, L)."""
    _, T, L = attention.shape
    penalty = np.square(1 - attention.sum(axis=1, dtype=np.float64)).sum(axis=-1).mean()
    return attention_entropy(attention), float(penalty) - penalty_floor(T, L)


def _report(
    run: Run,
    store: FeatureStore,
    table: BlockTable,
    scores: _Scores,
    probs: NDArray[np.float64],
    part: str,
    settings: _Settings,
    tested: Faithfulness | None,
    started: float,
) -> EvaluationReport:
    manifest, videos = run.manifest, np.unique(table.video)
    groups = [store.groups[video] for video in videos]
    figures = video_figures(store.targets[videos], probs, groups, store.classes, top_k=settings.top_k)
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
        reduction=settings.reduction,
        last_steps=settings.last_steps,
        block_stride=settings.block_stride,
        num_videos=len(videos),
        num_groups=len(set(groups)),
        num_blocks=len(table),
        attention_entropy=scores.attention_entropy,
        penalty_above_floor=scores.penalty_above_floor,
        videos=[
            VideoFigure(
                store.path_of(video), ";".join(store.labels_of(video)), store.classes[row.argmax()], float(row.max())
            )
            for video, row in zip(videos, probs, strict=True)
        ],
        faithfulness=tested,
        seconds=time.monotonic() - started,
        **figures,
    )


def _kept_faithfulness(run: Run, report: EvaluationReport) -> Faithfulness | None:
    try:
        earlier = run.read_evaluation(report.part)
    except RunError:
        return None  # damaged: it is about to be replaced
    return None if earlier is None else earlier_faithfulness(earlier, report)


def _write(
    run: Run,
    store: FeatureStore,
    table: BlockTable,
    scores: _Scores,
    probs: NDArray[np.float64],
    report: EvaluationReport,
) -> None:
    """Write the report and all scores into the run."""
    videos = np.unique(table.video)
    label = {"video_labels": store.label_matrix[videos]} if store.multilabel else {}
    arrays: dict[str, Any] = {
        "classes": np.array([name.encode("utf-8", "surrogateescape") for name in store.classes]),
        "video_path": store.videos.path[videos],
        "video_group": store.videos.group[videos],
        "video_label": store.videos.label[videos],
        "video_probs": probs,
        "block_video": np.searchsorted(videos, table.video),
        "block_start_seconds": store.pts[table.frames[:, 0]],
        "block_probs": scores.block_probs.astype(np.float32),
    } | label
    run.write_evaluation(report.part, asdict(report), arrays)
