"""The plan of a training: settings filled in by the preset, number of blocks, size of the model."""

import dataclasses
import math
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from attnrec.datasets.splits import SPLIT_PARTS, leaking_groups, preferred_split
from attnrec.distributed import World
from attnrec.errors import ConfigError, RunError
from attnrec.features.blocks import BlockTable, block_table
from attnrec.features.extract import ExtractReport
from attnrec.features.store import FeatureStore, find_store, typical_frames
from attnrec.files import machine_memory
from attnrec.models.architectures import count_parameters
from attnrec.runtime import (
    OnProgress,
    default_jobs,
    no_progress,
    prepare_cpu,
    resolve_device,
    resolve_precision,
    versions,
)
from attnrec.settings import Recipe, TrainConfig
from attnrec.specs import ModelConfig
from attnrec.training.events import require_tensorboard
from attnrec.training.identity import run_name, settings_given
from attnrec.training.presets import Sampling, notes_on, recipe_of, sampling_of
from attnrec.training.records import RunManifest
from attnrec.training.run import Run, utc_now

_SCALE_SAMPLE_FRAMES = 512
_FEW_UPDATES = 300  # fewer leave the paper's network near where it began


@dataclass(frozen=True)
class TrainPlan:
    """What a training on a store will do and take."""

    store: str  # path of the feature store
    run_name: str  # name of the run without its number
    multilabel: bool  # a video may have several labels
    num_train_blocks: int
    num_validation_blocks: int
    updates: int  # maximum number of optimiser steps, without those of `--retrain`
    processes: int  # number of processes that share each batch
    feature_scales: tuple[float, ...]  # factor on the stored features of each layer before they enter the model
    parts: dict[str, int]  # number of videos in each part of the split
    leaking_groups: list[str]  # groups with videos on both sides of the split
    num_parameters: int  # parameters of the model
    batch_bytes: int  # memory for the cubes of a batch, in each process; the store itself is mapped
    state_bytes: int  # memory for parameters, gradients and the optimiser's state, in each process
    missing_classes: list[str]  # classes without a training video
    settings: Recipe
    notes: list[str]  # settings that the dataset decided, as text


@dataclass(frozen=True)
class Session:
    """Everything that a training needs once it is planned."""

    store: FeatureStore
    asked: TrainConfig
    recipe: Recipe
    plan: TrainPlan
    model_config: ModelConfig
    train: BlockTable
    validation: BlockTable
    device: torch.device
    threads: int


