"""Arguments and options that several commands share, with the same meaning everywhere."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from attnrec.config import SplitPart

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
PartOption = Annotated[SplitPart, typer.Option(help="Part of the split.")]


def listed(values: Sequence[str] | None) -> tuple[str, ...]:
    """The items of a list option, which may be repeated and may hold several items parted by commas."""
    return tuple(item for value in values or () for item in (part.strip() for part in value.split(",")) if item)


def examples(*lines: str) -> str:
    """Epilog of a command's help: one example a line, kept as they are."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)
