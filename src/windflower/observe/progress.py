"""A run under way, on a terminal."""

import sys
from typing import Any

from windflower.observe.sentences import sentence


class Progress:
    """What is known of a run that is under way, as a few lines.

    Args:
        rounds: how many there will be.
    """

    def __init__(self, rounds: int) -> None:
        self._rounds = rounds
        self._round = 0
        self._metrics: dict[str, float] = {}
        self._phase = "starting a broker, a gateway and the devices"
        self._waiting: set[str] = set()
        self._answered = 0
        self._lost: set[str] = set()
        self._news: list[str] = []

    def take(self, line: dict[str, Any]) -> None:  # noqa: C901 - one case a kind of event
        """Take an event."""
        match line["event"]:
            case "waiting-for-devices":
                self._phase = f"waiting for {line['need']} devices to be heard"
            case "phase-opened":
                self._phase = line["type"]
                self._answered = 0
                self._waiting.clear()
            case "command-sent":
                self._waiting.add(line["device"])
            case "reply-accepted" | "reply-failed" | "reply-missing":
                self._waiting.discard(line["device"])
                self._answered += 1
            case "round-measured" if line["stage"] == "evaluate" and line["round"] > self._round:
                # A gateway that was killed may report the last one once more.
                self._round, self._metrics = line["round"], line["metrics"]
            case "device-lost":
                self._lost.add(line["device"])
                self._news.append(f"{line['device']} is lost")
            case "killed":
                words = [line["kind"], line["name"], f"(pid {line['pid']})"]
                self._news.append("killed: " + " ".join(word for word in words if word))
            case "gateway-lost" | "run-process-lost" | "run-resumed" | "broker-lost":
                self._news.append(sentence(line))
            case "device-heard" if line["device"] in self._lost:
                self._lost.discard(line["device"])
                self._news.append(f"{line['device']} is back")

    def text(self) -> str:
        """Return what a person wants to know now."""
        done = int(30 * self._round / self._rounds)
        bar = "█" * done + "·" * (30 - done)
        numbers = "  ".join(f"{k} {v:.3f}" for k, v in self._metrics.items())
        waiting = ", ".join(sorted(self._waiting)[:4]) + (" …" if len(self._waiting) > 4 else "")  # noqa: PLR2004
        now = f"{self._phase}: {self._answered} answered"
        if self._waiting:
            now += f", waiting for {waiting}"
        news = "".join(f"\n{item}" for item in self._news[-3:])
        return f"round {self._round:>3}/{self._rounds} {bar} {numbers}\n{now}{news}"

    def say_plainly(self, line: dict[str, Any]) -> None:
        """Without a terminal: one line a round, and what is news."""
        news, rounds = len(self._news), self._round
        self.take(line)
        for item in self._news[news:]:
            sys.stderr.write(f"  {item}\n")
        if self._round > rounds:
            numbers = ", ".join(f"{k} {v:.3f}" for k, v in line["metrics"].items())
            sys.stderr.write(f"round {line['round']}/{self._rounds}: {numbers}\n")
