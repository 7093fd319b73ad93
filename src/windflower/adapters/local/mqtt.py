"""One MQTT 5 connection on asyncio: paho-mqtt without its threads.

paho's own network loop uses one thread and `select` a client, which ends at file descriptor 1024.
Its hooks for a foreign event loop let a thousand clients share one thread.
"""

import asyncio
import os
import random
import socket
import ssl
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from windflower.adapters.local.broker_address import BrokerAddress
from windflower.core.backoff import wait_s
from windflower.errors import BrokerRefused, BrokerUnavailable
from windflower.wire.limits import MESSAGE_BYTES

KEEPALIVE_S: Final = 30
CONNECT_S: Final = 10.0
RECEIVE_MAXIMUM: Final = 1000
"""Unacknowledged messages that the broker may send: its default of 20 would starve group commit."""

UNACKNOWLEDGED_S: Final = 15.0
"""A connection ends when something of ours is under way for so long, and TCP gets nothing across.

After a cut TCP waits up to as long again as the cut lasted before it tries once more; a connection
that is new is heard as soon as the link is back. One to a broker that reads nothing ends likewise.
"""

_USER_TIMEOUT: Final[int | None] = getattr(socket, "TCP_USER_TIMEOUT", None)
_QUICK_ACK: Final[int | None] = getattr(socket, "TCP_QUICKACK", None)
_ENDINGS: Final = {
    0x80: "the connection broke",  # unspecified: paho says so of an end that no packet told of
    0x8E: "the connection ended: another client connected under the same id",
}
_REFUSALS: Final = frozenset({0x84, 0x85, 0x86, 0x87, 0x8A, 0x8C, 0x9D})
"""CONNACK codes that trying again does not mend. Source: MQTT 5.0, section 3.2.2.2."""


@dataclass(frozen=True, slots=True)
class Will:
    """What the broker publishes for a client that vanishes."""

    topic: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class Arrival:
    """A message that arrived.

    Attributes:
        topic: where it was published.
        payload: its bytes.
        is_retained: whether the broker kept it from before we subscribed.
        done: acknowledges it.
    """

    topic: str
    payload: bytes
    is_retained: bool
    done: Callable[[], None]


@dataclass(slots=True)
class _Acknowledgement:
    """What a connection owes the broker: in the order of arrival (MQTT 5.0, section 4.6)."""

    mid: int
    qos: int
    is_due: bool = False


