"""Kills processes of a job at random moments, so that a person can watch what happens then."""

import os
import signal
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from random import Random
from typing import Any, Final

from windflower.pipeline.simulated import Show
from windflower.ports import Events

KINDS: Final = ("device", "device", "device", "run", "broker", "gateway")
"""What is killed, and in which proportion."""

_PROGRESS: Final = frozenset({"phase-opened", "command-sent", "reply-accepted", "phase-closed"})


class Chaos:
    """Watches a job's events, and strikes when the next moment has come.

    Moments are counted in progress, not in seconds: a machine that is slow is struck as often.

    Args:
        show: takes the job's events, and what was killed.
        events: where the kills are kept.
        seed: decides whom and when.
        strikes: how many kills.
        progress: how many events of progress to expect of the whole run.
    """

    def __init__(
        self, show: Show, events: Events, *, seed: int, strikes: int, progress: int
    ) -> None:
        self._show = show
        self._events = events
        self._random = Random(seed)  # noqa: S311 - to be repeated, not to be secret
        self._kinds = self._draw(strikes)
        self._spacing = max(progress * 4 // 5 // max(strikes, 1), 1)
        self._next_at = self._spacing
        self._progress = 0
        self._alive: dict[tuple[str, str], int] = {}
        self.kills: Counter[str] = Counter()

    def _draw(self, strikes: int) -> list[str]:
        """Choose kinds, each at least once before any comes again too often."""
        kinds: list[str] = []
        while len(kinds) < strikes:
            kinds += self._random.sample(KINDS, len(KINDS))
        return kinds[:strikes]

    def take(self, line: dict[str, Any]) -> None:
        """Take an event of the job, and strike if it is time."""
        self._show(line)
        match line["event"]:
            case "process-started":
                self._alive[line["kind"], line["name"]] = line["pid"]
            case "broker-started":
                self._alive["broker", ""] = line["pid"]
            case kind if kind in _PROGRESS:
                self._progress += 1
                if self._progress >= self._next_at and self._kinds:
                    self._strike()
            case _:
                pass

    def _strike(self) -> None:
        kind = self._kinds[0]
        victims = sorted(victim for victim in self._alive if victim[0] == kind)
        if not victims:
            return  # it is just being started again
        self._kinds.pop(0)
        self._next_at += self._random.randint(self._spacing // 2, self._spacing * 3 // 2)
        victim = self._random.choice(victims)
        pid = self._alive.pop(victim)
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            self.kills[kind] += 1
            line = {"event": "killed", "kind": kind, "name": victim[1], "pid": pid}
            self._events.write(line)
            self._show(line)


def counted(kills: Counter[str]) -> dict[str, int]:
    """Return how many of each kind were killed."""
    order: Sequence[str] = ("device", "broker", "gateway", "run")
    return {kind: kills[kind] for kind in order}
