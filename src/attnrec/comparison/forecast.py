"""The plan of a grid: what is left to do, and about how long it takes."""

import math
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from attnrec.comparison.grid import Cell, grid_store, is_evaluated, planned_cells, runs_by_identity
from attnrec.distributed import World
from attnrec.runtime import OnProgress, no_progress
from attnrec.settings import GridConfig
from attnrec.specs import ModelConfig
from attnrec.training.identity import row_settings_of
from attnrec.training.plan import Session, run_blocks
from attnrec.training.run import Run
from attnrec.training.step import Stepper

_TIMED_STEPS = 2
_FORWARD_SHARE = 1 / 3  # share of a training step's time that its forward pass takes


@dataclass(frozen=True)
class PlannedCell:
    """A planned training of a grid.

    Attributes:
        name: Name of the run, without its number.
        run: Path of the existing run; None if it has not been begun.
        state: `done`, `to evaluate`, `interrupted` or `to train`.
        seconds: Estimate of the remaining time, at most.
    """

    name: str
    run: str | None
    state: str
    seconds: float


@dataclass(frozen=True)
class GridPlan:
    """The plan of a grid.

    Attributes:
        store: Path of the feature store.
        num_rows: Number of configurations.
        splits: Names of the splits.
        seeds: Seeds of the trainings.
        cells: All trainings.
        seconds: Estimate of the remaining time of all trainings, at most.
    """

    store: str
    num_rows: int
    splits: list[str]
    seeds: list[int]
    cells: list[PlannedCell]
    seconds: float


def plan_grid(
    grid: GridConfig,
    store: str | Path | None = None,
    *,
    runs_dir: str | Path = "runs",
    part: str = "test",
    on_progress: OnProgress = no_progress,
) -> GridPlan:
    """Plan what `compare` would train and evaluate; arguments and errors as in `compare`.

    The time of a training is that of finished trainings of its configuration, or else extrapolated from two of its
    steps to its maximum number of updates, which early stopping cuts short.
    """
    features, folder = grid_store(store, on_progress), Path(runs_dir)
    there = runs_by_identity(folder, on_progress)
    cells: list[PlannedCell] = []
    splits: dict[str, None] = {}
    timed: dict[tuple[ModelConfig, int], float] = {}
    for session, planned in planned_cells(grid, features, on_progress):
        splits[session.recipe.split] = None
        states = [_state(there.get(cell.identity), part) for cell in planned]
        training, evaluation = 0.0, 0.0
        if any(state != "done" for _, state in states):
            training, evaluation = _seconds(session, planned[0], there.values(), part, timed)
        left = {"done": 0.0, "to evaluate": evaluation}
        cells += [
            PlannedCell(cell.name, run, state, left.get(state, training + evaluation))
            for cell, (run, state) in zip(planned, states, strict=True)
        ]
    seconds = sum(cell.seconds for cell in cells)
    return GridPlan(str(features), len(grid.rows()), list(splits), list(grid.seeds()), cells, seconds)


def _state(run: Run | None, part: str) -> tuple[str | None, str]:
    if run is None:
        return None, "to train"
    if not run.finished:
        return str(run.path), "interrupted"
    return str(run.path), "done" if is_evaluated(run, part) else "to evaluate"


def _seconds(
    session: Session, cell: Cell, runs: Iterable[Run], part: str, timed: dict[tuple[ModelConfig, int], float]
) -> tuple[float, float]:
    """Estimate the time of a training and an evaluation, at most; `timed` caches step times by model and blocks."""
    plan, recipe = session.plan, session.recipe
    size = min(recipe.batch_size, plan.num_train_blocks)
    if (session.model_config, size) not in timed:
        timed[session.model_config, size] = _step_seconds(session, size)
    step = timed[session.model_config, size]
    batches = [
        math.ceil(count / recipe.batch_size)
        for count in (plan.num_validation_blocks, len(run_blocks(session.store, recipe, part)))
    ]
    validation, evaluation = (count * step * _FORWARD_SHARE for count in batches)
    epochs = math.ceil(plan.updates / math.ceil(plan.num_train_blocks / recipe.batch_size))
    known = [
        run.manifest.result["seconds"]
        for run in runs
        if run.finished
        and run.manifest.store["fingerprint"] == session.store.fingerprint
        and row_settings_of(run) == cell.settings
    ]
    return float(np.mean(known)) if known else plan.updates * step + epochs * validation, evaluation


def _step_seconds(session: Session, num_blocks: int) -> float:
    """Measure the time of a training step on `num_blocks` blocks, from reading cubes to new parameters."""
    stepper = Stepper(session, World())
    began = 0.0
    for step, batch in enumerate(stepper.batches(session.train, [np.arange(num_blocks)] * (1 + _TIMED_STEPS))):
        stepper.take(batch, step)
        if step == 0:  # a warm-up step
            began = _time_when_done(session.device)
    return (_time_when_done(session.device) - began) / _TIMED_STEPS


def _time_when_done(device: torch.device) -> float:
    """The time when the device has finished its work, as CUDA runs asynchronously."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.monotonic()
