"""How what is said travels: in most seeds as the message itself, in some as its bytes.

A message never changes, so that handing it over shows all that the protocol does. Reading and
writing bytes would take most of a simulation's time; the seeds that do it cover the codecs.
"""

from hashlib import sha256
from typing import Protocol, cast

from windflower.errors import MalformedMessage
from windflower.wire.blobs import Grant
from windflower.wire.messages import (
    CONTROLS,
    Command,
    Control,
    Envelope,
    Heartbeat,
    Reply,
    seal,
)
from windflower.wire.sealing import Signer

Sealed = tuple[Command | Control, tuple[Grant, ...]]
Parcel = bytes | Sealed | Heartbeat | Reply
"""What the network carries; only whoever wrote it can say what it is."""


class Codec(Protocol):
    """Writes and reads all that crosses the network."""

    def close(self, message: Command | Control, grants: tuple[Grant, ...]) -> Parcel:
        """Write what the gateway says, sealed."""
        ...

    def open(self, parcel: Parcel) -> Sealed:
        """Check a seal and read what is under it."""
        ...

    def write(self, message: Heartbeat | Reply) -> Parcel:
        """Write what a device says."""
        ...

    def heartbeat(self, parcel: Parcel) -> Heartbeat:
        """Read a heartbeat."""
        ...

    def reply(self, parcel: Parcel) -> Reply:
        """Read a reply."""
        ...


class Handing:
    """Hands the messages over as they are."""

    def close(self, message: Command | Control, grants: tuple[Grant, ...]) -> Parcel:
        return message, grants

    def open(self, parcel: Parcel) -> Sealed:
        return cast("Sealed", parcel)

    def write(self, message: Heartbeat | Reply) -> Parcel:
        return message

    def heartbeat(self, parcel: Parcel) -> Heartbeat:
        return cast("Heartbeat", parcel)

    def reply(self, parcel: Parcel) -> Reply:
        return cast("Reply", parcel)


class Bytes:
    """The wire's own bytes, under its own seal: Ed25519, as on every device."""

    def __init__(self) -> None:
        self._signer = Signer(b"simulated".ljust(32))

    def close(self, message: Command | Control, grants: tuple[Grant, ...]) -> Parcel:
        return seal(message, self._signer, grants).to_bytes()

    def open(self, parcel: Parcel) -> Sealed:
        envelope = Envelope.from_bytes(cast("bytes", parcel))
        return envelope.open(pinned_key=self._signer.public_key), envelope.grants

    def write(self, message: Heartbeat | Reply) -> Parcel:
        return message.to_bytes()

    def heartbeat(self, parcel: Parcel) -> Heartbeat:
        return Heartbeat.from_bytes(cast("bytes", parcel))

    def reply(self, parcel: Parcel) -> Reply:
        return Reply.from_bytes(cast("bytes", parcel))


class QuickBytes(Bytes):
    """The same bytes around a hash instead of a signature: no simulated fault forges anything."""

    _KEY = "quick"

    def close(self, message: Command | Control, grants: tuple[Grant, ...]) -> Parcel:
        body = message.to_body()
        mark = sha256(body.encode()).hexdigest()
        return Envelope(message.client, message.method, body, mark, self._KEY, grants).to_bytes()

    def open(self, parcel: Parcel) -> Sealed:
        envelope = Envelope.from_bytes(cast("bytes", parcel))
        if envelope.signature != sha256(envelope.body.encode()).hexdigest():
            raise MalformedMessage("the seal does not fit")
        if envelope.method in CONTROLS:
            return Control.from_body(envelope.body), envelope.grants
        return Command.from_body(envelope.body), envelope.grants
