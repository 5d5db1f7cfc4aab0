"""`train` and `resume`: plan a training, optimise Eq. 7, and keep the weights with the best validation loss."""

import dataclasses
import shlex
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from attnrec.distributed import World, joined_world, world_of_torchrun
from attnrec.errors import RunError
from attnrec.features.extract import ExtractReport
from attnrec.runtime import OnProgress, Progress, cuda_devices, deferred_interruption, no_progress, resolve_device
from attnrec.settings import TrainConfig
from attnrec.training.checkpoint import load_checkpoint, remove_checkpoint, sole_maker, sole_trainer
from attnrec.training.loop import RetrainReport, Training
from attnrec.training.origin import store_of_run
from attnrec.training.plan import Session, TrainPlan, machine_of, manifest_of, prepare, prepare_again
from attnrec.training.run import Run, RunLike, as_run, create_run, utc_now


@dataclass(frozen=True)
class TrainReport:
    """Report of a training."""

    run: str  # folder of the run
    plan: TrainPlan = field(repr=False)  # plan of the training
    best_epoch: int  # epoch with the best validation loss, from 1, whose weights are kept or whose loss ends retraining
    epochs: int  # epochs done, without those of the second training
    updates: int  # optimiser steps taken in total
    # Accuracy at the best epoch; None without validation videos and for several labels a video
    validation_accuracy: float | None
    validation_map: float | None  # mAP at the best epoch, for several labels a video; else None
    validation_loss: float | None  # log loss at the best epoch; None without validation videos
    # Mean over the best epoch's training blocks, 1 for uniform attention; None without attention
    attention_entropy: float | None
    retrained: RetrainReport | None  # the second training, if one was asked for
    seconds: float  # training time, including that before an interruption

    def _repr_html_(self) -> str:
        return Run(self.run)._repr_html_()


def plan_training(
    store: str | Path | ExtractReport | None = None,
    config: TrainConfig | None = None,
    *,
    on_progress: OnProgress = no_progress,
) -> TrainPlan:
    """Plan a training without running it. Arguments and errors as in `train`."""
    return prepare(store, config or TrainConfig(), world_of_torchrun(), on_progress).plan


def plan_resumption(run: RunLike, store: str | Path | None = None) -> TrainPlan:
    """Plan what `resume` would do, without running it. Arguments and errors as in `resume`."""
    opened = _unfinished(run)
    return prepare_again(opened, store_of_run(opened, store), opened.manifest.training, world_of_torchrun()).plan


def changed_settings(run: RunLike, config: TrainConfig, names: Collection[str]) -> list[str]:
    """The named settings whose values differ in an unfinished run, which `resume` could not change.

    Raises:
        RunError: The path is not a run, or the run is finished.
    """
    recorded = _unfinished(run).manifest.training
    return sorted(name for name in names if getattr(config, name) != getattr(recorded, name))


def train(
    store: str | Path | ExtractReport | None = None,
    config: TrainConfig | None = None,
    *,
    runs_dir: str | Path = "runs",
    on_progress: OnProgress = no_progress,
) -> TrainReport:
    """Train a recogniser on the training videos of a split; keep the weights with the best validation loss.

    The labels of test videos are not read. Under torchrun the processes share each batch: the weights are those of a
    single process but for rounding.

    Args:
        store: Feature store, or the report of its extraction; None takes the only one in the current folder.
        config: Settings.
        runs_dir: Folder in which the run's folder is created.
        on_progress: Called after every step.

    Returns:
        Report of the training.

    Raises:
        FeatureStoreError: The store cannot be used or has no such split.
        ConfigError: The settings do not fit the store.
        RunError: The run cannot be written, or the loss became infinite.
        KeyboardInterrupt: The process was interrupted by Ctrl-C or SIGTERM; `resume` continues after the last step.
    """
    config = config or TrainConfig()
    with _world_of(config) as world, ExitStack() as held:
        session, path = prepare(store, config, world, on_progress), None
        if world.is_first:
            with sole_maker(Path(runs_dir)):
                path = _begun(session, Path(runs_dir), held).path
        return _complete(session, Run(world.from_first(path)), world, on_progress)


def train_once(
    store: str | Path, config: TrainConfig, find: Callable[[], Run | None], runs_dir: Path, on_progress: OnProgress
) -> tuple[Run, Literal["there", "resumed", "trained"]]:
    """Train as `train` does, in one process, unless the run exists already; an unfinished one is resumed.

    Args:
        store: Feature store.
        config: Settings.
        find: Function that looks for the run, called while no other process can begin it.
        runs_dir: Folder in which the run's folder is created.
        on_progress: Called after every step.

    Returns:
        The finished run, and whether it was there, resumed or trained.

    Raises:
        RunBusyError: Another process is training the run.
        AttnrecError: As in `train` and `resume`.
    """
    session = prepare(store, config)
    with ExitStack() as held:
        with sole_maker(runs_dir):
            found = find()
            run = _begun(session, runs_dir, held) if found is None else _held(found, held)
        if run.finished:
            return run, "there"
        if found is not None:
            given = {name: getattr(config, name) for name in ("device", "jobs", "save_every", "tensorboard")}
            recipe = dataclasses.replace(run.manifest.training, **given)
            session = prepare_again(run, store_of_run(run, store), recipe, World())
        _complete(session, run, World(), on_progress)
    return Run(run.path), "trained" if found is None else "resumed"


