"""What a device says of itself."""

import re
from dataclasses import dataclass, field

from windflower.errors import MalformedMessage
from windflower.wire.identifiers import check_command, check_device
from windflower.wire.limits import IDS, LABELS_BYTES
from windflower.wire.messages.vocabulary import (
    CAUSES,
    COUNT,
    SECONDS,
    VERSION,
    Cause,
    check_version,
    ignored,
)
from windflower.wire.strict_json import Fields, array, dumps, integer, loads, number, present, text


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
        floor: below this run number it has forgotten everything.
        speaks: versions of the wire that it understands.
        labels: what the fleet's owner wants to tell devices apart by.
        model: digest of the published model that it uses; None where it has none.
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
    floor: int = 0
    speaks: tuple[int, ...] = (VERSION,)
    labels: dict[str, str] = field(default_factory=dict)
    model: str | None = None

    @property
    def holds(self) -> tuple[str, ...]:
        """The commands that this device has and has not answered, in its own order."""
        running = () if self.running is None else (self.running,)
        return (*running, *self.queued)

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
                    "floor": self.floor or None,
                    "speaks": self.speaks,
                    "labels": self.labels,
                    "ext": {"model": self.model} if self.model else None,
                }
            )
        ).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> "Heartbeat":
        """Read the message; raises MalformedMessage."""
        fields = Fields(loads(data), what="heartbeat")
        fields.take("v", check_version)
        ids = array(check_command, at_most=IDS)
        heartbeat = cls(
            client=fields.take("client", check_device),
            time=fields.take("time", number(-1e15, 1e15)),
            boot=fields.take("boot", text(64)),
            cause=fields.take("state", _cause),
            interval_s=fields.take("interval_s", number(0.01, SECONDS)),
            running=fields.take_or("running", check_command, None),
            queued=fields.take_or("queued", ids, ()),
            outbox=fields.take_or("outbox", ids, ()),
            need=fields.take_or("need", ids, ()),
            floor=fields.take_or("floor", integer(0, COUNT), 0),
            speaks=fields.take_or("speaks", _speaks, (VERSION,)),
            labels=fields.take_or("labels", check_labels, {}),
            model=fields.take_or("ext", _model, None),
        )
        fields.take_or("progress", ignored, None)
        fields.done()
        return heartbeat


def _model(ext: object) -> str | None:
    """Return the model that `ext` names, if it does: whatever else stands there is skipped."""
    named = ext.get("model") if isinstance(ext, dict) else None
    return named if isinstance(named, str) and re.fullmatch("[0-9a-f]{64}", named) else None


def check_labels(value: object) -> dict[str, str]:
    """Return a device's labels; raises MalformedMessage where a gateway would refuse them."""
    if not isinstance(value, dict) or len(value) > 64:  # noqa: PLR2004 - a bound, not a promise
        raise MalformedMessage("labels are not a small object")
    labels = {text(64)(key): text(256)(label) for key, label in value.items()}
    if len(dumps(labels)) > LABELS_BYTES:
        raise MalformedMessage(f"labels take more than {LABELS_BYTES} bytes")
    return labels


def _cause(value: object) -> Cause:
    if value not in CAUSES:
        raise MalformedMessage("a heartbeat's state is unknown")
    return value


def _speaks(value: object) -> tuple[int, ...]:
    versions = array(integer(1, 255), at_most=16)(value)
    if not versions:
        raise MalformedMessage("a device speaks at least one version")
    return versions
