"""Whatever a hook does, whoever follows it goes on."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from starlette.applications import Starlette

from windflower.adapters.local.http_server import HttpServer
from windflower.core.events import Event, HookFailed
from windflower.observe.hooks import Hooks


async def once() -> AsyncIterator[dict[str, Any]]:
    yield {"event": "device-heard", "device": "d0"}
    yield {"event": "device-lost", "device": "d0"}


@pytest.mark.parametrize(
    ("hook", "name"),
    [
        ("", ""),
        ("   ", ""),
        ("'not closed", "'not"),
        ("no-such-program --token=secret", "no-such-program"),
        ("http://é..b/?secret", "http://é..b"),
        ("http://\x01/?secret", "http://\x01"),
        ("http://me:secret@127.0.0.1:1/?secret", "http://127.0.0.1:1"),
    ],
)
async def test_a_hook_that_cannot_be_told_is_said_once(hook: str, name: str) -> None:
    reported: list[Event] = []
    await Hooks([hook, hook], reported.append).follow(once())

    assert 2 == len(reported)
    first = reported[0]
    assert isinstance(first, HookFailed)
    assert first.hook == name
    assert first.reason
    assert "secret" not in first.hook + first.reason


async def test_a_program_that_does_not_end_is_ended() -> None:
    reported: list[Event] = []
    await Hooks(["sleep 60"], reported.append, patience_s=0.05).follow(once())

    assert [HookFailed(hook="sleep", reason="no end after 0.05 s")] == reported


async def test_an_address_that_refuses_is_named_without_its_path() -> None:
    """What the library that asks says of it would hold the whole address, written otherwise."""
    server = HttpServer(Starlette(), host="127.0.0.1", port=0)
    port = await server.start()
    reported: list[Event] = []
    await Hooks([f"http://127.0.0.1:{port}/ä secret"], reported.append).follow(once())
    await server.stop()

    assert [HookFailed(hook=f"http://127.0.0.1:{port}", reason="it answered 404")] == reported
