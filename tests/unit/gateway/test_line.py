"""Whoever calls the gateway gets an answer, or an error; nobody waits for ever."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from samples import command

from windflower.adapters.memory.blobs import MemoryBlobs
from windflower.adapters.memory.events import EventList
from windflower.adapters.memory.fleet import MemoryFleetLink
from windflower.adapters.memory.journal import MemoryJournal
from windflower.core.policy import RoundPolicy
from windflower.errors import (
    BlobNotFound,
    ConfigError,
    GatewayUnavailable,
    LocalProtocolError,
    NotEnoughDevices,
    WindflowerError,
)
from windflower.gateway.desk import Desk
from windflower.gateway.feed import Feed
from windflower.gateway.fleet import Fleet, FleetPorts, SystemClock
from windflower.gateway.line import SocketLine
from windflower.gateway.line_server import LineServer
from windflower.gateway.models import Models
from windflower.gateway.request import RunRequest
from windflower.wire.blobs import BlobRef
from windflower.wire.sealing import Signer
from windflower.wire.values import Values

REF = BlobRef("0" * 64, 3)
REQUEST = RunRequest(
    "app", "/apps/app", REF, Values("configs", (("n", 1),)), 2**62, RoundPolicy(quorum=0.5)
)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[LineServer]:
    link, journal, blobs = MemoryFleetLink(), MemoryJournal(), MemoryBlobs(tmp_path)
    clock, feed = SystemClock(), Feed(EventList())
    ports = FleetPorts(link, link.replies, link.presence, blobs, journal, clock)
    fleet = Fleet(ports, signer=Signer(bytes(32)), feed=feed, broker="memory")
    await fleet.start()
    desk = Desk(fleet, journal=journal, blobs=blobs, clock=clock, feed=feed)
    models = Models(desk, fleet, journal=journal, blobs=blobs, clock=clock, feed=feed)
    served = LineServer(desk, models, feed, tmp_path / "line.sock")
    await served.start()
    yield served
    await served.stop()
    await fleet.stop()


async def line_to(tmp_path: Path) -> SocketLine:
    return await asyncio.to_thread(SocketLine, tmp_path / "line.sock")


@pytest.mark.usefixtures("server")
async def test_a_run_is_opened_read_and_ended(tmp_path: Path) -> None:
    line = await line_to(tmp_path)
    opened = await asyncio.to_thread(line.open_run, REQUEST)
    await asyncio.to_thread(
        line.end_run, opened.run, success=True, reason="done", result={"rounds": 1}
    )
    ended = await asyncio.to_thread(line.run, opened.run)
    line.close()

    assert (1, 1, 2**62, "open") == (opened.number, opened.epoch, opened.seed, opened.state)
    result = {"rounds": 1, "reason": "done", "replies": {"ok": 0, "failed": 0, "late": 0}}
    assert (REQUEST.config, "done", result) == (ended.config, ended.state, ended.result)
    assert REQUEST.policy == opened.policy


@pytest.mark.usefixtures("server")
async def test_a_request_that_is_made_twice_opens_one_run(tmp_path: Path) -> None:
    line = await line_to(tmp_path)
    request = replace(REQUEST, request="t")
    first = await asyncio.to_thread(line.open_run, request)
    again = await asyncio.to_thread(line.open_run, request)
    other = await asyncio.to_thread(line.open_run, replace(REQUEST, request="u"))
    line.close()

    assert first.run == again.run != other.run
    assert first.epoch < again.epoch


@pytest.mark.usefixtures("server")
async def test_a_run_that_is_over_asks_nobody_and_stays_as_it_ended(tmp_path: Path) -> None:
    line = await line_to(tmp_path)
    opened = await asyncio.to_thread(line.open_run, REQUEST)
    asked = command(run=opened.run)
    for success in (True, False):
        await asyncio.to_thread(
            line.end_run, opened.run, success=success, reason="x", result={"rounds": 1}
        )
    with pytest.raises(LocalProtocolError, match="is over"):
        await asyncio.to_thread(line.ask, opened.run, "phase", [asked], timeout_s=1)
    with pytest.raises(LocalProtocolError, match="is over"):
        await asyncio.to_thread(line.push, opened.run, [asked])
    ended = await asyncio.to_thread(line.run, opened.run)
    line.close()

    assert ("done", 1) == (ended.state, ended.result["rounds"])


@pytest.mark.usefixtures("server")
async def test_errors_cross_the_line_as_what_they_are(tmp_path: Path) -> None:
    line = await line_to(tmp_path)
    with pytest.raises(NotEnoughDevices, match="needs 2 devices, 0 online") as caught:
        await asyncio.to_thread(line.wait_for_devices, 2, timeout_s=0)
    with pytest.raises(BlobNotFound):
        await asyncio.to_thread(line.locate, "1-a", ["out/x"])
    with pytest.raises(ConfigError, match="there is no run nowhere"):
        await asyncio.to_thread(line.run, "nowhere")
    line.close()

    assert (0, 2) == (caught.value.have, caught.value.need)


@pytest.mark.usefixtures("server")
async def test_what_the_gateway_did_not_expect_is_answered_too(tmp_path: Path) -> None:
    line = await line_to(tmp_path)
    with pytest.raises(WindflowerError, match="could not do adopt: FileNotFoundError"):
        await asyncio.to_thread(line.adopt, tmp_path / "gone", REF)
    line.close()


async def test_a_gateway_that_goes_away_wakes_whoever_waits(
    server: LineServer, tmp_path: Path
) -> None:
    line = await line_to(tmp_path)
    waiting = asyncio.create_task(asyncio.to_thread(line.wait_for_devices, 1, timeout_s=60))
    await asyncio.to_thread(line.devices)
    await server.stop()
    with pytest.raises(GatewayUnavailable, match="the gateway went away"):
        await waiting
    line.close()


async def test_nobody_there(tmp_path: Path) -> None:
    with pytest.raises(GatewayUnavailable, match="no gateway answers"):
        await line_to(tmp_path)
