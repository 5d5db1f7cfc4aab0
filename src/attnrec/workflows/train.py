"""Feature cubes to a trained run: plan, optimise Eq. 7, keep the weights that validate best."""

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

from attnrec.config import DecayPer, OptimizerName, TrainConfig
from attnrec.data.blocks import BlockTable
from attnrec.errors import RunError
from attnrec.metrics import accuracy, binary_log_loss, log_loss, mean_average_precision, reduce_blocks
from attnrec.models.architectures import build_model
from attnrec.models.losses import doubly_stochastic_penalty, penalty_floor, recognition_loss
from attnrec.run import Run, create_run, utc_now
from attnrec.runtime import OnProgress, Progress, derived_seed, no_progress
from attnrec.workflows.planning import Session, TrainPlan, manifest_of, prepare
from attnrec.workflows.scoring import gather_cubes, score_blocks

RETRAIN_EPOCHS = 2  # times the planned epochs, after which retraining gives up reaching its cost


@dataclass(frozen=True)
class RetrainReport:
    """The second training, on training and validation videos.

    Attributes:
        target_loss: Training loss of the first training's best epoch, which ends the second.
        loss: Of its last epoch.
        epochs: Done.
        reached: Whether the loss came down to the target.
    """

    target_loss: float
    loss: float
    epochs: int
    reached: bool


@dataclass(frozen=True)
class TrainReport:
    """What `train` did.

    Attributes:
        run: Folder of the run.
        plan: What was planned.
        best_epoch: Epoch that validated best, from 1; its weights were kept, or its loss was trained to again.
        epochs: Epochs done, those of the second training not counted.
        updates: Optimiser steps done, all in all.
        validation_accuracy: At the best epoch; None without validation videos and for several labels a video.
        validation_map: The same for several labels a video.
        validation_loss: Mean negative log probability of the true class, likewise.
        retrained: The second training, if one was asked for.
        seconds: Taken.
    """

    run: str
    plan: TrainPlan
    best_epoch: int
    epochs: int
    updates: int
    validation_accuracy: float | None
    validation_map: float | None
    validation_loss: float | None
    retrained: RetrainReport | None
    seconds: float


def plan_training(store: str | Path | None = None, config: TrainConfig | None = None) -> TrainPlan:
    """What `train` would do, without doing it. Takes and raises the same."""
    return prepare(store, config or TrainConfig()).plan


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
    session = prepare(store, config or TrainConfig())
    run = create_run(Path(runs_dir), manifest_of(session), session.store.backbone_state())
    return _Training(session, run, on_progress).fit()


def build_optimizer(
    model: nn.Module,
    learning_rate: float,
    weight_decay: float,
    *,
    kind: OptimizerName = "adam",
    decay_per: DecayPer = "block",
    batch_size: int = 1,
) -> torch.optim.Optimizer:
    """Adam, or plain gradient steps, with Eq. 7's weight decay: its gradient 2 gamma theta is coupled decay at 2 gamma.

    Args:
        model: Whose parameters are trained.
        learning_rate: Of either.
        weight_decay: gamma.
        kind: `adam` or `sgd`.
        decay_per: `block` adds gamma theta^2 to the mean over a batch's blocks; `batch` to their sum, as the released
            code does, which makes it less by the factor `batch_size`.
        batch_size: Blocks in a batch.
    """
    decay = 2 * weight_decay / (batch_size if decay_per == "batch" else 1)
    optimizer = torch.optim.SGD if kind == "sgd" else torch.optim.Adam
    return optimizer(model.parameters(), lr=learning_rate, weight_decay=decay)


