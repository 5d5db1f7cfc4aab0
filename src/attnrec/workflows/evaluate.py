"""A run's figures on a part of its split: per video, per class, confusion."""

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import nn

from attnrec.config import Reduction
from attnrec.data.blocks import BlockTable, block_table
from attnrec.data.store import FeatureStore, find_store
from attnrec.errors import RunError
from attnrec.metrics import (
    accuracy,
    attention_entropy,
    confusion,
    log_loss,
    per_class_accuracy,
    reduce_blocks,
)
from attnrec.models.losses import penalty_floor
from attnrec.run import Run
from attnrec.runtime import OnProgress, Progress, no_progress, prepare_cpu, resolve_device
from attnrec.workflows.scoring import BATCH_BLOCKS, score_blocks

CHUNK_BLOCKS = 64 * BATCH_BLOCKS  # attention is kept for so many blocks at a time


@dataclass(frozen=True)
class ClassFigure:
    """A class: its videos in the part, and the share of them that is recognised (None without videos)."""

    name: str
    num_videos: int
    accuracy: float | None


@dataclass(frozen=True)
class VideoFigure:
    """A video: what it is, what it was taken for, with what probability."""

    path: str
    label: str
    predicted: str
    probability: float


@dataclass(frozen=True)
class EvaluationReport:
    """A run's figures on a part of its split.

    Attributes:
        run: Folder of the run.
        preset: Preset of its training.
        model: Architecture.
        attention: Form of its location scorer; None without attention.
        backbone: Network that its features come from.
        weights_sha256: Hash of that network's weights.
        dataset: Name of the dataset.
        split: Name of the split.
        split_sha256: Its hash.
        leaking_groups: Groups with videos on both sides of the split; the figures are too good where there are any.
        part: `test`, `validation` or `train`.
        reduction: How blocks make a video's probabilities, `mean` or `vote`.
        block_stride: Stored frames between the starts of blocks.
        num_videos: In the part.
        num_blocks: Scored.
        accuracy: Share of videos recognised.
        mean_class_accuracy: Mean over the classes that have videos.
        chance: Share of the part's largest class.
        log_loss: Mean negative log probability of the true class, in nats.
        attention_entropy: Of the location probabilities, 1 for uniform; None without attention.
        penalty_above_floor: Of Eq. 7, mean over blocks, over the least that T and L allow; None without attention.
        classes: Figures of each class.
        confusion: Videos by true class (rows) and predicted class (columns).
        videos: Figures of each video.
        seconds: Taken.
    """

    run: str
    preset: str
    model: str
    attention: str | None
    backbone: str
    weights_sha256: str
    dataset: str
    split: str
    split_sha256: str
    leaking_groups: list[str]
    part: str
    reduction: str
    block_stride: int
    num_videos: int
    num_blocks: int
    accuracy: float
    mean_class_accuracy: float
    chance: float
    log_loss: float
    attention_entropy: float | None
    penalty_above_floor: float | None
    classes: list[ClassFigure]
    confusion: list[list[int]]
    videos: list[VideoFigure]
    seconds: float


def evaluate(
    run: str | Path | Run,
    store: str | Path | None = None,
    *,
    part: str = "test",
    reduction: Reduction = "mean",
    block_stride: int | None = None,
    device: str = "auto",
    jobs: int | None = None,
    on_progress: OnProgress = no_progress,
) -> EvaluationReport:
    """Score a run on a part of the split that it was trained with.

    Writes `evaluation-<part>.json` and `predictions-<part>.npz` into the run.

    Args:
        run: The run or its folder.
        store: The feature store that it was trained on; None looks where it was, then in the current folder.
        part: `test`, `validation` or `train`.
        reduction: `mean` of the block probabilities as in the paper, or the majority `vote` of the authors' code.
        block_stride: Stored frames between the starts of blocks; None takes the run's.
        device: See `runtime.resolve_device`.
        jobs: CPU threads.
        on_progress: Told of every batch.

    Returns:
        The figures.

    Raises:
        RunError: The run cannot be used or belongs to another store.
        FeatureStoreError: The store cannot be used.
    """
    started = time.monotonic()
    run = run if isinstance(run, Run) else Run(run)
    features = store_of_run(run, store)
    prepare_cpu(jobs)
    model = run.load_model(resolve_device(device))
    training = run.manifest.training
    stride = block_stride or training.block_stride
    table = block_table(
        features,
        features.split_members(training.split, part),
        fps=training.fps,
        block_frames=training.block_frames,
        block_stride=stride,
    )
    if not len(table):
        raise RunError(f"{run.path}: split {training.split} has no {part} video; evaluate another part by --part")
    scores = _score(run, model, features, table, on_progress)
    report = _report(run, features, table, scores, part, reduction, stride, started)
    run.write_evaluation(part, asdict(report), _arrays(features, table, scores, reduction))
    return report


