"""What a training will do: settings filled in by the preset, blocks counted, the model sized."""

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from attnrec.config import ModelConfig, TrainConfig
from attnrec.data.blocks import BlockTable, block_table
from attnrec.data.splits import SPLIT_PARTS, leaking_groups, preferred_split
from attnrec.data.store import FeatureStore, find_store
from attnrec.distributed import World
from attnrec.errors import ConfigError, RunError
from attnrec.files import machine_memory
from attnrec.models.architectures import count_parameters
from attnrec.records import RunManifest
from attnrec.run import Run, utc_now
from attnrec.runtime import (
    OnProgress,
    default_jobs,
    no_progress,
    prepare_cpu,
    resolve_device,
    resolve_precision,
    versions,
)
from attnrec.workflows.identity import run_name, settings_given
from attnrec.workflows.presets import notes_on, patience_of, with_protocol, with_schedule

_SCALE_SAMPLE_FRAMES = 512


@dataclass(frozen=True)
class TrainPlan:
    """What the preset chose for this store.

    Attributes:
        store: Path of the feature store.
        run_name: Name of the run, without its number.
        split: Name of the split.
        multilabel: A video may have several labels.
        num_train_blocks: Blocks of the training videos.
        num_validation_blocks: Blocks of the validation videos.
        batch_size: Blocks in a batch.
        epochs: Most passes over the training blocks.
        patience: Epochs without a better validation after which training ends; None: never.
        updates: Most optimiser steps, those of `--retrain` not counted.
        processes: That share each batch.
        learning_rate: Of the optimiser.
        hidden_dim: H.
        feature_scale: Factor on stored features before they enter the model.
        parts: Number of videos in each part of the split.
        leaking_groups: Groups with videos on both sides of the split.
        num_parameters: Of the model.
        batch_bytes: Memory for the cubes of a batch, in each process; the store itself is mapped.
        state_bytes: Memory for parameters, gradients and the optimiser's state, likewise.
        missing_classes: Classes without a training video.
        settings: All settings, without gaps.
        notes: What the dataset decided, in words.
    """

    store: str
    run_name: str
    split: str
    multilabel: bool
    num_train_blocks: int
    num_validation_blocks: int
    batch_size: int
    epochs: int
    patience: int | None
    updates: int
    processes: int
    learning_rate: float
    hidden_dim: int
    feature_scale: float
    parts: dict[str, int]
    leaking_groups: list[str]
    num_parameters: int
    batch_bytes: int
    state_bytes: int
    missing_classes: list[str]
    settings: TrainConfig
    notes: list[str]


@dataclass(frozen=True)
class Session:
    """All that a training needs, once its plan stands. `config` has no gaps."""

    store: FeatureStore
    given: TrainConfig
    config: TrainConfig
    plan: TrainPlan
    model_config: ModelConfig
    train: BlockTable
    validation: BlockTable
    device: torch.device
    threads: int


