"""What a gateway's journal holds."""

from dataclasses import dataclass, field

from sim.app import Plan
from windflower.core.policy import Terms
from windflower.core.retention import keys_answered, keys_asked
from windflower.core.roster import Presence
from windflower.wire.messages import Command, Reply


@dataclass(slots=True)
class RunRow:
    """What the journal holds of one run."""

    plan: Plan
    number: int
    epoch: int
    is_over: bool = False
    ended_at: float = 0.0
    is_forgotten: bool = False


@dataclass(slots=True)
class Asked:
    """What the journal holds of one command."""

    command: Command
    batch: str
    terms: Terms
    asked_at: float


@dataclass(frozen=True, slots=True)
class KeepPresence:
    """Journal what is known of a device, as a record among the exchanges' own."""

    presence: Presence


@dataclass(slots=True)
class Journal:
    """What outlives a crash."""

    runs: dict[str, RunRow] = field(default_factory=dict)
    asked: dict[str, Asked] = field(default_factory=dict)
    outcomes: dict[str, str] = field(default_factory=dict)
    replies: dict[str, Reply] = field(default_factory=dict)
    good: set[str] = field(default_factory=set)
    presences: dict[str, Presence] = field(default_factory=dict)
    last_epoch: int = 0

    def is_open(self, id_: str) -> bool:
        """Whether an exchange waits for its reply."""
        return id_ not in self.outcomes and not self.runs[self.asked[id_].command.run].is_over

    def open_first(self) -> list[Asked]:
        """Return all that was asked, what is open before what is settled."""
        return sorted(self.asked.values(), key=lambda asked: not self.is_open(asked.command.id))

    def renew(self, batch: str, terms: Terms) -> None:
        """Put a batch on other terms."""
        for asked in self.asked.values():
            if asked.batch == batch:
                asked.terms = terms

    def live_keys(self, *, with_open: bool) -> frozenset[str]:
        """Return the keys of the blobs that open exchanges and runs not forgotten need."""
        keys: set[str] = set()
        for id_, asked in self.asked.items():
            run = self.runs[asked.command.run]
            if id_ in self.replies and not run.is_forgotten:
                keys |= keys_answered(self.replies[id_])
            elif with_open and id_ not in self.outcomes and not run.is_over:
                keys |= keys_asked(asked.command)
        return frozenset(keys)
