"""What a gateway writes down, so that it goes on after a restart and tells a run the same again."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Self

from windflower.core import gateway_effects
from windflower.core.policy import RoundPolicy, Terms
from windflower.core.roster import Presence
from windflower.wire.blobs import BlobRef
from windflower.wire.content import Content
from windflower.wire.messages import NO_CONFIG, Command, Failure, Method, Reply
from windflower.wire.values import Values


@dataclass(frozen=True, slots=True)
class RunRecord:
    """What is known of a run.

    Attributes:
        run: its id.
        number: its number in the fleet.
        epoch: of the gateway under which it was begun, or begun again, last.
        app: the app's name.
        folder: where the app was read from, on the machine that started the run.
        bundle: the app as it was sent to the devices.
        config: the run configuration's overrides.
        seed: what all its random sources derive from; 0 once it was deleted.
        is_private: whether it draws noise that must stay secret: no device is sent a seed, and the
            run's own is deleted at its end.
        policy: what its phases wait for.
        limit: how many of the freshest devices take part; None takes all.
        request: of the request that opened it.
        simulated: how many devices are simulated for it, beside its gateway.
        crew: what simulated devices are called.
        state: open until it ended; an open run whose process is gone can be resumed.
        result: what it came to, once it ended.
        publishes: the run whose model this gives to the fleet; empty for runs of apps.
        created_at: Unix seconds.
        ended_at: Unix seconds, 0 while it is open.
        is_forgotten: whether what it rested on was cleaned up, so that it cannot be verified.
        is_resumable: whether all that it was told is kept, so that it can be begun again.
    """

    run: str
    number: int
    epoch: int
    app: str
    folder: str
    bundle: BlobRef
    config: Values
    seed: int
    is_private: bool
    policy: RoundPolicy
    limit: int | None
    request: str
    simulated: int
    crew: str
    state: Literal["open", "done", "failed"]
    created_at: float
    ended_at: float = 0.0
    is_forgotten: bool = False
    is_resumable: bool = True
    publishes: str = ""
    result: dict[str, object] = field(default_factory=dict)

    def to_json(self) -> dict[str, object]:
        """Return the JSON form, for journals and lines between our own processes."""
        return {
            "run": self.run,
            "number": self.number,
            "epoch": self.epoch,
            "app": self.app,
            "folder": self.folder,
            "bundle": self.bundle.to_json(),
            "config": Content((("config", self.config),)).to_json(),
            "is_private": self.is_private,
            "seed": str(self.seed),  # 63 bits, or 256: more than some JSON readers keep
            "policy": asdict(self.policy),
            "limit": self.limit,
            "request": self.request,
            "simulated": self.simulated,
            "crew": self.crew,
            "state": self.state,
            "created_at": self.created_at,
            "ended_at": self.ended_at,
            "is_forgotten": self.is_forgotten,
            "is_resumable": self.is_resumable,
            "publishes": self.publishes,
            "result": self.result,
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "RunRecord":
        """Read the JSON form."""
        config = Content.from_json(value["config"]).records[0][1]
        return cls(
            **{
                **value,
                "bundle": BlobRef.from_json(value["bundle"]),
                "config": config or NO_CONFIG,
                "seed": int(value["seed"]),
                "policy": RoundPolicy(**value["policy"]),
            }
        )


@dataclass(frozen=True, slots=True)
class PhaseRecord:
    """The exact list of exchanges that a phase ended with; journaled before the app sees it.

    Attributes:
        run: its run.
        phase: what was asked, as a digest.
        ids: the exchanges that the app is given, in the order in which it asked.
        number: the how manieth phase of its run this is, from 1.
    """

    run: str
    phase: str
    ids: tuple[str, ...]
    number: int


@dataclass(frozen=True, slots=True)
class RosterRecord:
    """What the app was told when it asked for the fleet for the nth time."""

    run: str
    call: int
    devices: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PullRecord:
    """What the app was given when it pulled for the nth time and there was something."""

    run: str
    call: int
    ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AggregateRecord:
    """What a strategy made of updates, and of nothing else.

    Attributes:
        run: its run.
        key: follows from the digests of the updates and their weights.
        ref: the pack with the result.
    """

    run: str
    key: str
    ref: BlobRef


@dataclass(frozen=True, slots=True)
class SpareRecord:
    """Updates were only read to be aggregated; what came out is kept.

    Attributes:
        run: their run.
        ids: the exchanges that they settled.
        header: what their packs begin with: names, dtypes and shapes stay known without them.
    """

    run: str
    ids: tuple[str, ...]
    header: bytes


@dataclass(frozen=True, slots=True)
class CheckpointRecord:
    """What a strategy goes on from when its run begins again, instead of being told all again.

    Attributes:
        run: its run.
        name: which strategy of the run; each keeps its last checkpoint only.
        number: grows with each that is kept under this name.
        ref: the pack that holds it.
        waiting_for: what was asked before, and is not used yet.
        phases: how many phases its run had asked for.
    """

    run: str
    name: str
    number: int
    ref: BlobRef
    waiting_for: tuple[str, ...]
    phases: int


@dataclass(frozen=True, slots=True)
class DropRecord:
    """Updates, or what was made of them, are gone: a run held more than its budget."""

    run: str
    ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ForgetRecord:
    """A finished run is forgotten but for what it came to."""

    run: str


@dataclass(frozen=True, slots=True)
class EpochRecord:
    """A gateway began, or a run began again: no later one may use this epoch or a lower one."""

    epoch: int


Entry = (
    gateway_effects.RecordCommands
    | gateway_effects.RecordTerms
    | gateway_effects.RecordReply
    | gateway_effects.RecordMissing
    | RunRecord
    | PhaseRecord
    | RosterRecord
    | PullRecord
    | EpochRecord
    | AggregateRecord
    | SpareRecord
    | CheckpointRecord
    | DropRecord
    | ForgetRecord
    | Presence
)


@dataclass(frozen=True, slots=True)
class OpenExchange:
    """An exchange that the journal holds open."""

    command: Command
    batch: str
    terms: Terms
    asked_at: float


@dataclass(frozen=True, slots=True)
class Settlement:
    """How an exchange ended: with a reply, or without its device.

    Attributes:
        header: what the reply's pack began with, where the pack was dropped; else None.
    """

    id: str
    run: str
    device: str
    method: Method
    batch: str
    reply: Reply | None
    failure: Failure | None
    header: bytes | None = None

    @property
    def is_answered(self) -> bool:
        """Whether the device said anything."""
        return self.reply is not None

    @property
    def is_good(self) -> bool:
        """Whether the device did what it was asked."""
        return self.reply is not None and self.reply.failure is None


@dataclass(frozen=True, slots=True)
class SettledExchange:
    """As much of a settlement as a gateway holds in memory while the run is open."""

    id: str
    run: str
    batch: str
    is_answered: bool
    is_good: bool


@dataclass(frozen=True, slots=True)
class Memory:
    """All that a gateway must know after a restart."""

    runs: tuple[RunRecord, ...]
    open: tuple[OpenExchange, ...]
    settled: tuple[SettledExchange, ...]
    presences: tuple[Presence, ...]
    last_number: int
    last_epoch: int


@dataclass(frozen=True, slots=True)
class History:
    """What a run asked and was told, so that it can be retraced.

    Attributes:
        commands: in the order in which they were asked.
        phases: in the order in which they closed.
        devices: all that it was ever told of.
        passed: what it asked before its last checkpoint.
    """

    commands: tuple[Command, ...]
    phases: tuple[PhaseRecord, ...]
    devices: tuple[str, ...]
    passed: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Tally:
    """How the exchanges of a run ended.

    Attributes:
        ok: with what was asked for.
        failed: with a device's failure.
        late: without the device.
    """

    ok: int = 0
    failed: int = 0
    late: int = 0

    @classmethod
    def of(cls, settled: Iterable[Settlement | SettledExchange]) -> Self:
        """Count these."""
        good, answered, every = 0, 0, 0
        for one in settled:
            good, answered, every = good + one.is_good, answered + one.is_answered, every + 1
        return cls(ok=good, failed=answered - good, late=every - answered)
