"""The messages of wire version 1: heartbeat, command, control, reply.

A gateway's messages are sealed: the body is JSON text inside the envelope, signed as it stands.
Grants stand outside the body, so that a URL can be renewed without a new command. A device's
messages are plain JSON, with the original sample's field names where it had them, so that an IoT
rule can read them.
"""

from dataclasses import dataclass, field
from typing import Any, Final, Literal

from windflower.errors import LocalProtocolError, MalformedMessage
from windflower.wire.blobs import BlobRef, Grant, reply_key
from windflower.wire.content import Content, Values
from windflower.wire.identifiers import check_command, check_device, check_identifier
from windflower.wire.limits import (
    GRANTS_BYTES,
    IDS,
    LABELS_BYTES,
    MESSAGE_BYTES,
    REASON_BYTES,
    REASON_CHARS,
)
from windflower.wire.sealing import Signer, verify
from windflower.wire.strict_json import (
    Fields,
    array,
    dumps,
    integer,
    is_unicode,
    loads,
    number,
    present,
    text,
)

VERSION: Final = 1

NOTHING: Final = Content()
NO_CONFIG: Final = Values("configs", ())

Method = Literal["get_parameters", "set_parameters", "fit", "evaluate", "query"]
METHODS: Final = ("get_parameters", "set_parameters", "fit", "evaluate", "query")

ControlMethod = Literal["ack", "cancel", "grant", "rollcall"]
CONTROLS: Final = ("ack", "cancel", "grant", "rollcall")

Cause = Literal["connect", "interval", "task", "rollcall", "need", "gone"]
CAUSES: Final = ("connect", "interval", "task", "rollcall", "need", "gone")

RESERVED: Final = (
    "v", "id", "method", "type", "group", "client", "run", "epoch", "ttl_s", "sig", "grants",
    "need", "acks", "floor", "labels", "progress", "state",
)  # fmt: skip
"""Names that keep their one meaning in every later version."""

_FLOWER_METHODS: Final[dict[str, Method]] = {
    "train": "fit",
    "evaluate": "evaluate",
    "query": "query",
    "get_properties": "query",
    "get_parameters": "get_parameters",
}
_SECONDS: Final = 1e9
_COUNT: Final = 1 << 53
_MAX_CODE: Final = 1 << 31


def method_of(message_type: str) -> Method:
    """Return the method that carries a Flower message type, "train.my-action" included.

    Raises:
        MalformedMessage: no method carries it.
    """
    method = _FLOWER_METHODS.get(message_type.split(".", 1)[0])
    if method is None:
        raise MalformedMessage(f"no method carries the message type {message_type[:64]!r}")
    return method


# ------------------------------------------------------------------------------- heartbeat


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """A device says that it lives and what it holds, so that every loss repairs itself.

    Attributes:
        client: the device's id.
        time: its clock, Unix seconds; shown, never used.
        boot: changes with each start of the agent.
        cause: why it was sent.
        interval_s: the next one comes within so many seconds.
        running: the command that it works on.
        queued: other commands that it holds and has not answered.
        outbox: commands that it answered and whose answer was not acknowledged.
        need: commands for which it needs new grants.
        speaks: versions of the wire that it understands.
        labels: what the fleet's owner wants to tell devices apart by.
    """

    client: str
    time: float
    boot: str
    cause: Cause
    interval_s: float
    running: str | None = None
    queued: tuple[str, ...] = ()
    outbox: tuple[str, ...] = ()
    need: tuple[str, ...] = ()
    speaks: tuple[int, ...] = (VERSION,)
    labels: dict[str, str] = field(default_factory=dict)

    @property
    def holds(self) -> frozenset[str]:
        """The commands that this device has and has not answered."""
        running = () if self.running is None else (self.running,)
        return frozenset((*running, *self.queued))

    def to_bytes(self) -> bytes:
        """Write the message."""
        return dumps(
            {
                "v": VERSION,
                "client": self.client,
                "time": self.time,
                "boot": self.boot,
                "state": self.cause,
                "interval_s": self.interval_s,
            }
            | present(
                {
                    "running": self.running,
                    "queued": self.queued[:IDS],
                    "outbox": self.outbox[:IDS],
                    "need": self.need[:IDS],
                    "speaks": self.speaks,
                    "labels": self.labels,
                }
            )
        ).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> "Heartbeat":
        """Read the message; raises MalformedMessage."""
        fields = Fields(loads(data), what="heartbeat")
        fields.take("v", _version)
        ids = array(check_command, at_most=IDS)
        heartbeat = cls(
            client=fields.take("client", check_device),
            time=fields.take("time", number(-1e15, 1e15)),
            boot=fields.take("boot", text(64)),
            cause=fields.take("state", _cause),
            interval_s=fields.take("interval_s", number(0.01, _SECONDS)),
            running=fields.take_or("running", check_command, None),
            queued=fields.take_or("queued", ids, ()),
            outbox=fields.take_or("outbox", ids, ()),
            need=fields.take_or("need", ids, ()),
            speaks=fields.take_or("speaks", _speaks, (VERSION,)),
            labels=fields.take_or("labels", check_labels, {}),
        )
        fields.take_or("progress", _ignored, None)
        fields.done()
        return heartbeat


