"""Feature cubes to a trained run: plan, optimise Eq. 7 with Adam, keep the weights that validate best."""

import dataclasses
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from attnrec.config import ModelConfig, TrainConfig
from attnrec.data.blocks import BlockTable, block_table
from attnrec.data.splits import SPLIT_PARTS, leaking_groups
from attnrec.data.store import FeatureStore, find_store
from attnrec.errors import ConfigError, RunError
from attnrec.metrics import accuracy, log_loss, reduce_blocks
from attnrec.models.architectures import build_model
from attnrec.models.losses import doubly_stochastic_penalty, penalty_floor, recognition_loss
from attnrec.run import Run, RunManifest, create_run, utc_now
from attnrec.runtime import (
    OnProgress,
    Progress,
    derived_seed,
    no_progress,
    prepare_cpu,
    resolve_device,
    versions,
)
from attnrec.workflows.scoring import gather_cubes, score_blocks

_SCALE_SAMPLE_FRAMES = 512


@dataclass(frozen=True)
class TrainPlan:
    """What the preset chose for this store.

    Attributes:
        store: Path of the feature store.
        run_name: Name of the run, without its number.
        num_train_blocks: Blocks of the training videos.
        num_validation_blocks: Blocks of the validation videos.
        batch_size: Blocks in a batch.
        epochs: Most passes over the training blocks.
        patience: Epochs without a better validation after which training ends; None: never.
        updates: Most optimiser steps.
        learning_rate: Of Adam.
        hidden_dim: H.
        feature_scale: Factor on stored features before they enter the model.
        parts: Number of videos in each part of the split.
        leaking_groups: Groups with videos on both sides of the split.
        num_parameters: Of the model.
        missing_classes: Classes without a training video.
    """

    store: str
    run_name: str
    num_train_blocks: int
    num_validation_blocks: int
    batch_size: int
    epochs: int
    patience: int | None
    updates: int
    learning_rate: float
    hidden_dim: int
    feature_scale: float
    parts: dict[str, int]
    leaking_groups: list[str]
    num_parameters: int
    missing_classes: list[str]


@dataclass(frozen=True)
class TrainReport:
    """What `train` did.

    Attributes:
        run: Folder of the run.
        plan: What was planned.
        best_epoch: Epoch whose weights were kept, from 1.
        epochs: Epochs done.
        updates: Optimiser steps done.
        validation_accuracy: Of the kept weights; None without validation videos.
        validation_loss: Mean negative log probability of the true class, likewise.
        seconds: Taken.
    """

    run: str
    plan: TrainPlan
    best_epoch: int
    epochs: int
    updates: int
    validation_accuracy: float | None
    validation_loss: float | None
    seconds: float


@dataclass(frozen=True)
class _Session:
    """All that a training needs, once its plan stands."""

    store: FeatureStore
    config: TrainConfig
    plan: TrainPlan
    model_config: ModelConfig
    train: BlockTable
    validation: BlockTable
    device: torch.device
    threads: int


def plan_training(store: str | Path | None = None, config: TrainConfig | None = None) -> TrainPlan:
    """What `train` would do, without doing it. Takes and raises the same."""
    return _prepare(store, config or TrainConfig()).plan


def train(
    store: str | Path | None = None,
    config: TrainConfig | None = None,
    *,
    runs_dir: str | Path = "runs",
    on_progress: OnProgress = no_progress,
) -> TrainReport:
    """Train a recogniser on the training videos of a split and keep the weights that validate best.

    The labels of test videos are not read.

    Args:
        store: Feature store; None takes the only one in the current folder.
        config: Settings.
        runs_dir: Folder in which the run gets its own.
        on_progress: Told of every step.

    Returns:
        What was done.

    Raises:
        FeatureStoreError: The store cannot be used or has no such split.
        ConfigError: The settings do not fit the store.
        RunError: The run cannot be written, or the loss became infinite.
    """
    session = _prepare(store, config or TrainConfig())
    run = create_run(Path(runs_dir), _manifest(session), session.store.backbone_state())
    return _Training(session, run, on_progress).fit()


def build_optimizer(model: nn.Module, learning_rate: float, weight_decay: float) -> torch.optim.Optimizer:
    """Adam with Eq. 7's weight decay: the gradient of gamma theta^2 is 2 gamma theta, coupled decay at 2 gamma."""
    return torch.optim.Adam(model.parameters(), lr=learning_rate, weight_decay=2 * weight_decay)


