"""`attnrec train`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from attnrec.cli.options import (
    DryRunOption,
    JsonOption,
    QuietOption,
    RunsDirOption,
    examples,
    given_settings,
    takes,
)
from attnrec.cli.output import Output, counted
from attnrec.cli.training import note_gaze, plan_line, show_plan, show_report, warn_of
from attnrec.settings import TrainConfig, option_of, settings_of

if TYPE_CHECKING:
    from attnrec.training.train import TrainReport

EXAMPLES = examples(
    "attnrec train --lambda 1 --fps 6",
    "attnrec train features.h5 --model avg-pool --split cv3-1",
    "attnrec train --attention content --dry-run",
    "attnrec train hmdb51.h5 --split hmdb51-1 --preset paper --retrain",
    "attnrec train hmdb51.h5 --split hmdb51-1 --preset authors-code",
    "attnrec train --preset authors-code --set optimizer=adam,last_steps=30",
    "attnrec train --resume runs/attention-1",
    "torchrun --nproc-per-node 2 -m attnrec train features.h5",
)


@takes(TrainConfig, "config")
def train(
    context: typer.Context,
    config: TrainConfig,
    store: Annotated[
        Path | None, typer.Argument(help="Feature store; default: the only one in the current folder.")
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(help="Go on with a run that was interrupted or killed, with its own settings.", metavar="RUN"),
    ] = None,
    runs: RunsDirOption = Path("runs"),
    dry_run: DryRunOption = False,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Train a recogniser on a feature store and keep the weights that validate best, as a run.

    The test part of the split is not looked at.
    """
    from attnrec.training import train as workflow

    given = given_settings(context, TrainConfig)
    with Output(json=json, quiet=quiet) as output:
        if resume is not None:
            _go_on(resume, store, config, given, dry_run, output)
            return
        plan = workflow.plan_training(store, config, on_progress=output.progress)
        if store is None:
            output.note(f"store {plan.store}")
            store = Path(plan.store)
        warn_of(plan, output)
        if dry_run:
            output.result(plan, lambda: show_plan(plan))
            return
        output.note(plan_line(plan))
        _tell(workflow.train(store, config, runs_dir=runs, on_progress=output.progress), output)
        output.note("next: attnrec evaluate")


def _go_on(run: Path, store: Path | None, config: TrainConfig, given: set[str], dry_run: bool, output: Output) -> None:
    from attnrec.training import train as workflow

    free = {name for name, setting in settings_of(TrainConfig).items() if not setting.decides}
    changed = workflow.changed_settings(run, config, given - free)
    if changed:
        names = ", ".join(map(option_of, changed))
        raise typer.BadParameter(
            f"the run has other settings than {names}; leave out what is given, or train anew", param_hint="--resume"
        )
    if dry_run:
        plan = workflow.plan_resumption(run, store)
        output.result(plan, lambda: show_plan(plan))
        return
    others = {name: getattr(config, name) for name in free & given}
    _tell(workflow.resume(run, store, **others, on_progress=output.progress), output)
    output.note("next: attnrec evaluate")


def _tell(report: "TrainReport", output: Output) -> None:
    output.result(report, lambda: show_report(report))
    note_gaze(report, output)
    if report.retrained is not None and not report.retrained.reached:
        output.warn(
            f"retraining ended after {counted(report.retrained.epochs, 'epoch')} at a loss of "
            f"{report.retrained.loss:.3f}, over the {report.retrained.target_loss:.3f} that it should have reached"
        )