def store_of_run(run: Run, store: str | Path | None) -> FeatureStore:
    """The feature store that a run was trained on.

    Args:
        run: The run.
        store: Where it is; None looks where it was at training, then in the current folder.

    Raises:
        RunError: The run was trained on another store.
        FeatureStoreError: There is none.
    """
    recorded = Path(run.manifest.store["path"])
    path = Path(store) if store is not None else recorded if recorded.is_file() else find_store(Path.cwd())
    features = FeatureStore(path, run.manifest.features.layer)
    if features.fingerprint != run.manifest.store["fingerprint"]:
        raise RunError(
            f"{run.path}: was trained on another store than {path}; name its own by --features, or train again"
        )
    if features.split_sha256(run.manifest.training.split) != run.manifest.split["sha256"]:
        raise RunError(
            f"{path}: split {run.manifest.training.split} has changed since {run.path} was trained; train again"
        )
    return features


class _Scores(NamedTuple):
    """Class probabilities (M, T, C) of all blocks, and the means over blocks of what their attention was like."""

    frame_probs: NDArray[np.float32]
    attention_entropy: float | None
    penalty_above_floor: float | None


def _score(run: Run, model: nn.Module, store: FeatureStore, table: BlockTable, on_progress: OnProgress) -> _Scores:
    probs: list[NDArray[np.float32]] = []
    figures = np.zeros(2)
    for start in range(0, len(table), CHUNK_BLOCKS):
        scores = score_blocks(
            model,
            store.features(),
            table.frames[start : start + CHUNK_BLOCKS],
            scale=run.manifest.feature_scale,
            multilabel=run.manifest.model.multilabel,
            keep_attention=True,
            on_batch=lambda done, start=start: on_progress(Progress("evaluate", start + done, len(table))),  # type: ignore[misc]
        )
        probs.append(scores.frame_probs)
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
    part: str,
    reduction: str,
    stride: int,
    started: float,
) -> EvaluationReport:
    videos = np.unique(table.video)
    labels = store.videos.label[videos].astype(np.int64)
    probs = reduce_blocks(scores.frame_probs, table.video, reduction)
    matrix = confusion(labels, probs)
    class_accuracy = per_class_accuracy(matrix)
    totals = matrix.sum(axis=1)
    return EvaluationReport(
        run=str(run.path),
        preset=run.manifest.training.preset,
        model=run.manifest.model.architecture,
        attention=run.manifest.model.attention if run.manifest.model.architecture == "attention" else None,
        backbone=run.manifest.features.backbone,
        weights_sha256=run.manifest.features.weights_sha256,
        dataset=store.dataset,
        split=run.manifest.training.split,
        split_sha256=run.manifest.split["sha256"],
        leaking_groups=run.manifest.split["leaking_groups"],
        part=part,
        reduction=reduction,
        block_stride=stride,
        num_videos=len(videos),
        num_blocks=len(table),
        accuracy=accuracy(labels, probs),
        mean_class_accuracy=float(np.nanmean(class_accuracy)),
        chance=float(totals.max() / totals.sum()),
        log_loss=log_loss(labels, probs),
        attention_entropy=scores.attention_entropy,
        penalty_above_floor=scores.penalty_above_floor,
        classes=[
            ClassFigure(name, int(count), float(share) if count else None)
            for name, count, share in zip(store.classes, totals, class_accuracy, strict=True)
        ],
        confusion=matrix.tolist(),
        videos=[
            VideoFigure(store.path_of(video), store.classes[label], store.classes[row.argmax()], float(row.max()))
            for video, label, row in zip(videos, labels, probs, strict=True)
        ],
        seconds=time.monotonic() - started,
    )


def _arrays(store: FeatureStore, table: BlockTable, scores: _Scores, reduction: str) -> dict[str, Any]:
    videos = np.unique(table.video)
    return {
        "classes": np.array([name.encode("utf-8", "surrogateescape") for name in store.classes]),
        "video_path": store.videos.path[videos],
        "video_label": store.videos.label[videos],
        "video_probs": reduce_blocks(scores.frame_probs, table.video, reduction),
        "block_video": np.searchsorted(videos, table.video),
        "block_start_seconds": store.pts[table.frames[:, 0]],
        "block_probs": scores.frame_probs.mean(axis=1),
    }
