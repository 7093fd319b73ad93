"""What is known of a run and of its phases, for whoever looks."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from windflower.observe.timelines import Line


@dataclass(slots=True)
class Phase:
    """One phase of a run.

    Attributes:
        number: the how manieth.
        type: Flower's message type.
        round: how many phases trained, this one included.
        opened_at: Unix seconds.
        deadline_at: until when it is open at most; None where nothing bounds it.
        quorum: after so many good replies it closes; None where it waits for all.
        minimum: with fewer good replies at its end its run is suspended.
        waits_for_offline: whether a device that is lost is waited for.
        devices: how many it asked.
        counted_from: since when its traffic is counted: later than it was opened where the run or
            its gateway was killed meanwhile.
        closed_at: None while it is open.
        why_closed: empty while it is open.
        ok: good replies.
        failed: devices that said that they could not.
        late: devices that had not answered when it closed.
        worked_s: seconds of work on devices that answered in time.
        failed_s: those of them that ended in a failure.
        late_s: seconds of work on devices that answered too late.
        traffic: what passed since then; None until it is closed.
    """

    number: int
    type: str
    round: int
    opened_at: float
    deadline_at: float | None
    quorum: int | None
    minimum: int
    waits_for_offline: bool
    devices: int
    counted_from: float
    closed_at: float | None = None
    why_closed: str = ""
    ok: int = 0
    failed: int = 0
    late: int = 0
    worked_s: float = 0.0
    failed_s: float = 0.0
    late_s: float = 0.0
    traffic: Mapping[str, int] | None = None


@dataclass(slots=True)
class Run:
    """One run."""

    run: str
    app: str
    started_at: float
    bundle: str = ""
    state: str = "open"
    ended_at: float | None = None
    reason: str = ""
    round: int = 0
    phases: list[Phase] = field(default_factory=list)
    measured: list[Line] = field(default_factory=list)
    unfit: dict[str, str] = field(default_factory=dict)
    left_out: int = 0
    answers: Counter[str] = field(default_factory=Counter)

    @property
    def phase(self) -> Phase | None:
        """The phase that is open."""
        return self.phases[-1] if self.phases and self.phases[-1].closed_at is None else None


def row(run: Run) -> Line:
    """Return a run as a list of runs shows it."""
    return {
        "run": run.run,
        "app": run.app,
        "bundle": run.bundle,
        "state": run.state,
        "started_at": run.started_at,
        "ended_at": run.ended_at,
        "reason": run.reason.split("\n", 1)[0],
        "round": run.round,
        "ok": run.answers["ok"],
        "failed": run.answers["failed"],
        "late": run.answers["late"],
    }
