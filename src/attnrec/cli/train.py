"""`attnrec train`."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from attnrec.cli.options import (
    AddMeanOption,
    BatchSizeOption,
    BlockFramesOption,
    BlockStrideOption,
    DeviceOption,
    DryRunOption,
    EpochsOption,
    HiddenOption,
    JobsOption,
    JsonOption,
    LayerOption,
    LayersOption,
    LearningRateOption,
    MaxStepsOption,
    PrecisionOption,
    PresetOption,
    QuietOption,
    RetrainOption,
    RunsDirOption,
    SeedOption,
    SeedsOption,
    examples,
    is_given,
    limits,
)
from attnrec.cli.output import Output, counted
from attnrec.cli.training import note_gaze, plan_line, show_plan, show_report, show_reports, warn_of
from attnrec.config import (
    ArchitectureName,
    AttentionForm,
    BlockStarts,
    DecayPer,
    OptimizerName,
    PenaltyReduction,
    Reduction,
    TrainConfig,
    option_of,
)

if TYPE_CHECKING:
    from attnrec.workflows.train import TrainReport

EXAMPLES = examples(
    "attnrec train --lambda 1 --fps 6",
    "attnrec train features.h5 --model avg-pool --split cv3-1",
    "attnrec train --attention content --dry-run",
    "attnrec train hmdb51.h5 --split hmdb51-1 --preset paper --retrain",
    "attnrec train hmdb51.h5 --split hmdb51-1 --preset authors-code",
    "attnrec train --seeds 3",
    "attnrec train --resume runs/attention-1",
    "torchrun --nproc-per-node 2 -m attnrec train features.h5",
)


# What may be given beside --resume: what leaves the weights as they are, but for their last digits.
FREE = ("store", "resume", "device", "jobs", "save_every", "runs", "dry_run", "json", "quiet")


def train(
    context: typer.Context,
    store: Annotated[
        Path | None, typer.Argument(help="Feature store; the only one in the current folder where not given.")
    ] = None,
    model: Annotated[ArchitectureName, typer.Option(help="Recogniser to train.")] = "attention",
    attention: Annotated[
        AttentionForm | None,
        typer.Option(
            help="What scores locations: the last state (location, the paper's), the frame's features as well "
            "(content), or what is strong and changes in the frames (saliency, auto's choice)."
        ),
    ] = None,
    add_mean: AddMeanOption = None,
    attention_penalty: Annotated[
        float,
        typer.Option(
            "--lambda", help="Weight of the doubly stochastic attention penalty.", **limits("attention_penalty")
        ),
    ] = 0.0,
    fps: Annotated[
        float, typer.Option(help="Frames a second that the recogniser sees, at most the stored rate.", **limits("fps"))
    ] = 30.0,
    block_frames: BlockFramesOption = None,
    block_stride: BlockStrideOption = 1,
    split: Annotated[
        str | None,
        typer.Option(help="Split of the store, such as cv3-1 or hmdb51-1; default, or its first, where not given."),
    ] = None,
    retrain: RetrainOption = False,
    layer: LayerOption = None,
    preset: PresetOption = "auto",
    hidden_dim: HiddenOption = None,
    num_layers: LayersOption = None,
    init_layers: Annotated[
        int | None,
        typer.Option(help="Layers of the perceptrons that give the first state (Eq. 6).", **limits("init_layers")),
    ] = None,
    scorer_layers: Annotated[
        int | None, typer.Option(help="Layers that score locations by content.", **limits("scorer_layers"))
    ] = None,
    attention_dim: Annotated[
        int | None,
        typer.Option(
            "--scorer-width", help="Units of those layers; --hidden's where not given.", **limits("attention_dim")
        ),
    ] = None,
    dropout: Annotated[float, typer.Option(help="Dropout on non-recurrent connections.", min=0)] = 0.5,
    input_dropout: Annotated[
        float | None, typer.Option(help="Dropout on what enters the first LSTM layer, where it is another.", min=0)
    ] = None,
    batch_size: BatchSizeOption = None,
    epochs: EpochsOption = None,
    learning_rate: LearningRateOption = None,
    optimizer: Annotated[OptimizerName | None, typer.Option(help="Adam, or plain gradient steps.")] = None,
    weight_decay: Annotated[
        float, typer.Option(help="Weight decay, the paper's gamma.", **limits("weight_decay"))
    ] = 1e-5,
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
        int | None,
        typer.Option(help="Steps at a block's end that make its prediction.", metavar="N", **limits("last_steps")),
    ] = None,
    clip: Annotated[
        float | None,
        typer.Option(
            help="Make gradients of a greater norm this long; 0 for never, as in the paper.", **limits("clip")
        ),
    ] = None,
    patience: Annotated[
        int | None,
        typer.Option(
            help="Epochs without a better validation that end the training; 0 for never.", **limits("patience")
        ),
    ] = None,
    max_steps: MaxStepsOption = None,
    overfit: Annotated[
        int | None,
        typer.Option(
            help="For debugging: train on so many blocks and validate on none.", metavar="N", **limits("overfit")
        ),
    ] = None,
    precision: PrecisionOption = "auto",
    seeds: SeedsOption = 1,
    resume: Annotated[
        Path | None,
        typer.Option(help="Go on with a run that was interrupted or killed, with its own settings.", metavar="RUN"),
    ] = None,
    save_every: Annotated[
        float,
        typer.Option(
            help="Seconds between checkpoints within an epoch; each epoch ends with one.", **limits("save_every")
        ),
    ] = 120.0,
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
        add_mean=add_mean,
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
        clip=clip,
        patience=patience,
        max_steps=max_steps,
        overfit=overfit,
        precision=precision,
        save_every=save_every,
        seed=seed,
        device=device,
        jobs=jobs,
    )
    given = {name for name in context.params if is_given(context, name)}
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
        if seeds == 1:
            _tell(workflow.train(store, config, runs_dir=runs, on_progress=output.progress), output)
        else:
            reports = workflow.train_repeats(store, config, seeds, runs_dir=runs, on_progress=output.progress)
            output.result([asdict(report) for report in reports], lambda: show_reports(reports))
            for report in reports:
                note_gaze(report, output)
        output.note("next: attnrec evaluate")


def _go_on(run: Path, store: Path | None, config: TrainConfig, given: set[str], dry_run: bool, output: Output) -> None:
    from attnrec.workflows import train as workflow

    changed = workflow.changed_settings(run, config, given - set(FREE))
    if changed:
        names = ", ".join(map(option_of, changed))
        raise typer.BadParameter(
            f"the run has other settings than {names}; leave out what is given, or train anew", param_hint="--resume"
        )
    if dry_run:
        plan = workflow.plan_resumption(run, store)
        output.result(plan, lambda: show_plan(plan))
        return
    free = {name: getattr(config, name) for name in ("device", "jobs", "save_every") if name in given}
    _tell(workflow.resume(run, store, **free, on_progress=output.progress), output)
    output.note("next: attnrec evaluate")


def _tell(report: "TrainReport", output: Output) -> None:
    output.result(report, lambda: show_report(report))
    note_gaze(report, output)
    if report.retrained is not None and not report.retrained.reached:
        output.warn(
            f"retraining ended after {counted(report.retrained.epochs, 'epoch')} at a loss of "
            f"{report.retrained.loss:.3f}, over the {report.retrained.target_loss:.3f} that it should have reached"
        )
