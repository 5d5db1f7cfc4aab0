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
from typing import Any, Literal

import torch
from torch import nn

from attnrec.checks import config_from_dict
from attnrec.errors import ConfigError, RunBusyError, RunError
from attnrec.features.weights import PICKLE_ERRORS, load_pickled_tensors
from attnrec.files import atomic_path, reason_of, write_error
from attnrec.models.architectures import state_shapes
from attnrec.training.run import Run

FOLDER, STATE, LOCK = "checkpoint", "state.pt", "lock"
VERSION = 1
_STATES = 4  # of a parameter and what Adam keeps of it there are three
_SPARE_BYTES = 16 * 2**20
_BEST = {"key", "epoch", "loss"}  # what the next step looks at of the best epoch


@dataclass
class Position:
    """How far a training has come. Dropout and the order of blocks are functions of it and of the seed.

    Attributes:
        phase: `search` for the epoch that validates best, or the second training, `retrain`.
        epoch: Epochs of the phase that are done.
        batch: Batches done of the epoch after them.
        step: Optimiser steps done, all in all.
        sums: Over the blocks of that epoch so far: loss, penalty, entropy, number of blocks.
        best: Figures of the epoch that validated best; empty before the first.
        search_epochs: Epochs of the first phase, once it is over.
        last_loss: Training loss of the phase's last epoch.
        seconds: Taken so far.
        log_bytes: Size of `training.jsonl`.
    """

    phase: Literal["search", "retrain"] = "search"
    epoch: int = 0
    batch: int = 0
    step: int = 0
    sums: list[float] = field(default_factory=lambda: [0.0] * 4)
    best: dict[str, Any] = field(default_factory=dict)
    search_epochs: int = 0
    last_loss: float | None = None
    seconds: float = 0.0
    log_bytes: int = 0


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
        if len(position.sums) != len(Position().sums) or (position.epoch and not position.best.keys() >= _BEST):
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
