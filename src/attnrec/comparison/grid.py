"""A grid of trainings: missing runs are trained and evaluated, existing ones are kept."""

import dataclasses
import itertools
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from attnrec.comparison.results import FailedCell, GridSummary
from attnrec.comparison.row_scores import readable_runs
from attnrec.comparison.tables import RowRuns
from attnrec.distributed import world_of_torchrun
from attnrec.errors import AttnrecError, ConfigError, RunBusyError, RunError
from attnrec.evaluation.evaluate import evaluate
from attnrec.evaluation.predictions import read_predictions
from attnrec.features.store import find_store
from attnrec.runtime import OnProgress, Progress, no_progress
from attnrec.settings import GridConfig, TrainConfig
from attnrec.training.checkpoint import wait_for_trainer
from attnrec.training.identity import identity, identity_of, row_settings, run_name, settings_given
from attnrec.training.plan import Session, prepare
from attnrec.training.run import Run, find_runs
from attnrec.training.train import train_once


class Cell(NamedTuple):
    """One training of a grid.

    Attributes:
        name: Name of the run, without its number.
        config: Settings, as the user gives them.
        settings: Settings of the row that the run belongs to.
        identity: Identity by which its run is found.
    """

    name: str
    config: TrainConfig
    settings: dict[str, Any]
    identity: str


def grid_store(store: str | Path | None, on_progress: OnProgress) -> Path:
    """The feature store of a grid: the named one, or else the only one in the current folder."""
    if world_of_torchrun().size > 1:
        raise ConfigError("a grid is trained by one process: start it without torchrun")
    return find_store(Path.cwd(), on_progress) if store is None else Path(store)


def planned_cells(grid: GridConfig, store: Path, on_progress: OnProgress) -> Iterator[tuple[Session, list[Cell]]]:
    """The session of each configuration on each split, with its cells, one for each seed.

    Raises:
        FeatureStoreError: The store cannot be used or has no such split.
        ConfigError: The settings do not fit the store.
    """
    pairs = list(itertools.product(grid.split_names(), grid.rows()))
    for number, (split, row) in enumerate(pairs, start=1):
        on_progress(Progress("plan", number, len(pairs), run_name(row)))
        session = prepare(store, dataclasses.replace(row, split=split))
        yield session, [_cell(session, seed) for seed in grid.seeds()]


def runs_by_identity(runs_dir: Path, on_progress: OnProgress = no_progress) -> dict[str, Run]:
    """The runs of a folder by identity; among equal ones, the last finished, or else the last begun."""
    return {identity_of(run): run for run in find_runs(runs_dir, finished=None, on_progress=on_progress)}


def is_evaluated(run: Run, part: str) -> bool:
    """Whether a run has been evaluated on a part by its own settings, with all that a table needs."""
    try:
        evaluation, predictions = run.read_evaluation(part), read_predictions(run, part)
    except RunError:
        return False  # damaged: the run is evaluated again
    own = {name: getattr(run.manifest.training, name) for name in ("reduction", "last_steps", "block_stride")}
    return evaluation is not None and own.items() <= evaluation.items() and predictions is not None


def run_grid(
    grid: GridConfig, store: str | Path | None, *, runs_dir: Path, part: str, on_progress: OnProgress
) -> tuple[list[RowRuns], GridSummary]:
    """Train and evaluate the missing runs of a grid. A failed run is recorded, and the others continue.

    Runs go seed by seed, so that rows fill evenly; those that another process trains are awaited last.

    Returns:
        The rows of the table with their finished runs, in the grid's order, and a summary of what was done.

    Raises:
        AttnrecError: The grid does not fit the store; nothing is trained then.
        KeyboardInterrupt: The process was interrupted; running the same grid again resumes it.
    """
    features = grid_store(store, on_progress)
    cells = [cell for _, planned in planned_cells(grid, features, on_progress) for cell in planned]
    there = runs_by_identity(runs_dir, on_progress)
    made: list[tuple[Cell, Run]] = []
    done: Counter[str] = Counter()
    failed = []
    left: deque[tuple[Cell, Path | None]] = deque((cell, None) for cell in sorted(cells, key=lambda c: c.config.seed))
    while left:
        cell, busy = left.popleft()
        on_progress(Progress("grid", len(cells) - len(left) - 1, len(cells), cell.name))
        try:
            if busy is not None:
                on_progress(Progress("grid", message=f"waiting for {busy}, which another process trains"))
                wait_for_trainer(busy)
            made.append((cell, _made(cell, there, features, runs_dir, part, done, on_progress)))
        except KeyboardInterrupt as error:
            what = str(error).partition(";")[0] or f"interrupted at {cell.name}"
            raise KeyboardInterrupt(f"{what}; the same command goes on") from None
        except RunBusyError as error:
            left.append((cell, error.path))
        except (AttnrecError, OSError, MemoryError, torch.OutOfMemoryError) as error:
            reason = (str(error) or type(error).__name__).partition("\n")[0]
            failed.append(FailedCell(cell.name, reason))
            on_progress(Progress("grid", message=f"failed: {cell.name}: {reason}"))
    on_progress(Progress("grid", len(cells), len(cells)))
    summary = GridSummary(len(cells), done["trained"], done["resumed"], done["evaluated"], failed)
    return _rows_of(cells, made, part, on_progress), summary


def _rows_of(
    cells: Sequence[Cell], made: Sequence[tuple[Cell, Run]], part: str, on_progress: OnProgress
) -> list[RowRuns]:
    """The rows that have readable runs, in the grid's order."""
    rows = {repr(cell.settings): RowRuns(cell.settings, []) for cell in cells}
    readable = {scored.run: scored for scored in readable_runs([run for _, run in made], part, on_progress)}
    for cell, run in made:
        if run in readable:
            rows[repr(cell.settings)].runs.append(readable[run])
    return [row for row in rows.values() if row.runs]


def _cell(session: Session, seed: int) -> Cell:
    asked, recipe = dataclasses.replace(session.asked, seed=seed), dataclasses.replace(session.recipe, seed=seed)
    store = session.store
    return Cell(
        name=run_name(asked),
        config=asked,
        settings=row_settings(recipe, settings_given(asked), store.spec.layer),
        identity=identity(recipe, store.spec.layer, store.fingerprint, store.split_sha256(recipe.split)),
    )


def _made(
    cell: Cell,
    there: dict[str, Run],
    store: Path,
    runs_dir: Path,
    part: str,
    done: Counter[str],
    on_progress: OnProgress,
) -> Run:
    """Return the finished and evaluated run of a cell, doing what is missing and counting it in `done`."""

    def quietly(event: Progress) -> None:
        on_progress(dataclasses.replace(event, message=None))  # a line for each epoch of each cell would be too many

    run, config = there.get(cell.identity), cell.config
    if run is None or not run.finished:
        began = time.monotonic()
        # Another process may have begun the run first.
        run, how = train_once(
            store, config, lambda: runs_by_identity(runs_dir).get(cell.identity), runs_dir, on_progress=quietly
        )
        done["resumed"] += how == "resumed"
        done["trained"] += how != "there"
        took = "by another process" if how == "there" else f"in {time.monotonic() - began:.1f} s"
        on_progress(Progress("grid", message=f"trained {run.path} {took}"))
    if not is_evaluated(run, part):
        report = evaluate(run, store, part=part, device=config.device, jobs=config.jobs, on_progress=quietly)
        if report.unsaved is not None:
            raise RunError(report.unsaved)
        done["evaluated"] += 1
    return run
