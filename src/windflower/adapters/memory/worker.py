"""A worker in this very process, for a run without any other."""

import asyncio
from collections.abc import Callable

from windflower.ports import Done, Job


class InlineWorker:
    """Calls a function in a thread, one call at a time in the whole process.

    Args:
        train: does a job.
        turn: shared by all workers of the process, since an app's random sources are.
    """

    def __init__(self, train: Callable[[Job], Done], turn: asyncio.Lock) -> None:
        self._train = train
        self._turn = turn

    async def work(self, job: Job) -> Done:
        """Call the app."""
        async with self._turn:
            return await asyncio.to_thread(self._train, job)

    async def stop(self) -> None:
        """Do nothing: a thread cannot be ended; what it answers is dropped by the agent."""
