"""A gateway forgets what has outlived its time, and nothing that somebody waits for."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from samples import RUN, RUN_RECORD, TERMS, command

from windflower.adapters.memory.blobs import MemoryBlobs
from windflower.adapters.memory.events import EventList
from windflower.adapters.memory.fleet import MemoryFleetLink
from windflower.adapters.memory.journal import MemoryJournal
from windflower.core.gateway_effects import RecordCommands
from windflower.core.ledger import RunRecord
from windflower.core.retention import DAY_S, Retention
from windflower.gateway.desk import Desk
from windflower.gateway.feed import Feed
from windflower.gateway.fleet import Fleet, FleetPorts
from windflower.gateway.housekeeping import Housekeeping
from windflower.gateway.models import Models
from windflower.wire.sealing import Signer


class Later:
    """A clock that a test owns."""

    def __init__(self) -> None:
        self.time = 100 * DAY_S

    def now(self) -> float:
        return self.time


async def test_runs_are_forgotten_after_their_days_and_open_ones_ended(tmp_path: Path) -> None:
    link, journal, blobs = MemoryFleetLink(), MemoryJournal(), MemoryBlobs(tmp_path)
    events, clock = EventList(), Later()
    feed = Feed(events)
    old: RunRecord = replace(RUN_RECORD, run="1-old", number=1, state="done", ended_at=69 * DAY_S)
    young = replace(old, run="2-young", number=2, ended_at=71 * DAY_S)
    abandoned = replace(RUN_RECORD, run=RUN, number=3, created_at=60 * DAY_S)
    await journal.record([old, young, abandoned], at=clock.now())
    await journal.record([RecordCommands((command(),), "b", TERMS)], at=69 * DAY_S)
    ports = FleetPorts(link, link.replies, link.presence, blobs, journal, clock)
    fleet = Fleet(ports, signer=Signer(bytes(32)), feed=feed, broker="memory")
    desk = Desk(fleet, journal=journal, blobs=blobs, clock=clock, feed=feed)
    memory = await fleet.start()
    desk.restore(memory.runs, memory.last_number)
    world: dict[str, Any] = {"journal": journal, "blobs": blobs, "clock": clock, "feed": feed}
    models = Models(desk, fleet, **world)
    keeper = Housekeeping(desk, models, **world, retention=Retention(days=30))
    await keeper.clean()
    clock.time += 2 * DAY_S
    await keeper.clean()
    await fleet.stop()

    assert ["1-old", "2-young"] == [line["run"] for line in events.of("run-forgotten")]
    assert [RUN] == [line["run"] for line in events.of("run-ended")]
    assert "nobody resumed it for 30 days" == desk.run(RUN).result["reason"]
    assert desk.run("1-old").is_forgotten
