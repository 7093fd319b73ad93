"""What a gateway says to a device: a command for its queue, or a control past it."""

from dataclasses import dataclass
from typing import Any, Final

from windflower.errors import LocalProtocolError, MalformedMessage
from windflower.wire.blobs import BlobRef, reply_key
from windflower.wire.content import Content
from windflower.wire.identifiers import check_command, check_device, check_identifier
from windflower.wire.limits import GRANTS_BYTES, IDS, MESSAGE_BYTES
from windflower.wire.messages.vocabulary import (
    CONTROLS,
    COUNT,
    SECONDS,
    VERSION,
    ControlMethod,
    Method,
    check_method,
    check_version,
    ignored,
)
from windflower.wire.strict_json import Fields, array, dumps, integer, loads, number, present, text
from windflower.wire.values import Values

NO_CONFIG: Final = Values("configs", ())


@dataclass(frozen=True, slots=True)
class Command:
    """What a device is asked to do. Everything here is signed and never changes.

    Attributes:
        id: 128 bits in hex, never reused.
        client: the device that it is for.
        method: the wire's method.
        type: Flower's message type, action included.
        group: Flower's group id.
        run: the run's id.
        number: the run's number in the fleet; grows.
        epoch: grows with each start of the gateway and each new beginning of a run; a device
            ignores a lower one than it knows of this run.
        floor: the device may forget, and refuses, every run with a lower number.
        ttl_s: how long the answer is of use, from when it was sent.
        created_at: the gateway's clock when the app asked.
        content: what the app sends.
        bundle: the app.
        config: the run configuration's overrides.
        seed: seeds the worker's random sources; None leaves it to the device's own secret.
    """

    id: str
    client: str
    method: Method
    type: str
    group: str
    run: str
    number: int
    epoch: int
    floor: int
    ttl_s: float
    created_at: float
    content: Content
    bundle: BlobRef | None = None
    config: Values = NO_CONFIG
    seed: str | None = None

    @property
    def blobs(self) -> tuple[BlobRef, ...]:
        """What the device must hold before it can begin."""
        pack = self.content.pack if self.content.inline is None else None
        return tuple(ref for ref in (self.bundle, pack) if ref is not None)

    @property
    def reply_key(self) -> str:
        """Where a reply's pack goes that is too large for a message."""
        return reply_key(self.run, self.client, self.id)

    def to_body(self) -> str:
        """Write the immutable part, as it is signed."""
        return dumps(
            {
                "v": VERSION,
                "id": self.id,
                "client": self.client,
                "method": self.method,
                "type": self.type,
                "run": self.run,
                "number": self.number,
                "epoch": self.epoch,
                "floor": self.floor,
                "ttl_s": self.ttl_s,
                "created_at": self.created_at,
                "content": self.content.to_json(),
            }
            | present(
                {
                    "group": self.group or None,
                    "bundle": self.bundle.to_json() if self.bundle else None,
                    "config": _values_to_json(self.config),
                    "seed": self.seed,
                }
            )
        )

    def check_sendable(self) -> None:
        """Raise LocalProtocolError where devices would refuse this or no message can hold it."""
        body = self.to_body()
        if (size := len(dumps(body))) > MESSAGE_BYTES - GRANTS_BYTES:
            raise LocalProtocolError(
                f"a command of {size} bytes, at most {MESSAGE_BYTES - GRANTS_BYTES} can be sent:"
                " its configuration or its group's name is too long"
            )
        try:
            Command.from_body(body)
        except MalformedMessage as error:
            raise LocalProtocolError(f"devices refuse such a command: {error.reason}") from error

    @classmethod
    def from_body(cls, body: str) -> "Command":
        """Read the immutable part; raises MalformedMessage."""
        fields = Fields(loads(body.encode("utf-8", "surrogatepass")), what="command")
        fields.take("v", check_version)
        command = cls(
            id=fields.take("id", check_command),
            client=fields.take("client", check_device),
            method=fields.take("method", check_method),
            type=fields.take("type", text(256)),
            group=fields.take_or("group", text(1024), ""),
            run=fields.take("run", lambda v: check_identifier(v, what="run")),
            number=fields.take("number", integer(0, COUNT)),
            epoch=fields.take("epoch", integer(0, COUNT)),
            floor=fields.take("floor", integer(0, COUNT)),
            ttl_s=fields.take("ttl_s", number(0, SECONDS)),
            created_at=fields.take("created_at", number(0, 1e15)),
            content=fields.take("content", Content.from_json),
            bundle=fields.take_or("bundle", BlobRef.from_json, None),
            config=fields.take_or("config", _values_from_json, NO_CONFIG),
            seed=fields.take_or("seed", _seed, None),
        )
        fields.take_or("ext", ignored, None)
        fields.done()
        return command


@dataclass(frozen=True, slots=True)
class Control:
    """What a device is told at once, past its queue.

    Attributes:
        client: the device that it is for.
        method: ack releases replies, cancel ends commands, grant renews URLs, rollcall asks for a
            heartbeat.
        ids: the commands that it is about.
        boot: with a rollcall, a start of the agent that has to stop, because another one runs under
            the same id. A boot is never used twice, so that the order cannot be played again.
        epoch: which start of the gateway says this; a device does not take an ack or a cancel from
            a lower one than the command's run has reached.
        floor: as in a command.
    """

    client: str
    method: ControlMethod
    ids: tuple[str, ...] = ()
    boot: str | None = None
    epoch: int = 0
    floor: int = 0

    def to_body(self) -> str:
        """Write what is signed."""
        return dumps(
            {
                "v": VERSION,
                "client": self.client,
                "method": self.method,
                "epoch": self.epoch,
                "floor": self.floor,
            }
            | present({"acks" if self.method == "ack" else "ids": self.ids, "boot": self.boot})
        )

    @classmethod
    def from_body(cls, body: str) -> "Control":
        """Read what was signed; raises MalformedMessage."""
        fields = Fields(loads(body.encode("utf-8", "surrogatepass")), what="control")
        fields.take("v", check_version)
        client = fields.take("client", check_device)
        method = fields.take("method", _control_method)
        epoch = fields.take("epoch", integer(0, COUNT))
        floor = fields.take("floor", integer(0, COUNT))
        key = "acks" if method == "ack" else "ids"
        ids = fields.take_or(key, array(check_command, at_most=IDS), ())
        boot = fields.take_or("boot", text(64), None)
        fields.take_or("ext", ignored, None)
        fields.done()
        return cls(client, method, ids, boot, epoch, floor)


def _control_method(value: object) -> ControlMethod:
    if value not in CONTROLS:
        raise MalformedMessage("a control method is unknown")
    return value


def _seed(value: object) -> str:
    seed = text(16)(value)
    if len(seed) != 16 or any(c not in "0123456789abcdef" for c in seed):  # noqa: PLR2004 - 64 bits
        raise MalformedMessage("a seed is not 16 hex digits")
    return seed


def _values_to_json(values: Values) -> object:
    if not values.items:
        return None
    return Content((("config", values),)).to_json()


def _values_from_json(value: Any) -> Values:  # noqa: ANN401 - JSON is any
    records = Content.from_json(value).records
    if len(records) != 1 or records[0][0] != "config":
        raise MalformedMessage("a configuration is one record")
    values = records[0][1]
    if values is None or values.kind != "configs":
        raise MalformedMessage("a configuration is a config record")
    return values
