"""A run may be ended at any moment, also between two steps of what it asks."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest
from samples import RUN, RUN_RECORD, command

from windflower.adapters.memory.blobs import MemoryBlobs
from windflower.adapters.memory.events import EventList
from windflower.adapters.memory.fleet import MemoryFleetLink
from windflower.adapters.memory.journal import MemoryJournal
from windflower.core.ledger import Entry, PhaseRecord, RunRecord
from windflower.errors import ConfigError, LocalProtocolError
from windflower.gateway.desk import Desk
from windflower.gateway.feed import Feed
from windflower.gateway.fleet import Fleet, FleetPorts, SystemClock
from windflower.wire.sealing import Signer


class SlowJournal(MemoryJournal):
    """A journal that answers only when it may."""

    def __init__(self) -> None:
        super().__init__()
        self.may_look = asyncio.Event()
        self.may_end = asyncio.Event()
        self.is_asked = asyncio.Event()

    async def phase(self, run: str, phase: str) -> PhaseRecord | None:
        self.is_asked.set()
        await self.may_look.wait()
        return await super().phase(run, phase)

    async def record(self, entries: Sequence[Entry], *, at: float) -> None:
        if any(isinstance(entry, RunRecord) and entry.state != "open" for entry in entries):
            await self.may_end.wait()
        await super().record(entries, at=at)


async def test_a_run_that_is_ended_while_it_asks_asks_no_more(tmp_path: Path) -> None:
    link, journal, blobs = MemoryFleetLink(), SlowJournal(), MemoryBlobs(tmp_path)
    clock, events = SystemClock(), EventList()
    feed = Feed(events)
    await journal.record([RUN_RECORD], at=0.0)
    ports = FleetPorts(link, link.replies, link.presence, blobs, journal, clock)
    fleet = Fleet(ports, signer=Signer(bytes(32)), feed=feed, broker="memory")
    desk = Desk(fleet, journal=journal, blobs=blobs, clock=clock, feed=feed)
    memory = await fleet.start()
    desk.restore(memory.runs, memory.last_number)
    await desk.resume_run(RUN)
    asking = asyncio.create_task(desk.ask(RUN, "phase", [command()], timeout_s=5.0))
    await journal.is_asked.wait()
    first = asyncio.create_task(desk.end_run(RUN, success=False, reason="first", result={}))
    await asyncio.sleep(0)
    await desk.end_run(RUN, success=True, reason="second", result={})
    journal.may_look.set()
    with pytest.raises(LocalProtocolError, match="is over"):
        await asking
    with pytest.raises(ConfigError, match="is over"):
        await desk.resume_run(RUN)
    journal.may_end.set()
    await first
    await fleet.stop()

    assert ("failed", "first") == (desk.run(RUN).state, desk.run(RUN).result["reason"])
    assert [] == events.of("command-sent")