def _begun(session: Session, runs_dir: Path, held: ExitStack) -> Run:
    """Create a run, and hold its lock."""
    return _held(create_run(runs_dir, manifest_of(session), session.store.backbone_state()), held)


def _held(run: Run, held: ExitStack) -> Run:
    """Hold the lock of a run and read it again, as another process may have finished it meanwhile."""
    if not run.finished:
        held.enter_context(sole_trainer(run.path))
        run = Run(run.path)
        if run.finished:
            remove_checkpoint(run.path)
    return run


def resume(
    run: RunLike,
    store: str | Path | None = None,
    *,
    device: str | None = None,
    jobs: int | None = None,
    save_every: float | None = None,
    tensorboard: bool | None = None,
    on_progress: OnProgress = no_progress,
) -> TrainReport:
    """Resume a run that was interrupted or killed at any moment.

    On the CPU, with as many threads and processes as before, the weights become those of an uninterrupted run.

    Args:
        run: The run, its folder, or a report of it.
        store: The feature store that it is trained on; None looks where it was, then in the current folder.
        device: Device to train on, as in `TrainConfig`; None takes the run's.
        jobs: CPU threads, as in `TrainConfig`; None takes the run's.
        save_every: Seconds between checkpoints, as in `TrainConfig`; None takes the run's.
        tensorboard: Write event files, as in `TrainConfig`; None does as the run did.
        on_progress: Called after every step.

    Returns:
        Report of the training, including the part before the interruption.

    Raises:
        RunError: The path is not a run, or the run is finished, of another store or split, or already being trained.
        FeatureStoreError: The store cannot be used.
        KeyboardInterrupt: As in `train`.
    """
    opened = _unfinished(run)
    given: dict[str, Any] = {"device": device, "jobs": jobs, "save_every": save_every, "tensorboard": tensorboard}
    recipe = dataclasses.replace(opened.manifest.training, **{k: v for k, v in given.items() if v is not None})
    features = store_of_run(opened, store, on_progress)
    with _world_of(recipe) as world, ExitStack() as held:
        session = prepare_again(opened, features, recipe, world)
        if world.is_first and _held(opened, held).finished:
            raise _finished(opened.path)
        return _complete(session, opened, world, on_progress)


def _unfinished(named: RunLike) -> Run:
    run = as_run(named)
    if run.finished:
        raise _finished(run.path)
    return run


def _finished(path: Path) -> RunError:
    return RunError(f"{path}: is finished; to train longer, train anew with more --epochs")


@contextmanager
def _world_of(config: TrainConfig) -> Iterator[World]:
    """Join the processes of this torchrun. Processes that share a CUDA device cannot use NCCL."""
    local_size = world_of_torchrun().local_size
    cuda = local_size > 1 and resolve_device(config.device).type == "cuda" and cuda_devices() >= local_size
    with joined_world(cuda=cuda) as world:
        yield world


def _complete(session: Session, run: Run, world: World, on_progress: OnProgress) -> TrainReport:
    """Train a run, whose lock the first process holds, to its end, from its checkpoint if there is one."""
    on_progress(Progress("train", message=f"run {run.path}"))
    with ExitStack() as stack:
        if world.is_first:
            _note_other_machine(session, run, on_progress)
            run.mend(session.store.backbone_state)
        world.gather(None)  # wait until the first process has mended the run
        interruption = stack.enter_context(deferred_interruption(patient=world.size > 1))
        training = Training(session, run, world, interruption, on_progress)
        training.restore(load_checkpoint(run.path))
        stack.callback(training.close)
        try:
            training.search()
            retrained = training.retrain() if session.recipe.retrain else None
        except KeyboardInterrupt as error:
            line = f"attnrec train --resume {shlex.quote(str(run.path))}"
            raise KeyboardInterrupt(f"{str(error) or 'interrupted'}; go on with `{line}`") from None
        report = _report(session, run, training, retrained)
        if world.is_first:
            _record(run, report, training)
            remove_checkpoint(run.path)
        return report


def _report(session: Session, run: Run, training: Training, retrained: RetrainReport | None) -> TrainReport:
    position = training.position
    best = position.best
    return TrainReport(
        run=str(run.path),
        plan=session.plan,
        best_epoch=best["epoch"],
        epochs=position.search_epochs or position.epoch,
        updates=position.step,
        validation_accuracy=best.get("validation_accuracy"),
        validation_map=best.get("validation_map"),
        validation_loss=best.get("validation_loss"),
        attention_entropy=best.get("attention_entropy"),
        retrained=retrained,
        seconds=training.seconds,
    )


def _record(run: Run, report: TrainReport, training: Training) -> None:
    result = {k: v for k, v in vars(report).items() if k not in ("run", "plan", "retrained")}
    result["penalty_above_floor"] = training.position.best.get("penalty_above_floor")
    retrained = None if report.retrained is None else vars(report.retrained)
    run.drop_evaluations()
    run.update(finished_at=utc_now(), result=result | {"retrained": retrained})


def _note_other_machine(session: Session, run: Run, on_progress: OnProgress) -> None:
    """Record and report that a run is resumed on a machine or device where the last digits may differ."""
    began, now = dict(run.manifest.machine), machine_of(session)
    resumed = began.pop("resumed_on", [])
    if now == began:
        return
    changes = ", ".join(f"{name} {now.get(name)}" for name in sorted(now | began) if now.get(name) != began.get(name))
    on_progress(Progress("train", message=f"note: now with {changes}; the weights may differ in their last digits"))
    if now not in resumed:
        run.update(machine=began | {"resumed_on": [*resumed, now]})
