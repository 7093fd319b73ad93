"""What a page shows of a fleet, kept up to date by events; nothing of it grows with time.

event ──> Board ──> summary     small, the same size for ten devices and for ten thousand
├──> run         its rounds and phases
├──> timeline    what each device of one phase did, and when
└──> device      what one device did lately
"""

from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from typing import Any, Final, Protocol

from windflower.core.ledger import RunRecord, SettledExchange, Tally
from windflower.core.roster import Presence
from windflower.observe.news import NEWS, News
from windflower.observe.runs import Phase, Run, row
from windflower.observe.timelines import EXCHANGES, Exchange, Line, Timelines, as_json
from windflower.wire.strict_json import without_nan

RUNS: Final = 50
"""So many runs are shown, the latest."""

POINTS: Final = 2_000
"""So many measurements of a run are kept, the latest."""

UNFIT: Final = 50
"""Of so many devices of a run it is known why they were left out."""

NAMED: Final = 8
"""So many devices are named where a few stand for all."""

ERRORS: Final = 500
"""Of so many devices the last error is known."""

ERROR_CHARS: Final = 4_000

SUMS: Final = (
    *("run-started", "run-resumed", "run-suspended", "run-left-open", "run-ended"),
    *("phase-opened", "phase-closed", "round-measured", "device-unfit", "model-published"),
)
"""Events of an earlier life that count however old they are: they add up what the others tell."""

HISTORY: Final = 50
"""So much of what a device did lately is shown."""


class Price(Protocol):
    """What traffic costs."""

    @property
    def source(self) -> str:
        """Say whose prices these are, and of which day."""
        ...

    def __call__(self, traffic: Mapping[str, int], seconds: float) -> float:
        """Return dollars for what passed in so many seconds."""
        ...


