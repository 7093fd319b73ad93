"""A device's way to its gateway through the nucleus of the Greengrass v2 core that it is.

The nucleus holds the one MQTT connection of its thing. A component asks it to subscribe and to
publish, over a unix socket. The protocol on that socket is the public awsiotsdk's.
"""

import asyncio
from collections.abc import Callable, MutableMapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, Self

from awscrt.exceptions import AwsCrtError
from awscrt.io import (
    ClientBootstrap,
    DefaultHostResolver,
    EventLoopGroup,
    SocketDomain,
    SocketOptions,
)
from awsiot.eventstreamrpc import (
    AccessDeniedError,
    Connection,
    LifecycleHandler,
    MessageAmendment,
)
from awsiot.greengrasscoreipc.client import (
    GreengrassCoreIPCClient,
    SubscribeToIoTCoreStreamHandler,
)
from awsiot.greengrasscoreipc.model import (
    QOS,
    IoTCoreMessage,
    PublishToIoTCoreRequest,
    SubscribeToIoTCoreRequest,
    UnauthorizedError,
)

from windflower.core.backoff import wait_s
from windflower.errors import BrokerRefused, BrokerUnavailable, ConfigError
from windflower.ports import LinkDown, LinkUp, Received
from windflower.wire.messages import Method
from windflower.wire.topics import Ingest, Topics

CONNECT_S: Final = 10.0
ANSWER_S: Final = 40.0
"""The nucleus itself waits up to 30 s for IoT Core. Source: its mqtt.mqttOperationTimeoutMs."""

CLOSE_S: Final = 5.0
SOCKET_VARIABLE: Final = "AWS_GG_NUCLEUS_DOMAIN_SOCKET_FILEPATH_FOR_COMPONENT"
TOKEN_VARIABLE: Final = "SVCUID"  # noqa: S105 - where the nucleus puts it

_PROBLEMS: Final = (AwsCrtError, OSError, RuntimeError)
"""What awsiotsdk raises, and a TimeoutError: all its own errors are RuntimeErrors."""


@dataclass(frozen=True, slots=True)
class Nucleus:
    """Where the nucleus listens, and what it knows this component by."""

    socket: str
    token: str

    @classmethod
    def take(cls, environment: MutableMapping[str, str]) -> Self:
        """Read it from what the nucleus gives a component, and leave no token there for the app.

        Raises:
            ConfigError: no nucleus started this process.
        """
        socket, token = environment.get(SOCKET_VARIABLE), environment.pop(TOKEN_VARIABLE, None)
        if not socket or not token:
            raise ConfigError(
                "--broker greengrass: is for a component that a Greengrass nucleus starts:"
                f" {SOCKET_VARIABLE} and {TOKEN_VARIABLE} are not both set",
                key="broker",
            )
        return cls(socket, token)