# --------------------------------------------------------------------------------- command


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
        epoch: which start of the run this is; a device ignores a lower one.
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
        fields.take("v", _version)
        command = cls(
            id=fields.take("id", check_command),
            client=fields.take("client", check_device),
            method=fields.take("method", _method),
            type=fields.take("type", text(256)),
            group=fields.take_or("group", text(1024), ""),
            run=fields.take("run", lambda v: check_identifier(v, what="run")),
            number=fields.take("number", integer(0, _COUNT)),
            epoch=fields.take("epoch", integer(0, _COUNT)),
            floor=fields.take("floor", integer(0, _COUNT)),
            ttl_s=fields.take("ttl_s", number(0, _SECONDS)),
            created_at=fields.take("created_at", number(0, 1e15)),
            content=fields.take("content", Content.from_json),
            bundle=fields.take_or("bundle", BlobRef.from_json, None),
            config=fields.take_or("config", _values_from_json, NO_CONFIG),
            seed=fields.take_or("seed", _seed, None),
        )
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
        boot: with a rollcall, the start of the agent that may go on where two were heard under one
            id; the other one stops.
    """

    client: str
    method: ControlMethod
    ids: tuple[str, ...] = ()
    boot: str | None = None

    def to_body(self) -> str:
        """Write what is signed."""
        return dumps(
            {"v": VERSION, "client": self.client, "method": self.method}
            | present({"acks" if self.method == "ack" else "ids": self.ids, "boot": self.boot})
        )

    @classmethod
    def from_body(cls, body: str) -> "Control":
        """Read what was signed; raises MalformedMessage."""
        fields = Fields(loads(body.encode("utf-8", "surrogatepass")), what="control")
        fields.take("v", _version)
        client = fields.take("client", check_device)
        method = fields.take("method", _control_method)
        key = "acks" if method == "ack" else "ids"
        ids = fields.take_or(key, array(check_command, at_most=IDS), ())
        boot = fields.take_or("boot", text(64), None)
        fields.done()
        return cls(client, method, ids, boot)


@dataclass(frozen=True, slots=True)
class Envelope:
    """What a gateway publishes: a sealed body, and grants beside it.

    Attributes:
        client: the device that it is for.
        method: what the body's method says.
        body: JSON text, signed as it stands.
        signature: base64.
        key: the signer's public key, base64; a device pins the first, or the one it was given.
        grants: not signed; what they fetch is checked against digests that are.
    """

    client: str
    method: str
    body: str
    signature: str
    key: str
    grants: tuple[Grant, ...] = ()

    def to_bytes(self) -> bytes:
        """Write the message."""
        return dumps(
            {
                "v": VERSION,
                "client": self.client,
                "method": self.method,
                "body": self.body,
                "sig": self.signature,
                "key": self.key,
            }
            | present({"grants": [grant.to_json() for grant in self.grants]})
        ).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> "Envelope":
        """Read the message without trusting it; raises MalformedMessage."""
        fields = Fields(loads(data), what="envelope")
        fields.take("v", _version)
        envelope = cls(
            client=fields.take("client", check_device),
            method=fields.take("method", text(32)),
            body=fields.take("body", text(len(data))),
            signature=fields.take("sig", text(128)),
            key=fields.take("key", text(64)),
            grants=fields.take_or("grants", array(Grant.from_json, at_most=IDS), ()),
        )
        fields.done()
        return envelope

    def open(self, *, pinned_key: str) -> Command | Control:
        """Check the seal and read the body; raises MalformedMessage."""
        if self.key != pinned_key:
            raise MalformedMessage("signed with another key than the pinned one")
        verify(self.body, signature=self.signature, key=pinned_key)
        opened: Command | Control
        if self.method in CONTROLS:
            opened = Control.from_body(self.body)
        else:
            opened = Command.from_body(self.body)
        if opened.client != self.client or opened.method != self.method:
            raise MalformedMessage("an envelope says other things than its body")
        return opened


def seal(message: Command | Control, signer: Signer, grants: tuple[Grant, ...] = ()) -> Envelope:
    """Sign a message for its device."""
    body = message.to_body()
    return Envelope(
        message.client, message.method, body, signer.sign(body), signer.public_key, grants
    )


# ----------------------------------------------------------------------------------- reply


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a device could not do what it was asked.

    Attributes:
        code: Flower's error code; what no reader would take is 0, "unknown".
        reason: what happened, the device's traceback where there is one.
    """

    code: int
    reason: str

    def __post_init__(self) -> None:
        """Make it fit: an app may fail with anything, and its failure has to arrive."""
        if not 0 <= self.code <= _MAX_CODE:
            object.__setattr__(self, "code", 0)
        reason = self.reason if is_unicode(self.reason) else _without_surrogates(self.reason)
        object.__setattr__(self, "reason", _without_middle(reason))


