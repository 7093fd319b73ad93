"""A relay between MQTT clients and their broker, in whose hands messages come to harm.

It understands packets, so that it harms messages and not bytes: TCP would repair bytes. What it
does must leave both ends a session that goes on, as a broker that forgets would:

- A lost PUBLISH of QoS 1 is acknowledged by the relay, so that its sender takes it for delivered.
- The second of two copies travels at QoS 0. With the first one's packet id it would be
  acknowledged twice, and the second time that id may stand for another message.
- Acknowledgements reach a sender in the order in which it sent (section 4.6 of MQTT 5.0), whatever
  order the messages arrived in.
- QoS 2 passes unharmed; it is not ours.

What befalls a client's n-th message depends on the seed, the client's id, how often it connected
before, and n; and not on what other clients do meanwhile.
"""

import asyncio
import itertools
import socket
import struct
from collections import Counter
from contextlib import suppress
from random import Random
from typing import Final, Literal

from chaos.faults import Fate, Fault, Faults, Weather
from chaos.packets import Kind, Packet, Publish, Splitter, client_id, puback

_READ_BYTES: Final = 65536
_RESET: Final = struct.pack("ii", 1, 0)
"""With this SO_LINGER, close() sends RST."""

Way = Literal["up", "down"]


class Acknowledgements:
    """What a sender is still to be told, in the order in which it sent."""

    def __init__(self) -> None:
        self._owed: dict[int, bytes | None] = {}

    def expect(self, packet_id: int) -> None:
        """Note that a message was sent."""
        self._owed[packet_id] = None

    def settle(self, packet_id: int, acknowledgement: bytes) -> bytes:
        """Return what its sender may be told now: nothing, while an earlier one is missing."""
        if packet_id not in self._owed:
            return acknowledgement
        self._owed[packet_id] = acknowledgement
        ready = list(itertools.takewhile(lambda owed: owed[1], self._owed.items()))
        for settled, _ in ready:
            del self._owed[settled]
        return b"".join(told for _, told in ready if told)


class _Held:
    """A message that others may overtake."""

    def __init__(self, raw: bytes, overtaken_by: int, timer: asyncio.TimerHandle) -> None:
        self.raw = raw
        self.left = overtaken_by
        self.passed = 0
        self.timer = timer


