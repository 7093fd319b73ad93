"""What a gateway shows over HTTP: numbers for Prometheus, and what is under way.

On loopback everybody on this machine may look. Elsewhere a token is asked for. Nothing can be
changed from here.
"""

import asyncio
import hmac
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, Final

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from windflower.core.roster import Presence
from windflower.observe.board import Board
from windflower.observe.metrics import Metrics

Answer = Callable[[Request], Awaitable[Response]]

PAUSE_S: Final = 0.25
"""A watcher is told at most so often: whatever came meanwhile is in the next summary."""

ALIVE_S: Final = 15.0
"""A watcher is sent something after so long at the latest, or proxies hang up."""

PAGE: Final = 100
"""So many devices are listed at a time, unless fewer are asked for."""

_STATES: Final = {"online": True, "offline": False}


class Looking:
    """Answers those who look.

    Args:
        roster: returns what is known of each device, the one that was heard last first.
        now: the gateway's clock.
        version: of windflower.
        token: who asks has to know it (`Authorization: Bearer TOKEN`); None asks for none.

    Attributes:
        sinks: where every event has to go, so that there is something to see.
    """

    def __init__(
        self,
        roster: Callable[[], Sequence[Presence]],
        now: Callable[[], float],
        *,
        version: str,
        token: str | None,
    ) -> None:
        self._board = Board()
        self._metrics = Metrics(roster, now, version=version)
        self.sinks = (self._board, self._metrics)
        self._roster = roster
        self._now = now
        self._token = token

    def application(self) -> Starlette:
        """Return the application."""
        answers: dict[str, Answer] = {
            "/metrics": self._numbers,
            "/api/v1/summary": self._summary,
            "/api/v1/stream": self._stream,
            "/api/v1/devices": self._devices,
            "/api/v1/runs/{run}": self._run,
            "/api/v1/runs/{run}/phases/{phase:int}": self._timeline,
        }
        return Starlette(routes=[Route(path, self._guarded(a)) for path, a in answers.items()])

    def _guarded(self, answer: Answer) -> Answer:
        async def guarded(request: Request) -> Response:
            given = request.headers.get("authorization", "").removeprefix("Bearer ")
            wanted = self._token
            if wanted is not None and not hmac.compare_digest(given.encode(), wanted.encode()):
                return PlainTextResponse("a token is needed: Authorization: Bearer TOKEN\n", 401)
            return await answer(request)

        return guarded

    async def _numbers(self, request: Request) -> Response:
        del request
        return Response(self._metrics.text(), media_type=CONTENT_TYPE_LATEST)

    async def _summary(self, request: Request) -> Response:
        del request
        return JSONResponse(self._now_shown())

    async def _stream(self, request: Request) -> Response:
        """Send the summary whenever it changed (server-sent events); who was cut off goes on."""
        last = request.headers.get("last-event-id", "")
        seen = int(last) if last.isdecimal() else -1
        headers = {"cache-control": "no-store"}
        return StreamingResponse(self._told(seen), media_type="text/event-stream", headers=headers)

    async def _told(self, seen: int) -> AsyncIterator[str]:
        silent_s = 0.0
        while True:
            if self._board.seq != seen:
                seen, silent_s = self._board.seq, 0.0
                yield f"id: {seen}\ndata: {json.dumps(self._now_shown())}\n\n"
            elif silent_s >= ALIVE_S:
                silent_s = 0.0
                yield ": alive\n\n"
            await asyncio.sleep(PAUSE_S)
            silent_s += PAUSE_S

    async def _devices(self, request: Request) -> Response:
        """List devices: `state` online or offline, `search` in the id, `offset`, `limit`."""
        asked = request.query_params
        wanted, search = _STATES.get(asked.get("state", "")), asked.get("search", "")
        found = [
            presence
            for presence in self._roster()
            if wanted in (None, presence.is_online) and search in presence.device
        ]
        offset = _whole(asked.get("offset"), 0)
        limit = min(_whole(asked.get("limit"), PAGE), PAGE)
        shown = [_device(presence) for presence in found[offset : offset + limit]]
        return JSONResponse({"devices": shown, "count": len(found), "offset": offset})

    async def _run(self, request: Request) -> Response:
        return _found(self._board.run(request.path_params["run"]), "no such run")

    async def _timeline(self, request: Request) -> Response:
        asked = request.path_params
        exchanges = self._board.timeline(asked["run"], asked["phase"])
        found = None if exchanges is None else {"exchanges": exchanges}
        return _found(found, "no such phase, or one that is too long ago")

    def _now_shown(self) -> dict[str, Any]:
        return self._board.summary(self._roster(), self._now())


def _found(value: dict[str, Any] | None, otherwise: str) -> Response:
    return PlainTextResponse(f"{otherwise}\n", 404) if value is None else JSONResponse(value)


def _whole(text: str | None, otherwise: int) -> int:
    return int(text) if text is not None and text.isdecimal() else otherwise


def _device(presence: Presence) -> dict[str, Any]:
    return {
        "device": presence.device,
        "online": presence.is_online,
        "heard_at": presence.heard_at,
        "interval_s": presence.interval_s,
        "labels": presence.labels,
        "model": presence.model,
    }
