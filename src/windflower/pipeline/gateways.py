"""The gateway that a job uses: the one that runs on the state folder, else one of its own."""

import asyncio
import json
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from windflower import errors
from windflower.adapters.local.access import BROKER_VARIABLE, Access
from windflower.adapters.local.files import make_private, open_log
from windflower.adapters.local.process import end, start
from windflower.errors import GatewayUnavailable, WindflowerError
from windflower.gateway.line import SocketLine

START_S: Final = 30.0

RETURN_S: Final = 60.0
"""For so long a gateway that somebody else keeps is waited for when it went away."""

_LOOK_S: Final = 0.2


@dataclass(frozen=True, slots=True)
class GatewayCard:
    """What a running gateway says of itself.

    Attributes:
        socket: where it takes calls.
        pid: its process.
        broker: the broker's address.
        broker_name: mosquitto or iotcore where it is the gateway's own, else external.
        broker_pid: the process of its own broker, if it has one.
        key: its public key, which devices pin.
        is_private: whether it was started for one run, and ends with it.
        inline_bytes: a pack that is larger is not to stand in a command.
        page: the address of its page.
    """

    socket: Path
    pid: int
    broker: str
    broker_name: str
    broker_pid: int | None
    key: str
    is_private: bool
    inline_bytes: int
    page: str | None = None

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> "GatewayCard":
        """Read what a gateway printed or left in its state folder."""
        return cls(
            Path(fields["socket"]),
            fields["pid"],
            fields["broker"],
            fields["broker-name"],
            fields["broker-pid"],
            fields["key"],
            fields["private"],
            fields["inline-bytes"],
            fields.get("page"),
        )


class Gateway:
    """A gateway to work with.

    Args:
        state: the state folder.
        broker: what a gateway that is started here connects to; None starts a broker too.
        environment: what else it finds in its environment.
        card: what it says of itself.
        line: calls it.
        process: the gateway, where it was started here.
    """

    def __init__(
        self,
        state: Path,
        broker: str | None,
        environment: dict[str, str],
        *,
        card: GatewayCard,
        line: SocketLine,
        process: Process | None,
    ) -> None:
        self._state = state
        self._broker = broker
        self._environment = environment
        self._process = process
        self.card = card
        self.line = line

    @property
    def is_ours(self) -> bool:
        """Whether it was started for this job."""
        return self._process is not None

    def access(self) -> Access:
        """Return how it gets into its broker, for devices that are played beside it.

        Raises:
            GatewayUnavailable: it has just gone away.
        """
        try:
            return Access.read(self._state / "access.json")
        except OSError as error:
            raise GatewayUnavailable(f"the gateway of {self._state} went away") from error

    @property
    def is_waited_for(self) -> bool:
        """Whether somebody else has to start it again if it goes away."""
        return self._process is None and not self.card.is_private

    async def renew(self) -> None:
        """Find the gateway again that went away: start ours anew, wait for anybody else's.

        Raises:
            GatewayUnavailable: it did not come back.
        """
        self.line.close()
        if self.is_waited_for:
            self.card, self.line = await _until_back(self._state)
            return
        if self._process is not None:
            await end(self._process)
        self._process = await _start(self._state, self._broker, self._environment)
        self.card = await _card(self._process)
        self.line = SocketLine(self.card.socket)

    async def close(self) -> None:
        """Hang up, and end the gateway if it is ours."""
        self.line.close()
        if self._process is not None:
            await end(self._process)


@asynccontextmanager
async def gateway_for(
    state: Path,
    broker: str | None,
    show: Callable[[dict[str, Any]], None],
    environment: dict[str, str] | None = None,
) -> AsyncIterator[Gateway]:
    """Yield the gateway of a state folder, or one that lives as long as the block.

    Args:
        state: the state folder.
        broker: what a gateway that is started here connects to; None starts a broker too.
        show: told what is waited for.
        environment: what else a gateway that is started here finds in its environment.

    Raises:
        GatewayUnavailable: the folder is that of a gateway which was killed, and is not back.
        WindflowerError: whatever stopped the new gateway from starting.
    """
    gateway = await _find(state, broker, show, environment or {})
    try:
        yield gateway
    finally:
        await gateway.close()


async def _find(
    state: Path,
    broker: str | None,
    show: Callable[[dict[str, Any]], None],
    environment: dict[str, str],
) -> Gateway:
    left = _left_card(state)
    if left is not None:
        running = _running(state)
        if running is None and not left.is_private:
            # Not to be taken for nobody's: a fleet waits at that gateway's broker.
            show({"event": "waiting-for-gateway", "state": str(state), "timeout-s": RETURN_S})
            running = await _until_back(state)
        if running is not None:
            card, line = running
            return Gateway(state, broker, environment, card=card, line=line, process=None)
    show({"event": "gateway-starting", "state": str(state)})
    process = await _start(state, broker, environment)
    try:
        card = await _card(process)
        line = SocketLine(card.socket)
    except BaseException:
        await end(process)
        raise
    return Gateway(state, broker, environment, card=card, line=line, process=process)


async def _start(state: Path, broker: str | None, more: dict[str, str]) -> Process:
    command = (sys.executable, "-m", "windflower.cli.main", "serve", "--state", str(state))
    make_private(state)
    # Not as an argument: whoever lists processes would read the broker's password.
    environment = {**os.environ, **({BROKER_VARIABLE: broker} if broker else {}), **more}
    with open_log(state / "gateway.log") as log:
        return await start(
            *command,
            *("--format", "json"),
            stdin=DEVNULL,
            stdout=PIPE,
            stderr=log,
            env={**environment, "WINDFLOWER_PRIVATE": "true"},
        )


def _left_card(state: Path) -> GatewayCard | None:
    """Read the card of a gateway that runs, or was killed and left it."""
    try:
        return GatewayCard.from_json(json.loads((state / "gateway.json").read_text()))
    except (OSError, ValueError, KeyError):
        return None


def _running(state: Path) -> tuple[GatewayCard, SocketLine] | None:
    card = _left_card(state)
    try:
        return None if card is None else (card, SocketLine(card.socket))
    except GatewayUnavailable:
        return None


async def _until_back(state: Path) -> tuple[GatewayCard, SocketLine]:
    for _ in range(int(RETURN_S / _LOOK_S)):
        if (running := _running(state)) is not None:
            return running
        await asyncio.sleep(_LOOK_S)
    raise GatewayUnavailable(
        f"the gateway of {state} went away and did not come back within {RETURN_S:.0f} s: start it"
        f" again with `windflower serve`, or remove {state / 'gateway.json'}"
    )


async def _card(process: Process) -> GatewayCard:
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