class Lane:
    """One direction of one connection."""

    def __init__(
        self,
        way: Way,
        connection: "Connection",
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self.owed = Acknowledgements()
        self.back: Lane
        self._way = way
        self._connection = connection
        self._reader = reader
        self._writer = writer
        self._splitter = Splitter()
        self._held: list[_Held] = []

    async def run(self) -> None:
        """Carry packets until either end is gone."""
        while data := await self._reader.read(_READ_BYTES):
            for packet in self._splitter.feed(data):
                await self._connection.flows.wait()
                await self._carry(packet)
            await self._writer.drain()
        self._release_all()

    def write(self, data: bytes) -> None:
        """Send bytes on, unless nothing passes."""
        if self._connection.flows.is_set() and not self._writer.is_closing():
            self._writer.write(data)

    async def _carry(self, packet: Packet) -> None:
        if packet.kind is Kind.PUBLISH:
            await self._publish(packet)
        elif packet.kind is Kind.PUBACK:
            self.write(self.back.owed.settle(packet.acknowledged_id, packet.raw))
        else:
            if packet.kind is Kind.CONNECT:
                self._connection.introduce(client_id(packet))
            elif packet.kind is Kind.DISCONNECT:
                self._release_all()
            self.write(packet.raw)

    async def _publish(self, packet: Packet) -> None:
        publish = Publish.read(packet)
        if publish.qos > 1:
            self.write(packet.raw)
            return
        if publish.packet_id is not None:
            self.owed.expect(publish.packet_id)
        faults, fate = self._connection.decide(self._way)
        if fate.cut is not None:
            self._connection.counts[Fault.CUT] += 1
            self._connection.end(resets=fate.cut == "RST")
        elif fate.is_half_open:
            self._connection.counts[Fault.HALF_OPEN] += 1
            self._connection.half_open(faults.half_open_s)
        elif fate.is_lost:
            self._lose(publish)
        else:
            await self._deliver(packet.raw, publish, faults, fate)

    def _lose(self, publish: Publish) -> None:
        self._connection.counts[Fault.LOSS] += 1
        if publish.packet_id is not None:
            own = puback(publish.packet_id)
            self.back.write(self.owed.settle(publish.packet_id, own))

    async def _deliver(self, raw: bytes, publish: Publish, faults: Faults, fate: Fate) -> None:
        if fate.delay_s:
            self._connection.counts[Fault.DELAY] += 1
            await asyncio.sleep(fate.delay_s)
        if fate.is_doubled:
            self._connection.counts[Fault.DUPLICATION] += 1
            raw += publish.without_id()
        self._pass(raw, faults, is_held=fate.is_held)

    def _pass(self, raw: bytes, faults: Faults, *, is_held: bool) -> None:
        if is_held:
            timer = asyncio.get_running_loop().call_later(faults.reordering_s, self._release, raw)
            self._held.append(_Held(raw, faults.overtaken_by, timer))
            return
        self.write(raw)
        for held in self._held:
            held.left -= 1
            held.passed += 1
        for held in [h for h in self._held if h.left <= 0]:
            self._release(held.raw)

    def _release(self, raw: bytes) -> None:
        held = next(h for h in self._held if h.raw is raw)
        held.timer.cancel()
        self._held.remove(held)
        # What nobody overtook was late, and no more.
        self._connection.counts[Fault.REORDERING if held.passed else Fault.DELAY] += 1
        self.write(held.raw)

    def _release_all(self) -> None:
        for held in list(self._held):
            self._release(held.raw)

    def forget(self) -> None:
        """Drop what is held back: the connection is gone."""
        for held in self._held:
            held.timer.cancel()
        self._held.clear()


class Connection:
    """One client's connection, and the one to the broker that goes with it."""

    def __init__(
        self,
        relay: "Relay",
        client: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        broker: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> None:
        self.flows = asyncio.Event()
        self.flows.set()
        self.counts = relay.counts
        self._relay = relay
        self._writers = (client[1], broker[1])
        self._up = Lane("up", self, client[0], broker[1])
        self._down = Lane("down", self, broker[0], client[1])
        self._up.back, self._down.back = self._down, self._up
        self._random: dict[Way, Random] = {}
        self._timer: asyncio.TimerHandle | None = None

    async def run(self) -> None:
        """Relay until either end is gone, then end the other."""
        lanes = [asyncio.create_task(lane.run()) for lane in (self._up, self._down)]
        try:
            done, _ = await asyncio.wait(lanes, return_when=asyncio.FIRST_COMPLETED)
            for lane in done:
                self._relay.note(lane.exception())
        finally:
            for lane in lanes:
                lane.cancel()
            await asyncio.gather(*lanes, return_exceptions=True)
            self.end(resets=False)
            closed = (writer.wait_closed() for writer in self._writers)
            await asyncio.gather(*closed, return_exceptions=True)

    def introduce(self, client: str) -> None:
        """Seed what befalls this client, now that its name is known."""
        visit = self._relay.visit(client)
        self._random = {
            "up": Random(f"{self._relay.seed}:{client}:{visit}:up"),
            "down": Random(f"{self._relay.seed}:{client}:{visit}:down"),
        }

    def decide(self, way: Way) -> tuple[Faults, Fate]:
        """Draw what befalls the next message."""
        weather = self._relay.weather
        faults = weather.up if way == "up" else weather.down
        self._relay.messages += 1
        return faults, Fate.draw(faults, self._random[way])

    def half_open(self, seconds: float) -> None:
        """Let nothing pass, and end by RST after a while."""
        self.flows.clear()
        self._timer = asyncio.get_running_loop().call_later(seconds, self._reset)

    def _reset(self) -> None:
        self.end(resets=True)

    def end(self, *, resets: bool) -> None:
        """End both halves at once."""
        if self._timer is not None:
            self._timer.cancel()
        self._up.forget()
        self._down.forget()
        for writer in self._writers:
            if resets:
                with suppress(OSError):  # closed before
                    sock = writer.get_extra_info("socket")
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                writer.transport.abort()
            writer.close()
        self.flows.set()  # whoever waits finds the end


class Relay:
    """Listens for clients and relays each to the broker.

    Args:
        broker: host and port of the broker.
        seed: what all that happens derives from.
        weather: what happens; may be changed at any time.
        port: where to listen; 0 takes a free port.
        host: the address to listen on.
    """

    def __init__(
        self,
        broker: tuple[str, int],
        *,
        seed: int,
        weather: Weather | None = None,
        port: int = 0,
        host: str = "127.0.0.1",
    ) -> None:
        self.seed = seed
        self.weather = weather or Weather()
        self.counts: Counter[Fault] = Counter()
        self.messages = 0
        self.problems: list[str] = []
        self.port = port
        self._host = host
        self._broker = broker
        self._visits: Counter[str] = Counter()
        self._connections: dict[Connection, asyncio.Task[None]] = {}
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen; `port` says where."""
        self._server = await asyncio.start_server(self._accept, self._host, self.port)
        self.port = int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """End all connections."""
        assert self._server is not None
        self._server.close()
        tasks = list(self._connections.values())
        for connection in list(self._connections):
            connection.end(resets=True)
        await asyncio.gather(*tasks, return_exceptions=True)

    def visit(self, client: str) -> int:
        """Return how often a client connected before, and count this time."""
        self._visits[client] += 1
        return self._visits[client] - 1

    def note(self, problem: BaseException | None) -> None:
        """Remember what should never happen: traffic that is not understood."""
        if problem is not None and not isinstance(problem, ConnectionError):
            self.problems.append(f"{type(problem).__name__}: {problem}")

    def cut_all(self) -> None:
        """End every connection by RST."""
        for connection in list(self._connections):
            self.counts[Fault.CUT] += 1
            connection.end(resets=True)

    def half_open_all(self, seconds: float) -> None:
        """Let nothing pass on any connection of now, and end them after a while."""
        for connection in list(self._connections):
            self.counts[Fault.HALF_OPEN] += 1
            connection.half_open(seconds)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            broker = await asyncio.open_connection(*self._broker)
        except OSError:  # no broker: nobody answers here either
            writer.transport.abort()
            return
        for end in (writer, broker[1]):
            end.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = Connection(self, (reader, writer), broker)
        task = asyncio.current_task()
        assert task is not None
        self._connections[connection] = task
        try:
            with suppress(asyncio.CancelledError):
                await connection.run()
        finally:
            del self._connections[connection]
