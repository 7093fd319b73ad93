"""What a device's duty says has to be done, as values to be carried out in order.

Whoever carries them out makes what stores durable before the next effect begins.
"""

from dataclasses import dataclass
from typing import Final, Literal

from windflower.core.events import Event
from windflower.wire.blobs import BlobRef, Grant
from windflower.wire.messages import Cause, Command, Heartbeat, Reply, TaskProgress


@dataclass(frozen=True, slots=True)
class KeepCommand:
    """Store a command that is new."""

    command: Command


@dataclass(frozen=True, slots=True)
class KeepReply:
    """Store a reply, and the app's new state with it, in one commit."""

    reply: Reply
    number: int


@dataclass(frozen=True, slots=True)
class KeepStart:
    """Count that work on a command begins: work that kills its device is given up in the end."""

    id: str


@dataclass(frozen=True, slots=True)
class Forget:
    """Drop what is kept of these commands, but remember that they were done."""

    ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Drop:
    """Drop commands that were cancelled; a gateway of a later epoch may ask for them again."""

    ids: tuple[str, ...]
    epoch: int


@dataclass(frozen=True, slots=True)
class ForgetBelow:
    """Drop all that is kept of runs below this number, their states included."""

    number: int


@dataclass(frozen=True, slots=True)
class Fetch:
    """Download the blobs that a command names, then call `fetched` or `fetch_failed`."""

    command: Command
    grants: tuple[Grant, ...]

    @property
    def id(self) -> str:
        """The command's."""
        return self.command.id

    @property
    def blobs(self) -> tuple[BlobRef, ...]:
        """What is to be there in the end."""
        return self.command.blobs


@dataclass(frozen=True, slots=True)
class Work:
    """Let the worker do a command, then call `worked`."""

    command: Command


@dataclass(frozen=True, slots=True)
class StopWork:
    """End the worker's present command without a result."""

    id: str


@dataclass(frozen=True, slots=True)
class Upload:
    """Put a reply's pack where its grant says, then call `uploaded` or `upload_failed`."""

    reply: Reply
    grant: Grant


@dataclass(frozen=True, slots=True)
class Publish:
    """Publish a reply."""

    reply: Reply


@dataclass(frozen=True, slots=True)
class Beat:
    """Publish a heartbeat: what the core knows of it."""

    cause: Cause
    running: str | None
    queued: tuple[str, ...]
    outbox: tuple[str, ...]
    need: tuple[str, ...]
    floor: int = 0
    progress: tuple[TaskProgress, ...] = ()

    def heartbeat(
        self,
        *,
        device: str,
        time: float,
        boot: str,
        interval_s: float,
        labels: dict[str, str],
        model: str | None = None,
        agent: str | None = None,
    ) -> Heartbeat:
        """Return the message, with what the core does not know.

        `agent` stands only where a gateway may not know it yet: in `connect` and `rollcall`.
        """
        return Heartbeat(
            client=device,
            time=time,
            boot=boot,
            cause=self.cause,
            interval_s=interval_s,
            running=self.running,
            queued=self.queued,
            outbox=self.outbox,
            need=self.need,
            floor=self.floor,
            progress=self.progress,
            labels=labels,
            model=model,
            agent=agent if self.cause in ("connect", "rollcall") else None,
        )


@dataclass(frozen=True, slots=True)
class Note:
    """Write an event."""

    event: Event


Effect = (
    KeepCommand | KeepReply | KeepStart | Forget | Drop | ForgetBelow | Fetch | Work | StopWork
    | Upload | Publish | Beat | Note
)  # fmt: skip

STORING: Final = (KeepCommand, KeepReply, KeepStart, Forget, Drop, ForgetBelow)

FetchProblem = Literal["refused", "unreachable", "interrupted", "damaged"]
"""refused: the grant is dead. unreachable: nothing came. interrupted: some of it came, and is kept.
damaged: other bytes than named.
"""
