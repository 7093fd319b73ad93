"""Stands between devices and a broker, and lets through what AWS IoT Core would.

Source: AWS IoT Core endpoints and quotas, message broker and protocol limits. Per connection: a
hundred publishes a second, both ways together, the excess discarded; 512 KB a second, delayed
beyond that; payloads of 128 KB; eight filters in a SUBSCRIBE, no subscription identifiers; sessions
of an hour. Deliveries at QoS 1 may come twice, and in any order.
"""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from random import Random
from typing import Final

from chaos.packets import Kind, NotMqttError, Packet, Publish, Splitter, puback

PUBLISHES_A_SECOND: Final = 100
BYTES_A_SECOND: Final = 512 * 1024
PAYLOAD_BYTES: Final = 128 * 1024
FILTERS: Final = 8
SESSION_S: Final = 3600

_READ_BYTES: Final = 65536
_SESSION_EXPIRY, _SUBSCRIPTION_ID = 0x11, 0x0B
_PROPERTY_BYTES: Final = {0x11: 4, 0x21: 2, 0x27: 4, 0x22: 2, 0x19: 1, 0x17: 1}
_TWICE, _OVERTAKEN = 0.03, 0.03


class Refused(Exception):  # noqa: N818 - what IoT Core does to such a client
    """A client did what IoT Core answers by closing the connection."""


class Allowance:
    """So many units a second, and a second's worth at once.

    Args:
        rate: units a second.
        clock: seconds.
    """

    def __init__(self, rate: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._clock = clock
        self._left = rate
        self._at = clock()

    def take(self, units: float) -> bool:
        """Take units, if there are so many."""
        self._refill()
        is_enough = self._left >= units
        self._left -= units if is_enough else 0
        return is_enough

    def owe(self, units: float) -> float:
        """Take units in any case; return for how many seconds to wait for them."""
        self._refill()
        self._left -= units
        return max(-self._left / self._rate, 0.0)

    def _refill(self) -> None:
        now = self._clock()
        self._left = min(self._left + (now - self._at) * self._rate, self._rate)
        self._at = now


class Limiter:
    """A TCP proxy on 127.0.0.1.

    Args:
        port: the broker's.
        seed: of what comes twice, and what is overtaken.

    Attributes:
        port: its own.
        discarded: publishes that were beyond a connection's limit.
        doubled: deliveries that came twice.
        overtaken: deliveries that another one overtook.
        refused: why connections were closed.
        connected: how many there were.
    """

    def __init__(self, port: int, *, seed: int = 0) -> None:
        self._upstream = port
        self._random = Random(seed)
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0
        self.discarded = self.doubled = self.overtaken = self.connected = 0
        self.refused: list[str] = []

    async def start(self) -> None:
        """Listen."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=4096)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Cut all connections."""
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connected += 1
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._upstream)
        allowances = Allowance(PUBLISHES_A_SECOND), Allowance(BYTES_A_SECOND)
        up = _Lane(self, reader, up_writer, writer, allowances, is_up=True)
        down = _Lane(self, up_reader, writer, up_writer, allowances, is_up=False)
        lanes = [asyncio.create_task(lane.run()) for lane in (up, down)]
        self._tasks.update(lanes)
        try:
            await asyncio.wait(lanes, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for lane in lanes:
                lane.cancel()
                self._tasks.discard(lane)
            for one in (writer, up_writer):
                one.close()

    def draws(self, share: float) -> bool:
        """Return whether something befalls a delivery."""
        return self._random.random() < share


class _Lane:
    """One direction of one connection."""

    def __init__(
        self,
        limiter: Limiter,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        back: asyncio.StreamWriter,
        allowances: tuple[Allowance, Allowance],
        *,
        is_up: bool,
    ) -> None:
        self._limiter = limiter
        self._reader = reader
        self._writer = writer
        self._back = back
        self._publishes, self._bytes = allowances
        self._is_up = is_up
        self._splitter = Splitter()
        self._held: bytes | None = None

    async def run(self) -> None:
        with suppress(ConnectionError):
            while data := await self._read():
                if (wait_s := self._bytes.owe(len(data))) > 0:
                    await asyncio.sleep(wait_s)  # IoT Core delays, it does not drop
                try:
                    for packet in self._splitter.feed(data):
                        self._carry(packet)
                except (Refused, NotMqttError) as problem:
                    self._limiter.refused.append(str(problem))
                    return
                self._release()
                await self._writer.drain()

    async def _read(self) -> bytes:
        return await self._reader.read(_READ_BYTES)

    def _carry(self, packet: Packet) -> None:
        match packet.kind:
            case Kind.PUBLISH:
                self._publish(packet)
            case Kind.CONNECT:
                check_connect(packet)
                self._writer.write(packet.raw)
            case Kind.SUBSCRIBE:
                check_subscribe(packet)
                self._writer.write(packet.raw)
            case _:
                self._writer.write(packet.raw)

    def _publish(self, packet: Packet) -> None:
        publish = Publish.read(packet)
        if len(publish.rest) > PAYLOAD_BYTES + 256:  # its properties stand before it
            raise Refused(f"a payload of {len(publish.rest)} bytes")
        if not self._publishes.take(1):
            self._limiter.discarded += 1
            if publish.packet_id is not None and not self._is_up:
                self._back.write(puback(publish.packet_id))  # the broker would keep it in flight
            return
        if self._is_up:
            self._writer.write(packet.raw)
        else:
            self._deliver(publish, packet.raw)

    def _deliver(self, publish: Publish, raw: bytes) -> None:
        """Hand a message to a device: maybe twice, maybe after the next."""
        if self._held is None and self._limiter.draws(_OVERTAKEN):
            self._held = raw
            return
        self._writer.write(raw)
        if publish.qos and self._limiter.draws(_TWICE):
            self._limiter.doubled += 1
            self._writer.write(publish.without_id())
        if self._held is not None:
            self._limiter.overtaken += 1
            self._release()

    def _release(self) -> None:
        if self._held is not None:
            self._writer.write(self._held)
            self._held = None


def check_connect(connect: Packet) -> None:
    """Refuse a session that is to outlive an hour; raises Refused."""
    properties = _properties(connect.body, 10)  # protocol name, version, flags, keep-alive
    expiry = properties.get(_SESSION_EXPIRY)
    if expiry is not None and int.from_bytes(expiry, "big") > SESSION_S:
        raise Refused("a session of more than an hour")


def check_subscribe(subscribe: Packet) -> None:
    """Refuse what IoT Core does not know; raises Refused."""
    body = subscribe.body
    if body[2] and body[3] == _SUBSCRIPTION_ID:
        raise Refused("a subscription identifier")
    at, count = 3 + body[2], 0
    while at < len(body):
        at += 2 + int.from_bytes(body[at : at + 2], "big") + 1
        count += 1
    if count > FILTERS:
        raise Refused(f"{count} filters in one SUBSCRIBE")


def _properties(body: bytes, at: int) -> dict[int, bytes]:
    """Return a packet's properties, as far as they have a fixed size; the first other ends it."""
    found: dict[int, bytes] = {}
    end = at + 1 + body[at]
    at += 1
    while at < end and body[at] in _PROPERTY_BYTES:
        size = _PROPERTY_BYTES[body[at]]
        found[body[at]] = body[at + 1 : at + 1 + size]
        at += 1 + size
    return found
