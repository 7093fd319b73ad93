"""What a page shows of a fleet, kept up to date by events; nothing of it grows with time.

event ──> Board ──> summary     small, the same size for ten devices and for ten thousand
├──> run         its rounds and phases
└──> timeline    what each device of one phase did, and when
"""

from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from windflower.core.roster import Presence

RUNS: Final = 50
"""So many runs are shown, the latest."""

POINTS: Final = 2_000
"""So many measurements of a run are kept, the latest."""

TIMELINES: Final = 8
"""Of so many phases of a run it is kept who did what."""

PUSHED: Final = 20_000
"""So many exchanges are kept that were pushed outside of any phase, the latest."""

NAMED: Final = 8
"""So many devices are named where a few stand for all."""

Line = dict[str, Any]


@dataclass(slots=True)
class Exchange:
    """What became of one command, so far.

    Attributes:
        device: whom it was for.
        method: what it asks for.
        sent_at: when it was sent first, Unix seconds.
        sendings: how often it was sent.
        ended_at: when it settled; None while it is open.
        outcome: ok, failed or missing; None while it is open. `late` where its reply came after.
        worked_s: seconds of work on the device, as the device says.
        reason: why it failed, or is missing.
    """

    device: str
    method: str
    sent_at: float
    sendings: int = 1
    ended_at: float | None = None
    outcome: str | None = None
    worked_s: float | None = None
    reason: str | None = None


@dataclass(slots=True)
class Phase:
    """One phase of a run.

    Attributes:
        number: the how manieth.
        type: Flower's message type.
        opened_at: Unix seconds.
        deadline_at: until when it is open at most; None where nothing bounds it.
        quorum: after so many good replies it closes; None where it waits for all.
        devices: how many it asked.
        closed_at: None while it is open.
        ok: good replies.
        failed: devices that said that they could not.
        late: devices that had not answered when it closed.
    """

    number: int
    type: str
    opened_at: float
    deadline_at: float | None
    quorum: int | None
    devices: int
    closed_at: float | None = None
    ok: int = 0
    failed: int = 0
    late: int = 0


@dataclass(slots=True)
class Run:
    """One run."""

    run: str
    app: str
    started_at: float
    state: str = "open"
    ended_at: float | None = None
    reason: str = ""
    round: int = 0
    phases: list[Phase] = field(default_factory=list)
    measured: list[Line] = field(default_factory=list)
    unfit: dict[str, str] = field(default_factory=dict)
    answers: Counter[str] = field(default_factory=Counter)
    timelines: "OrderedDict[int, dict[str, Exchange]]" = field(default_factory=OrderedDict)

    @property
    def phase(self) -> Phase | None:
        """The phase that is open."""
        return self.phases[-1] if self.phases and self.phases[-1].closed_at is None else None


