"""The training loop over the epochs of one run, from the start or from its checkpoint."""

import contextlib
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from attnrec.distributed import World
from attnrec.errors import AttnrecError, RunError
from attnrec.features.blocks import BlockTable
from attnrec.metrics import accuracy, binary_log_loss, log_loss, mean_average_precision, reduce_blocks
from attnrec.models.losses import penalty_floor
from attnrec.runtime import Interruption, OnProgress, Progress, derived_seed
from attnrec.training.checkpoint import Checkpoint, Position, Running, restore_optimizer, save_checkpoint
from attnrec.training.events import EventFiles
from attnrec.training.plan import Session
from attnrec.training.run import Run
from attnrec.training.score import score_blocks
from attnrec.training.step import Means, StepFigures, Stepper

RETRAIN_EPOCHS = 2  # times the planned epochs, after which retraining stops short of its target loss
LOG_STEPS = 10  # steps between lines of training.jsonl within an epoch
SHOWN_VIDEOS = 3  # videos of a batch named in an error
# How figures are said while training; together they fit 80 columns.
_SAID = {
    "loss": "loss {:.3f}",
    "validation_loss": "val loss {:.3f}",  # which decides what is kept
    "validation_accuracy": "val accuracy {:.1%}",
    "validation_map": "val mAP {:.1%}",
    "attention_entropy": "entropy {:.3f}",
}


@dataclass(frozen=True)
class RetrainReport:
    """Report of the second training (`--retrain`), on training and validation videos."""

    target_loss: float  # training loss of the first training's best epoch, which ends the second
    loss: float  # training loss of its last epoch
    epochs: int  # epochs done
    reached: bool  # whether the loss came down to the target


