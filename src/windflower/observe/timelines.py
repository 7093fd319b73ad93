"""What each device did and when, of the latest phases: nothing here grows with time.

    events ──> Exchange ──> parts: on its way, queued, downloading, working, uploading, late

A device tells with its heartbeats for how long it was at what, by a clock of its own. From the
moment at which that was heard its stages are laid out backwards, so that the two clocks need not
agree.
"""

from collections import OrderedDict, defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from operator import itemgetter
from typing import Any, Final

EXCHANGES: Final = 4_000
"""So many are kept, in whole phases, the latest; one that is larger is kept alone."""

ABSENCES: Final = 8
"""Of each device so many are known, the latest."""

Line = dict[str, Any]
Part = tuple[str, float, float]
"""What a device was at, from when, and until when: Unix seconds of the gateway's clock."""

_STAGES: Final = {
    "waiting": "queued",
    "fetching": "downloading",
    "working": "working",
    "uploading": "uploading",
    "answered": "uploading",
}


@dataclass(slots=True)
class Exchange:
    """What became of one command, so far.

    Attributes:
        run: of which run, or publication.
        command: its id.
        device: whom it was for.
        method: what it asks for.
        sent_at: when it was sent first, Unix seconds.
        sendings: how often it was sent.
        ended_at: when it settled; None while it is open.
        outcome: ok, failed or missing; None while it is open. `late` where its reply came after.
        late_at: when that was.
        worked_s: seconds of work on the device, as the device says.
        reason: why it failed, or is missing.
        stage: what the device last said that it is at with it.
        told_at: when it said so.
        spent_s: seconds that it waited, downloaded, worked and uploaded until then.
    """

    run: str
    command: str
    device: str
    method: str
    sent_at: float
    sendings: int = 1
    ended_at: float | None = None
    outcome: str | None = None
    late_at: float | None = None
    worked_s: float | None = None
    reason: str | None = None
    stage: str | None = None
    told_at: float | None = None
    spent_s: tuple[float, ...] = ()

    def lasted_s(self, now: float) -> float:
        """Return how long it took, or takes until now."""
        return (self.ended_at or now) - self.sent_at

    def parts(self, now: float) -> list[Part]:
        """Return what the device was at, in order of time, without gaps."""
        end = self.ended_at or now
        stages = [part for part in self._stages(end) if part[2] > part[1]]
        first = stages[0][1] if stages else end
        parts = [("on its way", self.sent_at, first), *stages]
        if self.late_at is not None:
            parts.append(("late", end, self.late_at))
        return [part for part in parts if part[2] > part[1]]

    def _stages(self, end: float) -> Iterator[Part]:
        if self.told_at is None or self.stage is None:
            if self.worked_s:
                yield "working", max(end - self.worked_s, self.sent_at), end
            return
        told = min(self.told_at, end)
        at = told - sum(self.spent_s)
        for stage, spent_s in zip(_STAGES, self.spent_s, strict=False):
            yield _STAGES[stage], max(at, self.sent_at), max(at + spent_s, self.sent_at)
            at += spent_s
        yield _STAGES[self.stage], told, end


@dataclass(slots=True)
class Timeline:
    """The exchanges of one phase, by command."""

    exchanges: dict[str, Exchange] = field(default_factory=dict)

    def slowest(self, now: float) -> list[Exchange]:
        """Return all, those that took longest first."""
        return sorted(self.exchanges.values(), key=lambda e: e.lasted_s(now), reverse=True)


