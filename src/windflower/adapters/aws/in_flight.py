"""Calls that go on while their caller goes on, a bounded number at a time."""

import asyncio
from collections.abc import Coroutine
from typing import Any


class InFlight:
    """A bounded number of tasks.

    Args:
        limit: so many at once; whoever starts another waits until one is over.
    """

    def __init__(self, limit: int) -> None:
        self._room = asyncio.Semaphore(limit)
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Begin something that deals with its own errors; return as soon as there is room."""
        try:
            await self._room.acquire()
        except BaseException:  # cancelled: Python complains about work that never began
            work.close()
            raise
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._over)

    async def settle(self) -> None:
        """Wait until all that was begun is over."""
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _over(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._room.release()