class Board:
    """Keeps what is shown; it is one of the places where events go.

    Args:
        price: what traffic costs.
        exchanges: of how many exchanges it is kept what a device was at.
        news: how much of what happened is told.
        points: so many phases, and measurements, of a run are kept; None for as many as a page
            shows.

    Attributes:
        seq: grows with every event that changes something.
    """

    def __init__(
        self,
        price: Price | None = None,
        *,
        exchanges: int = EXCHANGES,
        news: int = NEWS,
        points: int | None = None,
    ) -> None:
        self.seq = 0
        self._price = price
        self._points = points or POINTS
        self._runs: OrderedDict[str, Run] = OrderedDict()
        self._publications: OrderedDict[str, Run] = OrderedDict()
        self._timelines = Timelines(exchanges)
        self._news = News(news)
        self._errors: OrderedDict[str, Line] = OrderedDict()
        self._broker = ""
        self._broker_problem: str | None = None
        self._notes: dict[str, Callable[[Line], None]] = {
            "gateway-started": self._broker_is_up,
            "broker-connected": self._broker_is_up,
            "broker-lost": self._broker_is_lost,
            "run-started": self._run_started,
            "run-resumed": self._run_resumed,
            "run-suspended": self._run_suspended,
            "run-left-open": self._run_left_open,
            "run-ended": self._run_ended,
            "phase-opened": self._phase_opened,
            "phase-closed": self._phase_closed,
            "round-measured": self._measured,
            "device-unfit": self._unfit,
            "model-published": self._published,
            "command-sent": self._sent,
            "command-progressed": self._timelines.progressed,
            "reply-accepted": self._settled,
            "reply-failed": self._settled,
            "reply-missing": self._settled,
            "reply-late": self._late,
            "device-heard": self._timelines.came,
            "device-lost": self._timelines.left,
        }

    def write(self, line: Line) -> None:
        """Take an event."""
        note = self._notes.get(line["event"])
        if note is not None:
            note(line)
        is_news = self._news.take(line)
        if note is not None or is_news:
            self.seq += 1

    def replay(self, lines: Iterable[Line]) -> None:
        """Take events of an earlier life; what another release wrote otherwise is skipped."""
        for line in lines:
            with suppress(KeyError):
                self.write(line)

    def recall(self, records: Iterable[RunRecord], settled: Iterable[SettledExchange] = ()) -> None:
        """Take what the journal knows of runs, which holds against what the events were.

        Args:
            records: the runs.
            settled: how the exchanges of open runs ended.
        """
        by_run: defaultdict[str, list[SettledExchange]] = defaultdict(list)
        for exchange in settled:
            by_run[exchange.run].append(exchange)
        known = sorted(records, key=lambda record: record.number, reverse=True)
        for record in reversed([record for record in known if record.publishes]):
            self._keep_publication(self._runs.pop(record.run, Run(record.run, "", 0.0)))
        for record in [record for record in known if not record.publishes][:RUNS]:
            if record.run not in self._runs:
                self._runs[record.run] = Run(record.run, record.app, record.created_at)
                self._runs.move_to_end(record.run, last=False)
            run = self._runs[record.run]
            run.app, run.started_at = record.app, record.created_at
            run.bundle = record.bundle.digest
            if record.state != "open":
                run.state, run.ended_at = record.state, record.ended_at or None
            if record.run in by_run:
                run.answers = Counter(asdict(Tally.of(by_run[record.run])))
            self._recall_result(run, record.result)
        self.seq += 1

    def _recall_result(self, run: Run, result: Mapping[str, Any]) -> None:
        run.reason = run.reason or str(result.get("reason", ""))
        run.round = max(run.round, int(result.get("rounds", 0)))
        if "replies" in result:
            run.answers = Counter(result["replies"])
        if not run.measured:
            run.measured = [
                {"round": run.round, "stage": stage, "metrics": metrics, "at": run.ended_at}
                for stage, metrics in result.get("metrics", {}).items()
            ]

    # ------------------------------------------------------------------------- what is shown

    def summary(self, roster: Sequence[Presence], now: float) -> Line:
        """Return what stands at the top of the page.

        Args:
            roster: what is known of each device.
            now: the gateway's clock.
        """
        presences = {presence.device: presence for presence in roster}
        online = sum(presence.is_online for presence in roster)
        latest = next(reversed(self._runs.values()), None)
        under_way = (run for run in reversed(self._runs.values()) if run.state == "open")
        shown = next(under_way, latest)
        return {
            "seq": self.seq,
            "now": now,
            "broker": {"address": self._broker, "problem": self._broker_problem},
            "devices": {"online": online, "offline": len(roster) - online},
            "run": None if shown is None else self._head(shown, presences),
            "runs": {run.run: row(run) for run in self._runs.values()},
            "news": self._news.latest(),
        }

    def run(self, run: str, *, phases_from: int = 0, measured_after: float = 0.0) -> Line | None:
        """Return a run with its phases and measurements; None where it is not known.

        Args:
            run: which run.
            phases_from: earlier phases are left out.
            measured_after: what was measured until then is left out, Unix seconds.
        """
        found = self._runs.get(run)
        if found is None:
            return None
        return {
            **row(found),
            "phases": [self._priced(p) for p in found.phases if p.number >= phases_from],
            "measured": [m for m in found.measured if (m["at"] or 0.1) > measured_after],
            "unfit": found.unfit,
            "left_out": found.left_out,
            "timelines": self._timelines.phases_of(run),
            "prices": "" if self._price is None else self._price.source,
        }

    @staticmethod
    def unknown(run: str) -> Line:
        """Return a run of which nothing is known but its id."""
        empty: Line = {
            "phases": [],
            "measured": [],
            "unfit": {},
            "left_out": 0,
            "timelines": [],
            "prices": "",
        }
        return {**row(Run(run, "", 0.0)), **empty}

    def timeline(
        self, run: str, phase: int, now: float, *, search: str = "", shown: slice = slice(None)
    ) -> Line | None:
        """Return what each device of a phase did, those that took longest first.

        Args:
            run: which run.
            phase: its number.
            now: the gateway's clock.
            search: only devices with this in their id, in small letters.
            shown: which of them; `count` says how many there are.
        """
        found = self._timelines.of_phase(run, phase)
        if found is None:
            return None
        slowest = found.slowest(now)
        wanted = [exchange for exchange in slowest if search in exchange.device.lower()]
        return {
            "exchanges": [self._drawn(exchange, now) for exchange in wanted[shown]],
            "count": len(wanted),
            "why": self._timelines.explain(slowest, now),
        }

    def latest(self, device: str) -> Line | None:
        """Return what a device was asked last, and what came of it; None where it never was."""
        found = self._timelines.latest_of(device)
        return None if found is None else {name: getattr(found, name) for name in _LATEST}

    def is_asked(self, device: str) -> bool:
        """Return whether a device was asked something, and did not answer yet."""
        found = self._timelines.latest_of(device)
        return found is not None and found.ended_at is None

    def failed_at(self, device: str) -> float | None:
        """Return when a device failed last; None where that is not known."""
        error = self._errors.get(device)
        return None if error is None else float(error["at"])

    def device(self, device: str, now: float) -> Line:
        """Return what a device did lately, and its last error."""
        history = self._timelines.of_device(device)
        return {
            "history": [
                {"run": run, "phase": phase, **self._drawn(exchange, now)}
                for run, phase, exchange in history[:HISTORY]
            ],
            "error": self._errors.get(device),
            "absences": self._timelines.absences(device, 0.0, now),
        }

    def _drawn(self, exchange: Exchange, now: float) -> Mapping[str, Any]:
        end = exchange.ended_at or now
        return as_json(
            exchange, self._timelines.absences(exchange.device, exchange.sent_at, end), now
        )

    def _priced(self, phase: Phase) -> Line:
        dollars = None
        if self._price is not None and phase.traffic is not None and phase.closed_at is not None:
            dollars = self._price(phase.traffic, phase.closed_at - phase.counted_from)
        return {
            **asdict(phase),
            "worked_s": phase.worked_s + phase.late_s,
            "wasted_s": phase.failed_s + phase.late_s,
            "dollars": dollars,
        }

    def _head(self, run: Run, presences: Mapping[str, Presence]) -> Line:
        phase = run.phase
        metrics = {point["stage"]: point["metrics"] for point in run.measured[-3:]}
        open_ = None
        if phase is not None:
            open_ = {**asdict(phase), **self._missed(run, phase.number, presences)}
            open_["waiting"] = phase.devices - phase.ok - phase.failed - phase.late
        asked = run.phases[-1].devices if run.phases else 0
        pushed = self._missed(run, 0, presences)
        return {**row(run), "metrics": metrics, "devices": asked, "phase": open_, "pushed": pushed}

    def _missed(self, run: Run, phase: int, presences: Mapping[str, Presence]) -> Mapping[str, Any]:
        """Return who is waited for: how many, and a few by name, those that are offline first."""
        timeline = self._timelines.of_phase(run.run, phase)
        exchanges = timeline.exchanges.values() if timeline is not None else ()
        rows = [_waited(e, presences.get(e.device)) for e in exchanges if e.ended_at is None]
        return {
            "waiting": len(rows),
            "waiting_for": sorted(rows, key=lambda row: row["online"])[:NAMED],
            "offline": sum(not row["online"] for row in rows),
        }

    # ------------------------------------------------------------------------------- events

    def _broker_is_up(self, line: Line) -> None:
        self._broker, self._broker_problem = line["broker"], None

    def _broker_is_lost(self, line: Line) -> None:
        self._broker, self._broker_problem = line["broker"], line["reason"]

    def _run_started(self, line: Line) -> None:
        self._runs[line["run"]] = Run(line["run"], line["app"], line["at"], line["bundle"])
        while len(self._runs) > RUNS:  # one that is under way would come back without its name
            over = (name for name, run in self._runs.items() if run.state != "open")
            del self._runs[next(over, next(iter(self._runs)))]

    def _published(self, line: Line) -> None:
        """Note what is no run of an app: devices are asked for it, and it is not listed."""
        for earlier in self._publications:  # devices are asked for the latest only
            self._timelines.give_up(earlier, line["at"])
        self._keep_publication(Run(line["run"], "", line["at"]))

    def _keep_publication(self, publication: Run) -> None:
        self._publications[publication.run] = publication
        while len(self._publications) > RUNS:
            self._publications.popitem(last=False)

    def _run_resumed(self, line: Line) -> None:
        run = self._run(line)
        run.state, run.reason, run.app = "open", "", run.app or line.get("app", "")
        run.unfit, run.left_out = {}, 0  # who cannot run the app is told again

    def _run_suspended(self, line: Line) -> None:
        run = self._run(line)
        run.state, run.reason = "suspended", line["reason"]

    def _run_left_open(self, line: Line) -> None:
        run = self._run(line)
        if run.state == "open":
            run.state = "suspended"
            run.reason = "its gateway was started again, and nobody executes it yet"

    def _run_ended(self, line: Line) -> None:
        run = self._run(line)
        run.state = "done" if line["success"] else "failed"
        run.ended_at, run.reason = line["at"], line["reason"]
        self._timelines.give_up(run.run, line["at"])
        if run.phase is not None:
            run.phase.late = run.phase.devices - run.phase.ok - run.phase.failed
            run.phase.why_closed, run.phase.closed_at = "the run was ended", line["at"]

    def _phase_opened(self, line: Line) -> None:
        run = self._run(line)
        timeout_s = line.get("timeout_s")
        # What was left open by a death, the gateway's or the run's, is opened once more.
        earlier = self._phase(run, line["phase"])
        phase = Phase(
            number=line["phase"],
            type=line["type"],
            round=line["round"] or run.round,  # an app may train by pushing, outside of phases
            opened_at=line["at"],
            counted_from=line["at"],
            deadline_at=None if timeout_s is None else line["at"] + timeout_s,
            quorum=line.get("quorum"),
            minimum=line.get("minimum", 0),
            waits_for_offline=line.get("waits_for_offline", True),
            devices=line["devices"],
            ok=line["ok"],
            failed=line["failed"],
            late=line["late"],
        )
        if earlier is not None:
            kept = ("opened_at", "worked_s", "failed_s", "late_s")
            phase = replace(phase, **{name: getattr(earlier, name) for name in kept})
            run.phases.remove(earlier)
        run.phases.append(phase)
        del run.phases[: -self._points]
        self._timelines.open(run.run, phase.number)

    def _phase_closed(self, line: Line) -> None:
        run = self._run(line)
        phase = self._phase(run, line["phase"])
        if phase is not None:
            phase.closed_at, phase.why_closed = line["at"], line.get("reason", "")
            phase.traffic = line.get("traffic")
            phase.ok, phase.failed, phase.late = line["ok"], line["failed"], line["late"]
            phase.worked_s, phase.failed_s = line["worked_s"], line["failed_s"]
            self._timelines.close(run.run, phase.number)

    def _measured(self, line: Line) -> None:
        run = self._run(line)
        run.round = max(run.round, line["round"])
        point = {key: without_nan(line[key]) for key in ("round", "stage", "metrics", "at")}
        run.measured.append(point)
        del run.measured[: -self._points]

    def _unfit(self, line: Line) -> None:
        if line["is_left_out"]:
            run = self._run(line)
            run.left_out += 1
            if len(run.unfit) < UNFIT:
                run.unfit[line["device"]] = line["reason"]
            self._keep_error(line)

    def _sent(self, line: Line) -> None:
        run = self._run(line)
        self._timelines.sent(run.run, run.phase.number if run.phase is not None else 0, line)

    def _settled(self, line: Line) -> None:
        outcome = _OUTCOMES[line["event"]]
        run = self._run(line)
        if self._timelines.find(line) is None:  # it was never sent: its device was offline
            self._sent(line)
        self._timelines.settled(line, "missing" if outcome == "late" else outcome)
        if outcome == "failed":
            self._keep_error(line)
        run.answers[outcome] += 1
        phase = self._phase(run, self._timelines.phase_of(line))
        if phase is not None and phase.closed_at is None:
            setattr(phase, outcome, getattr(phase, outcome) + 1)
            phase.worked_s += line.get("worked_s", 0.0)
            phase.failed_s += line.get("worked_s", 0.0) if outcome == "failed" else 0.0

    def _late(self, line: Line) -> None:
        exchange, number = self._timelines.find(line), self._timelines.phase_of(line)
        if exchange is not None:
            exchange.outcome, exchange.late_at = "late", line["at"]
        phase = self._phase(self._run(line), number)
        if phase is not None:
            phase.late_s += line.get("worked_s", 0.0)

    def _keep_error(self, line: Line) -> None:
        error = {"at": line["at"], "run": line["run"], "reason": line["reason"][-ERROR_CHARS:]}
        self._errors[line["device"]] = error
        self._errors.move_to_end(line["device"])
        while len(self._errors) > ERRORS:
            self._errors.popitem(last=False)

    def _run(self, line: Line) -> Run:
        """Return a run; one that began before this gateway did is made up of what is known."""
        name = line["run"]
        if name in self._publications:
            return self._publications[name]
        if name not in self._runs:
            self._runs[name] = Run(name, "", line["at"])
        return self._runs[name]

    def _phase(self, run: Run, number: int | None) -> Phase | None:
        return next((phase for phase in reversed(run.phases) if phase.number == number), None)


_OUTCOMES: Final = {"reply-accepted": "ok", "reply-failed": "failed", "reply-missing": "late"}
"""How an exchange ended, as its phase counts it."""

_LATEST: Final = ("method", "sent_at", "stage", "ended_at", "outcome", "worked_s")


def _waited(exchange: Exchange, presence: Presence | None) -> Line:
    return {
        "device": exchange.device,
        "online": presence is not None and presence.is_online,
        "heard_at": None if presence is None else presence.heard_at,
        "stage": exchange.stage,
    }
