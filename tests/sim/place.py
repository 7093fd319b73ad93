"""What all processes of one simulation share."""

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import Protocol

from sim.blob_store import BlobStore
from sim.network import Network
from sim.oracle import Oracle
from sim.parts import Parts
from sim.weather import Weather
from sim.world import World
from windflower.errors import MalformedMessage
from windflower.wire.blobs import Grant
from windflower.wire.messages import CONTROLS, Command, Control, Envelope, seal
from windflower.wire.sealing import Signer


class Seal(Protocol):
    """Signs what the gateway says and opens it on a device."""

    def close(self, message: Command | Control, grants: tuple[Grant, ...]) -> bytes:
        """Write a sealed message."""
        ...

    def open(self, data: bytes) -> tuple[Command | Control, tuple[Grant, ...]]:
        """Check a seal and read what is under it."""
        ...


class RealSeal:
    """Ed25519, as on every device: two thirds of a simulation's time."""

    def __init__(self) -> None:
        self._signer = Signer(b"simulated".ljust(32))

    def close(self, message: Command | Control, grants: tuple[Grant, ...]) -> bytes:
        return seal(message, self._signer, grants).to_bytes()

    def open(self, data: bytes) -> tuple[Command | Control, tuple[Grant, ...]]:
        envelope = Envelope.from_bytes(data)
        return envelope.open(pinned_key=self._signer.public_key), envelope.grants


class QuickSeal:
    """The same bytes around a hash instead of a signature: no simulated fault forges anything."""

    _KEY = "quick"

    def close(self, message: Command | Control, grants: tuple[Grant, ...]) -> bytes:
        body = message.to_body()
        mark = sha256(body.encode()).hexdigest()
        return Envelope(message.client, message.method, body, mark, self._KEY, grants).to_bytes()

    def open(self, data: bytes) -> tuple[Command | Control, tuple[Grant, ...]]:
        envelope = Envelope.from_bytes(data)
        if envelope.signature != sha256(envelope.body.encode()).hexdigest():
            raise MalformedMessage("the seal does not fit")
        if envelope.method in CONTROLS:
            return Control.from_body(envelope.body), envelope.grants
        return Command.from_body(envelope.body), envelope.grants


@dataclass(slots=True)
class Place:
    """The world, what is in it, and the weather, which changes once: when all is healed.

    Attributes:
        spares_the_unlucky: whether no device loses power so often that it gives a command up.
        states_of: reads the apps' states of one run from the devices' disks.
    """

    world: World
    weather: Weather
    network: Network
    blobs: BlobStore
    oracle: Oracle
    seal: Seal
    parts: Parts
    heartbeat_s: float
    spares_the_unlucky: bool
    states_of: Callable[[str], dict[str, str]]

    def change_weather(self, weather: Weather) -> None:
        """Let other weather begin."""
        self.weather = self.network.weather = self.blobs.weather = weather
