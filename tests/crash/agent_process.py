"""The devices of a case: real agents in one process, with a scripted worker each."""

import asyncio
import os
from typing import Final

from crash.ledger import Ledger
from crash.place import Place
from crash.script import Phase, content_of, work
from windflower.agent.__main__ import Quarters, parse
from windflower.ports import Done, Job

_INTERVAL_S: Final = 0.3


async def serve(place: Place, stop: asyncio.Event) -> None:
    """Serve until told to stop."""
    arguments = ["--broker", f"{place.broker}/{place.name}", "--device-id", place.name]
    arguments += ["--state", str(place.device_state), "--interval", str(_INTERVAL_S)]
    quarters = Quarters(parse(arguments))
    ledger = Ledger(place.work)
    agents = [
        quarters.agent(device, "", ScriptedWorker(number, ledger))
        for number, device in enumerate(place.devices)
    ]
    stopped = asyncio.create_task(stop.wait())
    tasks = [asyncio.create_task(agent.run()) for agent in agents]
    try:
        done, _ = await asyncio.wait([stopped, *tasks], return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in (stopped, *tasks):
            task.cancel()
        await asyncio.gather(stopped, *tasks, return_exceptions=True)
        await quarters.close()


class ScriptedWorker:
    """Does what the script says, and leaves a line when it begins and when it ends.

    Args:
        device: which device it works for, from 0 on.
        ledger: where the lines go.
    """

    def __init__(self, device: int, ledger: Ledger) -> None:
        self._device = device
        self._ledger = ledger

    async def work(self, job: Job) -> Done:
        """Call the app."""
        command = job.command
        self._ledger.append(f"begin {command.id}")
        pack = command.content.inline if job.pack is None else job.pack.read_bytes()
        assert pack is not None
        phase = Phase(command.type, command.group, pack)
        answer, state = work(phase, self._device, job.state or b"")
        content = content_of(answer)
        if content.inline is None:
            part = job.update.with_name(job.update.name + ".part")
            with part.open("wb") as file:
                file.write(answer)
                file.flush()
                os.fsync(file.fileno())
            part.replace(job.update)
        self._ledger.append(f"end {command.id}")
        return Done(content, state, 0.0)

    async def stop(self) -> None:
        """End what is under way: nothing is."""
