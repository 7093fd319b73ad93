"""Hands every event to whoever watches."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any, Final, Self

from windflower.core.events import Event
from windflower.ports import Events

BACKLOG: Final = 10_000
"""A watcher that is so far behind loses the oldest lines rather than the gateway its memory."""

Line = dict[str, Any]


class Feed:
    """Writes events where they are kept, and to everybody who watches.

    Args:
        *sinks: keep each line, or count it.
    """

    def __init__(self, *sinks: Events) -> None:
        self._sinks = sinks
        self._watchers: set[asyncio.Queue[Line]] = set()

    def report(self, event: Event) -> None:
        """Write an event with the time."""
        self.write(event.to_json())

    def write(self, line: Line) -> None:
        """Write a line that is an event already."""
        line = {"at": round(time.time(), 4), **line}
        for sink in self._sinks:
            sink.write(line)
        for watcher in self._watchers:
            if watcher.full():
                watcher.get_nowait()
            watcher.put_nowait(line)

    def watch(self) -> "Watch":
        """Return the lines from now on."""
        return Watch(self._watchers)


class Watch:
    """One watcher; use as a context manager and iterate."""

    def __init__(self, watchers: set[asyncio.Queue[Line]]) -> None:
        self._watchers = watchers
        self._queue: asyncio.Queue[Line] = asyncio.Queue(BACKLOG)

    def __enter__(self) -> Self:
        """Begin to listen."""
        self._watchers.add(self._queue)
        return self

    def __exit__(self, *_: object) -> None:
        """Stop listening."""
        self._watchers.discard(self._queue)

    async def __aiter__(self) -> AsyncIterator[Line]:
        """Yield lines for ever."""
        while True:
            yield await self._queue.get()
