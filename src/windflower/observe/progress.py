"""A run under way, on a terminal."""

import sys
from typing import Any, Final

from windflower.observe.sentences import clock, sentence

_NEWS: Final = 4
_NAMED: Final = 4


class Progress:
    """What is known of a run that is under way, as a few lines.

    Args:
        rounds: how many there will be; None where it goes on until it is stopped.
    """

    def __init__(self, rounds: int | None) -> None:
        self._rounds = rounds
        self.round = 0
        self._metrics: dict[str, float] = {}
        self._phase = "starting a broker, a gateway and the devices"
        self._page = ""
        self._waiting: set[str] = set()
        self._answered = 0
        self._lost: dict[str, float] = {}
        self._opened: dict[str, Any] | None = None
        self._news: list[str] = []

    def take(self, line: dict[str, Any]) -> None:  # noqa: C901 - one case a kind of event
        """Take an event."""
        match line["event"]:
            case "gateway-ready":
                self._page = line.get("page", "")
            case "waiting-for-devices":
                self._phase = f"waiting for {line['need']} devices to be heard"
            case "phase-opened":
                self._phase, self._opened = line["type"], line
                self._answered = 0
                self._waiting.clear()
            case "phase-closed":
                self._opened = None
            case "command-sent":
                self._waiting.add(line["device"])
            case "reply-accepted" | "reply-failed" | "reply-missing":
                self._waiting.discard(line["device"])
                self._answered += 1
            case "round-measured" if line["stage"] == "evaluate" and line["round"] > self.round:
                # A gateway that was killed may report the last one once more.
                self.round, self._metrics = line["round"], line["metrics"]
            case "device-lost":
                self._lost[line["device"]] = line["at"] - line["silent_s"]
                self._news.append(self._loss(line))
            case "killed":
                words = [line["kind"], line["name"], f"(pid {line['pid']})"]
                self._news.append("killed: " + " ".join(word for word in words if word))
            case "gateway-lost" | "run-process-lost" | "run-resumed" | "broker-lost":
                self._news.append(sentence(line))
            case "device-heard" if line["device"] in self._lost:
                since = self._lost.pop(line["device"])
                away_s = line["at"] - since
                self._news.append(f"{line['device']} is back after {away_s:.0f} s")

    def _loss(self, line: dict[str, Any]) -> str:
        """Say who is missed, since when, and what will happen at which time."""
        device, since = line["device"], clock(line["at"] - line["silent_s"])
        said = f"{device} is lost: not heard since {since}"
        opened = self._opened
        if opened is None or device not in self._waiting:
            return said
        if not opened.get("waits_for_offline", True):
            return f"{said}; {opened['type']} goes on without it now"
        if opened.get("timeout_s") is None:
            return f"{said}; {opened['type']} waits for it"
        latest = clock(opened["at"] + opened["timeout_s"])
        return f"{said}; {opened['type']} waits for it until {latest}, then goes on without it"

    def text(self) -> str:
        """Return what a person wants to know now."""
        numbers = "  ".join(f"{k} {_number(v)}" for k, v in self._metrics.items())
        waiting = ", ".join(sorted(self._waiting)[:_NAMED])
        waiting += " …" if len(self._waiting) > _NAMED else ""
        now = f"{self._phase}: {self._answered} answered"
        if self._waiting:
            now += f", waiting for {waiting}"
        page = f"page {self._page}\n" if self._page else ""
        news = "".join(f"\n{item}" for item in self._news[-_NEWS:])
        return f"{page}{self._bar()} {numbers}\n{now}{news}"

    def _bar(self) -> str:
        if self._rounds is None:
            return f"round {self.round:>3}"
        done = int(30 * self.round / self._rounds)
        return f"round {self.round:>3}/{self._rounds} " + "█" * done + "·" * (30 - done)

    def say_plainly(self, line: dict[str, Any]) -> None:
        """Without a terminal: one line a round, and what is news."""
        news, rounds, page = len(self._news), self.round, self._page
        self.take(line)
        if self._page != page:
            sys.stderr.write(f"page {self._page}\n")
        for item in self._news[news:]:
            sys.stderr.write(f"  {item}\n")
        if self.round > rounds:
            numbers = ", ".join(f"{k} {_number(v)}" for k, v in line["metrics"].items())
            of = "" if self._rounds is None else f"/{self._rounds}"
            sys.stderr.write(f"round {line['round']}{of}: {numbers}\n")


def _number(value: float | None) -> str:
    return "nan" if value is None else f"{value:.3f}"