class GreengrassDeviceLink:
    """One device's link. It has no last will: that this device vanished, its silence tells.

    Args:
        nucleus: the nucleus of this core.
        device: the device's id, which is its thing's name.
        topics: how topics are spelled.
        ingest: the rules that take what we say.
    """

    def __init__(self, nucleus: Nucleus, device: str, *, topics: Topics, ingest: Ingest) -> None:
        self._nucleus = nucleus
        self._device = device
        self._topics = topics
        self._ingest = ingest
        group = EventLoopGroup(num_threads=1)
        self._bootstrap = ClientBootstrap(group, DefaultHostResolver(group))
        self._incoming: asyncio.Queue[LinkUp | LinkDown | Received | BaseException] = (
            asyncio.Queue()
        )
        self._task: asyncio.Task[None] | None = None
        self._session: _Session | None = None
        self._publishing: set[asyncio.Task[None]] = set()

    async def next(self) -> LinkUp | LinkDown | Received:
        """Wait for what comes next; connects at the first call.

        Raises:
            BrokerRefused: the nucleus does not let this component in, or not to its topics.
        """
        if self._task is None:
            self._task = asyncio.create_task(self._keep())
            self._task.add_done_callback(self._given_up)
        incoming = await self._incoming.get()
        if isinstance(incoming, BaseException):
            raise incoming
        return incoming

    def beat(self, message: bytes) -> None:
        """Publish a heartbeat at QoS 0: the next one mends its loss."""
        topic = self._ingest.to_rule("heartbeat", self._topics.heartbeat(self._device))
        self._publish(topic, message, QOS.AT_MOST_ONCE)

    def answer(self, method: Method, message: bytes) -> None:
        """Publish a reply, or drop it while there is no nucleus.

        A nucleus without a way to IoT Core may keep it until there is one, or say that it cannot.
        """
        topic = self._ingest.to_rule("reply", self._topics.reply(method, self._device))
        self._publish(topic, message, QOS.AT_LEAST_ONCE)

    async def close(self) -> None:
        """Hand over what was said last, and disconnect for good."""
        if self._publishing:
            await asyncio.wait(self._publishing, timeout=CLOSE_S)
        tasks = [*self._publishing, *([] if self._task is None else [self._task])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _keep(self) -> None:
        """Stay connected until the nucleus refuses."""
        failures = 0
        while True:
            session = _Session(self._bootstrap, self._nucleus, self._received)
            try:
                await session.open(self._topics.command(self._device))
                failures, self._session = 0, session
                self._incoming.put_nowait(LinkUp())
                reason = await session.ended
            except BrokerUnavailable as error:
                reason = str(error)
            finally:
                self._session = None
                await session.close()
            failures += 1
            self._incoming.put_nowait(LinkDown(reason))
            await asyncio.sleep(wait_s(failures))

    def _given_up(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (problem := task.exception()):
            self._incoming.put_nowait(problem)

    def _received(self, message: bytes) -> None:
        # The nucleus has acknowledged it to IoT Core before it hands it on.
        self._incoming.put_nowait(Received(message, lambda: None))

    def _publish(self, topic: str, message: bytes, qos: str) -> None:
        if self._session is None:
            return  # what the gateway does not acknowledge is said again after the next connection
        task = asyncio.create_task(self._published(self._session, topic, message, qos))
        self._publishing.add(task)
        task.add_done_callback(self._publishing.discard)

    async def _published(self, session: "_Session", topic: str, message: bytes, qos: str) -> None:
        try:
            await session.publish(topic, message, qos)
        except BrokerRefused as error:
            self._incoming.put_nowait(error)
        except BrokerUnavailable as error:
            # Else it says that it cannot keep more: the gateway will ask again.
            if isinstance(error.__cause__, TimeoutError):
                session.end(str(error))


class _Session(LifecycleHandler, SubscribeToIoTCoreStreamHandler):  # type: ignore[misc]
    """One connection to the nucleus, with one subscription.

    Its callbacks come on a thread of awscrt's.

    Args:
        bootstrap: awscrt's thread.
        nucleus: where to connect.
        on_message: called with each message, on the event loop.

    Attributes:
        ended: why the connection ended, once it has.
    """

    def __init__(
        self, bootstrap: ClientBootstrap, nucleus: Nucleus, on_message: Callable[[bytes], None]
    ) -> None:
        options = SocketOptions()
        options.domain = SocketDomain.Local
        self._connection = Connection(
            host_name=nucleus.socket,
            port=0,
            bootstrap=bootstrap,
            socket_options=options,
            connect_message_amender=MessageAmendment.create_static_authtoken_amender(nucleus.token),
        )
        self._socket = nucleus.socket
        self._client = GreengrassCoreIPCClient(self._connection)
        self._on_message = on_message
        self._loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[str] = self._loop.create_future()

    async def open(self, topic: str) -> None:
        """Connect and subscribe; raises BrokerUnavailable or BrokerRefused."""
        connecting = self._asked(lambda: self._connection.connect(self))
        await self._answer(connecting, within_s=CONNECT_S)
        operation = self._asked(lambda: self._client.new_subscribe_to_iot_core(self))
        request = SubscribeToIoTCoreRequest(topic_name=topic, qos=QOS.AT_LEAST_ONCE)
        self._asked(lambda: operation.activate(request))
        await self._answer(operation.get_response(), within_s=ANSWER_S)

    async def publish(self, topic: str, message: bytes, qos: str) -> None:
        """Hand a message to the nucleus; raises BrokerUnavailable or BrokerRefused."""
        operation = self._asked(self._client.new_publish_to_iot_core)
        request = PublishToIoTCoreRequest(topic_name=topic, qos=qos, payload=message)
        self._asked(lambda: operation.activate(request))
        await self._answer(operation.get_response(), within_s=ANSWER_S)

    def end(self, reason: str) -> None:
        """Say that this connection is of no more use."""
        if not self.ended.done():
            self.ended.set_result(reason)

    async def close(self) -> None:
        """Disconnect, and wait until no callback comes any more."""
        with suppress(*_PROBLEMS):
            async with asyncio.timeout(CLOSE_S):
                await asyncio.wrap_future(self._connection.close())

    async def _answer(self, future: "Future[Any]", *, within_s: float) -> None:
        try:
            async with asyncio.timeout(within_s):
                await asyncio.wrap_future(future)
        except _PROBLEMS as error:
            raise self._told(error) from error

    def _asked(self, ask: Callable[[], Any]) -> Any:  # noqa: ANN401 - one of awsiotsdk's operations
        try:
            return ask()
        except _PROBLEMS as error:
            raise self._told(error) from error

    def _told(self, error: BaseException) -> BrokerRefused | BrokerUnavailable:
        if isinstance(error, (UnauthorizedError, AccessDeniedError)):
            said = getattr(error, "message", None) or "access denied"
            return BrokerRefused(
                f"the Greengrass nucleus refuses this component: {said};"
                " check accessControl in its recipe, and in the deployment that overrides it"
            )
        said = "no answer in time" if isinstance(error, TimeoutError) else _words(error)
        return BrokerUnavailable(f"the Greengrass nucleus at {self._socket}: {said}")

    # ----------------------------------------------------------------- on awscrt's thread

    def on_disconnect(self, reason: Exception | None) -> None:
        """Note that the connection has ended."""
        said = "the connection ended" if reason is None else _words(reason)
        text = f"the Greengrass nucleus at {self._socket}: {said}"
        self._loop.call_soon_threadsafe(self.end, text)

    def on_stream_event(self, event: IoTCoreMessage) -> None:
        """Hand a message on."""
        if event.message is not None:
            self._loop.call_soon_threadsafe(self._on_message, event.message.payload or b"")

    def on_stream_closed(self) -> None:
        """Without its subscription a connection is of no use."""
        text = f"the Greengrass nucleus at {self._socket}: the subscription ended"
        self._loop.call_soon_threadsafe(self.end, text)


def _words(error: BaseException) -> str:
    return str(getattr(error, "message", None) or error or type(error).__name__)
