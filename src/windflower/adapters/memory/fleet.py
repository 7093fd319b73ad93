"""A fleet's links as queues, in the two shapes that real places have.

*push*: what arrives wakes whoever waits, as with MQTT. *table*: what arrives is a row that stays
until it is removed, found by looking again and again, as in a cloud's table.
"""

import asyncio
from collections.abc import Sequence
from typing import Literal

from windflower.errors import BrokerUnavailable
from windflower.ports import Delivery, LinkChange, LinkDown, LinkUp, Received
from windflower.wire.messages import Method

Shape = Literal["push", "table"]


class PushIntake:
    """Messages that wake whoever waits for them."""

    def __init__(self) -> None:
        self._waiting: list[Delivery] = []
        self._arrived = asyncio.Event()

    def put(self, device: str, body: bytes) -> None:
        """Let a message arrive."""
        self._waiting.append(Delivery(device, body, _nothing))
        self._arrived.set()

    async def take(self) -> Sequence[Delivery]:
        """Wait for messages and return all that are there."""
        await self._arrived.wait()
        self._arrived.clear()
        taken, self._waiting = self._waiting, []
        return taken


class TableIntake:
    """Messages that are rows until somebody removes them.

    Args:
        poll_s: seconds between two looks.
    """

    def __init__(self, poll_s: float = 0.01) -> None:
        self._poll_s = poll_s
        self._rows: dict[int, tuple[str, bytes]] = {}
        self._last = 0

    def put(self, device: str, body: bytes) -> None:
        """Let a message arrive."""
        self._last += 1
        self._rows[self._last] = (device, body)

    async def take(self) -> Sequence[Delivery]:
        """Look until there are rows, and return them; a row that is not removed comes again."""
        while True:
            await asyncio.sleep(self._poll_s)  # a table wakes nobody: that is its shape
            if self._rows:
                return self._look()

    def _look(self) -> list[Delivery]:
        return [
            Delivery(device, body, self._removal(key)) for key, (device, body) in self._rows.items()
        ]

    def _removal(self, key: int) -> "_Removal":
        return _Removal(self._rows, key)


class _Removal:
    def __init__(self, rows: dict[int, tuple[str, bytes]], key: int) -> None:
        self._rows = rows
        self._key = key

    async def __call__(self) -> None:
        self._rows.pop(self._key, None)


class MemoryFleetLink:
    """A gateway's way to devices in the same process.

    Args:
        shape: how replies and heartbeats arrive.
    """

    def __init__(self, shape: Shape = "push") -> None:
        intake = PushIntake if shape == "push" else TableIntake
        self.replies: PushIntake | TableIntake = intake()
        self.presence: PushIntake | TableIntake = intake()
        self._devices: dict[str, MemoryDeviceLink] = {}
        self._is_open = False
        self._changes: asyncio.Queue[LinkChange] = asyncio.Queue()

    def device(self, device: str) -> "MemoryDeviceLink":
        """Return a device's end; a second one of the same device takes over from the first."""
        link = MemoryDeviceLink(self, device)
        before = self._devices.get(device)
        self._devices[device] = link
        if before is not None:
            before.put(LinkDown("another client connected under the same id"))
        return link

    async def open(self) -> None:
        """Connect."""
        self._is_open = True
        self._changes.put_nowait(LinkChange(is_up=True))

    async def send(self, device: str, message: bytes) -> None:
        """Hand a message to a device, if it is there."""
        if not self._is_open:
            raise BrokerUnavailable("the link is closed")
        link = self._devices.get(device)
        if link is not None:
            link.put(Received(message, lambda: None))

    async def tell(self, device: str, message: bytes) -> None:
        """Hand a control message to a device, if it is there."""
        await self.send(device, message)

    async def next_change(self) -> LinkChange:
        """Wait until the link comes up or goes down."""
        return await self._changes.get()

    async def close(self) -> None:
        """Disconnect."""
        self._is_open = False

    def leave(self, device: str, link: "MemoryDeviceLink") -> None:
        """Forget a device's end, if it is still the one that is used."""
        if self._devices.get(device) is link:
            del self._devices[device]


class MemoryDeviceLink:
    """A device's way to its gateway in the same process."""

    def __init__(self, fleet: MemoryFleetLink, device: str) -> None:
        self._fleet = fleet
        self._device = device
        self._incoming: asyncio.Queue[LinkUp | LinkDown | Received] = asyncio.Queue()
        self._incoming.put_nowait(LinkUp())

    def put(self, incoming: LinkDown | Received) -> None:
        """Let something arrive."""
        self._incoming.put_nowait(incoming)

    async def next(self) -> LinkUp | LinkDown | Received:
        """Wait for what comes next."""
        return await self._incoming.get()

    def beat(self, message: bytes) -> None:
        """Publish a heartbeat."""
        self._fleet.presence.put(self._device, message)

    def answer(self, method: Method, message: bytes) -> None:
        """Publish a reply."""
        del method  # a topic's business
        self._fleet.replies.put(self._device, message)

    async def close(self) -> None:
        """Disconnect for good."""
        self._fleet.leave(self._device, self)


async def _nothing() -> None:
    """Remove nothing: a message that was pushed is gone from where it came."""