def prepare(
    store_path: str | Path | ExtractReport | None,
    asked: TrainConfig,
    world: World | None = None,
    on_progress: OnProgress = no_progress,
) -> Session:
    """Open the store and plan a training on it, in one of several processes. Takes and raises as `train.train`."""
    world = world or World()
    store_path = store_path.out if isinstance(store_path, ExtractReport) else store_path
    if asked.tensorboard:
        require_tensorboard()
    store = FeatureStore(find_store(Path.cwd(), on_progress) if store_path is None else store_path, asked.layer)
    # torchrun leaves one thread to each process, whatever the machine has.
    jobs = asked.jobs if world.size == 1 else asked.jobs or max(1, default_jobs() // world.local_size)
    threads = prepare_cpu(jobs)
    device = resolve_device(asked.device, world.local_rank if world.size > 1 else None)
    if len(store.classes) < 2:
        found = "one class" if store.classes else "no classes"
        label = shlex.join(["attnrec", "extract", store.videos_dir, "--labels-template", "labels.csv"])
        raise ConfigError(
            f"{store.path}: has {found}; a recogniser needs two: put each into a folder of its own, or fill in a table "
            f"of labels: `{label}`"
        )
    split = asked.split if asked.split is not None else preferred_split(store.split_names)
    sampling = sampling_of(asked, split, typical_frames(store, asked.fps))
    train, validation = (run_blocks(store, sampling, part) for part in ("train", "validation"))
    if asked.overfit is not None:
        train, validation = _spread(train, asked.overfit), _spread(train, 0)
    if not len(train):
        raise ConfigError(f"{store.path}: split {split} has no training video; choose another by --split")
    if asked.retrain and not len(validation):
        raise ConfigError(f"{store.path}: split {split} has no validation video, which --retrain needs")
    recipe = recipe_of(
        asked,
        sampling,
        dataset=store.dataset,
        feature_dim=store.spec.feature_dim,
        multilabel=store.multilabel,
        num_blocks=len(train),
        has_validation=len(validation) > 0,
        precision=resolve_precision(asked.precision, device),
    )
    model_config = _model_config(store, recipe)
    plan = _plan(store, asked, recipe, model_config, train, validation, world)
    _require_memory(plan, model_config, device)
    return Session(store, asked, recipe, plan, model_config, train, validation, device, threads)


def prepare_again(run: Run, store: FeatureStore, recipe: Recipe, world: World) -> Session:
    """Prepare to resume a run, as `prepare` did when it began.

    Args:
        run: The interrupted run.
        store: The feature store that it is trained on.
        recipe: The run's recipe, which may differ in settings that do not decide the weights.
        world: The processes that share the training.

    Raises:
        RunError: This version of attnrec would train another model than the run's.
    """
    session, manifest = prepare(store.path, recipe, world), run.manifest
    if session.model_config != manifest.model or session.store.spec != manifest.features:
        raise RunError(f"{run.path}: was begun by a version of attnrec with another model; train anew")
    plan = dataclasses.replace(session.plan, feature_scales=manifest.feature_scales, run_name=run.name, notes=[])
    return dataclasses.replace(session, plan=plan)


def _spread(table: BlockTable, count: int) -> BlockTable:
    """`count` blocks spread evenly over a table, and so over most classes; all if it has fewer."""
    picked = np.linspace(0, len(table) - 1, min(count, len(table))).astype(int)
    return BlockTable(table.frames[picked], table.video[picked])


def run_blocks(
    store: FeatureStore, sampling: Sampling | Recipe, part: str, block_stride: int | None = None
) -> BlockTable:
    """The blocks of one part of a run's split, sampled as in its training.

    Args:
        store: Feature store of the run.
        sampling: How blocks are sampled.
        part: Part of the split.
        block_stride: Stored frames between the starts of blocks; None takes the training's.

    Raises:
        ConfigError: The indices of the blocks' frames do not fit into memory.
    """
    videos, stride = store.split_members(sampling.split, part), block_stride or sampling.block_stride
    T, lengths = sampling.block_frames, store.videos.num_frames[videos]
    most_blocks = int(np.maximum(1, (lengths - T) // stride + 1).sum())
    if 8 * T * most_blocks > machine_memory() / 2:
        raise ConfigError(
            f"{store.path}: {most_blocks} blocks of {T} frames would take {8 * T * most_blocks / 1e9:.1f} GB in memory "
            "for their frame indices alone; lower --block-frames, or raise --stride"
        )
    return block_table(
        store,
        videos,
        fps=sampling.fps,
        block_frames=T,
        block_stride=stride,
        starts=sampling.block_starts,
    )


def _model_config(store: FeatureStore, recipe: Recipe) -> ModelConfig:
    return ModelConfig(
        architecture=recipe.model,
        feature_dim=store.spec.feature_dim,
        num_locations=store.spec.num_locations,
        num_classes=len(store.classes),
        layers=store.spec.layer_sizes,
        attention=recipe.attention,
        hidden_dim=recipe.hidden_dim,
        num_layers=recipe.num_layers,
        dropout=recipe.dropout,
        multilabel=store.multilabel,
        init_layers=recipe.init_layers,
        scorer_layers=recipe.scorer_layers,
        attention_dim=recipe.attention_dim,
        input_dropout=recipe.input_dropout,
        add_mean=recipe.add_mean and recipe.model == "attention",
        glimpse=recipe.glimpse if recipe.model == "attention" else "soft",
    )


def _plan(
    store: FeatureStore,
    asked: TrainConfig,
    recipe: Recipe,
    model_config: ModelConfig,
    train: BlockTable,
    validation: BlockTable,
    world: World,
) -> TrainPlan:
    num_parameters, scales = count_parameters(model_config), _feature_scales(store, train)
    updates = recipe.epochs * math.ceil(len(train) / recipe.batch_size)
    present = store.label_matrix[np.unique(train.video)].sum(axis=0, dtype=int).tolist()
    cube_bytes = 4 * recipe.block_frames * store.spec.num_locations * store.spec.feature_dim
    return TrainPlan(
        store=str(store.path),
        run_name=run_name(asked),
        multilabel=store.multilabel,
        num_train_blocks=len(train),
        num_validation_blocks=len(validation),
        updates=min(updates, recipe.max_steps or updates),
        processes=world.size,
        # Layers differ in scale, so several are scaled whatever the preset.
        feature_scales=scales if recipe.preset == "auto" or len(scales) > 1 else (1.0,),
        parts={part: len(store.split_members(recipe.split, part)) for part in SPLIT_PARTS[:3]},
        leaking_groups=leaking_groups(store.split(recipe.split), store.groups),
        num_parameters=num_parameters,
        batch_bytes=cube_bytes * min(len(train), math.ceil(recipe.batch_size / world.size)),
        state_bytes=4 * num_parameters * (2 if recipe.optimizer == "sgd" else 4),
        missing_classes=[name for name, count in zip(store.classes, present, strict=True) if not count],
        settings=recipe,
        notes=[
            *_notes_on_rate(asked, store),
            *notes_on(asked, recipe, store.dataset, store.spec.backbone),
            *_notes_on_updates(asked, updates),
        ],
    )


def _notes_on_rate(asked: TrainConfig, store: FeatureStore) -> list[str]:
    stored = store.spec.sample_fps
    if stored is None or asked.fps <= stored:
        return []
    return [f"the store has at most {stored:g} frames a second, fewer than --fps {asked.fps:g}"]


def _notes_on_updates(asked: TrainConfig, updates: int) -> list[str]:
    if asked.preset == "auto" or updates >= _FEW_UPDATES or asked.epochs is not None:
        return []
    return [f"{updates} updates are few; --preset auto takes more epochs where there are few blocks"]


def _feature_scales(store: FeatureStore, blocks: BlockTable) -> tuple[float, ...]:
    """Factors that scale each layer's training features to unit mean square: one learning rate suits every backbone.

    Raises:
        FeatureStoreError: Some of the features are NaN or infinite.
    """
    rows = np.unique(blocks.frames)
    picked = rows[np.linspace(0, len(rows) - 1, min(len(rows), _SCALE_SAMPLE_FRAMES)).astype(int)]
    scales = []
    for features in store.layer_features():
        mean_square = float(np.square(features[picked].astype(np.float32)).mean(dtype=np.float64))
        if not math.isfinite(mean_square):
            store.require_finite(picked)
        scales.append(1 / math.sqrt(mean_square) if mean_square > 0 else 1.0)
    return tuple(scales)


def _require_memory(plan: TrainPlan, model: ModelConfig, device: torch.device) -> None:
    """Check that model, gradients, optimiser state, and a batch's cubes and scorer inputs fit into memory."""
    scored = 0
    if model.architecture == "attention" and model.attention == "content":
        width = model.attention_dim or model.hidden_dim
        scored = plan.batch_bytes // model.feature_dim * width * model.scorer_layers
    there = torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else machine_memory()
    if (needed := plan.state_bytes + plan.batch_bytes + scored) > there:
        raise ConfigError(
            f"a training of this size takes over {needed / 1e9:.1f} GB: {plan.state_bytes / 1e9:.1f} for model and "
            f"optimiser, {(plan.batch_bytes + scored) / 1e9:.1f} for a batch; {device} has {there / 1e9:.1f} GB. Lower "
            "--hidden, --layers, --batch-size or --block-frames"
        )


def machine_of(session: Session) -> dict[str, Any]:
    """Device, threads and processes, on which only the last digits of the weights depend."""
    machine: dict[str, Any] = {"device": str(session.device), "threads": session.threads}
    return machine | ({"processes": session.plan.processes} if session.plan.processes > 1 else {})


def manifest_of(session: Session) -> RunManifest:
    """The manifest of a run that is about to be trained."""
    store, plan = session.store, session.plan
    return RunManifest(
        name=plan.run_name,
        created_at=utc_now(),
        model=session.model_config,
        training=session.recipe,
        features=store.spec,
        feature_scale=plan.feature_scales if len(plan.feature_scales) > 1 else plan.feature_scales[0],
        classes=store.classes,
        store={
            "path": str(store.path.absolute()),
            "fingerprint": store.fingerprint,
            "dataset": store.dataset,
            "videos_dir": store.videos_dir,
        },
        split={
            "name": plan.settings.split,
            "sha256": store.split_sha256(plan.settings.split),
            "leaking_groups": plan.leaking_groups,
            "parts": plan.parts,
        },
        versions=versions(),
        given=settings_given(session.asked),
        machine=machine_of(session),
    )
