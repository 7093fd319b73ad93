"""Real agents in one process, with workers that do next to nothing.

python -m scale.crew --broker mqtt://... --device-id calm --crew 1000 --state FOLDER

The command line is the agent's own. All that differs from its crews is the worker: here it starts
no process and loads no Flower, so that what is measured is windflower.
"""

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Final

from crash.ledger import Ledger

from scale.census import count_tasks
from windflower.agent.__main__ import Quarters, parse
from windflower.ports import Done, Job
from windflower.wire.content import Content, blob_ref

WORK: Final = "work"
"""The ledger in the crew's state folder: a line for each piece of work that was begun."""

TASKS: Final = "tasks"
"""The census in the crew's state folder."""

_UPLOADS_ONE_IN: Final = 10


def device_name(crew: str, number: int) -> str:
    """Return what a crew's nth device is called."""
    return f"{crew}-{number:04}"


class BriefWorker:
    """Notes that it worked, and answers with nothing; or, as an uploader, with the pack it got.

    Args:
        ledger: where it leaves a line.
        is_uploader: whether it answers a pack that came as a blob with a blob.
    """

    def __init__(self, ledger: Ledger, *, is_uploader: bool) -> None:
        self._ledger = ledger
        self._is_uploader = is_uploader

    async def work(self, job: Job) -> Done:
        """Call no app."""
        self._ledger.append(job.command.id)
        state = job.command.id.encode()
        if job.pack is None or not self._is_uploader:
            return Done(Content(), state, 0.0)
        data = job.pack.read_bytes()
        _keep(data, job.update)
        return Done(Content((("pack", None),), blob_ref(data)), state, 0.0)

    async def stop(self) -> None:
        """End what is under way: nothing is."""


def _keep(data: bytes, path: Path) -> None:
    part = path.with_name(path.name + ".part")
    with part.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


async def serve(arguments: list[str]) -> None:
    """Serve until SIGTERM."""
    given = parse(arguments)
    quarters = Quarters(given)
    ledger = Ledger(given.state / WORK)
    agents = [
        quarters.agent(
            device_name(given.device_id, number),
            "",
            BriefWorker(ledger, is_uploader=number % _UPLOADS_ONE_IN == 0),
        )
        for number in range(given.crew)
    ]
    ended = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.cancel)
    tasks = [asyncio.create_task(agent.run()) for agent in agents]
    tasks.append(asyncio.create_task(count_tasks(given.state / TASKS)))
    try:
        done, _ = await asyncio.wait([ended, *tasks], return_when=asyncio.FIRST_COMPLETED)
        for task in done - {ended}:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await quarters.close()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1:]))
