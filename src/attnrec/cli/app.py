"""The `attnrec` program: registers the commands, turns errors into one line and an exit code."""

import io
import os
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from attnrec.cli import compare, demo, evaluate, extract, info, predict, train, visualize
from attnrec.cli.output import printable
from attnrec.distributed import world_of_torchrun
from attnrec.errors import AttnrecError


class ErrorReportingGroup(TyperGroup):
    """Ends a command that failed with one line on stderr; `ATTNREC_DEBUG=1` keeps the traceback."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command: exit code 1 for an error, 130 for an interruption."""
        try:
            return super().invoke(ctx)
        except (AttnrecError, OSError) as error:
            if isinstance(error, BrokenPipeError) or os.environ.get("ATTNREC_DEBUG"):
                raise
            print(f"attnrec: {printable(str(error))}", file=sys.stderr)
            raise typer.Exit(1) from None
        except KeyboardInterrupt as error:
            if world_of_torchrun().is_first:
                print(f"attnrec: {printable(str(error)) or 'interrupted'}", file=sys.stderr)
            raise typer.Exit(130) from None


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(version("attnrec"))
        raise typer.Exit


app = typer.Typer(
    name="attnrec",
    cls=ErrorReportingGroup,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def _attnrec(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Turn a folder of labelled videos into an action recogniser that shows where it looks.

    The soft attention model of Sharma, Kiros and Salakhutdinov, Action Recognition using Visual Attention (arXiv
    1511.04119), with its baselines.
    """


for _command in (extract, train, evaluate, visualize, compare, predict, info, demo):
    _name = _command.__name__.rpartition(".")[2]
    app.command(_name, epilog=_command.EXAMPLES)(getattr(_command, _name))


def main() -> None:
    """Run the program. What a terminal's encoding lacks is written as an escape."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    app()
