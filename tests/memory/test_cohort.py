"""A strict run asks those who were there when it was opened, whoever comes or goes later."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from samples import RUN_RECORD

from windflower.adapters.memory.blobs import MemoryBlobs
from windflower.adapters.memory.events import EventList
from windflower.adapters.memory.fleet import MemoryFleetLink
from windflower.adapters.memory.journal import MemoryJournal
from windflower.core.policy import RoundPolicy
from windflower.gateway.desk import Desk
from windflower.gateway.feed import Feed
from windflower.gateway.fleet import Fleet, FleetPorts, SystemClock
from windflower.gateway.request import RunRequest
from windflower.wire.messages import Heartbeat
from windflower.wire.sealing import KEY_BYTES, Signer


@asynccontextmanager
async def gateway(
    folder: Path, journal: MemoryJournal, devices: Sequence[str]
) -> AsyncIterator[Desk]:
    """Yield the desk of a gateway on a journal, once it has heard some devices."""
    link = MemoryFleetLink("push")
    blobs, clock, feed = MemoryBlobs(folder), SystemClock(), Feed(EventList())
    ports = FleetPorts(link, link.replies, link.presence, blobs, journal, clock)
    fleet = Fleet(ports, signer=Signer(bytes(KEY_BYTES)), feed=feed, broker="memory")
    desk = Desk(fleet, journal=journal, blobs=blobs, clock=clock, feed=feed)
    memory = await fleet.start()
    desk.restore(memory.runs, memory.last_number)
    for device in devices:
        beat = Heartbeat(device, clock.now(), f"boot-{device}", "connect", 60.0)
        link.device(device).beat(beat.to_bytes())
    await desk.wait_for_devices(len(devices), timeout_s=30)
    yield desk
    await fleet.stop()


def request(*, is_strict: bool) -> RunRequest:
    return RunRequest(
        app="app",
        folder="/app",
        bundle=RUN_RECORD.bundle,
        config=RUN_RECORD.config,
        seed=1,
        policy=RoundPolicy(is_strict=is_strict),
        limit=2,
    )


@pytest.mark.parametrize("is_strict", [True, False])
async def test_a_strict_run_that_was_killed_before_it_asked_keeps_whom_it_was_opened_for(
    tmp_path: Path, *, is_strict: bool
) -> None:
    journal = MemoryJournal()
    async with gateway(tmp_path, journal, ["d3", "d4"]) as desk:
        run = (await desk.open_run(request(is_strict=is_strict))).run
    async with gateway(tmp_path, journal, ["d3", "d4", "d1", "d2"]) as desk:
        await desk.resume_run(run)
        first = await desk.roster(run, 0)
    async with gateway(tmp_path, journal, ["d4", "d5"]) as desk:
        await desk.resume_run(run)
        told = [await desk.roster(run, call) for call in (0, 1)]

    assert is_strict == (first == ("d3", "d4"))
    assert first == told[0]
    assert is_strict == (told[1] == ("d3", "d4"))
