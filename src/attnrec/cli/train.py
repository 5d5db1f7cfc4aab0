"""`attnrec train`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from attnrec.cli.options import (
    DeviceOption,
    DryRunOption,
    JobsOption,
    JsonOption,
    QuietOption,
    RunsDirOption,
    SeedOption,
    examples,
)
from attnrec.cli.output import Output, duration, percent, printable
from attnrec.config import ArchitectureName, AttentionForm, Preset, TrainConfig

if TYPE_CHECKING:
    from attnrec.workflows.train import TrainPlan, TrainReport

EXAMPLES = examples(
    "attnrec train --lambda 1 --fps 6",
    "attnrec train features.h5 --model avg-pool --split cv3-1",
    "attnrec train --attention content --dry-run",
)


def train(
    store: Annotated[
        Path | None, typer.Argument(help="Feature store; the only one in the current folder where not given.")
    ] = None,
    model: Annotated[ArchitectureName, typer.Option(help="Recogniser to train.")] = "attention",
    attention: Annotated[
        AttentionForm,
        typer.Option(help="What scores locations: the last state (location), or the frame too (content)."),
    ] = "location",
    attention_penalty: Annotated[
        float, typer.Option("--lambda", help="Weight of the doubly stochastic attention penalty.", min=0)
    ] = 0.0,
    fps: Annotated[
        float, typer.Option(help="Frames a second that the recogniser sees, at most the stored rate.")
    ] = 30.0,
    block_frames: Annotated[int, typer.Option(help="Frames of a block, T.", min=1)] = 30,
    block_stride: Annotated[int, typer.Option(help="Stored frames between the starts of blocks.", min=1)] = 1,
    split: Annotated[str, typer.Option(help="Split of the store: default, cv3-1, cv3-2, cv3-3.")] = "default",
    layer: Annotated[
        str | None, typer.Option(help="Layer whose features to train on; the store's first where not given.")
    ] = None,
    preset: Annotated[
        Preset, typer.Option(help="auto fits the training to the number of blocks; paper is the paper's own numbers.")
    ] = "auto",
    hidden_dim: Annotated[int | None, typer.Option("--hidden", help="Hidden units of each layer.", min=1)] = None,
    num_layers: Annotated[int, typer.Option("--layers", help="LSTM layers.", min=1)] = 3,
    dropout: Annotated[float, typer.Option(help="Dropout on non-recurrent connections.", min=0)] = 0.5,
    batch_size: Annotated[int | None, typer.Option(help="Blocks in a batch.", min=1)] = None,
    epochs: Annotated[int | None, typer.Option(help="Most passes over the training blocks.", min=1)] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Learning rate of Adam.")] = None,
    weight_decay: Annotated[float, typer.Option(help="Weight decay, the paper's gamma.", min=0)] = 1e-5,
    runs: RunsDirOption = Path("runs"),
    dry_run: DryRunOption = False,
    device: DeviceOption = "auto",
    seed: SeedOption = 0,
    jobs: JobsOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Train a recogniser on a feature store and keep the weights that validate best, as a run.

    The test part of the split is not looked at.
    """
    from attnrec.workflows import train as workflow

    config = TrainConfig(
        model=model,
        attention=attention,
        attention_penalty=attention_penalty,
        fps=fps,
        block_frames=block_frames,
        block_stride=block_stride,
        split=split,
        layer=layer,
        preset=preset,
        hidden_dim=hidden_dim,
        num_layers=num_layers,
        dropout=dropout,
        batch_size=batch_size,
        epochs=epochs,
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        seed=seed,
        device=device,
        jobs=jobs,
    )
    with Output(json=json, quiet=quiet) as output:
        plan = workflow.plan_training(store, config)
        if store is None:
            output.note(f"store {plan.store}")
        _warn(plan, output)
        if dry_run:
            output.result(plan, lambda: _show_plan(plan))
            return
        output.note(_plan_line(plan))
        report = workflow.train(store, config, runs_dir=runs, on_progress=output.progress)
        output.result(report, lambda: _show(report))
        output.note("next: attnrec evaluate")


def _plan_line(plan: "TrainPlan") -> str:
    return (
        f"{plan.num_train_blocks} training blocks of {plan.parts['train']} videos, batches of {plan.batch_size}, "
        f"at most {plan.epochs} epochs ({plan.updates} updates), learning rate {plan.learning_rate:g}, "
        f"{plan.hidden_dim} hidden units"
    )


def _warn(plan: "TrainPlan", output: Output) -> None:
    if plan.leaking_groups:
        output.warn(
            f"this split has groups on both sides ({', '.join(plan.leaking_groups[:5])}); figures will be too good"
        )
    if plan.missing_classes:
        output.warn(f"no training video of {', '.join(plan.missing_classes)}; add groups or choose another --split")
    if not plan.parts["validation"]:
        output.warn("no validation video: the last epoch is kept; add groups for early stopping")


def _show(report: "TrainReport") -> None:
    validation = (
        f", validation accuracy {percent(report.validation_accuracy)} %"
        if report.validation_accuracy is not None
        else ""
    )
    print(
        f"{printable(report.run)}: epoch {report.best_epoch} of {report.epochs} kept{validation}, "
        f"{report.updates} updates in {duration(report.seconds)}"
    )


def _show_plan(plan: "TrainPlan") -> None:
    print(f"run         {printable(plan.run_name)}")
    print(f"store       {printable(plan.store)}")
    print(f"videos      {', '.join(f'{count} {part}' for part, count in plan.parts.items())}")
    print(f"blocks      {plan.num_train_blocks} train, {plan.num_validation_blocks} validation")
    print(f"batches     {plan.batch_size} blocks; {plan.epochs} epochs, {plan.updates} updates at most")
    print(
        f"stopping    {f'after {plan.patience} epochs without a better validation' if plan.patience else 'never early'}"
    )
    print(f"model       {plan.hidden_dim} hidden units, {plan.num_parameters} parameters")
    print(f"rate        {plan.learning_rate:g}")
    print(f"features    times {plan.feature_scale:.4g}")
