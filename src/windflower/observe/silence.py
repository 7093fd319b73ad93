"""What a run waits for, for people to whom nothing was said for a while."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from windflower.observe.sentences import clock, sentence

SILENT_S: Final = 10.0
"""After so long without a word it is said what is waited for."""

SILENT_AT_MOST_S: Final = 300.0

_HOLDS: Final = {
    **dict.fromkeys(("gateway-starting", "waiting-for-gateway", "gateway-lost"), "gateway"),
    "broker-lost": "broker",
    **dict.fromkeys(("waiting-for-devices", "run-left-open", "run-suspended"), "run"),
}
"""What holds a run up, by event: the gateway, the broker, or the run itself."""

_GOES_ON: Final = {
    "gateway-ready": ("gateway",),
    "broker-connected": ("gateway", "broker"),
    **dict.fromkeys(("run-started", "run-resumed", "phase-opened"), ("gateway", "broker", "run")),
}
_NAMED: Final = 4


class Silence:
    """Says what a run waits for, when there was nothing to say for a while.

    Args:
        now: the clock, Unix seconds.
    """

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._phase: Phase | None = None
        self._waiting: set[str] = set()
        self._held_by: dict[str, str] = {}
        self._since = now()
        self._gap_s = SILENT_S

    def take(self, line: dict[str, Any]) -> None:
        """Take an event; one that was said ends the silence."""
        self._count(line)
        if said := sentence(line):
            self._since, self._gap_s = self._now(), SILENT_S
        if line["event"] in _HOLDS:
            self._held_by.pop(_HOLDS[line["event"]], None)  # the latest stands last
            self._held_by[_HOLDS[line["event"]]] = said
        for holder in _GOES_ON.get(line["event"], ()):
            self._held_by.pop(holder, None)

    def _count(self, line: dict[str, Any]) -> None:
        match line["event"]:
            case "phase-opened":
                timeout_s = line.get("timeout_s")
                latest = None if timeout_s is None else line["at"] + timeout_s
                settled = sum(line.get(kind, 0) for kind in ("ok", "failed", "late"))
                self._phase = Phase(line["type"], line["devices"], latest, settled)
            case "phase-closed":
                self._phase = None
                self._waiting.clear()  # a gateway that is back sends before it opens a phase
            case "command-sent":
                self._waiting.add(line["device"])
            case "reply-accepted" | "reply-failed" | "reply-missing":
                self._waiting.discard(line["device"])
                if self._phase is not None:  # what was pushed before it may be answered too
                    self._phase.answered = min(self._phase.answered + 1, self._phase.devices)
            case _:
                pass

    def due(self) -> str:
        """Return what to say now: nothing, or what is waited for; each time later than before."""
        if self._now() - self._since < self._gap_s:
            return ""
        self._since = self._now()
        self._gap_s = min(2 * self._gap_s, SILENT_AT_MOST_S)
        if self._held_by:
            return f"still: {list(self._held_by.values())[-1]}"
        phase = self._phase
        open_ = len(self._waiting) if phase is None else phase.devices - phase.answered
        names = self._names(open_)
        if phase is None:
            return f"still {names}" if names else "still at it: the app itself is at work"
        told = f"still {phase.type}: {phase.answered} of {phase.devices} answered"
        latest = f"until {clock(phase.latest)} at most" if phase.latest is not None else ""
        return "; ".join(filter(None, (told, ", ".join(filter(None, (names, latest))))))

    def _names(self, count: int) -> str:
        """Return who is waited for: a few by name."""
        named = sorted(self._waiting)[:_NAMED]
        more = f" and {count - len(named)} more" if count > len(named) else ""
        return f"waiting for {', '.join(named)}{more}" if named else ""


@dataclass(slots=True)
class Phase:
    """A phase that is open: what is asked, of how many, until when, and how many answered."""

    type: str
    devices: int
    latest: float | None
    answered: int
