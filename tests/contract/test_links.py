"""Every place carries commands to devices, and replies and heartbeats back."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from aws.nucleus import TOKEN
from aws.nucleus import Nucleus as PlayedNucleus
from cloud import REGION, Cloud, stack
from processes import MOSQUITTO
from samples import command
from samples import reply as reply_to

from windflower.adapters.aws.commands import HttpsCommands
from windflower.adapters.aws.intake import PresenceIntake, ReplyIntake
from windflower.adapters.greengrass.device_link import GreengrassDeviceLink, Nucleus
from windflower.adapters.local.broker import LocalBroker
from windflower.adapters.local.device_link import MqttDeviceLink
from windflower.adapters.local.fleet_link import MqttFleetLink
from windflower.adapters.memory.fleet import MemoryFleetLink
from windflower.errors import BrokerRefused, BrokerUnavailable
from windflower.offline.iot_core import IotCore
from windflower.ports import Commands, Delivery, Intake, Link, LinkUp, Received
from windflower.wire.messages import Heartbeat
from windflower.wire.topics import Ingest, Topics

BEAT = Heartbeat("d1", 1.0, "boot", "connect", 60.0).to_bytes()


def answer(number: int) -> bytes:
    """Return a reply: a place with rules reads what it carries."""
    return reply_to(command(number), number=number).to_bytes()


@dataclass
class Place:
    commands: Commands
    replies: Intake
    presence: Intake
    device: Callable[[str], Link]
    keeps_order: bool = True


def memory(shape: str) -> Place:
    fleet = MemoryFleetLink("table" if shape == "table" else "push")
    return Place(fleet, fleet.replies, fleet.presence, fleet.device)


async def on_aws(
    cloud: Cloud, folder: Path, url: str, monkeypatch: pytest.MonkeyPatch, *, by_nucleus: bool
) -> AsyncIterator[Place]:
    failed: list[tuple[str, str]] = []
    core = IotCore(
        folder,
        stack(),
        tables_url=url,
        region=REGION,
        report=lambda rule, problem: failed.append((rule, problem)),
    )
    await core.start()
    monkeypatch.setenv("AWS_ENDPOINT_URL_IOT_DATA_PLANE", core.url)
    publisher = cloud.account.service(
        "iot-data", unavailable=BrokerUnavailable, refused=BrokerRefused
    )
    commands = HttpsCommands(publisher, Topics())
    replies = ReplyIntake(cloud.tables(), cloud.names.responses)
    presence = PresenceIntake(cloud.tables(), cloud.names.presences)

    nuclei: list[PlayedNucleus] = []

    def device(device: str) -> Link:
        core.broker.authority.issue(device)
        address = core.broker.address(device)
        ingest = Ingest("windflower_heartbeat", "windflower_response")
        if by_nucleus:
            socket = folder / f"{device}.socket"
            nuclei.append(PlayedNucleus(socket, address, device))
            nucleus = Nucleus(str(socket), TOKEN)
            return GreengrassDeviceLink(nucleus, device, topics=Topics(), ingest=ingest)
        will = Heartbeat(device, 1.0, "boot", "gone", 60.0)
        return MqttDeviceLink(address, last_will=will, ingest=ingest)

    yield Place(commands, replies, presence, device, keeps_order=False)
    for nucleus in nuclei:
        await nucleus.stop()
    await commands.close()
    await replies.close()
    await core.stop()
    assert [] == failed


@pytest.fixture(params=["memory", "memory table", "local", "local iotcore", "aws", "greengrass"])
async def place(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Place]:
    is_on_aws = request.param in ("aws", "greengrass")
    if (request.param == "local" or is_on_aws) and MOSQUITTO is None:
        pytest.skip("mosquitto is not installed")
    if is_on_aws:
        cloud: Cloud = request.getfixturevalue("tables")
        url: str = request.getfixturevalue("moto_url")
        by_nucleus = request.param == "greengrass"
        async for found in on_aws(cloud, tmp_path, url, monkeypatch, by_nucleus=by_nucleus):
            yield found
        return
    if request.param.startswith("memory"):
        yield memory(request.param.partition(" ")[2])
        return
    if request.param == "local iotcore":
        monkeypatch.setattr("shutil.which", lambda *_, **__: None)
    broker = LocalBroker(tmp_path)
    address = replace(await broker.start(), topic_prefix="site-1")
    fleet = MqttFleetLink(address, fleet="test")

    def device(device: str) -> Link:
        will = Heartbeat(device, 1.0, "boot", "gone", 60.0)
        return MqttDeviceLink(address, last_will=will)

    yield Place(fleet, fleet.replies, fleet.presence, device)
    await fleet.close()
    await broker.stop()


async def connected(place: Place, device: str = "d1") -> Link:
    link = place.device(device)
    async with asyncio.timeout(10):
        assert LinkUp() == await link.next()
    return link


async def taken(intake: Intake) -> list[Delivery]:
    async with asyncio.timeout(10):
        deliveries = list(await intake.take())
    for delivery in deliveries:
        await delivery.done()
    return deliveries


async def received(link: Link) -> bytes:
    async with asyncio.timeout(10):
        got = await link.next()
    assert isinstance(got, Received)
    got.done()
    return got.body


async def test_the_link_says_that_it_is_up(place: Place) -> None:
    await place.commands.open()
    async with asyncio.timeout(10):
        change = await place.commands.next_change()

    assert change.is_up


async def test_a_command_reaches_its_device_and_no_other(place: Place) -> None:
    await place.commands.open()
    first, second = await connected(place, "d1"), await connected(place, "d2")
    await place.commands.send("d1", b"for d1")
    await place.commands.send("d2", b"for d2")

    assert b"for d1" == await received(first)
    assert b"for d2" == await received(second)
    await first.close()
    await second.close()


async def test_replies_and_heartbeats_arrive_apart_with_their_sender(place: Place) -> None:
    await place.commands.open()
    link = await connected(place)
    link.answer("fit", answer(1))
    link.answer("query", answer(2))
    link.beat(BEAT)
    replies: list[Delivery] = []
    while len(replies) < 2:
        replies += await taken(place.replies)

    assert {("d1", answer(1)), ("d1", answer(2))} == {(d.device, d.body) for d in replies}
    assert [("d1", BEAT, False)] == [
        (d.device, d.body, d.is_kept) for d in await taken(place.presence)
    ]
    await link.close()


async def test_many_messages_arrive_once_each_and_in_order_where_there_is_one(
    place: Place,
) -> None:
    await place.commands.open()
    link = await connected(place)
    said = [answer(number) for number in range(200)]
    for body in said:
        link.answer("fit", body)
    got: list[bytes] = []
    while len(got) < 200:
        got += [d.body for d in await taken(place.replies)]

    assert said == got if place.keeps_order else sorted(said) == sorted(got)
    await link.close()


async def test_sending_without_a_link_is_an_error(place: Place) -> None:
    with pytest.raises(BrokerUnavailable):
        await place.commands.send("d1", b"x")


async def test_a_table_gives_a_row_again_until_it_is_removed() -> None:
    place = memory("table")
    await place.commands.open()
    link = await connected(place)
    link.answer("fit", b"row")
    first = await place.replies.take()
    second = await place.replies.take()
    await second[0].done()
    link.answer("fit", b"next")
    third = await place.replies.take()

    assert [b"row"] == [d.body for d in first] == [d.body for d in second]
    assert [b"next"] == [d.body for d in third]


@pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed")
async def test_a_gateway_that_comes_later_learns_the_name_of_a_device(tmp_path: Path) -> None:
    broker = LocalBroker(tmp_path)
    address = await broker.start()
    will = Heartbeat("d1", 1.0, "boot", "gone", 60.0)
    link = MqttDeviceLink(address, last_will=will)
    await link.next()
    link.beat(BEAT)
    await link.close()
    fleet = MqttFleetLink(address, fleet="late")
    await fleet.open()

    assert [("d1", True)] == [(d.device, d.is_kept) for d in await taken(fleet.presence)]
    await fleet.close()
    await broker.stop()
