"""Output of the commands: results go to stdout, everything else to stderr."""

import dataclasses
import json
import sys
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

from attnrec.cli.lines import Lines, printable
from attnrec.distributed import world_of_torchrun
from attnrec.files import json_safe
from attnrec.runtime import Progress

if TYPE_CHECKING:
    from attnrec.cli.bars import Bars


def say(line: str) -> None:
    """Print a line of a result on stdout. Names in it come from files: control characters become escapes."""
    print(printable(line))


def markdown(text: str) -> None:
    """Print trusted Markdown on stdout: typeset on a terminal, unchanged elsewhere."""
    if not sys.stdout.isatty():
        print(text, end="")
        return
    from rich.console import Console
    from rich.markdown import Markdown

    Console().print(Markdown(text))


class Output:
    """Output of one command; a context manager around its work. Under torchrun only the first process prints.

    Args:
        json: Print the result as one JSON document.
        quiet: Show no progress and no notes.
    """

    def __init__(self, *, json: bool, quiet: bool) -> None:
        self.json = json
        self._speaks = world_of_torchrun().is_first
        self.quiet = quiet or not self._speaks
        self._shown: Bars | Lines | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def progress(self, event: Progress) -> None:
        """Show progress: bars if stderr is a terminal, a line every few seconds if it is not."""
        if self.quiet:
            return
        if event.message:
            self.note(event.message)
            if not event.total:
                return
        if self._shown is None:
            self._shown = _new_bars() if sys.stderr.isatty() else Lines()
        self._shown.show(event)

    def begin(self, what: str = "loading torch") -> None:
        """Show that something of unknown length is being done."""
        self.progress(Progress("start", detail=what))

    def note(self, text: str) -> None:
        """Print a note on stderr, unless quiet."""
        if self.quiet:
            return
        if self._shown is not None:
            self._shown.note(printable(text))
        else:
            print(printable(text), file=sys.stderr)

    def warn(self, text: str) -> None:
        """Print a warning on stderr, even if quiet."""
        line = f"warning: {printable(text)}"
        if self._speaks and self._shown is not None:
            self._shown.note(line)
        elif self._speaks:
            print(line, file=sys.stderr)

    def result(self, report: Any, show: Callable[[], None]) -> None:
        """Print the result: the report as JSON under --json, else by calling `show`."""
        self._stop()
        if not self._speaks:
            return
        if self.json:
            document = dataclasses.asdict(report) if dataclasses.is_dataclass(report) else report  # type: ignore[arg-type]
            print(json.dumps(json_safe(document), indent=2))
        else:
            show()

    def _stop(self) -> None:
        if self._shown is not None:
            self._shown.stop()
            self._shown = None


def _new_bars() -> "Bars":
    from attnrec.cli.bars import Bars

    return Bars()


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table on stdout; the first column is text, the others are right-aligned.

    On a terminal a long first column is wrapped to fit; elsewhere the table is as wide as its content.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)

    def shown(text: str) -> Text:
        # Escapes take more room than what they stand for, so they are made before widths are.
        return Text(printable(text).encode(console.encoding, "backslashreplace").decode(console.encoding))

    heading = shown(title) if title else None
    grid = Table(title=heading, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for i, column in enumerate(columns):
        justify: Literal["left", "right"] = "right" if i else "left"
        grid.add_column(shown(column), justify=justify, overflow="fold", no_wrap=i > 0)
    for row in rows:
        grid.add_row(*map(shown, row))
    if not console.is_terminal:
        console.width = max(console.measure(grid, options=console.options.update(width=10_000)).maximum, len(title))
    console.print(grid)


def size(num_bytes: float) -> str:
    """A number of bytes in B, kB, MB or GB."""
    for unit in ("B", "kB", "MB"):
        if num_bytes < 1000:
            return f"{num_bytes:.0f} {unit}" if unit == "B" else f"{num_bytes:.1f} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:.1f} GB"
