"""Arguments and options that several commands share, with the same meaning everywhere."""

from pathlib import Path
from typing import Annotated

import typer

from attnrec.errors import ConfigError

RunsDirOption = Annotated[Path, typer.Option("--runs", help="Folder of the runs.", metavar="DIR")]
RunOption = Annotated[
    Path | None, typer.Option("--run", help="Run to use; the newest finished one where not given.", metavar="DIR")
]
FeaturesOption = Annotated[
    Path | None,
    typer.Option(help="Feature store of the run; where it was at training if not given.", metavar="STORE"),
]
DeviceOption = Annotated[str, typer.Option(help="Device: auto, cpu, cuda or cuda:N.")]
SeedOption = Annotated[int, typer.Option(help="Seed of everything random.", min=0, max=2**32 - 1)]
JobsOption = Annotated[
    int | None, typer.Option(help="Threads and decoders at once; all cores where not given.", min=1, metavar="N")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout and nothing else there.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Show the plan, sizes and estimates; do no work.")]
ForceOption = Annotated[bool, typer.Option("--force", "-f", help="Replace a file that is there.")]
PartOption = Annotated[str, typer.Option(help="Part of the split: test, validation or train.")]


def examples(*lines: str) -> str:
    """Epilog of a command's help: one example a line, kept as they are."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


def check_part(part: str) -> str:
    """A part of a split, by name.

    Raises:
        ConfigError: It is none.
    """
    if part not in ("train", "validation", "test"):
        raise ConfigError(f"--part {part}: must be test, validation or train")
    return part


def split_list(values: list[str]) -> list[str]:
    """Items of an option that may be repeated and may hold several by commas."""
    return [item.strip() for value in values for item in value.split(",") if item.strip()]
