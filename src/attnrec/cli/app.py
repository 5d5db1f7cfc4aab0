"""The `attnrec` program: loads each command when it is called, and turns errors into one line and an exit code."""

import io
import os
import sys
from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from attnrec.cli.lines import printable
from attnrec.distributed import world_of_torchrun
from attnrec.errors import AttnrecError

COMMANDS = {
    "extract": "Extract CNN features of videos into a feature store.",
    "train": "Train a recogniser on a feature store.",
    "evaluate": "Evaluate a run: accuracy or mAP, per class and per video.",
    "visualize": "Draw where a run looks in videos.",
    "compare": "Compare runs, or train and compare a grid of them.",
    "predict": "Predict class probabilities of videos.",
    "export": "Write a run as an ONNX file for other programs.",
    "info": "Describe a feature store, a run, a video or this machine.",
    "demo": "Run the whole chain on generated clips.",
    "guide": "Read a guide: videos, datasets, training, pictures and more.",
}
_CONTEXT = {"help_option_names": ["-h", "--help"]}


class _Commands(Mapping[str, Any]):
    """The commands by name, each made from the module of that name when it is first asked for."""

    def __init__(self) -> None:
        self._made: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._made:
            if name not in COMMANDS:
                raise KeyError(name)
            module = import_module(f"attnrec.cli.{name}")
            alone = typer.Typer(add_completion=False, rich_markup_mode=None, context_settings=_CONTEXT)
            alone.command(name, epilog=module.EXAMPLES)(getattr(module, name))
            self._made[name] = typer.main.get_command(alone)
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(COMMANDS)

    def __len__(self) -> int:
        return len(COMMANDS)


class CommandGroup(TyperGroup):
    """Loads a command when it is called, and reports a failure as one line on stderr.

    `ATTNREC_DEBUG=1` keeps the traceback.
    """

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands = _Commands()  # type: ignore[assignment]

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of the commands."""
        return list(COMMANDS)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """List the commands without loading them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

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
    cls=CommandGroup,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    context_settings=_CONTEXT,
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


def main() -> None:
    """Run the program. Characters that the terminal's encoding lacks are written as escapes."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    app()
