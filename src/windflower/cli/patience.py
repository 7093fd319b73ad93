"""Says how far something is that takes longer than a person likes to wait for."""

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

PATIENCE_S: Final = 2.0

Advance = Callable[[int], None]


@contextmanager
def patience(what: str, total: int | None = None, *, after_s: float = PATIENCE_S) -> Iterator[Advance]:
    """Show on standard error that something goes on, once it has taken a while.

    On a terminal that is a bar, with the time that went by; it is gone when the block is left.
    Elsewhere it is one line.

    Args:
        what: what goes on: "reading the log".
        total: how much there is to do; None where nobody knows.
        after_s: what is over sooner is not spoken of.

    Yields:
        a function that is told how much more was done; any thread may call it.
    """
    waiting = _Waiting(what, total)
    timer = threading.Timer(after_s, waiting.begin)
    timer.daemon = True
    timer.start()
    try:
        yield waiting.advance
    finally:
        timer.cancel()
        waiting.end()


class _Waiting:
    """A bar that may never be shown."""

    def __init__(self, what: str, total: int | None) -> None:
        self._what = what
        self._total = total
        self._lock = threading.Lock()
        self._is_over = False
        self._done = 0
        self._bar: Any = None

    def begin(self) -> None:
        """Show it, unless it is over."""
        with self._lock:
            if self._is_over:
                return
            if not sys.stderr.isatty():
                sys.stderr.write(f"  {self._what}\n")
                sys.stderr.flush()
                return
            from rich.console import Console  # noqa: PLC0415 - only who waits pays for it
            from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn  # noqa: PLC0415

            columns = (TextColumn("  {task.description}"), BarColumn(), TimeElapsedColumn())
            self._bar = Progress(*columns, console=Console(stderr=True), transient=True)
            self._bar.add_task(self._what, total=self._total, completed=self._done)
            self._bar.start()

    def advance(self, more: int) -> None:
        """Note that so much more is done."""
        self._done += more
        if self._bar is not None:
            self._bar.update(0, completed=self._done)

    def end(self) -> None:
        """Take it away."""
        with self._lock:
            self._is_over = True
            if self._bar is not None:
                self._bar.stop()