class _Training:
    """The loop over epochs of one run."""

    def __init__(self, session: _Session, run: Run, on_progress: OnProgress) -> None:
        self.session = session
        self.run = run
        self.on_progress = on_progress
        torch.manual_seed(derived_seed(session.config.seed, "parameters"))
        self.model = build_model(session.model_config).to(session.device)
        self.optimizer = build_optimizer(self.model, session.plan.learning_rate, session.config.weight_decay)
        self.features = session.store.features()
        self.labels = torch.from_numpy(session.store.videos.label.astype(np.int64))
        self.step = 0

    def fit(self) -> TrainReport:
        plan, started = self.session.plan, time.monotonic()
        best: dict[str, Any] = {"key": math.inf, "epoch": 0}
        epoch = 0
        for epoch in range(1, plan.epochs + 1):
            figures = self._train_epoch(epoch)
            figures |= self._validate()
            figures |= {"kind": "epoch", "epoch": epoch, "step": self.step, "seconds": time.monotonic() - started}
            self.run.log(figures)
            # The loss is a steadier judge than the accuracy of a few videos. Without any, the last epoch counts.
            key = figures.get("validation_loss", -epoch)
            if key < best["key"]:
                best = {"key": key, "epoch": epoch} | figures
                self.run.save_model(self.model)
            self._tell(figures)
            if plan.patience is not None and epoch - best["epoch"] >= plan.patience:
                break
        result = {
            "best_epoch": best["epoch"],
            "epochs": epoch,
            "updates": self.step,
            "validation_accuracy": best.get("validation_accuracy"),
            "validation_loss": best.get("validation_loss"),
            "penalty_above_floor": best.get("penalty_above_floor"),
            "seconds": time.monotonic() - started,
        }
        self.run.update(finished_at=utc_now(), result=result)
        kept = {name: result[name] for name in result if name != "penalty_above_floor"}
        return TrainReport(run=str(self.run.path), plan=plan, **kept)

    def _train_epoch(self, epoch: int) -> dict[str, Any]:
        self.model.train()
        totals = np.zeros(3)
        for batch in self._batches(epoch):
            totals += np.array(self._update(batch)) * len(batch)
            self._tell({"loss": totals[0] / totals[2]})
        figures = {"loss": totals[0] / totals[2]}
        if self.session.model_config.architecture == "attention":
            floor = penalty_floor(self.session.config.block_frames, self.session.model_config.num_locations)
            figures |= {"penalty": totals[1] / totals[2], "penalty_above_floor": totals[1] / totals[2] - floor}
        return figures

    def _batches(self, epoch: int) -> Iterator[NDArray[np.int64]]:
        """Indices of blocks, each once, in an order that is a function of seed and epoch."""
        rng = np.random.default_rng(derived_seed(self.session.config.seed, "order", epoch))
        order = rng.permutation(len(self.session.train))
        size = self.session.plan.batch_size
        return (order[start : start + size] for start in range(0, len(order), size))

    def _update(self, batch: NDArray[np.int64]) -> tuple[float, float, float]:
        """One optimiser step. Returns the loss, the penalty and one."""
        session = self.session
        cubes = gather_cubes(self.features, session.train.frames[batch], session.plan.feature_scale, session.device)
        targets = self.labels[torch.from_numpy(session.train.video[batch])].to(session.device)
        # Dropout is a function of seed and step, whatever was drawn before.
        generator = torch.Generator(session.device).manual_seed(derived_seed(session.config.seed, "step", self.step))
        output = self.model(cubes, generator)
        loss = recognition_loss(output, targets, attention_penalty=session.config.attention_penalty)
        value = loss.item()
        if not math.isfinite(value):
            raise RunError(
                f"{self.run.path}: the loss became {value} at step {self.step}; lower --learning-rate or --lambda"
            )
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.step += 1
        with torch.no_grad():
            penalty = 0.0 if output.attention is None else doubly_stochastic_penalty(output.attention).item()
        return value, penalty, 1.0

    def _validate(self) -> dict[str, float]:
        table = self.session.validation
        if not len(table):
            return {}
        scores = score_blocks(self.model, self.features, table.frames, scale=self.session.plan.feature_scale)
        probs = reduce_blocks(scores.frame_probs, table.video, "mean")
        labels = self.labels.numpy()[np.unique(table.video)]
        return {"validation_accuracy": accuracy(labels, probs), "validation_loss": log_loss(labels, probs)}

    def _tell(self, figures: dict[str, Any]) -> None:
        names = {"loss": "loss", "penalty_above_floor": "penalty over floor", "validation_accuracy": "validation"}
        detail = ", ".join(f"{text} {figures[name]:.3f}" for name, text in names.items() if name in figures)
        message = f"epoch {figures['epoch']}: {detail}" if "epoch" in figures else None
        self.on_progress(Progress("train", self.step, self.session.plan.updates, detail, message))


def _prepare(store_path: str | Path | None, config: TrainConfig) -> _Session:
    store = FeatureStore(find_store(Path.cwd()) if store_path is None else store_path, config.layer)
    threads, device = prepare_cpu(config.jobs), resolve_device(config.device)
    if len(store.classes) < 2:
        found = "one class" if store.classes else "no classes"
        raise ConfigError(f"{store.path}: has {found}; a recogniser needs two, each in a folder of its own")
    tables = {part: _blocks(store, config, part) for part in ("train", "validation")}
    if not len(tables["train"]):
        raise ConfigError(f"{store.path}: split {config.split} has no training video; choose another by --split")
    plan, model_config = _plan(store, config, tables["train"], tables["validation"])
    return _Session(store, config, plan, model_config, tables["train"], tables["validation"], device, threads)


