"""The checkpoint of an unfinished training: `checkpoint/` in the run directory.

One file holds everything that the next step depends on. It is replaced as a whole, so a process killed at any moment
leaves the state after some complete step.
"""

import contextlib
import dataclasses
import fcntl
import io
import json
import math
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import nn

from attnrec.checks import config_from_dict
from attnrec.errors import ConfigError, RunBusyError, RunError
from attnrec.features.state_dicts import PICKLE_ERRORS, load_pickled_tensors
from attnrec.files import atomic_path, reason_of, write_error
from attnrec.models.architectures import state_shapes
from attnrec.training.run import Run
from attnrec.training.step import Means

FOLDER, STATE, LOCK = "checkpoint", "state.pt", "lock"
VERSION = 1
_STATES = 4  # copies of the parameters' size, at most; a model with Adam's state takes three
_SPARE_BYTES = 16 * 2**20
_BEST = {"key", "epoch", "loss"}  # keys of `Position.best` that resuming needs


class Running(NamedTuple):
    """Sums of the training figures over the blocks of an epoch so far."""

    loss: float = 0.0
    penalty: float = 0.0
    entropy: float = 0.0
    num_blocks: float = 0.0

    def plus(self, means: Means, num_blocks: int) -> "Running":
        """The sums with one more batch added, given its means and its number of blocks."""
        added = (*(mean * num_blocks for mean in means), num_blocks)
        return Running(*(total + value for total, value in zip(self, added, strict=True)))

    @property
    def means(self) -> Means:
        """Means over the blocks so far."""
        return Means(*(total / self.num_blocks for total in self[:3]))


@dataclass
class Position:
    """How far a training has come. Together with the seed it determines dropout and the order of blocks."""

    # `search`, the training that finds the best epoch, or `retrain`, the second training
    phase: Literal["search", "retrain"] = "search"
    epoch: int = 0  # finished epochs of the phase
    batch: int = 0  # finished batches of the current epoch
    step: int = 0  # optimiser steps taken in both phases
    # Sums over the current epoch's blocks so far: loss, penalty, entropy, number of blocks; see `Running`
    sums: list[float] = field(default_factory=lambda: [*Running()])
    # Figures of the epoch that validated best; empty before the first
    best: dict[str, Any] = field(default_factory=dict)
    search_epochs: int = 0  # epochs of the first phase, set when it is over
    last_loss: float | None = None  # training loss of the phase's last epoch
    seconds: float = 0.0  # training time so far
    usual_losses: list[float] = field(default_factory=list)  # hard attention's baseline, see `models.hard`
    log_bytes: int = 0  # size of `training.jsonl` at this position


@dataclass(frozen=True)
class Checkpoint:
    """A position in a training, with the parameters and the optimiser's state there."""

    position: Position
    model: dict[str, torch.Tensor]
    optimizer: dict[str, Any]


def save_checkpoint(run_path: Path, position: Position, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Replace the checkpoint of a run, atomically.

    Raises:
        AttnrecError: The checkpoint cannot be written; the previous one is kept.
    """
    buffer = io.BytesIO()  # torch would hide from us why a file cannot be written
    state = {
        "version": VERSION,
        "position": json.dumps(dataclasses.asdict(position)),
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
    }
    torch.save(state, buffer)
    with atomic_path(run_path / FOLDER / STATE) as temporary, temporary.open("wb") as file:
        file.write(buffer.getbuffer())


def load_checkpoint(run_path: Path) -> Checkpoint | None:
    """Load the checkpoint of a run, on the CPU; None if the run has none.

    Raises:
        RunError: The checkpoint is damaged, of another version, or of another model than the run's.
    """
    path = run_path / FOLDER / STATE
    if not path.exists():
        return None
    manifest = Run(run_path).manifest
    shapes = state_shapes(manifest.model)
    most_bytes = _STATES * sum(4 * math.prod(shape) for shape in shapes.values()) + _SPARE_BYTES
    with _using(path):
        state = load_pickled_tensors(path, most_bytes)
        if state["version"] != VERSION:
            raise ValueError(f"version {state['version']}")
        position = config_from_dict(Position, json.loads(state["position"]))
        if len(position.sums) != len(Running()) or (position.epoch and not position.best.keys() >= _BEST):
            raise ValueError("not a position in a training")
        T = manifest.training.block_frames if manifest.model.glimpse == "hard" else 0
        if len(position.usual_losses) != T or not all(map(math.isfinite, position.usual_losses)):
            raise ValueError("not a position in a training with this attention")
        if {name: tuple(value.shape) for name, value in state["model"].items()} != shapes:
            raise ValueError("weights of another model")
        if not all(bool(value.isfinite().all()) for value in state["model"].values()):
            raise ValueError("weights that are NaN or infinite")
        return Checkpoint(position, state["model"], state["optimizer"])


def restore_optimizer(run_path: Path, checkpoint: Checkpoint, optimizer: torch.optim.Optimizer) -> None:
    """Restore the state of an optimiser from a checkpoint.

    Raises:
        RunError: The state belongs to another optimiser or another model.
    """
    with _using(run_path / FOLDER / STATE):
        saved = checkpoint.optimizer
        # Earlier versions did not use the fused optimisers.
        groups = [group | {"fused": True} for group in saved["param_groups"]]
        optimizer.load_state_dict(saved | {"param_groups": groups})
        for parameter, state in optimizer.state.items():
            if any(value.ndim and value.shape != parameter.shape for value in state.values()):
                raise ValueError("an optimiser of another model")


@contextlib.contextmanager
def _using(path: Path) -> Iterator[None]:
    try:
        yield
    except (*PICKLE_ERRORS, OSError, ConfigError) as error:
        raise RunError(f"{path}: cannot be used ({reason_of(error)}); train anew") from None


def remove_checkpoint(run_path: Path) -> None:
    """Remove the checkpoint of a run, which only an unfinished training needs."""
    shutil.rmtree(run_path / FOLDER, ignore_errors=True)


@contextlib.contextmanager
def sole_trainer(run_path: Path) -> Iterator[None]:
    """Hold the lock of a run for training, and remove half-written checkpoints of earlier processes.

    Raises:
        RunBusyError: Another process is training the run.
        AttnrecError: The run cannot be written.
    """
    folder = run_path / FOLDER
    try:
        folder.mkdir(exist_ok=True)
        handle = os.open(folder / LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise write_error(folder, error) from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for left_over in folder.glob(".state-*"):
            left_over.unlink()
        yield
    except BlockingIOError:
        raise RunBusyError(run_path) from None
    finally:
        os.close(handle)


def wait_for_trainer(run_path: Path) -> None:
    """Wait until no other process is training a run."""
    try:
        handle = os.open(run_path / FOLDER / LOCK, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return  # the training has finished, which removes the lock
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
    finally:
        os.close(handle)


@contextlib.contextmanager
def sole_maker(runs_dir: Path) -> Iterator[None]:
    """Lock the folder of runs while a run is looked for and begun, so that no two processes begin the same run.

    Raises:
        RunError: The folder cannot be created.
    """
    try:
        runs_dir.mkdir(parents=True, exist_ok=True)
        handle = os.open(runs_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise RunError(f"{runs_dir}: cannot be made: {error.strerror}") from None
    try:
        with contextlib.suppress(OSError):  # some network file systems lock no folders
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
