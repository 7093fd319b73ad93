"""What a gateway shows over HTTP: a page, numbers for Prometheus, and what is under way as JSON.

On loopback everybody on this machine may look. Elsewhere a token is asked for: in a header, or, for
a browser, once in the address, after which a cookie has it. Nothing can be changed from here.
"""

import asyncio
import hmac
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from importlib.resources import files
from typing import Any, Final

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import (
    JSONResponse,
    PlainTextResponse,
    RedirectResponse,
    Response,
    StreamingResponse,
)
from starlette.routing import Route

from windflower.core.roster import Presence
from windflower.observe.board import Board, Price
from windflower.observe.metrics import Metrics

Answer = Callable[[Request], Awaitable[Response]]

PAUSE_S: Final = 0.25
"""A watcher is told at most so often: whatever came meanwhile is in the next message."""

ALIVE_S: Final = 15.0
"""A watcher is sent something after so long at the latest, or proxies hang up."""

ROWS: Final = 100
"""So many devices, or exchanges, are listed at a time, unless fewer are asked for."""

LOOPBACK: Final = frozenset(("127.0.0.1", "::1", "localhost"))

COOKIE: Final = "windflower-page"
"""Its name goes on with the port: two gateways of one host have two tokens."""

_DIGITS: Final = 18

_STATES: Final[dict[str, Callable[[Presence, Board], bool]]] = {
    "online": lambda presence, _: presence.is_online,
    "offline": lambda presence, _: not presence.is_online,
    "asked": lambda presence, board: board.is_asked(presence.device),
    "failed": lambda presence, board: board.failed_at(presence.device) is not None,
}
"""Which devices may be asked for: who is there, who has something to do, whose error is known."""

_TYPES: Final = {
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "svg": "image/svg+xml",
}

_SAFE: Final = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self';"
    " img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none';"
    " frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}


class Looking:
    """Answers those who look.

    Args:
        roster: returns what is known of each device, the one that was heard last first.
        now: the gateway's clock.
        version: of windflower.
        token: who asks has to know it (`Authorization: Bearer TOKEN`); None asks for none, and
            answers only those who call this machine by a name of its own.
        price: what traffic costs.

    Attributes:
        board: what is shown; also one of the sinks.
        sinks: where every event has to go, so that there is something to see.
    """

    def __init__(
        self,
        roster: Callable[[], Sequence[Presence]],
        now: Callable[[], float],
        *,
        version: str,
        token: str | None,
        price: Price | None = None,
    ) -> None:
        self.board = Board(price)
        # A watcher that comes back names what it saw last, perhaps of this gateway's earlier life.
        self.board.seq = int(now() * 1000)
        self._metrics = Metrics(roster, now, version=version)
        self.sinks = (self.board, self._metrics)
        self._roster = roster
        self._now = now
        self._token = token
        self._shown: dict[str, Any] = {}
        self._is_over = False

    def end(self) -> None:
        """Hang up on those who watch, so that nobody waits for them to go."""
        self._is_over = True

    def application(self) -> Starlette:
        """Return the application."""
        answers: dict[str, Answer] = {
            "/": self._page,
            "/page/{name}": self._file,
            "/metrics": self._numbers,
            "/api/v1/summary": self._summary,
            "/api/v1/stream": self._stream,
            "/api/v1/devices": self._devices,
            "/api/v1/devices/{device}": self._device,
            "/api/v1/runs/{run}": self._run,
            "/api/v1/runs/{run}/phases/{phase}": self._timeline,
        }
        return Starlette(routes=[Route(path, self._guarded(a)) for path, a in answers.items()])

    # -------------------------------------------------------------------------- who may look

    def _guarded(self, answer: Answer) -> Answer:
        async def guarded(request: Request) -> Response:
            if self._token is None:
                # A page of elsewhere may name its own host with our address (DNS rebinding).
                known = (request.url.hostname or "") in LOOPBACK
                return await answer(request) if known else _plain("ask 127.0.0.1", 421)
            header = request.headers.get("authorization", "").removeprefix("Bearer ")
            if any(self._is_token(t) for t in (header, request.cookies.get(_cookie(request), ""))):
                return await answer(request)
            if request.url.path == "/" and self._is_token(request.query_params.get("token", "")):
                return _remembering(_cookie(request), self._token)
            return _plain(
                "a token is needed: Authorization: Bearer TOKEN, or /?token=TOKEN in a browser", 401
            )

        return guarded

    def _is_token(self, given: str) -> bool:
        wanted = self._token or ""
        return hmac.compare_digest(given.encode(), wanted.encode())

    # -------------------------------------------------------------------------------- answers

    async def _page(self, request: Request) -> Response:
        del request
        return _page_file("index.html")

    async def _file(self, request: Request) -> Response:
        return _page_file(request.path_params["name"])

    async def _numbers(self, request: Request) -> Response:
        del request
        return Response(self._metrics.text(), media_type=CONTENT_TYPE_LATEST)

    async def _summary(self, request: Request) -> Response:
        del request
        return JSONResponse(self._now_shown())

    async def _stream(self, request: Request) -> Response:
        """Send the summary, then what changes in it (server-sent events).

        Who comes back with a `Last-Event-ID` that is the latest is sent nothing until there is
        news; then everything, since it is not known what was seen.
        """
        last = request.headers.get("last-event-id", "")
        seen = _whole(last, -1)
        headers = {"cache-control": "no-store"}
        return StreamingResponse(self._told(seen), media_type="text/event-stream", headers=headers)

    async def _told(self, seen: int) -> AsyncIterator[str]:
        silent_s, before = 0.0, dict[str, Any]()
        while not self._is_over:
            if self.board.seq != seen:
                shown = self._now_shown()
                changes = _changes(before, shown)
                seen, silent_s, before = shown["seq"], 0.0, shown
                yield f"id: {seen}\ndata: {json.dumps(changes)}\n\n"
            elif silent_s >= ALIVE_S:
                silent_s = 0.0
                yield ": alive\n\n"
            await asyncio.sleep(PAUSE_S)
            silent_s += PAUSE_S

    async def _devices(self, request: Request) -> Response:
        """List devices: `state` as in _STATES, `search` in the id, `offset`, `limit`."""
        asked = request.query_params
        is_wanted, search = _STATES.get(asked.get("state", "")), asked.get("search", "").lower()
        found = [
            presence
            for presence in self._roster()
            if search in presence.device.lower()
            and (is_wanted is None or is_wanted(presence, self.board))
        ]
        if asked.get("sort") == "device":
            found.sort(key=lambda presence: presence.device)
        shown = _part(request)
        return JSONResponse(
            {
                "devices": [self._row(presence) for presence in found[shown]],
                "count": len(found),
                "offset": shown.start,
                "now": self._now(),
            }
        )

    def _row(self, presence: Presence) -> dict[str, Any]:
        device = presence.device
        asked, failed_at = self.board.latest(device), self.board.failed_at(device)
        return {**_presence(presence), "latest": asked, "failed_at": failed_at}

    async def _device(self, request: Request) -> Response:
        device, now = request.path_params["device"], self._now()
        presence = next((p for p in self._roster() if p.device == device), None)
        if presence is None:
            return _plain("no such device", 404)
        return JSONResponse({**_presence(presence), **self.board.device(device, now), "now": now})

    async def _run(self, request: Request) -> Response:
        """Tell of a run; `phases_from` and `measured_after` leave out what is known already."""
        asked = request.query_params
        found = self.board.run(
            request.path_params["run"],
            phases_from=_whole(asked.get("phases_from"), 0),
            measured_after=_seconds(asked.get("measured_after")),
        )
        return _found(found, "no such run")

    async def _timeline(self, request: Request) -> Response:
        """Tell what devices did in a phase: `search` in the id, `offset`, `limit`."""
        asked, now = request.path_params, self._now()
        search, shown = request.query_params.get("search", "").lower(), _part(request)
        number = _whole(asked["phase"], -1)
        found = self.board.timeline(asked["run"], number, now, search=search, shown=shown)
        if found is None:
            return _plain("no such phase, or one that is too long ago", 404)
        return JSONResponse({**found, "now": now, "offset": shown.start})

    def _now_shown(self) -> dict[str, Any]:
        """Return the summary, made once for all who watch: of 10,000 devices it takes a while."""
        now = self._now()
        if self._shown.get("seq") != self.board.seq:
            self._shown = self.board.summary(self._roster(), now)
        return {**self._shown, "now": now}