@dataclass(frozen=True, slots=True)
class Reply:
    """A device's answer to one command: content, or a failure.

    Attributes:
        client: the device's id.
        id: the command's id.
        method: the command's method.
        run: the command's run.
        epoch: the command's epoch.
        content: what the app answers; empty with a failure.
        failure: why there is no content.
        worked_s: seconds of work, for the page.
    """

    client: str
    id: str
    method: Method
    run: str
    epoch: int
    content: Content = NOTHING
    failure: Failure | None = None
    worked_s: float = 0.0

    @property
    def path(self) -> str | None:
        """The key of the reply's pack where it is a blob, else None."""
        if self.content.pack is None or self.content.inline is not None:
            return None
        return reply_key(self.run, self.client, self.id)

    def to_bytes(self) -> bytes:
        """Write the message."""
        return dumps(
            {
                "v": VERSION,
                "client": self.client,
                "id": self.id,
                "method": self.method,
                "run": self.run,
                "epoch": self.epoch,
                "digest": self.content.digest,
                "worked_s": self.worked_s,
            }
            | present(
                {
                    "path": self.path,
                    "content": self.content.to_json() if self.failure is None else None,
                    "error": _failure_json(self.failure),
                }
            )
            | self._as_the_original()
        ).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> "Reply":
        """Read the message; raises MalformedMessage."""
        value = loads(data)
        fields = Fields(value, what="reply")
        has_content = "content" in value
        fields.take("v", _version)
        digest = fields.take("digest", text(64))
        path = fields.take_or("path", text(512), None)
        reply = cls(
            client=fields.take("client", check_device),
            id=fields.take("id", check_command),
            method=fields.take("method", _method),
            run=fields.take("run", lambda v: check_identifier(v, what="run")),
            epoch=fields.take("epoch", integer(0, _COUNT)),
            content=fields.take_or("content", Content.from_json, NOTHING),
            failure=fields.take_or("error", _failure, None),
            worked_s=fields.take_or("worked_s", number(0, _SECONDS), 0.0),
        )
        if has_content is (reply.failure is not None):
            raise MalformedMessage("a reply has either content or an error")
        for readable in ("train_len", "dict", "loss", "accuracy"):
            fields.take_or(readable, _ignored, None)
        fields.done()
        if digest != reply.content.digest:
            raise MalformedMessage("a reply is not what its digest names")
        if path != reply.path:
            raise MalformedMessage("a reply's path is not its own")
        return reply

    def metrics(self) -> dict[str, float]:
        """Return the numbers of all inline metric records, for events and for rules."""
        return {
            name: float(value)
            for _, record in self.content.records
            if record is not None and record.kind == "metrics"
            for name, value in record.items
            if isinstance(value, int | float) and _is_json_number(value)
        }

    def _as_the_original(self) -> dict[str, object]:
        """The original's field names, for rules that were written for it; nobody here reads them.

        Source: federated-learning-greengrass-ecs, lambda/flower.py.
        """
        metrics = self.metrics()
        examples = metrics.pop("num-examples", None)
        if examples is not None and examples.is_integer() and abs(examples) < _COUNT:
            examples = int(examples)
        result: dict[str, object] = present({"train_len": examples})
        if self.method == "fit" and metrics:
            result["dict"] = metrics
        if self.method == "evaluate":
            result |= present({"loss": metrics.pop("loss", None)})
            if "accuracy" in metrics:
                result["accuracy"] = {"accuracy": metrics["accuracy"]}
        return result


