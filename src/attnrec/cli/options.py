"""Arguments and options that several commands share, with the same meaning everywhere."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from attnrec.config import BOUNDS, Precision, Preset, SplitPart

CSV_SUFFIXES = (".csv", ".tsv", ".txt")  # of the tables that --force replaces


def limits(setting: str) -> dict[str, Any]:
    """The `min` and `max` of an option, where a setting's bounds are closed; open ones are the config's to check."""
    low, high, is_open = BOUNDS[setting]
    return {"max": high} if is_open else {"min": low, "max": high}


RunsDirOption = Annotated[Path, typer.Option("--runs", help="Folder of the runs.", metavar="DIR")]
RunOption = Annotated[
    Path | None, typer.Option("--run", help="Run to use; the newest finished one where not given.", metavar="DIR")
]
FeaturesOption = Annotated[
    Path | None,
    typer.Option(help="Feature store of the run; where it was at training if not given.", metavar="STORE"),
]
DeviceOption = Annotated[str, typer.Option(help="Device: auto, cpu, cuda or cuda:N.")]
SeedOption = Annotated[int, typer.Option(help="Seed of everything random.", **limits("seed"))]
# With 100000 it would hang while it makes threads, or end in the system's refusal of one.
JobsOption = Annotated[
    int | None,
    typer.Option(help="Threads and decoders at once; all cores where not given.", metavar="N", **limits("jobs")),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout and nothing else there.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Show the plan, sizes and estimates; do no work.")]
ForceOption = Annotated[bool, typer.Option("--force", "-f", help="Replace a file that is there.")]
PartOption = Annotated[SplitPart, typer.Option(help="Part of the split.")]

LayerOption = Annotated[
    str | None, typer.Option(help="Layer whose features to train on; the store's first where not given.")
]
PresetOption = Annotated[
    Preset,
    typer.Option(
        help="auto fits model and training to the data; paper is the paper's own numbers, authors-code those "
        "of its released code. It decides what is not given."
    ),
]
AddMeanOption = Annotated[
    bool | None,
    typer.Option(
        help="Give an attention model the mean over the frame's places as well, and what the attended features differ "
        "from it. auto does, the paper does not."
    ),
]
BlockFramesOption = Annotated[
    int | None,
    typer.Option(
        help="Frames of a block, T: 30, but auto takes fewer where videos are shorter.", **limits("block_frames")
    ),
]
BlockStrideOption = Annotated[
    int,
    typer.Option(
        "--block-stride", "--stride", help="Stored frames between the starts of blocks.", **limits("block_stride")
    ),
]
RetrainOption = Annotated[
    bool,
    typer.Option(
        "--retrain",
        help="Train anew on training and validation videos, until the loss at the best validation is reached.",
    ),
]
HiddenOption = Annotated[
    int | None,
    typer.Option(
        "--hidden",
        help="Hidden units of a layer: 512 in the paper; auto takes fewer for few blocks.",
        **limits("hidden_dim"),
    ),
]
LayersOption = Annotated[
    int | None,
    typer.Option(
        "--layers", help="LSTM layers: 3 in the paper; auto takes fewer for few blocks.", **limits("num_layers")
    ),
]
BatchSizeOption = Annotated[int | None, typer.Option(help="Blocks in a batch.", **limits("batch_size"))]
EpochsOption = Annotated[int | None, typer.Option(help="Most passes over the training blocks.", **limits("epochs"))]
LearningRateOption = Annotated[float | None, typer.Option(help="Learning rate.", **limits("learning_rate"))]
MaxStepsOption = Annotated[int | None, typer.Option(help="Most optimiser steps.", metavar="N", **limits("max_steps"))]
PrecisionOption = Annotated[
    Precision, typer.Option(help="Arithmetic: fp32, bf16, or auto, which is bf16 where the hardware has it.")
]
SeedsOption = Annotated[
    int,
    typer.Option(
        help="Repeat with so many seeds, from --seed on, each a run of its own.", min=1, max=1000, metavar="N"
    ),
]


def listed(values: Sequence[str] | None) -> tuple[str, ...]:
    """The items of a list option, which may be repeated and may hold several items parted by commas."""
    return tuple(item for value in values or () for item in (part.strip() for part in value.split(",")) if item)


def listed_numbers(values: Sequence[str] | None, option: str) -> tuple[float, ...]:
    """The numbers of a list option."""
    items = listed(values)
    try:
        numbers = tuple(float(item) for item in items)
    except ValueError:
        numbers = (math.nan,)
    if not all(map(math.isfinite, numbers)):
        raise typer.BadParameter(f"must be numbers, got {', '.join(items)}", param_hint=option)
    return numbers


def is_given(context: typer.Context, name: str) -> bool:
    """Whether an option was typed, whatever its value."""
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def examples(*lines: str) -> str:
    """Epilog of a command's help: one example a line, kept as they are."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)
