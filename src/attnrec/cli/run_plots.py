"""Plots that commands leave in a run."""

from typing import TYPE_CHECKING

from attnrec.cli.output import Output
from attnrec.errors import AttnrecError

if TYPE_CHECKING:
    from attnrec.drawing.figure import Plot


def save_plot(run: str, name: str, plot: "Plot", what: str, output: Output) -> None:
    """Write a plot into a run and say where; a disk that is full by then is only a warning.

    Args:
        run: Folder of the run.
        name: Name of the files, without suffix.
        plot: The plot.
        what: What it shows, in words.
        output: Output of the command.
    """
    from attnrec.training.run import Run

    try:
        output.note(f"{what} {Run(run).save_plot(name, plot)}")
    except AttnrecError as error:
        output.warn(f"no {what}: {error}")