class Training:
    """The training of one run, as seen by one of the processes that share it.

    Args:
        session: Model, data and settings of the training.
        run: The run directory, which only the first process writes to.
        world: The processes that share the training.
        interruption: Request to stop, checked after every step.
        on_progress: Called after every step.
    """

    def __init__(
        self, session: Session, run: Run, world: World, interruption: Interruption, on_progress: OnProgress
    ) -> None:
        self.session = session
        self.run = run
        self.world = world
        self.interruption = interruption
        self.on_progress = on_progress
        self.position = Position()
        self.events: EventFiles | None = None
        self.stepper = Stepper(session, world)
        self._started = self._saved = time.monotonic()

    def restore(self, checkpoint: Checkpoint | None) -> None:
        """Continue from a checkpoint, or from the start if there is none."""
        if checkpoint is not None:
            self.position = checkpoint.position
            self.stepper.model.load_state_dict(checkpoint.model)
            restore_optimizer(self.run.path, checkpoint, self.stepper.optimizer)
            if self.position.usual_losses:
                self.stepper.usual_losses.copy_(torch.tensor(self.position.usual_losses))
        if self.world.is_first:
            self.run.cut_log(self.position.log_bytes)
        if self._is_best():  # the process may have ended between saving the checkpoint and the model
            self._save_model()
        self._started -= self.position.seconds
        if self.session.recipe.tensorboard and self.world.is_first:
            self.events = EventFiles(self.run.path, self.position.step)

    def close(self) -> None:
        """Write out what is left of the event files."""
        if self.events is not None:
            self.events.close()

    def search(self) -> dict[str, Any]:
        """Train until early stopping or the planned end. Returns the figures of the best epoch."""
        while self.position.phase == "search" and not self._is_over():
            self._search_epoch()
        return self.position.best

    def retrain(self) -> RetrainReport:
        """Train anew on training and validation videos, down to the best epoch's training loss: the authors' protocol.

        The loss compared is, in both trainings, the mean over an epoch's batches, with dropout.
        """
        train, validation = self.session.train, self.session.validation
        table = BlockTable(
            np.concatenate([train.frames, validation.frames]), np.concatenate([train.video, validation.video])
        )
        position, target_loss = self.position, self.position.best["loss"]
        if position.phase == "search":
            self.stepper = Stepper(self.session, self.world)
            position.phase, position.search_epochs, position.epoch = "retrain", position.epoch, 0
            position.last_loss = None
        most = RETRAIN_EPOCHS * self.session.recipe.epochs
        while (position.last_loss is None or position.last_loss > target_loss) and position.epoch < most:
            figures = self._train_epoch(table, ("retrain-order", position.epoch + 1))
            self._end_epoch(figures | {"kind": "retrain-epoch"})
            message = f"retraining, epoch {position.epoch}: loss {figures['loss']:.3f}, to reach {target_loss:.3f}"
            self.on_progress(Progress("retrain", message=message))
        self._save_model()
        loss = position.last_loss
        assert loss is not None
        return RetrainReport(target_loss, loss, position.epoch, loss <= target_loss)

    @property
    def seconds(self) -> float:
        """Training time so far, including that of earlier processes."""
        return time.monotonic() - self._started

    def _is_over(self) -> bool:
        position, recipe = self.position, self.session.recipe
        if position.epoch >= recipe.epochs or position.step >= self.session.plan.updates:
            return True
        waited: int = position.epoch - position.best.get("epoch", 0)
        return 0 < recipe.patience <= waited

    def _is_best(self) -> bool:
        position = self.position
        return position.phase == "search" and position.batch == 0 and 0 < position.epoch == position.best.get("epoch")

    def _search_epoch(self) -> None:
        """Train and validate for one epoch."""
        figures = self._train_epoch(self.session.train, ("order", self.position.epoch + 1))
        figures |= self._validate()
        epoch = self.position.epoch + 1
        # The loss is steadier than the accuracy of a few videos. Without validation videos, the last epoch counts.
        key = figures.get("validation_loss", -epoch)
        if not self.position.best or key < self.position.best["key"]:
            self.position.best = {"key": key, "epoch": epoch} | figures
        self._end_epoch(figures | {"kind": "epoch"})
        self._tell(figures | {"epoch": epoch})

    def _train_epoch(self, table: BlockTable, order: tuple[str, int]) -> dict[str, Any]:
        """Train for the rest of an epoch. Returns the figures of the whole epoch, means over its blocks."""
        self.stepper.model.train()
        position, began, seen = self.position, time.monotonic(), 0

        def speed() -> float:
            return seen / max(1e-9, time.monotonic() - began)

        for batch in self.stepper.batches(table, self._batches(table, order)[position.batch :]):
            if position.phase == "search" and position.step >= self.session.plan.updates:
                break  # --max-steps
            figures = self.stepper.take(batch, position.step, self.interruption.requested)
            if not figures.finite:
                raise self._no_number(figures, table, batch.blocks)
            position.batch += 1
            position.step += 1
            position.sums = [*Running(*position.sums).plus(figures.means, figures.num_blocks)]
            seen += figures.num_blocks
            self._after_step(figures, speed())
        return self._named(Running(*position.sums).means) | {"blocks_per_second": speed()}

    def _batches(self, table: BlockTable, order: tuple[str, int]) -> list[NDArray[np.int64]]:
        """Batches of block indices, each block once, shuffled by the seed and the epoch."""
        rng = np.random.default_rng(derived_seed(self.session.recipe.seed, *order))
        shuffled = rng.permutation(len(table))
        size = self.session.recipe.batch_size
        return [shuffled[start : start + size] for start in range(0, len(shuffled), size)]

    def _after_step(self, figures: StepFigures, speed: float) -> None:
        position = self.position
        named = self._named(figures.means) | {"gradient_norm": figures.gradient_norm, "blocks_per_second": speed}
        self._tell(named | {"loss": Running(*position.sums).means.loss})
        if position.step % LOG_STEPS == 0:
            searching = position.phase == "search"  # nobody knows when retraining reaches its loss
            left = (self.session.plan.updates - position.step) * self.session.recipe.batch_size / speed
            kind, eta = ("step", left) if searching else ("retrain-step", None)
            self._log(named | {"kind": kind, "epoch": position.epoch + 1, "eta_seconds": eta})
        if figures.stop or (self.interruption.requested and self.world.size == 1):
            self._save()
            raise KeyboardInterrupt(f"{self.run.path}: interrupted after step {position.step}")
        if time.monotonic() - self._saved >= self.session.recipe.save_every:
            self._save()

    def _end_epoch(self, figures: dict[str, Any]) -> None:
        """Log an epoch, then save the checkpoint, which records the size of the log."""
        position = self.position
        position.epoch += 1
        position.last_loss = figures["loss"]
        position.batch, position.sums = 0, [*Running()]
        self._log(figures | {"epoch": position.epoch, "seconds": self.seconds})
        self._save()
        if self._is_best():
            self._save_model()

    def _save(self) -> None:
        """Write the checkpoint, unless parameters have become NaN or infinite, which the next loss will show."""
        self._saved = time.monotonic()
        if not self.world.is_first or not all(bool(p.isfinite().all()) for p in self.stepper.model.parameters()):
            return
        self.position.seconds, self.position.log_bytes = self.seconds, self.run.log_bytes
        if self.session.model_config.glimpse == "hard":
            self.position.usual_losses = self.stepper.usual_losses.tolist()
        with self._saving():
            save_checkpoint(self.run.path, self.position, self.stepper.model, self.stepper.optimizer)

    def _save_model(self) -> None:
        if self.world.is_first:
            with self._saving():
                self.run.save_model(self.stepper.model)

    def _log(self, record: dict[str, Any]) -> None:
        if self.world.is_first:
            record = record | {"step": self.position.step}
            with self._saving():
                self.run.log(record)
                if self.events is not None:
                    self.events.add(record)

    @contextlib.contextmanager
    def _saving(self) -> Iterator[None]:
        try:
            yield
        except AttnrecError as error:
            raise RunError(f"{error}; what was saved before is intact: make room and resume with --resume") from None

    def _no_number(self, figures: StepFigures, table: BlockTable, batch: NDArray[np.int64]) -> RunError:
        position, store = self.position, self.session.store
        store.require_finite(table.frames[batch])  # with such features no learning rate is low enough
        paths = sorted({store.path_of(video) for video in table.video[batch]})
        more = f" and {len(paths) - SHOWN_VIDEOS} more" if len(paths) > SHOWN_VIDEOS else ""
        shown = ", ".join(paths[:SHOWN_VIDEOS]) + more
        loss, norm = figures.means.loss, figures.gradient_norm
        what, value = ("gradient", norm) if math.isfinite(loss) else ("loss", loss)
        best = position.best.get("epoch")
        kept = f"the weights of epoch {best} are kept" if best else "no epoch was finished"
        return RunError(
            f"{self.run.path}: the {what} became {value} at step {position.step}, batch {position.batch + 1} of epoch "
            f"{position.epoch + 1} ({shown}); {kept}. --resume would fail at the same step: train anew with a lower "
            "--learning-rate or --lambda, or with --clip"
        )

    def _validate(self) -> dict[str, float]:
        session, table = self.session, self.session.validation
        if not len(table):
            return {}
        rows = self.world.rows(len(table))
        mine = None
        if rows.stop > rows.start:
            mine = score_blocks(
                self.stepper.model,
                self.stepper.feed,
                table.frames[rows],
                multilabel=session.model_config.multilabel,
            ).frame_probs
        frame_probs = np.concatenate([share for share in self.world.gather(mine) if share is not None])
        if not np.isfinite(frame_probs).all():
            session.store.require_finite(table.frames)
        targets = self.stepper.targets.numpy()[np.unique(table.video)]
        means, probs = (
            reduce_blocks(frame_probs, table.video, reduction, session.recipe.last_steps)
            for reduction in ("mean", session.recipe.reduction)
        )
        if session.model_config.multilabel:
            return {
                "validation_map": mean_average_precision(targets.astype(np.uint8), probs),
                "validation_loss": binary_log_loss(targets.astype(np.uint8), means),
            }
        return {"validation_accuracy": accuracy(targets, probs), "validation_loss": log_loss(targets, means)}

    def _named(self, means: Means) -> dict[str, Any]:
        """Figures by their names in the log; those of the attention only for attention models."""
        if self.session.model_config.architecture != "attention":
            return {"loss": means.loss}
        floor = penalty_floor(self.session.recipe.block_frames, self.session.model_config.num_locations)
        return {
            "loss": means.loss,
            "penalty": means.penalty,
            "penalty_above_floor": means.penalty - floor,
            "attention_entropy": means.entropy,
        }

    def _tell(self, figures: dict[str, Any]) -> None:
        known = {name: figures[name] for name in _SAID if _is_number(figures.get(name))}
        said = [_SAID[name].format(figure).replace("%", " %") for name, figure in known.items()]
        message = f"epoch {figures['epoch']}: {', '.join(said)}" if "epoch" in figures else None
        detail, step = f"{said[0]}, {figures['blocks_per_second']:.0f} blocks/s", self.position.step
        total = max(step, self.session.plan.updates)
        self.on_progress(Progress("train", step, total, detail, message, figures))


def _is_number(figure: float | None) -> bool:
    return figure is not None and not math.isnan(figure)