def prepare(
    store_path: str | Path | None,
    given: TrainConfig,
    world: World | None = None,
    on_progress: OnProgress = no_progress,
) -> Session:
    """Open the store and plan a training on it, in one of several processes. Takes and raises as `train.train`."""
    world = world or World()
    store = FeatureStore(find_store(Path.cwd(), on_progress) if store_path is None else store_path, given.layer)
    # torchrun leaves one thread to each process, whatever the machine has.
    jobs = given.jobs if world.size == 1 else given.jobs or max(1, default_jobs() // world.local_size)
    threads = prepare_cpu(jobs)
    device = resolve_device(given.device, world.local_rank if world.size > 1 else None)
    if len(store.classes) < 2:
        found = "one class" if store.classes else "no classes"
        raise ConfigError(f"{store.path}: has {found}; a recogniser needs two, each in a folder of its own")
    split = given.split if given.split is not None else preferred_split(store.split_names)
    config = with_protocol(
        dataclasses.replace(given, split=split),
        typical_frames=_typical_frames(store, given.fps),
        dataset=store.dataset,
        feature_dim=store.spec.feature_dim,
        multilabel=store.multilabel,
    )
    train, validation = (run_blocks(store, config, part) for part in ("train", "validation"))
    if config.overfit is not None:
        train, validation = _spread(train, config.overfit), _spread(train, 0)
    if not len(train):
        raise ConfigError(f"{store.path}: split {split} has no training video; choose another by --split")
    if config.retrain and not len(validation):
        raise ConfigError(f"{store.path}: split {split} has no validation video, which --retrain needs")
    config = with_schedule(config, dataset=store.dataset, num_blocks=len(train))
    config = dataclasses.replace(
        config,
        patience=patience_of(config, len(validation) > 0) or 0,
        precision=resolve_precision(config.precision, device),
    )
    model_config = _model_config(store, config)
    plan = _plan(store, given, config, model_config, train, validation, world)
    _require_memory(plan, model_config, device)
    return Session(store, given, config, plan, model_config, train, validation, device, threads)


def prepare_again(run: Run, store: FeatureStore, config: TrainConfig, world: World) -> Session:
    """What `prepare` made when the run began, for going on with it.

    Args:
        run: That was interrupted.
        store: That it was trained on.
        config: Its settings, but for those that leave its weights as they are.
        world: The processes.

    Raises:
        RunError: This attnrec would train another model than the run's.
    """
    session, manifest = prepare(store.path, config, world), run.manifest
    if session.model_config != manifest.model or session.store.spec != manifest.features:
        raise RunError(f"{run.path}: another attnrec began it, whose model this one does not make; train anew")
    plan = dataclasses.replace(session.plan, feature_scale=manifest.feature_scale, run_name=run.name, notes=[])
    return dataclasses.replace(session, plan=plan)


def _spread(table: BlockTable, count: int) -> BlockTable:
    """So many blocks of a table, or all, from its whole length and so of most classes."""
    picked = np.linspace(0, len(table) - 1, min(count, len(table))).astype(int)
    return BlockTable(table.frames[picked], table.video[picked])


def run_blocks(store: FeatureStore, config: TrainConfig, part: str, block_stride: int | None = None) -> BlockTable:
    """Blocks of a part of a run's split, as its training cut them.

    Args:
        store: Of the run.
        config: Of the run, without gaps.
        part: Of the split.
        block_stride: Stored frames between starts, where another than the training's is wanted.

    Raises:
        ConfigError: Their samples take more memory than there is.
    """
    videos, stride = store.split_members(config.split or "default", part), block_stride or config.block_stride
    T, lengths = config.num_steps, store.videos.num_frames[videos]
    most_blocks = int(np.maximum(1, (lengths - T) // stride + 1).sum())
    if 8 * T * most_blocks > machine_memory() / 2:
        raise ConfigError(
            f"{store.path}: {most_blocks} blocks of {T} frames would take {8 * T * most_blocks / 1e9:.1f} GB in memory "
            "for their samples alone; lower --block-frames, or raise --stride"
        )
    return block_table(
        store,
        videos,
        fps=config.fps,
        block_frames=config.num_steps,
        block_stride=stride,
        starts=config.block_starts or "by-time",
    )


def _typical_frames(store: FeatureStore, fps: float) -> float:
    """Samples of the median video at a rate, which the stored one bounds; of all parts, so that folds are cut alike."""
    rates = np.minimum(store.videos.effective_fps, min(fps, store.spec.sample_fps or math.inf))
    return float(np.median(store.videos.duration * rates))


def _model_config(store: FeatureStore, config: TrainConfig) -> ModelConfig:
    filled = vars(config)
    return ModelConfig(
        architecture=config.model,
        feature_dim=store.spec.feature_dim,
        num_locations=store.spec.num_locations,
        num_classes=len(store.classes),
        attention=filled["attention"],
        hidden_dim=filled["hidden_dim"],
        num_layers=filled["num_layers"],
        dropout=config.dropout,
        multilabel=store.multilabel,
        init_layers=filled["init_layers"],
        scorer_layers=filled["scorer_layers"],
        attention_dim=config.attention_dim,
        input_dropout=config.input_dropout,
        add_mean=bool(config.add_mean) and config.model == "attention",
    )


def _plan(
    store: FeatureStore,
    given: TrainConfig,
    config: TrainConfig,
    model_config: ModelConfig,
    train_blocks: BlockTable,
    validation_blocks: BlockTable,
    world: World,
) -> TrainPlan:
    filled = vars(config)
    num_parameters, scale = count_parameters(model_config), _feature_scale(store, train_blocks)
    updates = filled["epochs"] * math.ceil(len(train_blocks) / filled["batch_size"])
    present = store.label_matrix[np.unique(train_blocks.video)].sum(axis=0, dtype=int).tolist()
    return TrainPlan(
        store=str(store.path),
        run_name=run_name(given),
        split=filled["split"],
        multilabel=store.multilabel,
        num_train_blocks=len(train_blocks),
        num_validation_blocks=len(validation_blocks),
        batch_size=filled["batch_size"],
        epochs=filled["epochs"],
        patience=config.patience or None,
        updates=min(updates, config.max_steps or updates),
        processes=world.size,
        learning_rate=filled["learning_rate"],
        hidden_dim=filled["hidden_dim"],
        feature_scale=scale if config.preset == "auto" else 1.0,
        parts={part: len(store.split_members(filled["split"], part)) for part in SPLIT_PARTS[:3]},
        leaking_groups=leaking_groups(store.split(filled["split"]), store.groups),
        num_parameters=num_parameters,
        batch_bytes=4
        * train_blocks.frames.shape[1]
        * store.spec.num_locations
        * store.spec.feature_dim
        * min(len(train_blocks), math.ceil(filled["batch_size"] / world.size)),
        state_bytes=4 * num_parameters * (2 if config.optimizer == "sgd" else 4),
        missing_classes=[name for name, count in zip(store.classes, present, strict=True) if not count],
        settings=config,
        notes=notes_on(given, config, store.dataset, store.spec.backbone),
    )


def _feature_scale(store: FeatureStore, blocks: BlockTable) -> float:
    """Factor that brings the training features to unit mean square, so that one learning rate suits every backbone.

    Raises:
        FeatureStoreError: Some of those that are looked at are no numbers.
    """
    rows = np.unique(blocks.frames)
    picked = rows[np.linspace(0, len(rows) - 1, min(len(rows), _SCALE_SAMPLE_FRAMES)).astype(int)]
    mean_square = float(np.square(store.features()[picked].astype(np.float32)).mean(dtype=np.float64))
    if not math.isfinite(mean_square):
        store.require_finite(picked)
    return 1 / math.sqrt(mean_square) if mean_square > 0 else 1.0


def _require_memory(plan: TrainPlan, model: ModelConfig, device: torch.device) -> None:
    """Refuse what cannot be held: model, gradients, optimiser, and a batch's cubes and scorer inputs."""
    scored = 0
    if model.architecture == "attention" and model.attention == "content":
        width = model.attention_dim or model.hidden_dim
        scored = plan.batch_bytes // model.feature_dim * width * model.scorer_layers
    there = torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else machine_memory()
    if (needed := plan.state_bytes + plan.batch_bytes + scored) > there:
        raise ConfigError(
            f"a training of this size takes over {needed / 1e9:.1f} GB: {plan.state_bytes / 1e9:.1f} for model and "
            f"optimiser, {(plan.batch_bytes + scored) / 1e9:.1f} for a batch; {device} has {there / 1e9:.1f} GB. Lower "
            "--hidden, --layers, --scorer-width, --batch-size or --block-frames"
        )


def machine_of(session: Session) -> dict[str, Any]:
    """What else the last digits of a training depend on."""
    machine: dict[str, Any] = {"device": str(session.device), "threads": session.threads}
    return machine | ({"processes": session.plan.processes} if session.plan.processes > 1 else {})


def manifest_of(session: Session) -> RunManifest:
    """The manifest of a run that is about to be trained."""
    store, plan = session.store, session.plan
    return RunManifest(
        name=plan.run_name,
        created_at=utc_now(),
        model=session.model_config,
        training=session.config,
        features=store.spec,
        feature_scale=plan.feature_scale,
        classes=store.classes,
        store={
            "path": str(store.path.absolute()),
            "fingerprint": store.fingerprint,
            "dataset": store.dataset,
            "videos_dir": store.videos_dir,
        },
        split={
            "name": plan.split,
            "sha256": store.split_sha256(plan.split),
            "leaking_groups": plan.leaking_groups,
            "parts": plan.parts,
        },
        versions=versions(),
        given=settings_given(session.given),
        machine=machine_of(session),
    )