# ---------------------------------------------------------------------------------- checks


def _version(value: object) -> int:
    return integer(VERSION, VERSION)(value)


def _cause(value: object) -> Cause:
    if value not in CAUSES:
        raise MalformedMessage("a heartbeat's state is unknown")
    return value


def _method(value: object) -> Method:
    if value not in METHODS:
        raise MalformedMessage("a method is unknown")
    return value


def _control_method(value: object) -> ControlMethod:
    if value not in CONTROLS:
        raise MalformedMessage("a control method is unknown")
    return value


def _seed(value: object) -> str:
    seed = text(16)(value)
    if len(seed) != 16 or any(c not in "0123456789abcdef" for c in seed):  # noqa: PLR2004 - 64 bits
        raise MalformedMessage("a seed is not 16 hex digits")
    return seed


def _speaks(value: object) -> tuple[int, ...]:
    versions = array(integer(1, 255), at_most=16)(value)
    if not versions:
        raise MalformedMessage("a device speaks at least one version")
    return versions


def check_labels(value: object) -> dict[str, str]:
    """Return a device's labels; raises MalformedMessage where a gateway would refuse them."""
    if not isinstance(value, dict) or len(value) > 64:  # noqa: PLR2004 - a bound, not a promise
        raise MalformedMessage("labels are not a small object")
    labels = {text(64)(key): text(256)(label) for key, label in value.items()}
    if len(dumps(labels)) > LABELS_BYTES:
        raise MalformedMessage(f"labels take more than {LABELS_BYTES} bytes")
    return labels


def _ignored(value: object) -> object:
    return value


def _failure(value: object) -> Failure:
    fields = Fields(value, what="error")
    failure = Failure(
        fields.take("code", integer(0, _MAX_CODE)), fields.take("reason", text(REASON_CHARS))
    )
    fields.done()
    return failure


def _without_surrogates(reason: str) -> str:
    return reason.encode("utf-8", "replace").decode()


def _without_middle(reason: str) -> str:
    """Cut the middle out of a long reason: the first and last lines say the most."""
    if len(reason) <= REASON_CHARS and len(dumps(reason)) <= REASON_BYTES:
        return reason
    chars, size = REASON_CHARS // 2 - 10, REASON_BYTES // 2 - 20
    head = reason[: _fitting(reason[:chars], size)]
    tail = reason[len(reason) - _fitting(reason[: -chars - 1 : -1], size) :]
    return f"{head}\n[ ... ]\n{tail}"


def _fitting(characters: str, size_bytes: int) -> int:
    """Return how many characters, from the first on, fit into so much JSON."""
    left = size_bytes
    for count, character in enumerate(characters):
        left -= len(dumps(character)) - 2
        if left < 0:
            return count
    return len(characters)


def _failure_json(failure: Failure | None) -> dict[str, object] | None:
    return {"code": failure.code, "reason": failure.reason} if failure else None


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


def _is_json_number(value: float) -> bool:
    return abs(value) < 1e300  # noqa: PLR2004 - also refuses NaN
