"""The events: what happened, typed, one JSON line each. All that a person sees is made of these.

An event never holds a payload, a key or a URL.
"""

import dataclasses
import re
from dataclasses import dataclass

_CAPITAL = re.compile(r"(?<!^)(?=[A-Z])")


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened; each kind is a subclass, and its name in lower case its `event`."""

    @classmethod
    def kind(cls) -> str:
        """Return the name in the line: CommandSent is "command-sent"."""
        return _CAPITAL.sub("-", cls.__name__).lower()

    def to_json(self) -> dict[str, object]:
        """Return the line's fields, without the time at which it was written."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return {"event": self.kind(), **{k: v for k, v in values.items() if v is not None}}


# --------------------------------------------------------------------------------- the fleet


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayStarted(Event):
    """A gateway began to work on its state folder."""

    broker: str
    blobs: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerStarted(Event):
    """The gateway's own broker was started again."""

    broker: str
    pid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerConnected(Event):
    """The gateway's link to the broker is up; `again` where it was lost before."""

    broker: str
    again: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerLost(Event):
    """The gateway's link to the broker is down; it goes on trying."""

    broker: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceHeard(Event):
    """A device was heard for the first time, or again after it was lost."""

    device: str
    again: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceLost(Event):
    """A device was not heard for so long that it counts as offline."""

    device: str
    silent_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageRefused(Event):
    """Something arrived that was not accepted; it is counted and dropped."""

    reason: str
    device: str | None = None
    command: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HookFailed(Event):
    """Somebody was to be told of an event, and could not be."""

    hook: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SinkFailed(Event):
    """Measurements could not be put into a sink; it is tried again, and said when it fails anew."""

    sink: str
    reason: str


# ----------------------------------------------------------------------------------- the run


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStarted(Event):
    """A run's ServerApp begins; `bundle` is the digest of what devices get of its app."""

    run: str
    number: int
    epoch: int
    app: str
    bundle: str
    seed: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResumed(Event):
    """A run's ServerApp begins again at the top; what it was told before it is told again."""

    run: str
    epoch: int
    phases: int
    app: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSuspended(Event):
    """A run's process stopped before its end; the run is open and can be resumed.

    Attributes:
        run: the run.
        reason: why, for people.
        error: the kind of error that its process said; None where it said nothing.
    """

    run: str
    reason: str
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunLeftOpen(Event):
    """A gateway that began found this run open; nobody executes it until it is resumed."""

    run: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunForgotten(Event):
    """What a finished run rested on was cleaned up: it cannot be verified any more."""

    run: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RoomForeseen(Event):
    """What a run that begins may come to keep on the gateway's disk.

    Attributes:
        run: the run.
        budget_bytes: what it may keep at most so that it can be begun again.
        free_bytes: what the disk still takes.
        earlier: the last run of the same app of which the journal still knows it; None where there
            is none: then the first large phase is the first to show.
        earlier_bytes: what that one kept in the end.
    """

    run: str
    budget_bytes: int
    free_bytes: int
    earlier: str | None = None
    earlier_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RoomNeeded(Event):
    """What a run will keep on the gateway's disk, as far as its first large phase shows it.

    Attributes:
        run: the run.
        phase_bytes: what the answers of such a phase may take.
        budget_bytes: what the run may keep so that it can be begun again.
        free_bytes: what the disk still takes.
    """

    run: str
    phase_bytes: int
    budget_bytes: int
    free_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdatesDropped(Event):
    """A run reached its budget, and old updates went.

    Attributes:
        run: the run.
        updates: how many.
        size_bytes: how much they took.
        is_resumable: whether what was made of them is kept, so that the run can be begun again.
    """

    run: str
    updates: int
    size_bytes: int
    is_resumable: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseOpened(Event):
    """A run asked devices and waits for them.

    Attributes:
        run: the run.
        phase: the how manieth.
        type: Flower's message type.
        round: how many phases trained until now, this one included.
        devices: how many were asked.
        timeout_s: for how long they are waited for at most.
        spares: how many of them beside those that the app chose.
        minimum: with fewer good replies at its end the run is suspended.
        quorum: after so many good replies the rest is not waited for; None waits for all.
        waits_for_offline: whether a device that is lost is waited for.
        ok, failed, late: how many had been settled already, when the run or its gateway died.
    """

    run: str
    phase: int
    type: str
    round: int
    devices: int
    timeout_s: float | None
    spares: int = 0
    minimum: int = 0
    quorum: int | None = None
    waits_for_offline: bool = True
    ok: int = 0
    failed: int = 0
    late: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseClosed(Event):
    """A run has all the answers that it will get from one phase, or is over.

    Attributes:
        run: the run.
        phase: the how manieth.
        type: Flower's message type.
        ok: good replies.
        failed: devices that said that they could not.
        late: devices that were not waited for any longer.
        seconds: how long it was open, since it was opened last.
        worked_s: seconds of work on all devices that answered.
        failed_s: those of them that ended in a failure.
        reason: why it closed.
        traffic: what the gateway sent and heard meanwhile, as `Traffic` counts it.
        again: whether it was open before, when the run or its gateway died.
    """

    run: str
    phase: int
    type: str
    ok: int
    failed: int
    late: int
    seconds: float
    worked_s: float
    failed_s: float
    reason: str = ""
    traffic: dict[str, int] | None = None
    again: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceUnfit(Event):
    """A device lacks what an app asks for: it cannot run it, or it may not do it well."""

    run: str
    device: str
    reason: str
    is_left_out: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelPublished(Event):
    """A model is now the one that the fleet is to have."""

    run: str
    model: str
    of: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelTaken(Event):
    """A device uses the model that it was sent."""

    device: str
    model: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundMeasured(Event):
    """What a strategy made of a round's answers."""

    run: str
    round: int
    stage: str
    metrics: dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEnded(Event):
    """A run is over."""

    run: str
    success: bool
    reason: str
    seconds: float