def _changes(before: dict[str, Any], shown: dict[str, Any]) -> dict[str, Any]:
    """Return what is new in a summary; of its runs, those that changed."""
    changed = {
        key: value for key, value in shown.items() if key not in before or before[key] != value
    }
    if "runs" in changed:
        known = before.get("runs", {})
        changed["runs"] = {r: row for r, row in shown["runs"].items() if known.get(r) != row}
        changed["gone"] = [run for run in known if run not in shown["runs"]]
    return changed


def _part(request: Request) -> slice:
    """Return which part of a list is asked for."""
    asked = request.query_params
    offset = _whole(asked.get("offset"), 0)
    return slice(offset, offset + min(_whole(asked.get("limit"), ROWS), ROWS))


def _page_file(name: str) -> Response:
    found = {path.name: path for path in files("windflower.observe").joinpath("page").iterdir()}
    if name not in found:
        return _plain("no such file", 404)
    kind = _TYPES[name.rpartition(".")[2]]
    return Response(found[name].read_bytes(), headers=_SAFE, media_type=kind)


def _cookie(request: Request) -> str:
    return f"{COOKIE}-{request.url.port or 0}"


def _remembering(cookie: str, token: str) -> Response:
    """Let a browser keep the token, and show it no longer in the address.

    Lax: who follows a link from another page has to find the cookie. Nothing is changed by a GET.
    """
    answer = RedirectResponse("/", 303)
    answer.set_cookie(cookie, token, httponly=True, samesite="lax")
    return answer


def _plain(text: str, status: int) -> Response:
    return PlainTextResponse(f"{text}\n", status)


def _found(value: dict[str, Any] | None, otherwise: str) -> Response:
    return _plain(otherwise, 404) if value is None else JSONResponse(value)


def _whole(text: str | None, otherwise: int) -> int:
    """Return a number that a stranger wrote; one of many digits would take long to read."""
    is_number = text is not None and text.isdecimal() and len(text) <= _DIGITS
    return int(text) if text is not None and is_number else otherwise


def _seconds(text: str | None) -> float:
    try:
        return float(text or 0.0)
    except ValueError:
        return 0.0


def _presence(presence: Presence) -> dict[str, Any]:
    return {
        "device": presence.device,
        "online": presence.is_online,
        "heard_at": presence.heard_at,
        "interval_s": presence.interval_s,
        "labels": presence.labels,
        "model": presence.model,
        "agent": presence.agent,
    }
