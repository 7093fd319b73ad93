"""Commands by HTTPS: one publish a command.

IoT Core drops what an MQTT connection publishes beyond a hundred messages a second. A thousand
commands would take ten seconds that way; HTTPS has no such bound.
"""

import asyncio
from contextlib import suppress
from typing import Final

from windflower.adapters.aws.account import CONNECTIONS, Service
from windflower.adapters.aws.in_flight import InFlight
from windflower.core.backoff import wait_s
from windflower.errors import BrokerRefused, BrokerUnavailable
from windflower.ports import LinkChange
from windflower.wire.identifiers import GATEWAY
from windflower.wire.limits import MESSAGE_BYTES
from windflower.wire.topics import Topics

EXPIRY_S: Final = 3600
"""IoT Core forgets a command after as long as the URLs in it live."""


class HttpsCommands:
    """A fleet's commands, published one by one, many at a time.

    Args:
        publisher: the service `iot-data`.
        topics: how topics are spelled.
    """

    def __init__(self, publisher: Service, topics: Topics) -> None:
        self._publisher = publisher
        self._topics = topics
        self._in_flight = InFlight(CONNECTIONS)
        self._changes: asyncio.Queue[LinkChange] = asyncio.Queue()
        self._is_up = False
        self._returning: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """See that we may publish; raises BrokerUnavailable or BrokerRefused."""
        await self._knock()
        self._is_up = True
        self._changes.put_nowait(LinkChange(is_up=True))

    async def send(self, device: str, message: bytes) -> None:
        """Publish a command; raises BrokerUnavailable while there is no link."""
        await self._hand_over(device, message, qos=1)

    async def tell(self, device: str, message: bytes) -> None:
        """Publish a control message at QoS 0: the next heartbeat mends its loss."""
        await self._hand_over(device, message, qos=0)

    async def next_change(self) -> LinkChange:
        """Wait until the link comes up or goes down."""
        return await self._changes.get()

    async def close(self) -> None:
        """Publish what was handed over, and no more."""
        self._is_up = False
        if self._returning is not None:
            self._returning.cancel()
            await asyncio.gather(self._returning, return_exceptions=True)
        await self._in_flight.settle()

    async def _hand_over(self, device: str, message: bytes, *, qos: int) -> None:
        if not self._is_up:
            raise BrokerUnavailable("no link to IoT Core")
        topic = self._topics.command(device)
        if len(message) > MESSAGE_BYTES:
            raise BrokerUnavailable(f"{len(message)} bytes for {topic}: at most {MESSAGE_BYTES}")
        await self._in_flight.start(self._deliver(topic, message, qos=qos))

    async def _deliver(self, topic: str, message: bytes, *, qos: int) -> None:
        try:
            await self._publish(topic, message, qos=qos)
        except (BrokerUnavailable, BrokerRefused) as problem:
            self._lost(str(problem))

    async def _publish(self, topic: str, message: bytes, *, qos: int) -> None:
        await self._publisher.call(
            "publish", topic=topic, qos=qos, payload=message, messageExpiry=EXPIRY_S
        )

    async def _knock(self) -> None:
        """Publish nothing to a device that cannot exist: the one way to see that we may."""
        await self._publish(self._topics.command(GATEWAY), b"", qos=0)

    def _lost(self, reason: str) -> None:
        if self._is_up:
            self._is_up = False
            self._changes.put_nowait(LinkChange(is_up=False, reason=reason))
            self._returning = asyncio.create_task(self._return())

    async def _return(self) -> None:
        """Knock until somebody answers: then the roll is called, and what was lost sent again."""
        failures = 0
        while not self._is_up:
            failures += 1
            await asyncio.sleep(wait_s(failures))
            with suppress(BrokerUnavailable, BrokerRefused):
                await self._knock()
                self._is_up = True
        self._changes.put_nowait(LinkChange(is_up=True))