def _blocks(store: FeatureStore, config: TrainConfig, part: str) -> BlockTable:
    return block_table(
        store,
        store.split_members(config.split, part),
        fps=config.fps,
        block_frames=config.block_frames,
        block_stride=config.block_stride,
    )


def _plan(
    store: FeatureStore, config: TrainConfig, train_blocks: BlockTable, validation_blocks: BlockTable
) -> tuple[TrainPlan, ModelConfig]:
    chosen = _preset_choices(config, len(train_blocks), len(validation_blocks) > 0)
    model_config = ModelConfig(
        architecture=config.model,
        feature_dim=store.spec.feature_dim,
        num_locations=store.spec.num_locations,
        num_classes=len(store.classes),
        attention=config.attention,
        hidden_dim=chosen["hidden_dim"],
        num_layers=config.num_layers,
        dropout=config.dropout,
    )
    with torch.device("meta"):
        num_parameters = sum(parameter.numel() for parameter in build_model(model_config).parameters())
    present = set(store.videos.label[train_blocks.video].tolist())
    plan = TrainPlan(
        store=str(store.path),
        run_name=run_name(config),
        num_train_blocks=len(train_blocks),
        num_validation_blocks=len(validation_blocks),
        updates=chosen["epochs"] * math.ceil(len(train_blocks) / chosen["batch_size"]),
        feature_scale=_feature_scale(store, train_blocks) if config.preset == "auto" else 1.0,
        parts={part: len(store.split_members(config.split, part)) for part in SPLIT_PARTS[:3]},
        leaking_groups=leaking_groups(store.split(config.split), store.groups),
        num_parameters=num_parameters,
        missing_classes=[name for i, name in enumerate(store.classes) if i not in present],
        **chosen,
    )
    return plan, model_config


def _preset_choices(config: TrainConfig, num_blocks: int, has_validation: bool) -> dict[str, Any]:
    """Batch size, epochs, learning rate, hidden units and patience: the preset's, where the user gave none."""
    if config.preset == "paper":
        preset: dict[str, Any] = {"batch_size": 128, "epochs": 15, "learning_rate": 2e-4, "hidden_dim": 512}
        patience = None
    else:
        # The paper's 15 epochs at batch 128 are 15 updates on 48 short clips, which is chance: enough updates first.
        batch_size = config.batch_size or next((size for limit, size in _AUTO_BATCHES if num_blocks < limit), 128)
        epochs = min(200, max(4, math.ceil(_AUTO_UPDATES / math.ceil(num_blocks / batch_size))))
        epochs = 15 if num_blocks >= _AUTO_LARGE else epochs
        preset = {"batch_size": batch_size, "epochs": epochs, "learning_rate": 2e-4}
        preset["hidden_dim"] = 256 if num_blocks < _AUTO_SMALL else 512
        patience = max(3, math.ceil((config.epochs or epochs) / 3)) if has_validation else None
    given = {name: getattr(config, name) for name in preset}
    return {name: preset[name] if given[name] is None else given[name] for name in preset} | {"patience": patience}


_AUTO_UPDATES = 400
_AUTO_BATCHES = ((5_000, 16), (20_000, 32), (50_000, 64))  # below so many blocks, batches of so many
_AUTO_LARGE = 20_000  # from so many on the paper's 15 epochs are enough updates
_AUTO_SMALL = 5_000  # blocks below which half the paper's hidden units serve, for a third of the time


def _feature_scale(store: FeatureStore, blocks: BlockTable) -> float:
    """Factor that brings the training features to unit mean square, so that one learning rate suits every backbone."""
    rows = np.unique(blocks.frames)
    picked = rows[np.linspace(0, len(rows) - 1, min(len(rows), _SCALE_SAMPLE_FRAMES)).astype(int)]
    mean_square = float(np.square(store.features()[picked].astype(np.float32)).mean(dtype=np.float64))
    return 1 / math.sqrt(mean_square) if mean_square > 0 else 1.0


def run_name(config: TrainConfig) -> str:
    """`<model>-<what differs from the defaults>`, for example `attention-lambda1-fps6`."""
    short = {"attention_penalty": "lambda", "attention": "", "block_frames": "frames", "block_stride": "stride"}
    parts = [str(config.model)]
    left_out = {"model", "device", "jobs"} | (
        set() if config.model == "attention" else {"attention", "attention_penalty"}
    )
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if field.name not in left_out and value != field.default:
            text = f"{value:g}" if isinstance(value, float) else str(value)
            parts.append(short.get(field.name, field.name.replace("_", "")) + text)
    return "-".join(parts).replace("/", "_")


def _manifest(session: _Session) -> RunManifest:
    store, config, plan = session.store, session.config, session.plan
    filled = {name: getattr(plan, name) for name in ("batch_size", "epochs", "learning_rate", "hidden_dim")}
    return RunManifest(
        name=plan.run_name,
        created_at=utc_now(),
        model=session.model_config,
        training=dataclasses.replace(config, **filled),
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
            "name": config.split,
            "sha256": store.split_sha256(config.split),
            "leaking_groups": plan.leaking_groups,
            "parts": plan.parts,
        },
        versions=versions(),
        machine={"device": str(session.device), "threads": session.threads},
    )
