"""What the exchanges say has to be done, as values to be carried out in order.

Whoever carries them out makes what records durable before the next effect begins.
"""

from dataclasses import dataclass
from typing import Final

from windflower.core.events import Event
from windflower.core.policy import Terms
from windflower.wire.messages import Command, ControlMethod, Failure, Reply


@dataclass(frozen=True, slots=True)
class RecordCommands:
    """Journal commands that are asked together and on which terms, before any is sent."""

    commands: tuple[Command, ...]
    batch: str
    terms: Terms


@dataclass(frozen=True, slots=True)
class RecordTerms:
    """Journal that commands which were asked before are waited for on other terms."""

    batch: str
    terms: Terms


@dataclass(frozen=True, slots=True)
class RecordReply:
    """Journal that a reply settled its exchange."""

    reply: Reply


@dataclass(frozen=True, slots=True)
class RecordMissing:
    """Journal that an exchange was settled without its device."""

    command: Command
    failure: Failure


@dataclass(frozen=True, slots=True)
class Send:
    """Publish a command, with fresh grants."""

    command: Command


@dataclass(frozen=True, slots=True)
class Tell:
    """Publish a control message; a `grant` carries fresh grants for its ids."""

    device: str
    method: ControlMethod
    ids: tuple[str, ...] = ()
    boot: str | None = None
    epoch: int = 0
    floor: int = 0


@dataclass(frozen=True, slots=True)
class Inspect:
    """Compare a reply's blob with the digest that it names, then call `inspected`."""

    reply: Reply


@dataclass(frozen=True, slots=True)
class Settle:
    """Tell whoever waits that an exchange is settled."""

    id: str


@dataclass(frozen=True, slots=True)
class Hold:
    """Tell whoever waits that a batch is past its deadline and has too few good replies."""

    batch: str
    good: int
    minimum: int


@dataclass(frozen=True, slots=True)
class Report:
    """Write an event."""

    event: Event


Effect = (
    RecordCommands | RecordTerms | RecordReply | RecordMissing | Send | Tell | Inspect | Settle
    | Hold | Report
)  # fmt: skip
RECORDS: Final = (RecordCommands, RecordTerms, RecordReply, RecordMissing)
