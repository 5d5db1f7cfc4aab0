"""Progress as lines of a log, where stderr is no terminal."""

import sys
import threading
import time
from dataclasses import dataclass

from attnrec.runtime import Progress, duration

LINE_SECONDS = 5.0  # between lines; nothing is silent for longer


def printable(text: str) -> str:
    """Make text safe for one line of a terminal: control characters and invalid bytes become escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode("ascii") for c in text)


@dataclass
class _Stage:
    """What is being done, and where and when it began."""

    event: Progress
    began: float
    done_before: int

    def line(self, now: float) -> str:
        """The state in one line: what, how far, how fast, how long still."""
        event, elapsed = self.event, now - self.began
        detail = f", {printable(event.detail)}" if event.detail else ""
        if not event.total:
            return f"{event.stage}{detail}, {duration(elapsed)}"
        new, left = event.done - self.done_before, ""
        if new > 0 and event.done < event.total:
            left = f", {duration(elapsed / new * (event.total - event.done))} left"
        return f"{event.stage} {event.done}/{event.total}{left}{detail}"


class Lines:
    """Prints the state of the work every few seconds.

    Args:
        ticks: Print also while nothing is reported, until `stop`.
    """

    def __init__(self, *, ticks: bool = True) -> None:
        self._stage: _Stage | None = None
        self._last_line = time.monotonic()
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        if ticks:
            threading.Thread(target=self._tick, name="progress", daemon=True).start()

    def show(self, event: Progress) -> None:
        """Take note of an event; the clock decides when it is printed."""
        with self._lock:
            now = time.monotonic()
            before = self._stage
            if before is None or before.event.stage != event.stage or event.done < before.event.done:
                self._stage = _Stage(event, now, event.done)
            else:
                before.event = event
            self._print_if_due()

    def note(self, text: str) -> None:
        """Print a line of its own."""
        with self._lock:
            self._last_line = time.monotonic()
            print(text, file=sys.stderr, flush=True)

    def forget(self) -> None:
        """Time the next event anew: other work may have come between."""
        with self._lock:
            self._stage = None

    def stop(self) -> None:
        """Print no more."""
        with self._lock:  # not between the ticker's look and its line
            self._stopped.set()

    def _tick(self) -> None:
        while not self._stopped.wait(LINE_SECONDS / 10):
            with self._lock:
                if not self._stopped.is_set():
                    self._print_if_due()

    def _print_if_due(self) -> None:
        now = time.monotonic()
        if self._stage is not None and now - self._last_line >= LINE_SECONDS:
            self._last_line = now
            print(self._stage.line(now), file=sys.stderr, flush=True)


_of_library = Lines(ticks=False)


def show_progress(event: Progress) -> None:
    """Print how far the work is on stderr, every few seconds; for `on_progress` in notebooks and scripts."""
    if event.message:
        _of_library.note(printable(event.message))
        _of_library.forget()
    if event.total:
        _of_library.show(event)
