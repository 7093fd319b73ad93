"""MQTT 5 control packets: cut out of a byte stream, and as much of each as a relay must know.

Section numbers are those of the MQTT 5.0 specification.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

_LENGTH_BYTES: Final = 4
"""A remaining length has at most so many bytes. Source: section 1.5.5."""


class Kind(IntEnum):
    """The control packet types of section 2.1.2."""

    CONNECT = 1
    CONNACK = 2
    PUBLISH = 3
    PUBACK = 4
    PUBREC = 5
    PUBREL = 6
    PUBCOMP = 7
    SUBSCRIBE = 8
    SUBACK = 9
    UNSUBSCRIBE = 10
    UNSUBACK = 11
    PINGREQ = 12
    PINGRESP = 13
    DISCONNECT = 14
    AUTH = 15


class NotMqttError(ValueError):
    """What passes is no MQTT 5, or more of it than the relay knows."""


@dataclass(frozen=True, slots=True)
class Packet:
    """One control packet.

    Attributes:
        raw: all of its bytes.
        start: where what follows the fixed header begins.
    """

    raw: bytes
    start: int

    @property
    def kind(self) -> Kind:
        """What it is."""
        return Kind(self.raw[0] >> 4)

    @property
    def body(self) -> bytes:
        """What follows the fixed header."""
        return self.raw[self.start :]

    @property
    def acknowledged_id(self) -> int:
        """The packet id with which a PUBACK begins."""
        return int.from_bytes(self.body[:2], "big")


class Splitter:
    """Cuts a stream into packets, wherever the network cut it before."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, data: bytes) -> list[Packet]:
        """Return the packets that are complete now; raises NotMqttError."""
        self._rest += data
        packets: list[Packet] = []
        while (header := _fixed_header(self._rest)) is not None:
            start, size = header
            if len(self._rest) < start + size:
                break
            packets.append(Packet(bytes(self._rest[: start + size]), start))
            del self._rest[: start + size]
        return packets


def _fixed_header(data: bytearray) -> tuple[int, int] | None:
    """Return where the rest begins and how long it is, or None if bytes are missing."""
    if data and data[0] >> 4 == 0:
        raise NotMqttError("control packet type 0 is reserved")
    try:
        return _variable_integer(data, 1)
    except IndexError:
        return None


def _variable_integer(data: bytes | bytearray, at: int) -> tuple[int, int]:
    """Return the place after a variable byte integer, and its value.

    Raises:
        IndexError: bytes are missing.
        NotMqttError: it goes on after its last byte.
    """
    value = 0
    for place in range(_LENGTH_BYTES):
        byte = data[at + place]
        value |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            return at + place + 1, value
    raise NotMqttError("a variable byte integer of more than four bytes")


def variable_integer(value: int) -> bytes:
    """Write a variable byte integer."""
    written = bytearray()
    while True:
        value, low = divmod(value, 0x80)
        written.append(low | (0x80 if value else 0))
        if not value:
            return bytes(written)


def _string(data: bytes, at: int) -> tuple[int, str]:
    """Return the place after a string, and the string."""
    end = at + 2 + int.from_bytes(data[at : at + 2], "big")
    return end, data[at + 2 : end].decode()


@dataclass(frozen=True, slots=True)
class Publish:
    """What a PUBLISH says (section 3.3).

    Attributes:
        topic: where to; never empty, as neither side of ours uses topic aliases.
        qos: 0, 1 or 2.
        packet_id: what it is acknowledged by; None at QoS 0.
        is_retained: whether the broker keeps it, or kept it.
        is_again: whether its sender says that it is sent again.
        rest: properties and payload.
    """

    topic: str
    qos: int
    packet_id: int | None
    is_retained: bool
    is_again: bool
    rest: bytes

    @classmethod
    def read(cls, packet: Packet) -> "Publish":
        """Read a PUBLISH; raises NotMqttError for one whose topic is an alias."""
        flags = packet.raw[0]
        qos = (flags >> 1) & 3
        at, topic = _string(packet.body, 0)
        if not topic:
            raise NotMqttError("a topic alias: the relay does not follow them")
        packet_id = None
        if qos:
            packet_id = int.from_bytes(packet.body[at : at + 2], "big")
            at += 2
        return cls(topic, qos, packet_id, bool(flags & 1), bool(flags & 8), packet.body[at:])

    def write(self) -> bytes:
        """Return its bytes."""
        topic = self.topic.encode()
        body = len(topic).to_bytes(2, "big") + topic
        if self.packet_id is not None:
            body += self.packet_id.to_bytes(2, "big")
        body += self.rest
        flags = int(self.is_again) << 3 | self.qos << 1 | int(self.is_retained)
        return bytes([Kind.PUBLISH << 4 | flags]) + variable_integer(len(body)) + body

    def without_id(self) -> bytes:
        """Return the bytes of a copy at QoS 0, which nobody will acknowledge."""
        return Publish(
            self.topic, 0, None, self.is_retained, is_again=False, rest=self.rest
        ).write()


def puback(packet_id: int) -> bytes:
    """Return an acknowledgement that says success (section 3.4.2.1: two bytes say just that)."""
    return bytes([Kind.PUBACK << 4, 2]) + packet_id.to_bytes(2, "big")


def client_id(connect: Packet) -> str:
    """Return who connects (section 3.1); raises NotMqttError for another version of MQTT."""
    body = connect.body
    at, _ = _string(body, 0)
    if body[at] != 5:
        raise NotMqttError(f"MQTT version {body[at]}: the relay knows 5 only")
    at, size = _variable_integer(body, at + 4)
    return _string(body, at + size)[1]
