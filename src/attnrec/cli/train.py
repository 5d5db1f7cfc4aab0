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
from attnrec.config import (
    ArchitectureName,
    AttentionForm,
    BlockStarts,
    DecayPer,
    OptimizerName,
    PenaltyReduction,
    Preset,
    Reduction,
    TrainConfig,
)

if TYPE_CHECKING:
    from attnrec.workflows.planning import TrainPlan
    from attnrec.workflows.train import TrainReport

EXAMPLES = examples(
    "attnrec train --lambda 1 --fps 6",
    "attnrec train features.h5 --model avg-pool --split cv3-1",
    "attnrec train --attention content --dry-run",
    "attnrec train hmdb51.h5 --split hmdb51-1 --preset paper --retrain",
    "attnrec train hmdb51.h5 --split hmdb51-1 --preset authors-code",
)


def train(
    store: Annotated[
        Path | None, typer.Argument(help="Feature store; the only one in the current folder where not given.")
    ] = None,
    model: Annotated[ArchitectureName, typer.Option(help="Recogniser to train.")] = "attention",
    attention: Annotated[
        AttentionForm | None,
        typer.Option(help="What scores locations: the last state (location, the default), or the frame too (content)."),
    ] = None,
    attention_penalty: Annotated[
        float, typer.Option("--lambda", help="Weight of the doubly stochastic attention penalty.", min=0)
    ] = 0.0,
    fps: Annotated[
        float, typer.Option(help="Frames a second that the recogniser sees, at most the stored rate.")
    ] = 30.0,
    block_frames: Annotated[int, typer.Option(help="Frames of a block, T.", min=1)] = 30,
    block_stride: Annotated[int, typer.Option(help="Stored frames between the starts of blocks.", min=1)] = 1,
    split: Annotated[
        str | None,
        typer.Option(help="Split of the store, such as cv3-1 or hmdb51-1; default, or its first, where not given."),
    ] = None,
    retrain: Annotated[
        bool,
        typer.Option(
            "--retrain",
            help="Train anew on training and validation videos, until the loss at the best validation is reached.",
        ),
    ] = False,
    layer: Annotated[
        str | None, typer.Option(help="Layer whose features to train on; the store's first where not given.")
    ] = None,
    preset: Annotated[
        Preset,
        typer.Option(
            help="auto fits the training to the number of blocks; paper is the paper's own numbers, authors-code those "
            "of its released code. It decides what is not given."
        ),
    ] = "auto",
    hidden_dim: Annotated[int | None, typer.Option("--hidden", help="Hidden units of each layer.", min=1)] = None,
    num_layers: Annotated[int | None, typer.Option("--layers", help="LSTM layers, 3 in the paper.", min=1)] = None,
    init_layers: Annotated[
        int | None, typer.Option(help="Layers of the perceptrons that give the first state (Eq. 6).", min=1)
    ] = None,
    scorer_layers: Annotated[int | None, typer.Option(help="Layers that score locations by content.", min=1)] = None,
    attention_dim: Annotated[
        int | None, typer.Option("--scorer-width", help="Units of those layers; --hidden's where not given.", min=1)
    ] = None,
    dropout: Annotated[float, typer.Option(help="Dropout on non-recurrent connections.", min=0)] = 0.5,
    input_dropout: Annotated[
        float | None, typer.Option(help="Dropout on what enters the first LSTM layer, where it is another.", min=0)
    ] = None,
    batch_size: Annotated[int | None, typer.Option(help="Blocks in a batch.", min=1)] = None,
    epochs: Annotated[int | None, typer.Option(help="Most passes over the training blocks.", min=1)] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Learning rate.")] = None,
    optimizer: Annotated[OptimizerName | None, typer.Option(help="Adam, or plain gradient steps.")] = None,
    weight_decay: Annotated[float, typer.Option(help="Weight decay, the paper's gamma.", min=0)] = 1e-5,
    decay_per: Annotated[
        DecayPer | None,
        typer.Option(help="Add the decay to the mean over a batch's blocks (block), or to their sum (batch)."),
    ] = None,
    penalty_reduction: Annotated[
        PenaltyReduction | None, typer.Option(help="Sum the attention penalty over locations, or take the mean.")
    ] = None,
    block_starts: Annotated[
        BlockStarts | None,
        typer.Option(help="Sample blocks by the times of frames, or by counting frames as if there were 30 a second."),
    ] = None,
    reduction: Annotated[
        Reduction | None, typer.Option("--reduce", help="How blocks make a video's prediction: mean, or vote.")
    ] = None,
    last_steps: Annotated[
        int | None, typer.Option(help="Steps at a block's end that make its prediction.", min=1, metavar="N")
    ] = None,
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
        retrain=retrain,
        optimizer=optimizer,
        decay_per=decay_per,
        penalty_reduction=penalty_reduction,
        init_layers=init_layers,
        scorer_layers=scorer_layers,
        attention_dim=attention_dim,
        input_dropout=input_dropout,
        block_starts=block_starts,
        reduction=reduction,
        last_steps=last_steps,
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
        if report.retrained is not None and not report.retrained.reached:
            output.warn(
                f"retraining ended after {report.retrained.epochs} epochs at a loss of {report.retrained.loss:.3f}, "
                f"over the {report.retrained.target_loss:.3f} that it should have reached"
            )
        output.note("next: attnrec evaluate")


def _plan_line(plan: "TrainPlan") -> str:
    notes = "".join(f"; {note}" for note in plan.notes)
    return (
        f"split {plan.split}, {plan.num_train_blocks} training blocks of {plan.parts['train']} videos, "
        f"batches of {plan.batch_size}, "
        f"at most {plan.epochs} epochs ({plan.updates} updates), learning rate {plan.learning_rate:g}, "
        f"{plan.hidden_dim} hidden units{notes}"
    )


def _warn(plan: "TrainPlan", output: Output) -> None:
    if plan.leaking_groups:
        output.warn(
            f"split {plan.split} has groups on both sides ({', '.join(plan.leaking_groups[:5])}); figures will be too "
            "good"
        )
    if plan.missing_classes:
        output.warn(f"no training video of {', '.join(plan.missing_classes)}; add groups or choose another --split")
    if not plan.parts["validation"]:
        output.warn("no validation video: the last epoch is kept; add groups for early stopping")


def _show(report: "TrainReport") -> None:
    name, figure = (
        ("mAP", report.validation_map) if report.plan.multilabel else ("accuracy", report.validation_accuracy)
    )
    validation = f", validation {name} {percent(figure)} %" if figure is not None else ""
    again = report.retrained
    kept = "kept" if again is None else f"best, {again.epochs} more on training and validation videos"
    print(
        f"{printable(report.run)}: epoch {report.best_epoch} of {report.epochs} {kept}{validation}, "
        f"{report.updates} updates in {duration(report.seconds)}"
    )


def _show_plan(plan: "TrainPlan") -> None:
    print(f"run         {printable(plan.run_name)}")
    print(f"store       {printable(plan.store)}")
    print(f"split       {plan.split}{', LEAKING: groups on both sides' if plan.leaking_groups else ''}")
    print(f"videos      {', '.join(f'{count} {part}' for part, count in plan.parts.items())}")
    print(f"blocks      {plan.num_train_blocks} train, {plan.num_validation_blocks} validation")
    print(f"batches     {plan.batch_size} blocks; {plan.epochs} epochs, {plan.updates} updates at most")
    print(
        f"stopping    {f'after {plan.patience} epochs without a better validation' if plan.patience else 'never early'}"
    )
    print(f"model       {plan.hidden_dim} hidden units, {plan.num_parameters} parameters")
    print(f"rate        {plan.learning_rate:g}")
    print(f"features    times {plan.feature_scale:.4g}")
    chosen = plan.settings
    print(f"loss        decay per {chosen.decay_per}, penalty's {chosen.penalty_reduction}, {chosen.optimizer}")
    print(f"sampling    {chosen.block_starts}; predictions by {chosen.reduction} of the last {chosen.last_steps} steps")
    if chosen.model == "attention":
        print(f"attention   {chosen.attention}, {chosen.scorer_layers} scoring layers, {chosen.num_layers} LSTM layers")
    for note in plan.notes:
        print(f"note        {note}")
