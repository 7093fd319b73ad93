"""Commands by HTTPS: many at a time, tried again where AWS throttles; a link that comes back."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import pytest
from cloud import REGION
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from windflower.adapters.aws.account import Account
from windflower.adapters.aws.commands import HttpsCommands
from windflower.adapters.local.http_server import HttpServer
from windflower.errors import BrokerRefused, BrokerUnavailable
from windflower.wire.topics import Topics


@dataclass
class Publishes:
    """What was published, and what the endpoint says to it."""

    got: list[tuple[str, str, str]] = field(default_factory=list)
    answer: Callable[[int], int] = lambda _: 200
    asked: int = 0
    at_once: int = 0
    most_at_once: int = 0
    gate: asyncio.Event | None = None
    is_full: asyncio.Event = field(default_factory=asyncio.Event)

    async def take(self, request: Request) -> Response:
        self.asked += 1
        status = self.answer(self.asked)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        if self.at_once == 64:
            self.is_full.set()
        if self.gate is not None:
            await self.gate.wait()
        self.at_once -= 1
        if status != 200:
            kind = "ThrottlingException" if status == 429 else "ForbiddenException"
            headers = {"x-amzn-ErrorType": kind}
            return JSONResponse({"message": kind}, status_code=status, headers=headers)
        query = request.query_params
        self.got.append((request.path_params["topic"], query["qos"], query["messageExpiry"]))
        return JSONResponse({})


@pytest.fixture
async def publishes(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Publishes]:
    publishes = Publishes()
    app = Starlette(routes=[Route("/topics/{topic:path}", publishes.take, methods=["POST"])])
    server = HttpServer(app, host="127.0.0.1", port=0)
    url = f"http://127.0.0.1:{await server.start()}"
    monkeypatch.setenv("AWS_ENDPOINT_URL_IOT_DATA_PLANE", url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    yield publishes
    await server.stop()


@pytest.fixture
def commands(publishes: Publishes) -> HttpsCommands:
    del publishes
    service = Account(REGION).service(
        "iot-data", unavailable=BrokerUnavailable, refused=BrokerRefused
    )
    return HttpsCommands(service, Topics())


async def test_a_command_is_for_one_device_and_expires(
    publishes: Publishes, commands: HttpsCommands
) -> None:
    await commands.open()
    await commands.send("d1", b"fit")
    await commands.tell("d2", b"ack")
    await commands.close()

    knock = ("commands/client/gateway/update", "0", "3600")
    assert [knock] == publishes.got[:1]
    assert {
        ("commands/client/d1/update", "1", "3600"),
        ("commands/client/d2/update", "0", "3600"),
    } == set(publishes.got[1:])


async def test_many_are_under_way_and_no_more_than_that(
    publishes: Publishes, commands: HttpsCommands
) -> None:
    await commands.open()
    publishes.gate = asyncio.Event()

    async def send_all() -> None:
        for number in range(150):
            await commands.send(f"d{number}", b"fit")

    sending = asyncio.create_task(send_all())
    async with asyncio.timeout(20):
        await publishes.is_full.wait()
    is_waiting = not sending.done()
    publishes.gate.set()
    await sending
    await commands.close()

    assert is_waiting
    assert 64 == publishes.most_at_once
    assert 151 == len(set(publishes.got))


async def test_what_is_throttled_is_tried_again_and_the_link_stays_up(
    publishes: Publishes, commands: HttpsCommands
) -> None:
    await commands.open()
    await commands.next_change()
    publishes.answer = lambda asked: 429 if asked in (2, 3) else 200
    await commands.send("d1", b"fit")
    await commands.close()

    assert 4 == publishes.asked
    assert "commands/client/d1/update" == publishes.got[-1][0]
    assert commands._changes.empty()


async def test_who_may_not_publish_is_told_so(
    publishes: Publishes, commands: HttpsCommands
) -> None:
    publishes.answer = lambda _: 403
    with pytest.raises(BrokerRefused):
        await commands.open()
    with pytest.raises(BrokerUnavailable):
        await commands.send("d1", b"fit")


async def test_a_link_that_is_lost_comes_back(
    publishes: Publishes, commands: HttpsCommands
) -> None:
    await commands.open()
    changes = [await commands.next_change()]
    publishes.answer = lambda asked: 403 if asked == 2 else 200
    await commands.send("d1", b"fit")
    async with asyncio.timeout(20):
        changes += [await commands.next_change(), await commands.next_change()]
    await commands.send("d1", b"fit")
    await commands.close()

    assert [True, False, True] == [change.is_up for change in changes]
    assert "commands/client/d1/update" == publishes.got[-1][0]


async def test_what_no_message_can_hold_is_not_published(
    publishes: Publishes, commands: HttpsCommands
) -> None:
    await commands.open()
    with pytest.raises(BrokerUnavailable):
        await commands.send("d1", bytes(128 * 1024 + 1))
    await commands.close()

    assert 1 == publishes.asked
