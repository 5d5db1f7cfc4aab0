"""Output of the commands: results go to stdout, everything else to stderr."""

import dataclasses
import json
import sys
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

from attnrec.distributed import world_of_torchrun
from attnrec.files import json_safe
from attnrec.runtime import Progress, duration

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

_LINE_SECONDS = 10.0  # between progress lines where stderr is no terminal


def printable(text: str) -> str:
    """Make text safe for one line of a terminal: control characters and invalid bytes become escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode("ascii") for c in text)


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
        self._bars: Bars | None = None
        self._tasks: dict[str, TaskID] = {}
        self._began: dict[str, tuple[float, int, int]] = {}
        self._last_line = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bars is not None:
            self._bars.stop()

    def progress(self, event: Progress) -> None:
        """Show progress: a bar if stderr is a terminal, a line every few seconds if it is not."""
        if self.quiet:
            return
        if event.message:
            self.note(event.message)
        if not event.total:
            return
        if sys.stderr.isatty():
            self._show_bar(event)
            return
        now = time.monotonic()
        began, done_before, last = self._began.get(event.stage, (now, event.done, event.done))
        if event.done < last:  # the stage has begun anew, for the next of several trainings
            began, done_before = now, event.done
        self._began[event.stage] = (began, done_before, event.done)
        if now - self._last_line > _LINE_SECONDS:
            self._last_line = now
            detail = f"  {printable(event.detail)}" if event.detail else ""
            if done_before < event.done < event.total:
                left = (now - began) / (event.done - done_before) * (event.total - event.done)
                detail += f"  {duration(left)} left"
            print(f"{event.stage} {event.done}/{event.total}{detail}", file=sys.stderr)

    def note(self, text: str) -> None:
        """Print a note on stderr, unless quiet."""
        if self.quiet:
            return
        if self._bars is not None:
            self._bars.console.print(printable(text), markup=False, highlight=False, soft_wrap=True)
        else:
            print(printable(text), file=sys.stderr)

    def warn(self, text: str) -> None:
        """Print a warning on stderr, even if quiet."""
        if self._speaks:
            print(f"warning: {printable(text)}", file=sys.stderr)

    def result(self, report: Any, show: Callable[[], None]) -> None:
        """Print the result: the report as JSON under --json, else by calling `show`."""
        if self._bars is not None:
            self._bars.stop()
        if not self._speaks:
            return
        if self.json:
            document = dataclasses.asdict(report) if dataclasses.is_dataclass(report) else report  # type: ignore[arg-type]
            print(json.dumps(json_safe(document), indent=2))
        else:
            show()

    def _show_bar(self, event: Progress) -> None:
        if self._bars is None:
            self._bars = _new_bars()
            self._bars.start()
        if event.stage not in self._tasks:
            self._tasks[event.stage] = self._bars.add_task(event.stage, total=event.total, detail="")
        self._bars.update(
            self._tasks[event.stage], completed=event.done, total=event.total, detail=printable(event.detail)
        )


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


def counted(number: int, noun: str) -> str:
    """A number with its noun, in the plural unless the number is 1."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def size(num_bytes: float) -> str:
    """A number of bytes in B, kB, MB or GB."""
    for unit in ("B", "kB", "MB"):
        if num_bytes < 1000:
            return f"{num_bytes:.0f} {unit}" if unit == "B" else f"{num_bytes:.1f} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:.1f} GB"


def _new_bars() -> "Bars":
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.progress import (
        Progress as Bars,
    )

    columns = (TextColumn("{task.description}"), BarColumn(24), MofNCompleteColumn(), TimeElapsedColumn())
    detail = TextColumn("{task.fields[detail]}", markup=False)
    return Bars(*columns, TimeRemainingColumn(), detail, console=Console(stderr=True))
