"""A command that is cancelled stops, and the next one is done."""

import asyncio
from pathlib import Path

import pytest
from samples import command, content

from windflower.adapters.local.model_shelf import FolderShelf
from windflower.adapters.memory.blobs import MemoryBlobs, MemoryTransfers
from windflower.adapters.memory.events import EventList
from windflower.adapters.memory.fleet import MemoryFleetLink
from windflower.adapters.memory.store import MemoryStore
from windflower.agent.agent import Agent, AgentSettings, MonotonicClock
from windflower.ports import Done, Job
from windflower.wire.messages import Command, Control, Reply, seal
from windflower.wire.sealing import Signer


class Stubborn:
    """Does not answer its first job until it is told to, or cancelled."""

    def __init__(self) -> None:
        self.jobs: list[str] = []
        self.stops = 0
        self.may_end = asyncio.Event()
        self.is_working = asyncio.Event()

    async def work(self, job: Job) -> Done:
        self.jobs.append(job.command.id)
        self.is_working.set()
        if len(self.jobs) == 1:
            await self.may_end.wait()
        return Done(content(7), None, 0.1)

    async def stop(self) -> None:
        self.stops += 1


@pytest.mark.parametrize("grace_s", [0.0, 3600.0])
async def test_the_command_after_a_cancelled_one_is_answered(
    tmp_path: Path, grace_s: float
) -> None:
    link, signer, worker = MemoryFleetLink(), Signer(b"k" * 32), Stubborn()
    await link.open()
    agent = Agent(
        AgentSettings("d1", "memory", grace_s=grace_s),
        link=link.device("d1"),
        store=MemoryStore(tmp_path),
        worker=worker,
        models=FolderShelf(tmp_path / "models"),
        transfers=MemoryTransfers(MemoryBlobs(tmp_path)),
        events=EventList(),
        clock=MonotonicClock(),
    )
    serving = asyncio.create_task(agent.run())
    first, second = command(1), command(2)

    async def send(message: Command | Control) -> None:
        await link.send("d1", seal(message, signer).to_bytes())

    await send(first)
    await send(second)
    async with asyncio.timeout(10):
        await worker.is_working.wait()
        await send(Control("d1", "cancel", (first.id,), epoch=1))
        if grace_s:
            worker.may_end.set()
        deliveries = await link.replies.take()
    serving.cancel()
    await asyncio.wait([serving])

    assert [second.id] == [Reply.from_bytes(d.body).id for d in deliveries]
    assert [first.id, second.id] == worker.jobs
    # Work that ends by itself in time leaves the worker warm; the other stop is the agent's end.
    assert (1 if grace_s else 2) == worker.stops
