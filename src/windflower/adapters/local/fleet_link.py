"""A gateway's way to its devices and back, over one MQTT connection."""

import asyncio
from collections.abc import Sequence

from windflower.adapters.local.broker_address import BrokerAddress
from windflower.adapters.local.mqtt import Arrival, Connection
from windflower.errors import MalformedMessage
from windflower.ports import Delivery, LinkChange


class MqttIntake:
    """Messages of one kind, as they arrive."""

    def __init__(self) -> None:
        self._waiting: list[Delivery] = []
        self._arrived = asyncio.Event()

    def put(self, delivery: Delivery) -> None:
        """Add what arrived, and wake whoever waits."""
        self._waiting.append(delivery)
        self._arrived.set()

    async def take(self) -> Sequence[Delivery]:
        """Wait for messages and return all that are there."""
        await self._arrived.wait()
        self._arrived.clear()
        taken, self._waiting = self._waiting, []
        return taken


class MqttFleetLink:
    """Commands, replies and presence of a fleet over MQTT.

    Args:
        address: the broker.
        fleet: the fleet's id; a second gateway of the same fleet takes the connection over.
    """

    def __init__(self, address: BrokerAddress, *, fleet: str) -> None:
        self.replies = MqttIntake()
        self.presence = MqttIntake()
        self._topics = address.topics
        self._changes: asyncio.Queue[LinkChange] = asyncio.Queue()
        self._connection = Connection(
            address,
            f"gateway:{fleet}",
            filters=self._topics.from_devices(),
            on_message=self._received,
            on_change=self._changed,
        )

    async def open(self) -> None:
        """Connect; raises BrokerUnavailable or BrokerRefused where the first try fails."""
        await self._connection.open(must_answer=True)

    async def send(self, device: str, message: bytes) -> None:
        """Publish a command; raises BrokerUnavailable while there is no link."""
        self._connection.publish(self._topics.command(device), message)

    async def tell(self, device: str, message: bytes) -> None:
        """Publish a control message at QoS 0: the next heartbeat mends its loss."""
        self._connection.publish(self._topics.command(device), message, qos=0)

    async def next_change(self) -> LinkChange:
        """Wait until the link comes up or goes down."""
        return await self._changes.get()

    async def close(self) -> None:
        """Disconnect."""
        await self._connection.close()

    def _received(self, arrival: Arrival) -> None:
        try:
            kind, device = self._topics.read(arrival.topic)
        except MalformedMessage:
            arrival.done()  # a topic that our own filters let through and that names no device
            return

        async def done() -> None:
            arrival.done()

        delivery = Delivery(device, arrival.payload, done, arrival.is_retained)
        (self.presence if kind == "heartbeat" else self.replies).put(delivery)

    def _changed(self, problem: Exception | None) -> None:
        if problem is None:
            self._changes.put_nowait(LinkChange(is_up=True))
        else:
            self._changes.put_nowait(LinkChange(is_up=False, reason=str(problem)))
