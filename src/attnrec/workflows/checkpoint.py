"""A training as it lies on disk while it is not finished: `checkpoint/` in the run directory.

One file holds all that the next step depends on and is replaced as a whole, so that a process that is killed at any
moment leaves the state after some step, and nothing else.
"""

import contextlib
import dataclasses
import fcntl
import io
import json
import os
import pickle
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from attnrec.errors import RunError
from attnrec.files import atomic_path, write_error

FOLDER, STATE, LOCK = "checkpoint", "state.pt", "lock"
VERSION = 1


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
        RunError: It is damaged or of another version.
    """
    path = run_path / FOLDER / STATE
    if not path.exists():
        return None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        if state["version"] != VERSION:
            raise ValueError(f"version {state['version']}")
        return Checkpoint(Position(**json.loads(state["position"])), state["model"], state["optimizer"])
    except (OSError, RuntimeError, ValueError, KeyError, TypeError, EOFError, pickle.UnpicklingError) as error:
        raise RunError(f"{path}: cannot be used ({type(error).__name__}); train anew") from None


def remove_checkpoint(run_path: Path) -> None:
    """Remove what only a training that is not finished needs."""
    shutil.rmtree(run_path / FOLDER, ignore_errors=True)


@contextlib.contextmanager
def sole_trainer(run_path: Path) -> Iterator[None]:
    """Hold a run alone; what an earlier process left half written in its checkpoint is removed.

    Raises:
        RunError: Another process is training it.
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
        raise RunError(f"{run_path}: another `attnrec train` is at work on it; wait for it") from None
    finally:
        os.close(handle)
