"""Progress as bars, where stderr is a terminal."""

from rich.console import Console, Group
from rich.live import Live
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from attnrec.cli.lines import printable
from attnrec.runtime import Progress as Event


class Bars:
    """A line for each stage of the work, and below them what is being done; 80 columns are enough.

    A stage of unknown length has a moving bar, and its line goes when the next stage begins.
    """

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False)
        figures = (MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())
        stage = TextColumn("{task.description}", markup=False)
        self._bars = Progress(stage, BarColumn(24), *figures, console=self._console, auto_refresh=False)
        self._detail = Text(no_wrap=True, overflow="ellipsis", style="dim")
        self._live = Live(get_renderable=self._screen, console=self._console, refresh_per_second=8)
        self._tasks: dict[str, TaskID] = {}
        self._counts: dict[TaskID, int] = {}
        self._busy: str | None = None  # the stage of unknown length that is being shown
        self._live.start()

    def show(self, event: Event) -> None:
        """Show an event."""
        if self._busy is not None and self._busy != event.stage:
            self._bars.remove_task(self._tasks.pop(self._busy))
            self._busy = None
        if event.stage not in self._tasks:
            self._tasks[event.stage] = self._bars.add_task(event.stage, total=event.total or None)
            self._busy = None if event.total else event.stage
        if event.total:
            self._busy = None
            self._count(self._tasks[event.stage], event)
        self._detail.plain = printable(event.detail)

    def _count(self, task: TaskID, event: Event) -> None:
        if event.done < self._counts.get(task, 0):  # the stage has begun anew, for the next of several trainings
            self._bars.reset(task)
        self._counts[task] = event.done
        self._bars.update(task, completed=event.done, total=event.total)

    def _screen(self) -> Group:
        return Group(self._bars, self._detail) if self._detail.plain else Group(self._bars)

    def note(self, text: str) -> None:
        """Print a line above the bars."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def stop(self) -> None:
        """Leave the bars of what was done as they are."""
        if self._busy is not None:
            self._bars.remove_task(self._tasks.pop(self._busy))
            self._busy = None
        self._detail.plain = ""
        self._live.stop()
