"""Who is sent a published model, and when it is sent again."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, RecordDict

from windflower.adapters.local.model_shelf import FolderShelf
from windflower.adapters.memory.blobs import MemoryBlobs, MemoryTransfers
from windflower.adapters.memory.events import EventList
from windflower.adapters.memory.fleet import MemoryFleetLink
from windflower.adapters.memory.journal import MemoryJournal
from windflower.adapters.memory.store import MemoryStore
from windflower.agent.agent import Agent, AgentSettings, MonotonicClock
from windflower.errors import ConfigError, MalformedMessage
from windflower.flower.records import to_packing, write_pack
from windflower.gateway.desk import Desk
from windflower.gateway.feed import Feed
from windflower.gateway.fleet import Fleet, FleetPorts, SystemClock
from windflower.gateway.models import KEPT, Models
from windflower.ports import Done, Job
from windflower.wire.blobs import BlobRef
from windflower.wire.sealing import Signer


class NoWorker:
    """A model asks no app."""

    async def work(self, job: Job) -> Done:
        raise AssertionError(job.command.method)

    async def stop(self) -> None:
        """There is nothing to stop."""


class Reluctant(FolderShelf):
    """Refuses the first model that it is given."""

    is_reluctant = True

    async def put(self, ref: BlobRef, pack: Path | None) -> None:
        if self.is_reluctant:
            self.is_reluctant = False
            raise MalformedMessage("told to refuse")
        await super().put(ref, pack)


class ShiftedClock(SystemClock):
    """A clock that somebody sets."""

    offset_s = 0.0

    def now(self) -> float:
        return super().now() + self.offset_s


class World:
    """A gateway with published models, and devices, in one process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.link, self.journal = MemoryFleetLink(), MemoryJournal()
        self.blobs, self.events = MemoryBlobs(folder), EventList()
        self.tasks: list[asyncio.Task[None]] = []
        self.clock = ShiftedClock()

    async def start(self) -> None:
        """Start the gateway."""
        clock, feed = self.clock, Feed(self.events)
        link, journal, blobs = self.link, self.journal, self.blobs
        ports = FleetPorts(link, link.replies, link.presence, blobs, journal, clock)
        self.fleet = Fleet(ports, signer=Signer(bytes(32)), feed=feed, broker="memory")
        self.desk = Desk(self.fleet, journal=journal, blobs=blobs, clock=clock, feed=feed)
        self.models = Models(
            *(self.desk, self.fleet),
            journal=journal,
            blobs=blobs,
            clock=clock,
            feed=feed,
            again_s=0.01,
            together_s=0.0,
        )
        memory = await self.fleet.start()
        self.desk.restore(memory.runs, memory.last_number)
        self.tasks.append(asyncio.create_task(self.models.run()))

    def device(self, name: str, shelf: FolderShelf) -> None:
        """Start a device."""
        agent = Agent(
            AgentSettings(name, "memory", interval_s=0.05),
            link=self.link.device(name),
            store=MemoryStore(self.folder / f"{name}-{len(self.tasks)}"),
            worker=NoWorker(),
            models=shelf,
            transfers=MemoryTransfers(self.blobs),
            events=EventList(),
            clock=MonotonicClock(),
        )
        self.tasks.append(asyncio.create_task(agent.run()))

    async def publish(self, number: int) -> BlobRef:
        """Publish a model."""
        arrays = ArrayRecord({"w": Array(np.full(9, number, np.float32))})
        path = self.folder / f"pack-{number}"
        ref = write_pack(to_packing(RecordDict({"arrays": arrays})), path)
        await self.models.publish(f"{number}-run", path, ref)
        return ref

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something is so."""
        async with asyncio.timeout(20):
            while not condition():  # noqa: ASYNC110 - there is more than one thing to see
                await asyncio.sleep(0.01)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = World(tmp_path)
    await made.start()
    yield made
    for task in made.tasks:
        task.cancel()
    for task in made.tasks:
        with suppress(asyncio.CancelledError):
            await task
    await made.fleet.stop()


async def test_who_refused_a_model_is_sent_it_again(world: World, tmp_path: Path) -> None:
    shelf = Reluctant(tmp_path / "shelf")
    world.device("d1", shelf)
    ref = await world.publish(1)
    await world.until(lambda: bool(world.events.of("model-taken")))

    assert ref.digest == shelf.current()
    assert ["d1 was sent what is no model: told to refuse"] == [
        line["reason"] for line in world.events.of("reply-failed")
    ]


async def test_who_lost_its_model_is_sent_it_again(world: World, tmp_path: Path) -> None:
    ref = await world.publish(1)
    world.device("d1", FolderShelf(tmp_path / "shelf"))
    await world.until(lambda: bool(world.events.of("model-taken")))
    for task in world.tasks[1:]:
        task.cancel()
    await asyncio.gather(*world.tasks[1:], return_exceptions=True)
    empty = FolderShelf(tmp_path / "another")
    world.device("d1", empty)
    await world.until(lambda: len(world.events.of("model-taken")) == 2)

    assert ref.digest == empty.current()


async def test_the_latest_publication_is_the_one_to_have(world: World, tmp_path: Path) -> None:
    shelf = FolderShelf(tmp_path / "shelf")
    refs = [await world.publish(number) for number in range(KEPT + 2)]
    world.device("d1", shelf)
    await world.until(lambda: shelf.current() == refs[-1].digest)
    oldest = world.models.publications()[-1]
    with pytest.raises(ConfigError, match="no earlier model to go back to"):
        await world.models.rollback(oldest.run)
    again = await world.models.rollback(None)
    await world.until(lambda: shelf.current() == refs[-2].digest)

    assert refs[-2] == again.bundle
    twice = await world.models.rollback(None)
    kept = {p.bundle for p in world.models.publications() if p.run in world.models.kept()}

    assert refs[-3] == twice.bundle
    assert set(refs[-KEPT:]) == kept
    assert oldest.run not in world.models.kept()


async def test_a_clock_that_goes_back_takes_no_publication_with_it(world: World) -> None:
    first = await world.publish(1)
    world.clock.offset_s = -600.0
    second = await world.publish(2)
    shown = [p.bundle for p in world.models.publications()]
    again = await world.models.rollback(None)

    assert [second, first] == shown
    assert again.run == world.models.publications()[0].run


async def test_an_idle_publication_holds_no_run_open(world: World, tmp_path: Path) -> None:
    """A run that stays open would keep devices from forgetting all that comes after it."""
    world.device("d1", FolderShelf(tmp_path / "shelf"))
    await world.publish(1)
    await world.until(lambda: bool(world.events.of("model-taken")))
    await world.until(lambda: all(r.state == "done" for r in world.desk.runs()))
    (recorded,) = (await world.journal.recall()).runs

    assert "done" == recorded.state
    assert recorded.publishes