class Board:
    """Keeps what is shown; it is one of the places where events go.

    Attributes:
        seq: grows with every event that changes something.
    """

    def __init__(self) -> None:
        self.seq = 0
        self._runs: OrderedDict[str, Run] = OrderedDict()
        self._broker = ""
        self._broker_problem: str | None = None
        self._notes: dict[str, Callable[[Line], None]] = {
            "gateway-started": self._broker_is_up,
            "broker-connected": self._broker_is_up,
            "broker-lost": self._broker_is_lost,
            "run-started": self._run_started,
            "run-resumed": self._run_resumed,
            "run-suspended": self._run_suspended,
            "run-ended": self._run_ended,
            "phase-opened": self._phase_opened,
            "phase-closed": self._phase_closed,
            "round-measured": self._measured,
            "device-unfit": self._unfit,
            "command-sent": self._sent,
            "reply-accepted": self._settled,
            "reply-failed": self._settled,
            "reply-missing": self._settled,
            "reply-late": self._late,
            "device-heard": lambda _: None,
            "device-lost": lambda _: None,
        }

    def write(self, line: Line) -> None:
        """Take an event."""
        note = self._notes.get(line["event"])
        if note is not None:
            note(line)
            self.seq += 1

    # ------------------------------------------------------------------------- what is shown

    def summary(self, roster: Sequence[Presence], now: float) -> Line:
        """Return what stands at the top of the page.

        Args:
            roster: what is known of each device.
            now: the gateway's clock.
        """
        online = {p.device for p in roster if p.is_online}
        latest = next(reversed(self._runs.values()), None)
        return {
            "seq": self.seq,
            "now": now,
            "broker": {"address": self._broker, "problem": self._broker_problem},
            "devices": {"online": len(online), "offline": len(roster) - len(online)},
            "run": None if latest is None else self._head(latest, online),
            "runs": [_row(run) for run in reversed(self._runs.values())],
        }

    def run(self, run: str) -> Line | None:
        """Return a run with its phases and measurements; None where it is not known."""
        found = self._runs.get(run)
        if found is None:
            return None
        return {
            **_row(found),
            "phases": [asdict(phase) for phase in found.phases],
            "measured": found.measured,
            "unfit": found.unfit,
            "timelines": list(found.timelines),
        }

    def timeline(self, run: str, phase: int) -> list[Line] | None:
        """Return what each device of a phase did, in the order in which they were asked."""
        found = self._runs.get(run)
        if found is None or phase not in found.timelines:
            return None
        return [asdict(exchange) for exchange in found.timelines[phase].values()]

    def _head(self, run: Run, online: set[str]) -> Line:
        phase = run.phase
        metrics = run.measured[-1]["metrics"] if run.measured else {}
        return {
            **_row(run),
            "metrics": metrics,
            "phase": None if phase is None else {**asdict(phase), **_missed(run, phase, online)},
        }

    # ------------------------------------------------------------------------------- events

    def _broker_is_up(self, line: Line) -> None:
        self._broker, self._broker_problem = line["broker"], None

    def _broker_is_lost(self, line: Line) -> None:
        self._broker, self._broker_problem = line["broker"], line["reason"]

    def _run_started(self, line: Line) -> None:
        self._runs[line["run"]] = Run(line["run"], line["app"], line["at"])
        while len(self._runs) > RUNS:
            self._runs.popitem(last=False)

    def _run_resumed(self, line: Line) -> None:
        run = self._run(line)
        run.state, run.reason = "open", ""

    def _run_suspended(self, line: Line) -> None:
        run = self._run(line)
        run.state, run.reason = "suspended", line["reason"]

    def _run_ended(self, line: Line) -> None:
        run = self._run(line)
        run.state = "done" if line["success"] else "failed"
        run.ended_at, run.reason = line["at"], line["reason"]

    def _phase_opened(self, line: Line) -> None:
        run = self._run(line)
        timeout_s = line.get("timeout_s")
        phase = Phase(
            number=line["phase"],
            type=line["type"],
            opened_at=line["at"],
            deadline_at=None if timeout_s is None else line["at"] + timeout_s,
            quorum=line.get("quorum"),
            devices=line["devices"],
        )
        # A run that is resumed opens a phase once more that its death left open.
        run.phases = [p for p in run.phases if p.number != phase.number]
        run.phases = [*run.phases, phase][-POINTS:]
        run.timelines[phase.number] = {}
        while len(run.timelines) > TIMELINES:
            run.timelines.popitem(last=False)

    def _phase_closed(self, line: Line) -> None:
        for phase in self._run(line).phases:
            if phase.number == line["phase"]:
                phase.closed_at = line["at"]
                phase.ok, phase.failed, phase.late = line["ok"], line["failed"], line["late"]

    def _measured(self, line: Line) -> None:
        run = self._run(line)
        run.round = max(run.round, line["round"])
        point = {key: line[key] for key in ("round", "stage", "metrics", "at")}
        run.measured = [*run.measured, point][-POINTS:]

    def _unfit(self, line: Line) -> None:
        if line["is_left_out"]:
            self._run(line).unfit[line["device"]] = line["reason"]

    def _sent(self, line: Line) -> None:
        exchanges = self._exchanges(line)
        known = exchanges.get(line["command"])
        if known is not None:
            known.sendings += 1
        else:
            sent = Exchange(line["device"], line["method"], line["at"])
            exchanges[line["command"]] = sent
            if len(exchanges) > PUSHED:
                del exchanges[next(iter(exchanges))]

    def _settled(self, line: Line) -> None:
        exchange = self._exchange(line)
        outcome = {"reply-accepted": "ok", "reply-failed": "failed"}.get(line["event"], "missing")
        exchange.ended_at, exchange.outcome = line["at"], outcome
        exchange.worked_s, exchange.reason = line.get("worked_s"), line.get("reason")
        run = self._run(line)
        run.answers[outcome] += 1
        phase = run.phase
        if phase is not None:
            phase.ok += outcome == "ok"
            phase.failed += outcome == "failed"
            phase.late += outcome == "missing"

    def _late(self, line: Line) -> None:
        for exchanges in self._run(line).timelines.values():
            if line["command"] in exchanges:
                exchanges[line["command"]].outcome = "late"

    def _run(self, line: Line) -> Run:
        """Return a run; one that began before this gateway did is made up of what is known."""
        name = line["run"]
        if name not in self._runs:
            self._runs[name] = Run(name, "", line["at"])
        return self._runs[name]

    def _exchanges(self, line: Line) -> dict[str, Exchange]:
        """Return the exchanges of the phase that is open; of all pushes where none is."""
        run = self._run(line)
        number = run.phase.number if run.phase is not None else 0
        return run.timelines.setdefault(number, {})

    def _exchange(self, line: Line) -> Exchange:
        for exchanges in reversed(self._run(line).timelines.values()):
            if line["command"] in exchanges:
                return exchanges[line["command"]]
        exchange = Exchange(line["device"], line["method"], line["at"])
        self._exchanges(line)[line["command"]] = exchange
        return exchange


def _row(run: Run) -> Line:
    return {
        "run": run.run,
        "app": run.app,
        "state": run.state,
        "started_at": run.started_at,
        "ended_at": run.ended_at,
        "reason": run.reason,
        "round": run.round,
        "ok": run.answers["ok"],
        "failed": run.answers["failed"],
        "late": run.answers["missing"],
    }


def _missed(run: Run, phase: Phase, online: set[str]) -> Mapping[str, Any]:
    """Return who is waited for: how many, and a few by name, those that are offline first."""
    exchanges = run.timelines.get(phase.number, {}).values()
    missed = [exchange.device for exchange in exchanges if exchange.ended_at is None]
    offline = [device for device in missed if device not in online]
    named = [*offline, *(device for device in missed if device in online)]
    return {
        "waiting": phase.devices - phase.ok - phase.failed - phase.late,
        "waiting_for": named[:NAMED],
        "offline": len(offline),
    }