class _Training:
    """The loop over epochs of one run."""

    def __init__(self, session: Session, run: Run, on_progress: OnProgress) -> None:
        self.session = session
        self.run = run
        self.on_progress = on_progress
        self.features = session.store.features()
        self.targets = torch.from_numpy(session.store.targets)
        self.step = 0
        self._begin()

    def _begin(self) -> None:
        """Fresh parameters and a fresh optimiser."""
        session, config = self.session, self.session.config
        torch.manual_seed(derived_seed(config.seed, "parameters"))
        self.model = build_model(session.model_config).to(session.device)
        self.optimizer = build_optimizer(
            self.model,
            session.plan.learning_rate,
            config.weight_decay,
            kind=config.optimizer or "adam",
            decay_per=config.decay_per or "block",
            batch_size=session.plan.batch_size,
        )

    def fit(self) -> TrainReport:
        started = time.monotonic()
        best, epochs = self._search()
        retrained = self._retrain(best["loss"]) if self.session.config.retrain else None
        result = {
            "best_epoch": best["epoch"],
            "epochs": epochs,
            "updates": self.step,
            "validation_accuracy": best.get("validation_accuracy"),
            "validation_map": best.get("validation_map"),
            "validation_loss": best.get("validation_loss"),
            "seconds": time.monotonic() - started,
        }
        kept = {"penalty_above_floor": best.get("penalty_above_floor")}
        kept |= {"retrained": None if retrained is None else vars(retrained)}
        self.run.update(finished_at=utc_now(), result=result | kept)
        return TrainReport(run=str(self.run.path), plan=self.session.plan, retrained=retrained, **result)

    def _search(self) -> tuple[dict[str, Any], int]:
        """Train until the plan says to stop. Returns the figures of the best epoch and the number of epochs."""
        plan, started = self.session.plan, time.monotonic()
        best: dict[str, Any] = {"key": math.inf, "epoch": 0}
        epoch = 0
        for epoch in range(1, plan.epochs + 1):
            figures = self._train_epoch(self.session.train, ("order", epoch))
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
        return best, epoch

    def _retrain(self, target_loss: float) -> RetrainReport:
        """The authors' protocol: from the start on training and validation videos, until the training loss is as low.

        The loss that is compared is the mean over an epoch's batches, with dropout, in both trainings.
        """
        train, validation = self.session.train, self.session.validation
        table = BlockTable(
            np.concatenate([train.frames, validation.frames]), np.concatenate([train.video, validation.video])
        )
        self._begin()
        loss, epoch = math.inf, 0
        while loss > target_loss and epoch < RETRAIN_EPOCHS * self.session.plan.epochs:
            epoch += 1
            figures = self._train_epoch(table, ("retrain-order", epoch))
            loss = figures["loss"]
            self.run.log(figures | {"kind": "retrain-epoch", "epoch": epoch, "step": self.step})
            message = f"retraining, epoch {epoch}: loss {loss:.3f}, to reach {target_loss:.3f}"
            self.on_progress(Progress("retrain", message=message))
        self.run.save_model(self.model)
        return RetrainReport(target_loss, loss, epoch, loss <= target_loss)

    def _train_epoch(self, table: BlockTable, order: tuple[str, int]) -> dict[str, Any]:
        self.model.train()
        totals = np.zeros(3)
        for batch in self._batches(table, order):
            totals += np.array(self._update(table, batch)) * len(batch)
            self._tell({"loss": totals[0] / totals[2]})
        figures = {"loss": float(totals[0] / totals[2])}
        if self.session.model_config.architecture == "attention":
            floor = penalty_floor(self.session.config.block_frames, self.session.model_config.num_locations)
            figures |= {"penalty": totals[1] / totals[2], "penalty_above_floor": totals[1] / totals[2] - floor}
        return figures

    def _batches(self, table: BlockTable, order: tuple[str, int]) -> Iterator[NDArray[np.int64]]:
        """Indices of blocks, each once, in an order that is a function of seed and epoch."""
        rng = np.random.default_rng(derived_seed(self.session.config.seed, *order))
        shuffled = rng.permutation(len(table))
        size = self.session.plan.batch_size
        return (shuffled[start : start + size] for start in range(0, len(shuffled), size))

    def _update(self, table: BlockTable, batch: NDArray[np.int64]) -> tuple[float, float, float]:
        """One optimiser step. Returns the loss, Eq. 7's penalty and one."""
        session = self.session
        cubes = gather_cubes(self.features, table.frames[batch], session.plan.feature_scale, session.device)
        targets = self.targets[torch.from_numpy(table.video[batch])].to(session.device)
        # Dropout is a function of seed and step, whatever was drawn before.
        generator = torch.Generator(session.device).manual_seed(derived_seed(session.config.seed, "step", self.step))
        output = self.model(cubes, generator)
        loss = recognition_loss(
            output,
            targets,
            attention_penalty=session.config.attention_penalty,
            penalty_reduction=session.config.penalty_reduction or "sum",
        )
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
        session, table = self.session, self.session.validation
        if not len(table):
            return {}
        scores = score_blocks(
            self.model,
            self.features,
            table.frames,
            scale=session.plan.feature_scale,
            multilabel=session.model_config.multilabel,
        )
        targets = self.targets.numpy()[np.unique(table.video)]
        means, probs = (
            reduce_blocks(scores.frame_probs, table.video, reduction, session.config.last_steps)
            for reduction in ("mean", session.config.reduction or "mean")
        )
        if session.model_config.multilabel:
            return {
                "validation_map": mean_average_precision(targets.astype(np.uint8), probs),
                "validation_loss": binary_log_loss(targets.astype(np.uint8), means),
            }
        return {"validation_accuracy": accuracy(targets, probs), "validation_loss": log_loss(targets, means)}

    def _tell(self, figures: dict[str, Any]) -> None:
        names = {
            "loss": "loss",
            "penalty_above_floor": "penalty over floor",
            "validation_accuracy": "validation",
            "validation_map": "validation mAP",
        }
        detail = ", ".join(f"{text} {figures[name]:.3f}" for name, text in names.items() if name in figures)
        message = f"epoch {figures['epoch']}: {detail}" if "epoch" in figures else None
        self.on_progress(Progress("train", self.step, max(self.step, self.session.plan.updates), detail, message))