# ------------------------------------------------------------------------------ the exchanges


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandSent(Event):
    """A command was published."""

    run: str
    device: str
    command: str
    method: str
    again: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandProgressed(Event):
    """A device said what it is at with a command, and for how long it was in each stage."""

    run: str
    device: str
    command: str
    stage: str
    waiting_s: float
    fetching_s: float
    working_s: float
    uploading_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyAccepted(Event):
    """A reply settled its exchange; `not_finite` names its metrics that are NaN or infinite."""

    run: str
    device: str
    command: str
    method: str
    seconds: float
    worked_s: float
    metrics: dict[str, float]
    not_finite: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyFailed(Event):
    """A device said that it could not do what it was asked."""

    run: str
    device: str
    command: str
    method: str
    code: int
    reason: str
    worked_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyMissing(Event):
    """An exchange was settled without its device: offline, or too late."""

    run: str
    device: str
    command: str
    method: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyLate(Event):
    """A reply came after its exchange was settled; it is counted and goes nowhere."""

    run: str
    device: str
    command: str
    method: str
    worked_s: float = 0.0


# ---------------------------------------------------------------------------- on the device


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentStarted(Event):
    """An agent runs."""

    device: str
    broker: str


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyPinned(Event):
    """A device had no gateway key and pinned the first that it heard."""

    device: str
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandAccepted(Event):
    """A device has stored a command."""

    device: str
    command: str
    method: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerStarted(Event):
    """A process that holds the ClientApp was forked from a loaded parent, or spawned."""

    how: str
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchStarted(Event):
    """A device began to download what a command names."""

    device: str
    command: str
    method: str
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadStarted(Event):
    """A device began to upload what it answers."""

    device: str
    command: str
    method: str
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkStarted(Event):
    """A device's worker began."""

    device: str
    command: str
    method: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkEnded(Event):
    """A device's worker is done; the result is stored."""

    device: str
    command: str
    method: str
    seconds: float
    failed: bool
