"""A device's way to its gateway, over one MQTT connection with one subscription."""

import asyncio
from contextlib import suppress

from windflower.adapters.local.broker_address import BrokerAddress
from windflower.adapters.local.mqtt import Arrival, Connection, Will
from windflower.errors import BrokerRefused, BrokerUnavailable
from windflower.ports import LinkDown, LinkUp, Received
from windflower.wire.messages import Heartbeat, Method
from windflower.wire.topics import Ingest


class MqttDeviceLink:
    """One device's link.

    Args:
        address: the broker.
        last_will: what the broker says for this device when it vanishes.
        ingest: where there are rules that take what we say; the broker's topics by default.
    """

    def __init__(
        self,
        address: BrokerAddress,
        *,
        last_will: Heartbeat,
        ingest: Ingest | None = None,
    ) -> None:
        self._device = last_will.client
        self._ingest = ingest
        self._topics = topics = address.topics
        self._incoming: asyncio.Queue[LinkUp | LinkDown | Received | Exception] = asyncio.Queue()
        self._is_opened = False
        self._connection = Connection(
            address,
            self._device,
            filters=(topics.command(self._device),),
            on_message=self._received,
            on_change=self._changed,
            will=Will(topics.heartbeat(self._device), last_will.to_bytes()),
        )

    async def next(self) -> LinkUp | LinkDown | Received:
        """Wait for what comes next; connects at the first call.

        Raises:
            BrokerRefused: the broker does not let this device in.
        """
        if not self._is_opened:
            self._is_opened = True
            await self._connection.open(must_answer=False)
        incoming = await self._incoming.get()
        if isinstance(incoming, Exception):
            raise incoming
        return incoming

    def beat(self, message: bytes) -> None:
        """Publish a heartbeat, kept by the broker so that a new gateway learns the name.

        At QoS 0: the next one mends its loss. What a rule takes is kept in its table.
        """
        topic = self._topics.heartbeat(self._device)
        if self._ingest is None:
            self._publish(topic, message, qos=0, retain=True)
        else:
            self._publish(self._ingest.to_rule("heartbeat", topic), message, qos=0)

    def answer(self, method: Method, message: bytes) -> None:
        """Publish a reply, or drop it while there is no connection."""
        topic = self._topics.reply(method, self._device)
        self._publish(self._ingest.to_rule("reply", topic) if self._ingest else topic, message)

    async def close(self) -> None:
        """Disconnect for good; no last will is sent."""
        await self._connection.close()

    def _publish(self, topic: str, message: bytes, *, qos: int = 1, retain: bool = False) -> None:
        # Whatever is not acknowledged by the gateway is said again after the next connection.
        with suppress(BrokerUnavailable):
            self._connection.publish(topic, message, qos=qos, retain=retain)

    def _received(self, arrival: Arrival) -> None:
        self._incoming.put_nowait(Received(arrival.payload, arrival.done))

    def _changed(self, problem: Exception | None) -> None:
        if problem is None:
            self._incoming.put_nowait(LinkUp())
        elif isinstance(problem, BrokerRefused):
            self._incoming.put_nowait(problem)
        else:
            self._incoming.put_nowait(LinkDown(str(problem)))
