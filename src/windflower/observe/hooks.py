"""Tells somebody else when a run is over or a device is lost: a program, a web address, or both.

A hook is told the event as JSON. It cannot hold the gateway up: it has so many seconds, and a hook
that fails is said and not tried again.
"""

import asyncio
import json
import shlex
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterable, Callable, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

import httpx

from windflower.core.events import Event, HookFailed

TOLD: Final = ("run-ended", "run-suspended", "device-lost")

PATIENCE_S: Final = 10.0


class Hooks:
    """Follows events.

    Args:
        hooks: web addresses, where the event is POSTed, and programs, as a shell would read them,
            which find it on their standard input.
        report: takes what went wrong.
        patience_s: so long each may take.
    """

    def __init__(
        self,
        hooks: Sequence[str],
        report: Callable[[Event], None],
        *,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._hooks = hooks
        self._report = report
        self._patience_s = patience_s

    async def follow(self, events: AsyncIterable[dict[str, Any]]) -> None:
        """Tell of events, one after the other, until cancelled."""
        async for event in events:
            if event["event"] in TOLD:
                body = json.dumps(event).encode()
                for hook in self._hooks:
                    await self._tell(hook, body)

    async def _tell(self, hook: str, body: bytes) -> None:
        """Tell one hook; say what went wrong, without what may be secret in the hook."""
        is_address = hook.startswith(("http://", "https://"))
        name = _place(hook) if is_address else hook.split(" ", 1)[0]
        try:
            async with asyncio.timeout(self._patience_s):
                await (self._post if is_address else self._run)(hook, body)
        except TimeoutError:
            self._report(HookFailed(hook=name, reason=f"no end after {self._patience_s:g} s"))
        except Exception as error:  # noqa: BLE001 - whatever a hook does, the gateway goes on
            reason = (str(error) or type(error).__name__).splitlines()[0]
            self._report(HookFailed(hook=name, reason=reason.replace(hook, name)))

    async def _run(self, command: str, body: bytes) -> None:
        process = await asyncio.create_subprocess_exec(
            *shlex.split(command), stdin=PIPE, stdout=DEVNULL, stderr=PIPE
        )
        try:
            _, said = await process.communicate(body + b"\n")
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode:
            last = said.decode(errors="replace").strip().splitlines()[-1:]
            raise OSError(": ".join([f"exit code {process.returncode}", *last]))

    async def _post(self, url: str, body: bytes) -> None:
        headers = {"content-type": "application/json"}
        async with httpx.AsyncClient(timeout=self._patience_s) as client:
            answer = await client.post(url, content=body, headers=headers)
        if not answer.is_success:  # httpx's own error would name the whole URL
            raise OSError(f"it answered {answer.status_code}")


def _place(url: str) -> str:
    """Return where a URL leads, without what may be secret in it."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
