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
from attnrec.cli.output import Output, say, size
from attnrec.cli.run_plots import save_curves
from attnrec.runtime import counted, duration, percent
from attnrec.settings import Recipe, TrainConfig, option_of, settings_of

if TYPE_CHECKING:
    from attnrec.training.plan import TrainPlan
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

# Lines of the plan that are shown before a training; --dry-run shows all.
_BRIEF = ("split", "videos", "blocks", "batches", "model", "rate", "numbers", "attention", "processes", "note")


@takes(TrainConfig, "config")
def train(
    context: typer.Context,
    config: TrainConfig,
    store: Annotated[
        Path | None, typer.Argument(help="Feature store; default: the only one in the current folder.")
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(help="Resume a run that was interrupted or killed, with its own settings.", metavar="RUN"),
    ] = None,
    runs: RunsDirOption = Path("runs"),
    dry_run: DryRunOption = False,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Train a recogniser on a feature store; its run keeps the weights with the best validation loss.

    The test part of the split is not used.
    """
    given = given_settings(context, TrainConfig)
    with Output(json=json, quiet=quiet) as output:
        output.begin()
        from attnrec.training import train as workflow

        if resume is not None:
            _go_on(resume, store, config, given, dry_run, output)
            return
        plan = workflow.plan_training(store, config, on_progress=output.progress)
        if store is None:
            output.note(f"store {plan.store}")
            store = Path(plan.store)
        _warn_of(plan, output)
        if dry_run:
            output.result(plan, lambda: _show_plan(plan))
            return
        for label, text in _plan_rows(plan):
            if label in _BRIEF:
                output.note(f"{label:12}{text}")
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
        output.result(plan, lambda: _show_plan(plan))
        return
    others = {name: getattr(config, name) for name in free & given}
    _tell(workflow.resume(run, store, **others, on_progress=output.progress), output)
    output.note("next: attnrec evaluate")


def _tell(report: "TrainReport", output: Output) -> None:
    output.result(report, lambda: _show_report(report))
    save_curves(report.run, output)
    _note_gaze(report, output)
    if report.retrained is not None and not report.retrained.reached:
        output.warn(
            f"retraining ended after {counted(report.retrained.epochs, 'epoch')} at a loss of "
            f"{report.retrained.loss:.3f}, above its target of {report.retrained.target_loss:.3f}"
        )


def _warn_of(plan: "TrainPlan", output: Output) -> None:
    """Warn of what makes the figures of a training too good or unusable."""
    if plan.leaking_groups:
        output.warn(
            f"split {plan.settings.split} has groups on both sides ({', '.join(plan.leaking_groups[:5])}); figures "
            "will be too good"
        )
    if plan.missing_classes:
        output.warn(f"no training video of {', '.join(plan.missing_classes)}; add groups or choose another --split")
    if plan.settings.overfit is not None:
        output.warn(f"--overfit: trains on {plan.num_train_blocks} blocks without validation; for debugging only")
    elif not plan.parts["validation"]:
        output.warn("no validation videos: the last epoch is kept; add groups for early stopping")


def _note_gaze(report: "TrainReport", output: Output) -> None:
    """Note that a run's attention stayed close to uniform, so that its pictures would be an even grey."""
    from attnrec.evaluation.gaze import gaze_advice

    if words := gaze_advice(report.attention_entropy, report.plan.settings.attention):
        output.note(f"{report.run}: {words}")


def _show_report(report: "TrainReport") -> None:
    """Print the report of a training."""
    name, figure = (
        ("mAP", report.validation_map) if report.plan.multilabel else ("accuracy", report.validation_accuracy)
    )
    validation = f", validation {name} {percent(figure)} %" if figure is not None else ""
    entropy = report.attention_entropy
    gaze = f", attention entropy {entropy:.3f} of uniform" if entropy is not None else ""
    again = report.retrained
    kept = "best" if validation else "kept"  # by the validation loss, which is steadier than the accuracy
    more = "" if again is None else f", {again.epochs} more on training and validation videos"
    recipe = report.plan.settings
    early = ", ended by early stopping" if recipe.max_steps is None and report.epochs < recipe.epochs else ""
    loss = f" by the validation loss of {report.validation_loss:.3f}" if report.validation_loss is not None else ""
    say(f"{report.run}: epoch {report.best_epoch} of {report.epochs} {kept}{loss}{more}")
    say(f"{counted(report.updates, 'update')} in {duration(report.seconds)}{early}{validation}{gaze}")


def _show_plan(plan: "TrainPlan") -> None:
    """Print the plan of a training."""
    for label, text in _plan_rows(plan):
        say(f"{label:12}{text}")


def _plan_rows(plan: "TrainPlan") -> list[tuple[str, str]]:
    """The plan of a training in lines, each with its label."""
    recipe = plan.settings
    stopping = f"after {recipe.patience} epochs without a better validation loss" if recipe.patience else "never early"
    clipping = f"gradient norm clipped at {recipe.clip:g}" if recipe.clip else "no gradient clipping"
    layers = counted(recipe.num_layers, "LSTM layer")
    rows = [
        ("run", plan.run_name),
        ("store", plan.store),
        ("split", f"{recipe.split}{', LEAKING: groups on both sides' if plan.leaking_groups else ''}"),
        ("videos", ", ".join(f"{count} {part}" for part, count in plan.parts.items())),
        ("blocks", f"{plan.num_train_blocks} train, {plan.num_validation_blocks} validation"),
        ("batches", f"{recipe.batch_size} blocks; {recipe.epochs} epochs, {plan.updates} updates at most"),
        ("stopping", stopping),
        ("model", f"{layers} of {recipe.hidden_dim} hidden units, {plan.num_parameters} parameters"),
        ("rate", f"{recipe.learning_rate:g}; {clipping}"),
        ("numbers", recipe.precision),
        ("memory", f"{size(plan.batch_bytes)} for a batch's cubes, {size(plan.state_bytes)} for model and optimiser"),
        ("features", f"times {', '.join(f'{scale:.4g}' for scale in plan.feature_scales)}"),
        ("loss", f"decay per {recipe.decay_per}, penalty's {recipe.penalty_reduction}, {recipe.optimizer}"),
        ("sampling", f"{recipe.block_starts}; predictions by {recipe.reduction} of the last {recipe.last_steps} steps"),
    ]
    if plan.processes > 1:
        rows.append(("processes", f"{plan.processes}, which share each batch"))
    if recipe.model == "attention":
        rows.append(("attention", _attention_of(recipe)))
    return rows + [("note", note) for note in plan.notes]


def _attention_of(recipe: Recipe) -> str:
    beside = ", with the mean beside the glimpse" if recipe.add_mean else ""
    deep = f", {counted(recipe.scorer_layers, 'scoring layer')}" if recipe.attention == "content" else ""
    hard = ", hard: one location a step" if recipe.glimpse == "hard" else ""
    return f"{recipe.attention}{deep}{hard}{beside}"
