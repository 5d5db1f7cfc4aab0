"""A training as it lies on disk while it is not finished: `checkpoint/` in the run directory.

One file holds all that the next step depends on and is replaced as a whole, so that a process that is killed at any
moment leaves the state after some step, and nothing else.
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
from attnrec.features.weights import PICKLE_ERRORS, load_pickled_tensors
from attnrec.files import atomic_path, reason_of, write_error
from attnrec.models.architectures import state_shapes
from attnrec.training.run import Run
from attnrec.training.step import Means

FOLDER, STATE, LOCK = "checkpoint", "state.pt", "lock"
VERSION = 1
_STATES = 4  # of a parameter and what Adam keeps of it there are three
_SPARE_BYTES = 16 * 2**20
_BEST = {"key", "epoch", "loss"}  # what the next step looks at of the best epoch


class Running(NamedTuple):
    """Sums over the blocks of an epoch so far."""

    loss: float = 0.0
    penalty: float = 0.0
    entropy: float = 0.0
    num_blocks: float = 0.0

    def plus(self, means: Means, num_blocks: int) -> "Running":
        """With the blocks of one more batch, of which these are the means."""
        added = (*(mean * num_blocks for mean in means), num_blocks)
        return Running(*(total + value for total, value in zip(self, added, strict=True)))

    @property
    def means(self) -> Means:
        """Over the blocks so far."""
        return Means(*(total / self.num_blocks for total in self[:3]))


@dataclass
class Position:
    """How far a training has come. Dropout and the order of blocks are functions of it and of the seed."""

    # `search` for the epoch that validates best, or the second training, `retrain`
    phase: Literal["search", "retrain"] = "search"
    epoch: int = 0  # epochs of the phase that are done
    batch: int = 0  # batches done of the epoch after them
    step: int = 0  # optimiser steps done, all in all
    # Over the blocks of that epoch so far: loss, penalty, entropy, number of blocks; see `Running`
    sums: list[float] = field(default_factory=lambda: [*Running()])
    # Figures of the epoch that validated best; empty before the first
    best: dict[str, Any] = field(default_factory=dict)
    search_epochs: int = 0  # epochs of the first phase, once it is over
    last_loss: float | None = None  # training loss of the phase's last epoch
    seconds: float = 0.0  # taken so far
    log_bytes: int = 0  # size of `training.jsonl`


@dataclass(frozen=True)
class Checkpoint:
    """A position, and the parameters and the optimiser's state there."""

    position: Position
    model: dict[str, torch.Tensor]
    optimizer: dict[str, Any]


def save_checkpoint(run_path: Path, position: Position, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Replace the checkpoint of a run, atomically.

    Raises:
        AttnrecError: It cannot be written; the one before is as it was.
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
    """The checkpoint of a run, on the CPU; None where it came to none.

    Raises:
        RunError: It is damaged, of another version, or not of the run's model.
    """
    path = run_path / FOLDER / STATE
    if not path.exists():
        return None
    shapes = state_shapes(Run(run_path).manifest.model)
    most_bytes = _STATES * sum(4 * math.prod(shape) for shape in shapes.values()) + _SPARE_BYTES
    with _using(path):
        state = load_pickled_tensors(path, most_bytes)
        if state["version"] != VERSION:
            raise ValueError(f"version {state['version']}")
        position = config_from_dict(Position, json.loads(state["position"]))
        if len(position.sums) != len(Running()) or (position.epoch and not position.best.keys() >= _BEST):
            raise ValueError("no position of a training")
        if {name: tuple(value.shape) for name, value in state["model"].items()} != shapes:
            raise ValueError("weights of another model")
        if not all(bool(value.isfinite().all()) for value in state["model"].values()):
            raise ValueError("weights that are NaN or infinite")
        return Checkpoint(position, state["model"], state["optimizer"])


def restore_optimizer(run_path: Path, checkpoint: Checkpoint, optimizer: torch.optim.Optimizer) -> None:
    """Bring an optimiser to its state in a checkpoint.

    Raises:
        RunError: It is of another optimiser or of another model.
    """
    with _using(run_path / FOLDER / STATE):
        optimizer.load_state_dict(checkpoint.optimizer)
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
    """Remove what only a training that is not finished needs."""
    shutil.rmtree(run_path / FOLDER, ignore_errors=True)


@contextlib.contextmanager
def sole_trainer(run_path: Path) -> Iterator[None]:
    """Hold a run alone; what an earlier process left half written in its checkpoint is removed.

    Raises:
        RunBusyError: Another process is training it.
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
    """Wait until no other process trains a run."""
    try:
        handle = os.open(run_path / FOLDER / LOCK, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return  # it has come to its end, which removes the lock
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
    finally:
        os.close(handle)


@contextlib.contextmanager
def sole_maker(runs_dir: Path) -> Iterator[None]:
    """Be alone for the moment between looking for a run and beginning it, so that no two processes begin the same.

    Raises:
        RunError: The folder cannot be made.
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