class Timelines:
    """Keeps the exchanges of the latest phases, and when devices were away.

    Args:
        exchanges: how many are kept, at least those of the latest phase.
    """

    def __init__(self, exchanges: int = EXCHANGES) -> None:
        self._room = exchanges
        self._timelines: OrderedDict[tuple[str, int], Timeline] = OrderedDict()
        self._phase_of: dict[str, tuple[str, int]] = {}
        self._latest: dict[str, Exchange] = {}
        self._away: dict[str, float] = {}
        self._answered: dict[str, float] = {}
        self._absences: dict[str, deque[tuple[float, float]]] = {}

    # ------------------------------------------------------------------------- what is shown

    def of_phase(self, run: str, phase: int) -> Timeline | None:
        """Return a phase's exchanges; None where they are not kept any more."""
        return self._timelines.get((run, phase))

    def of_device(self, device: str) -> list[tuple[str, int, Exchange]]:
        """Return run, phase and exchange of what a device was asked, the latest first."""
        return [
            (run, phase, exchange)
            for (run, phase), timeline in reversed(self._timelines.items())
            for exchange in reversed(timeline.exchanges.values())
            if exchange.device == device
        ]

    def latest_of(self, device: str) -> Exchange | None:
        """Return what a device was asked last, however long ago; None where it never was."""
        return self._latest.get(device)

    def phases_of(self, run: str) -> list[int]:
        """Return the phases of a run whose exchanges are kept."""
        return [phase for known, phase in self._timelines if known == run]

    def absences(self, device: str, start: float, end: float) -> list[tuple[float, float]]:
        """Return when a device was away within a time."""
        spans: Iterable[tuple[float, float]] = self._absences.get(device, ())
        if device in self._away:
            spans = [*spans, (self._away[device], end)]
        clipped = ((max(a, start), min(b, end)) for a, b in spans)
        return [(a, b) for a, b in clipped if b > a]

    def explain(self, ordered: Sequence[Exchange], now: float) -> str:
        """Say in a sentence what made a phase slow; empty where nothing stands out.

        Args:
            ordered: its exchanges, those that took longest first.
            now: the gateway's clock.
        """
        if len(ordered) < 2:  # noqa: PLR2004 - nothing to compare
            return ""
        slowest, median = ordered[0], ordered[len(ordered) // 2]
        longest_s, usual_s = slowest.lasted_s(now), median.lasted_s(now)
        if longest_s < 1.5 * usual_s or longest_s - usual_s < 0.5:  # noqa: PLR2004 - "stands out"
            return ""
        what, spent_s = self._mostly(slowest, now)
        return (
            f"{slowest.device} took {longest_s:.1f} s, half of all at most {usual_s:.1f} s:"
            f" {spent_s:.1f} s of it {what}"
        )

    def _mostly(self, exchange: Exchange, now: float) -> tuple[str, float]:
        """Return what an exchange spent most of its time with."""
        spent_s: defaultdict[str, float] = defaultdict(float)
        for what, start, until in exchange.parts(now):
            away_s = sum(b - a for a, b in self.absences(exchange.device, start, until))
            if what != "late":
                spent_s[what] += until - start - away_s
                spent_s["offline"] += away_s
        return max(spent_s.items(), key=itemgetter(1), default=("waiting", 0.0))

    # ------------------------------------------------------------------------------- events

    def open(self, run: str, phase: int) -> None:
        """Begin a phase, or go on with one that is opened once more after a death."""
        self._timelines[run, phase] = self._timelines.pop((run, phase), Timeline())

    def close(self, run: str, phase: int) -> None:
        """End a phase; what was asked before a death, and not again after it, never settles."""
        timeline = self.of_phase(run, phase) or Timeline()
        for command in [c for c, e in timeline.exchanges.items() if e.ended_at is None]:
            exchange = timeline.exchanges.pop(command)
            del self._phase_of[command]
            if self._latest.get(exchange.device) is exchange:
                del self._latest[exchange.device]

    def give_up(self, run: str, at: float) -> None:
        """End whatever is open of a run that is over."""
        kept = (t.exchanges.values() for (known, _), t in self._timelines.items() if known == run)
        for exchange in chain(self._latest.values(), *kept):
            if exchange.run == run and exchange.ended_at is None:
                exchange.ended_at, exchange.outcome = at, "missing"
                exchange.reason = "the run was ended"

    def sent(self, run: str, phase: int, line: Line) -> None:
        """Take `command-sent`."""
        known = self.find(line)
        if known is not None:
            known.sendings += 1
            return
        exchange = Exchange(run, line["command"], line["device"], line["method"], line["at"])
        key = (run, phase)
        self._timelines.setdefault(key, Timeline()).exchanges[exchange.command] = exchange
        self._phase_of[exchange.command] = key
        self._latest[exchange.device] = exchange
        self._make_room()

    def find(self, line: Line) -> Exchange | None:
        """Return the exchange that an event is about; None where it is not kept."""
        key = self._phase_of.get(line["command"])
        return None if key is None else self._timelines[key].exchanges[line["command"]]

    def phase_of(self, line: Line) -> int | None:
        """Return the number of the phase in which a command was asked."""
        key = self._phase_of.get(line["command"])
        return None if key is None else key[1]

    def progressed(self, line: Line) -> None:
        """Take `command-progressed`."""
        exchange = self.find(line)
        if exchange is not None:
            exchange.stage, exchange.told_at = line["stage"], line["at"]
            exchange.spent_s = tuple(line[f"{stage}_s"] for stage in list(_STAGES)[:-1])

    def settled(self, line: Line, outcome: str) -> None:
        """Take what an exchange came to, where it is kept."""
        exchange = self.find(line)
        if exchange is not None:
            exchange.ended_at, exchange.outcome = line["at"], outcome
            exchange.worked_s, exchange.reason = line.get("worked_s"), line.get("reason")
        if outcome != "missing":
            self._answered[line["device"]] = line["at"]

    def left(self, line: Line) -> None:
        """Take `device-lost`."""
        device = line["device"]
        # A reply is noted a moment after it was heard: its device was there until then.
        self._away[device] = max(line["at"] - line["silent_s"], self._answered.get(device, 0.0))

    def came(self, line: Line) -> None:
        """Take `device-heard`."""
        since = self._away.pop(line["device"], None)
        if since is not None:
            kept = self._absences.setdefault(line["device"], deque(maxlen=ABSENCES))
            kept.append((since, line["at"]))

    def _make_room(self) -> None:
        while len(self._phase_of) > self._room:
            oldest = next(iter(self._timelines))
            if len(self._timelines) > 1:
                self._forget(oldest)
                continue
            _, number = oldest
            if number:  # a phase is kept whole; of what was pushed outside of any, the latest
                return
            exchanges = self._timelines[oldest].exchanges
            self._phase_of.pop(next(iter(exchanges)))
            del exchanges[next(iter(exchanges))]

    def _forget(self, key: tuple[str, int]) -> None:
        timeline = self._timelines.pop(key, None)
        for command in timeline.exchanges if timeline is not None else ():
            self._phase_of.pop(command, None)


def as_json(exchange: Exchange, away: list[tuple[float, float]], now: float) -> Mapping[str, Any]:
    """Return an exchange as a page draws it."""
    return {
        "command": exchange.command,
        "device": exchange.device,
        "method": exchange.method,
        "sent_at": exchange.sent_at,
        "sendings": exchange.sendings,
        "ended_at": exchange.ended_at,
        "outcome": exchange.outcome,
        "worked_s": exchange.worked_s,
        "reason": exchange.reason,
        "stage": exchange.stage,
        "parts": [*exchange.parts(now), *(("offline", a, b) for a, b in away)],
    }
