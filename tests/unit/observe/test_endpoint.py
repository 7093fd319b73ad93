"""What is shown over HTTP ends when its gateway does, and shows what is asked for."""

import asyncio
from collections.abc import Sequence
from typing import Any

import httpx

from windflower.adapters.local.http_server import HttpServer
from windflower.core.events import PhaseOpened
from windflower.core.roster import Presence
from windflower.observe.endpoint import Looking

RUN = {"run": "1-a"}


def looking_at(devices: int, roster: Sequence[Presence] = ()) -> Looking:
    looking = Looking(lambda: roster, lambda: 9.0, version="0", token=None)
    opened = PhaseOpened(run="1-a", phase=1, type="train", round=1, devices=devices, timeout_s=None)
    looking.board.write({"at": 1.0, **opened.to_json()})
    for number in range(devices):
        asked = {"device": f"D{number}", "command": f"c{number}", "method": "fit", "again": False}
        looking.board.write({"event": "command-sent", "at": 2.0 + number, **RUN, **asked})
    return looking


async def asked(looking: Looking, path: str) -> dict[str, Any]:
    transport = httpx.ASGITransport(looking.application())
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        return dict((await client.get(path)).json())


async def test_who_watches_is_told_that_it_is_over() -> None:
    """A stream that is cut off would make the gateway wait for it, and its watcher complain."""
    looking = looking_at(1)
    server = HttpServer(looking.application(), host="127.0.0.1", port=0)
    port = await server.start()
    async with (
        httpx.AsyncClient() as client,
        client.stream("GET", f"http://127.0.0.1:{port}/api/v1/stream") as stream,
    ):
        lines = stream.aiter_lines()
        first = await anext(lines)
        looking.end()
        rest = [line async for line in lines]
    async with asyncio.timeout(10):
        await server.stop()

    assert first.startswith("id: ")
    assert rest[0].startswith("data: ")
    assert "" == rest[-1]


async def test_a_part_of_a_timeline_is_shown_the_slowest_first() -> None:
    path = "/api/v1/runs/1-a/phases/1"
    told = await asked(looking_at(30), f"{path}?search=d1&offset=2&limit=3")

    assert ["D11", "D12", "D13"] == [exchange["device"] for exchange in told["exchanges"]]
    assert (11, 2, 9.0) == (told["count"], told["offset"], told["now"])


async def test_devices_are_listed_by_what_they_were_asked_last() -> None:
    roster = [Presence(f"D{n}", 1.0, "b", 1.0, 9.0, n != 3, {}) for n in range(5)]
    looking = looking_at(4, roster)
    for number, kind in enumerate(("reply-accepted", "reply-failed", "reply-missing")):
        about = {**RUN, "device": f"D{number}", "command": f"c{number}", "method": "fit"}
        looking.board.write({"event": kind, "at": 7.0, **about, "reason": "told to"})
    states = ("", "online", "offline", "asked", "failed")
    listed = [await asked(looking, f"/api/v1/devices?state={state}") for state in states]

    assert ["01234", "0124", "3", "3", "1"] == [
        "".join(row["device"].removeprefix("D") for row in told["devices"]) for told in listed
    ]
    assert "ok" == listed[0]["devices"][0]["latest"]["outcome"]
    assert (None, None) == tuple(listed[0]["devices"][4][key] for key in ("latest", "failed_at"))
    assert [7.0] == [row["failed_at"] for row in listed[-1]["devices"]]
