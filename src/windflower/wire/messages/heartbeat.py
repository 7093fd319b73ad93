"""What a device says of itself."""

import re
from dataclasses import dataclass, field
from typing import Final, Literal

from windflower.errors import MalformedMessage
from windflower.wire.identifiers import check_command, check_device
from windflower.wire.limits import IDS, LABELS_BYTES, PROGRESS
from windflower.wire.messages.vocabulary import (
    CAUSES,
    COUNT,
    SECONDS,
    VERSION,
    Cause,
    check_version,
)
from windflower.wire.strict_json import Fields, array, dumps, integer, loads, number, present, text

Stage = Literal["waiting", "fetching", "working", "uploading", "answered"]
"""What a device is at with a command: it waits its turn, downloads, works, uploads, is done."""

STAGES: Final[tuple[Stage, ...]] = ("waiting", "fetching", "working", "uploading", "answered")
TIMED: Final = STAGES[:-1]
"""Those whose seconds are told."""


_EXTENSIONS: Final = {"model": "[0-9a-f]{64}", "agent": "[ -~]{1,64}"}


@dataclass(frozen=True, slots=True)
class TaskProgress:
    """What a device is at with one command; told to people, never used.

    Attributes:
        id: the command.
        stage: what it is at.
        waiting_s: for how long it waited for its turn, until now, by the device's clock.
        fetching_s: for how long it downloaded.
        working_s: for how long it worked.
        uploading_s: for how long it uploaded.
    """

    id: str
    stage: Stage
    waiting_s: float = 0.0
    fetching_s: float = 0.0
    working_s: float = 0.0
    uploading_s: float = 0.0

    def to_json(self) -> list[object]:
        """Return its row in a heartbeat."""
        seconds = (self.waiting_s, self.fetching_s, self.working_s, self.uploading_s)
        return [self.id, self.stage, *seconds]


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
        agent: which program it is, and of which version; told to people, never used.
        progress: what it is at with commands that it began, the latest first.
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
    agent: str | None = None
    progress: tuple[TaskProgress, ...] = ()

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
                    "progress": [row.to_json() for row in self.progress[:PROGRESS]],
                    "ext": present({"model": self.model, "agent": self.agent}),
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
            progress=fields.take_or("progress", _progress, ()),
            **fields.take_or("ext", _extensions, {}),
        )
        fields.done()
        return heartbeat


def _extensions(ext: object) -> dict[str, str]:
    """Return what `ext` says that this version knows: whatever else stands there is skipped."""
    said = ext if isinstance(ext, dict) else {}
    return {
        name: value
        for name, pattern in _EXTENSIONS.items()
        if isinstance(value := said.get(name), str) and re.fullmatch(pattern, value)
    }


def _progress(rows: object) -> tuple[TaskProgress, ...]:
    """Return the rows that this version knows; whatever else stands there is skipped."""
    listed = rows[:PROGRESS] if isinstance(rows, list) else []
    return tuple(row for row in map(_progress_row, listed) if row is not None)


def _progress_row(row: object) -> TaskProgress | None:
    match row:
        case [str(id_), stage, *seconds] if stage in STAGES and len(seconds) == len(TIMED):
            try:
                return TaskProgress(check_command(id_), stage, *map(number(0, SECONDS), seconds))
            except MalformedMessage:
                return None
    return None


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
