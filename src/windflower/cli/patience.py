"""Says how far something is that takes longer than a person likes to wait for."""

import asyncio
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final

from windflower.adapters.local.event_file import kept_size_bytes
from windflower.observe.silence import Silence

PATIENCE_S: Final = 2.0

_LOOK_S: Final = 1.0

Advance = Callable[[int], None]


@contextmanager
def reading(log: Path) -> Iterator[Advance]:
    """Show how much of a log was gone through; the function is told bytes."""
    with patience("reading the log", kept_size_bytes(log)) as waiting:
        yield waiting.advance


@contextmanager
def patience(what: str, total: int | None = None) -> Iterator["Waiting"]:
    """Show on standard error that something goes on, once it has taken a while.

    On a terminal that is a bar, with the time that went by; it is gone when the block is left.
    Elsewhere it is one line.

    Args:
        what: what goes on: "reading the log".
        total: how much there is to do; None where nobody knows, or not yet.
    """
    waiting = Waiting(what, total)
    timer = threading.Timer(PATIENCE_S, waiting.begin)
    timer.daemon = True
    timer.start()
    try:
        yield waiting
    finally:
        timer.cancel()
        waiting.end()


@asynccontextmanager
async def reminding(silence: Silence) -> AsyncIterator[None]:
    """Say on standard error what a run waits for, whenever nothing was said for a while."""

    async def remind() -> None:
        while True:
            await asyncio.sleep(_LOOK_S)
            if said := silence.due():
                sys.stderr.write(f"  {said}\n")
                sys.stderr.flush()

    task = asyncio.create_task(remind())
    try:
        yield
    finally:
        task.cancel()


class Waiting:
    """A bar that may never be shown; any thread may tell it how far things are.

    Args:
        what: what goes on.
        total: how much there is to do; None where nobody knows.
    """

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
            bar = Progress(
                *columns,
                console=Console(stderr=True),
                transient=True,
                redirect_stdout=sys.stdout.isatty(),  # what goes into a pipe is left alone
            )
            bar.add_task(self._what, total=self._total, completed=self._done)
            bar.start()
            self._bar = bar

    def advance(self, more: int) -> None:
        """Note that so much more is done."""
        self.is_at(self._done + more, self._total)

    def is_at(self, done: int, total: int | None) -> None:
        """Note how much is done, and of how much."""
        self._done, self._total = done, total
        if self._bar is not None:
            self._bar.update(0, completed=done, total=total)

    def end(self) -> None:
        """Take it away."""
        with self._lock:
            self._is_over = True
            if self._bar is not None:
                self._bar.stop()
