"""The gateway that a job uses: the one that runs on the state folder, else one of its own."""

import asyncio
import json
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from windflower import errors
from windflower.adapters.local.process import end, start
from windflower.errors import GatewayUnavailable, WindflowerError
from windflower.gateway.line import SocketLine

START_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class GatewayCard:
    """What a running gateway says of itself.

    Attributes:
        socket: where it takes calls.
        broker: the broker's address.
        broker_name: mosquitto or iotcore where it is the gateway's own, else external.
        key: its public key, which devices pin.
    """

    socket: Path
    broker: str
    broker_name: str
    key: str

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> "GatewayCard":
        """Read what a gateway printed or left in its state folder."""
        return cls(Path(fields["socket"]), fields["broker"], fields["broker-name"], fields["key"])


@dataclass(frozen=True, slots=True)
class Gateway:
    """A gateway to work with.

    Attributes:
        card: what it says of itself.
        line: calls it.
        is_ours: whether it was started for this job.
    """

    card: GatewayCard
    line: SocketLine
    is_ours: bool


@asynccontextmanager
async def gateway_for(state: Path, broker: str | None) -> AsyncIterator[Gateway]:
    """Yield the gateway of a state folder, or one that lives as long as the block.

    Args:
        state: the state folder.
        broker: what a gateway that is started here connects to; None starts a broker too.

    Raises:
        WindflowerError: whatever stopped the new gateway from starting.
    """
    running = _running(state)
    if running is not None:
        card, line = running
        try:
            yield Gateway(card, line, is_ours=False)
        finally:
            line.close()
        return
    command = (sys.executable, "-m", "windflower.cli.main", "serve", "--state", str(state))
    state.mkdir(parents=True, exist_ok=True, mode=0o700)
    # Not as an argument: whoever lists processes would read the broker's password.
    environment = {**os.environ, **({"WINDFLOWER_BROKER": broker} if broker else {})}
    with (state / "gateway.log").open("ab") as log:
        process = await start(
            *command,
            *("--format", "json"),
            stdin=DEVNULL,
            stdout=PIPE,
            stderr=log,
            env=environment,
        )
    try:
        card = await _card(process)
        line = SocketLine(card.socket)
        try:
            yield Gateway(card, line, is_ours=True)
        finally:
            line.close()
    finally:
        await end(process)


def _running(state: Path) -> tuple[GatewayCard, SocketLine] | None:
    try:
        card = GatewayCard.from_json(json.loads((state / "gateway.json").read_text()))
        return card, SocketLine(card.socket)
    except (OSError, ValueError, KeyError, GatewayUnavailable):
        return None  # none runs, or one was killed and left its card


async def _card(process: asyncio.subprocess.Process) -> GatewayCard:
    """Read the line that a gateway prints once it serves, or why it does not."""
    assert process.stdout is not None  # noqa: S101 - PIPE was asked for
    try:
        async with asyncio.timeout(START_S):
            text = await process.stdout.readline()
    except TimeoutError:
        raise GatewayUnavailable(f"the gateway did not start within {START_S:.0f} s") from None
    try:
        fields = json.loads(text)
    except ValueError:
        raise GatewayUnavailable("the gateway ended before it served: see gateway.log") from None
    if not fields.get("success"):
        kind = getattr(errors, fields.get("error-type", ""), WindflowerError)
        raise kind(fields.get("error-message", "the gateway did not start"))
    return GatewayCard.from_json(fields)