class Connection:
    """A connection that comes back by itself until it is closed.

    Args:
        address: the broker.
        client_id: MQTT's client id; a second connection under it ends the first.
        filters: what to subscribe to, at QoS 1, each time the connection comes up.
        on_message: called with each message.
        on_change: called with None when the connection is up and subscribed, else with why it is
            down.
        will: published by the broker when this client vanishes.
    """

    def __init__(
        self,
        address: BrokerAddress,
        client_id: str,
        *,
        filters: tuple[str, ...],
        on_message: Callable[[Arrival], None],
        on_change: Callable[[Exception | None], None],
        will: Will | None = None,
    ) -> None:
        self._address = address
        self._filters = filters
        self._on_message = on_message
        self._on_change = on_change
        self._generation = 0
        self._owed: deque[_Acknowledgement] = deque()
        self._is_up = False
        self._was_up = False
        self._down: asyncio.Future[Exception] | None = None
        self._task: asyncio.Task[None] | None = None
        self._client = self._make_client(client_id, will)

    @property
    def is_up(self) -> bool:
        """Whether messages can be published now."""
        return self._is_up

    async def open(self, *, must_answer: bool) -> None:
        """Connect, and go on reconnecting in the background.

        Args:
            must_answer: whether a broker that does not answer at the first try is an error.

        Raises:
            BrokerUnavailable: nobody answers, and `must_answer`.
            BrokerRefused: the broker answered and refused.
        """
        if must_answer:
            down = await self._connect()
            self._task = asyncio.create_task(self._keep(down))
        else:
            self._task = asyncio.create_task(self._keep(None))

    def publish(self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False) -> None:
        """Hand a message to the broker; what is lost on the way is not sent again.

        Raises:
            BrokerUnavailable: there is no connection now, or the message is too large for any.
        """
        if not self._is_up:
            raise BrokerUnavailable(f"no connection to {self._address}")
        if len(payload) > MESSAGE_BYTES:
            # A broker would close the connection, and paho would send it again after that.
            raise BrokerUnavailable(f"{len(payload)} bytes for {topic}: at most {MESSAGE_BYTES}")
        self._client.publish(topic, payload, qos=qos, retain=retain)

    async def close(self) -> None:
        """Disconnect in good order: the broker publishes no will."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._client.is_connected():
            self._client.disconnect()
            while self._client.want_write() and self._client.socket() is not None:
                self._client.loop_write()
        self._hang_up()

    # -------------------------------------------------------------------------- life cycle

    async def _keep(self, down: asyncio.Future[Exception] | None) -> None:
        """Stay connected. Chance in the wait keeps a fleet from coming back all at once."""
        failures = 0
        while True:
            try:
                if down is None:
                    down = await self._connect()
                failures = 0
                problem = await down
            except (BrokerUnavailable, BrokerRefused) as error:
                problem = error
            down = None
            failures += 1
            is_final = self._is_final(problem)
            self._on_change(problem if is_final else BrokerUnavailable(str(problem)))
            if is_final:
                return
            await asyncio.sleep(wait_s(failures) * random.uniform(0.5, 1.5))  # noqa: S311

    def _is_final(self, problem: Exception) -> bool:
        """A refusal at the first try needs a person; later ones may be a broker that restarts."""
        return isinstance(problem, BrokerRefused) and not self._was_up

    async def _connect(self) -> asyncio.Future[Exception]:
        """Connect and subscribe; return a future that tells when and why the connection ended."""
        loop = asyncio.get_running_loop()
        self._generation += 1
        self._owed = deque()
        self._down = loop.create_future()
        self._ready: asyncio.Future[None] = loop.create_future()
        try:
            async with asyncio.timeout(CONNECT_S):
                await self._dial(loop)
                await self._ready
        except (OSError, ValueError, TimeoutError) as error:
            self._hang_up()
            raise BrokerUnavailable(_unreachable(self._address, error)) from error
        except BrokerRefused:
            self._hang_up()
            raise
        self._is_up = self._was_up = True
        self._on_change(None)
        return self._down

    async def _dial(self, loop: asyncio.AbstractEventLoop) -> None:
        sock = await self._socket(loop)
        self._client._create_socket_connection = lambda: sock  # type: ignore[method-assign]  # noqa: SLF001 - paho's own would block the loop
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.ReceiveMaximum = RECEIVE_MAXIMUM
        connect = (self._address.host, self._address.port, KEEPALIVE_S)
        if self._address.is_tls:  # the handshake blocks
            await loop.run_in_executor(
                None,
                lambda: self._client.connect(*connect, clean_start=True, properties=properties),
            )
        else:
            self._client.connect(*connect, clean_start=True, properties=properties)
        self._watch(loop)

    async def _socket(self, loop: asyncio.AbstractEventLoop) -> socket.socket:
        infos = await loop.getaddrinfo(
            self._address.host, self._address.port, type=socket.SOCK_STREAM
        )
        problem: OSError | None = None
        for family, kind, protocol, _, address in infos:
            sock = socket.socket(family, kind, protocol)
            sock.setblocking(False)  # noqa: FBT003 - the standard library's way
            try:
                await loop.sock_connect(sock, address)
            except OSError as error:
                sock.close()
                problem = error
            else:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                if _USER_TIMEOUT is not None:
                    with suppress(OSError):  # a kernel may know the name, and not the thing
                        limit_ms = round(UNACKNOWLEDGED_S * 1000)
                        sock.setsockopt(socket.IPPROTO_TCP, _USER_TIMEOUT, limit_ms)
                sock.settimeout(CONNECT_S)
                return sock
        raise problem or OSError("the name resolves to nothing")

    def _hang_up(self) -> None:
        self._is_up = False
        if self._client.socket() is not None:
            self._client._sock_close()  # noqa: SLF001 - disconnect() would wait for the broker

    # ------------------------------------------------------------------------- paho's hooks

    def _make_client(self, client_id: str, will: Will | None) -> paho.Client:
        client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            protocol=MQTTProtocolVersion.MQTTv5,
            manual_ack=True,
        )
        client.max_inflight_messages_set(0)  # else each PUBACK walks over all that is in flight
        client.on_connect = self._connected
        client.on_subscribe = self._subscribed
        client.on_message = self._received
        client.on_disconnect = self._disconnected
        client.on_socket_close = self._unwatch
        client.on_socket_register_write = self._want_write
        client.on_socket_unregister_write = self._written
        if will is not None:
            client.will_set(will.topic, will.payload, qos=1)
        if self._address.user is not None:
            client.username_pw_set(self._address.user, self._address.password)
        if self._address.is_tls:
            client.tls_set_context(tls_context(self._address))
        return client

    def _connected(
        self, client: paho.Client, _data: object, _flags: object, code: ReasonCode, _p: object
    ) -> None:
        if code.value in _REFUSALS:
            reason = f"the broker at {self._address} refuses this client: {str(code).lower()}"
            self._fail(BrokerRefused(f"{reason}; check user, password and permissions"))
        elif code.is_failure:
            self._fail(OSError(str(code)))
        elif self._filters:
            client.subscribe([(f, SubscribeOptions(qos=1)) for f in self._filters])
        elif not self._ready.done():
            self._ready.set_result(None)

    def _subscribed(
        self, _client: paho.Client, _data: object, _mid: int, codes: list[ReasonCode], _p: object
    ) -> None:
        refused = [code for code in codes if code.is_failure]
        if refused:
            reason = f"the broker at {self._address} does not let this client subscribe"
            self._fail(BrokerRefused(f"{reason}: {str(refused[0]).lower()}; check its permissions"))
        elif not self._ready.done():
            self._ready.set_result(None)

    def _received(self, client: paho.Client, _data: object, message: paho.MQTTMessage) -> None:
        acknowledgement = _Acknowledgement(message.mid, message.qos)
        owed = self._owed
        if message.qos:
            owed.append(acknowledgement)

        def done() -> None:
            # Packet ids begin again with each connection: a late acknowledgement would hit
            # another message, which would then never be delivered again.
            acknowledgement.is_due = True
            while owed is self._owed and self._is_up and owed and owed[0].is_due:
                first = owed.popleft()
                client.ack(first.mid, first.qos)

        self._on_message(Arrival(message.topic, bytes(message.payload), message.retain, done))

    def _disconnected(
        self, _client: paho.Client, _data: object, _flags: object, code: ReasonCode, _p: object
    ) -> None:
        self._is_up = False
        other = f"the connection ended: {str(code).lower()}"
        self._fail(OSError(_ENDINGS.get(code.value, other)))

    def _fail(self, problem: Exception) -> None:
        if not self._ready.done():
            self._ready.set_exception(problem)
        elif self._down is not None and not self._down.done():
            self._down.set_result(problem)

    # --------------------------------------------------------------------- the event loop

    def _watch(self, loop: asyncio.AbstractEventLoop) -> None:
        sock = self._client.socket()
        if sock is None:
            raise OSError("the connection ended")
        sock.setblocking(False)  # noqa: FBT003 - the standard library's way
        loop.add_reader(sock, self._readable, sock)
        if self._client.want_write():
            loop.add_writer(sock, self._client.loop_write)
        self._misc(loop, self._generation)

    def _misc(self, loop: asyncio.AbstractEventLoop, generation: int) -> None:
        """Let paho keep the connection alive, as long as it is this one."""
        if generation == self._generation and self._client.socket() is not None:
            self._client.loop_misc()
            loop.call_later(KEEPALIVE_S / 4, self._misc, loop, generation)

    def _readable(self, sock: Any) -> None:  # noqa: ANN401 - paho says "socket or TLS or websocket"
        if _QUICK_ACK is not None:
            # A broker without TCP_NODELAY waits for our TCP acknowledgement before it sends on,
            # and Linux would delay that by 40 ms. The option lasts for one read.
            sock.setsockopt(socket.IPPROTO_TCP, _QUICK_ACK, 1)
        if self._client.loop_read() != MQTTErrorCode.MQTT_ERR_SUCCESS:
            return
        # One TLS record may hold several packets, and select() does not see the rest of them.
        while isinstance(sock, ssl.SSLSocket) and self._is_open(sock) and sock.pending():
            self._client.loop_read()

    def _is_open(self, sock: object) -> bool:
        return self._client.socket() is sock

    def _unwatch(self, _client: paho.Client, _data: object, sock: Any) -> None:  # noqa: ANN401
        loop = asyncio.get_running_loop()
        loop.remove_reader(sock)
        loop.remove_writer(sock)

    def _want_write(self, client: paho.Client, _data: object, sock: Any) -> None:  # noqa: ANN401
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return  # a TLS handshake in its thread: `_watch` looks again
        loop.add_writer(sock, client.loop_write)

    def _written(self, _client: paho.Client, _data: object, sock: Any) -> None:  # noqa: ANN401
        asyncio.get_running_loop().remove_writer(sock)


def tls_context(address: BrokerAddress) -> ssl.SSLContext:
    """Return how a broker is spoken to over TLS; raises OSError where a file cannot be used."""
    context = ssl.create_default_context(cafile=str(address.ca) if address.ca else None)
    if address.certificate is not None:
        context.load_cert_chain(address.certificate, address.key)
    if address.alpn is not None:
        context.set_alpn_protocols([address.alpn])
    return context


def _unreachable(address: BrokerAddress, error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        cause = f"no answer within {CONNECT_S:.0f} s"
    elif isinstance(error, socket.gaierror):
        cause = f"the name {address.host} is not known"
    else:
        number = error.errno if isinstance(error, OSError) else None
        cause = os.strerror(number) if number else str(error) or type(error).__name__
    return f"no MQTT broker answers at {address}: {cause.lower()}"
