"""One case from its start to its checked end."""

import json
import os
import select
import signal
import socket
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from crash import disk
from crash.deaths import Plan, Role
from crash.ending import Past, begun_in, differences, problems_in
from crash.ledger import lines_of
from crash.life import ROLES, Life, begin
from crash.place import Place
from crash.points import replies_in

DEADLINE_S: Final = 30.0
_DEADLINE_WITH_A_BUG_S: Final = 6.0
_GLANCE_S: Final = 0.01


@dataclass(slots=True)
class Verdict:
    """What came of a case.

    Attributes:
        plan: who was to be killed when.
        problems: what is wrong with its end; empty where all is well.
        killed: before which effects somebody really was killed.
        duplicates: how many replies were published again.
        begun_again: how much work was begun again.
        seconds: how long it took.
    """

    plan: str
    problems: list[str] = field(default_factory=list)
    killed: list[str] = field(default_factory=list)
    duplicates: int = 0
    begun_again: int = 0
    seconds: float = 0.0


class Broken(Exception):  # noqa: N818 - named after what it reports
    """A case that cannot go on."""


class Case:
    """Two processes that are killed as planned, and what must hold in the end."""

    def __init__(self, place: Place, plan: Plan, voices: int) -> None:
        self._place = place
        self._plan = plan
        self._voices = voices
        self._lives: dict[Role, Life] = {}
        self._numbers: Counter[Role] = Counter()
        self._model: str | None = None
        self._waits_for: str | None = None
        self._past = Past()
        self._patience_s = _DEADLINE_WITH_A_BUG_S if place.bug else DEADLINE_S
        self._deadline = time.monotonic() + self._patience_s
        self._verdict = Verdict(str(plan))

    def run(self) -> Verdict:
        """Run the case."""
        began = time.monotonic()
        try:
            self._play()
        except Broken as broken:
            self._verdict.problems.append(str(broken))
        finally:
            for life in self._lives.values():
                os.kill(life.pid, signal.SIGKILL)
                life.bury()
        self._count()
        self._verdict.seconds = round(time.monotonic() - began, 3)
        return self._verdict

    def _play(self) -> None:
        for role in ROLES:
            self._begin(role)
        for role in ("agent", "gateway"):
            self._until_done()
            self._stop(role)
        self._verdict.problems += problems_in(self._place, self._model, self._past)

    # ------------------------------------------------------------------------------ lives

    def _begin(self, role: Role) -> None:
        number = self._numbers[role]
        self._numbers[role] += 1
        self._lives[role] = begin(self._place, role, number, self._plan.kill_at(role, number))

    def _until_done(self) -> None:
        """Let them live until nothing is left to wait for."""
        self._waits_for = self._what_is_left()
        while self._waits_for is not None:
            for role in self._watch():
                self._follow(role)
            self._waits_for = self._what_is_left()

    def _follow(self, role: Role) -> None:
        """Start a role again that was killed as planned; nothing else may have ended it."""
        if not self._bury(role):
            raise Broken(f"the {role} ended before its time")
        self._begin(role)

    def _what_is_left(self) -> str | None:
        """Return what is waited for: the model, life signs of the devices, what they owe."""
        if self._model is None:
            return "the model"
        life = self._lives.get("agent")
        if life is None:
            return None
        trace = " ".join(lines_of(self._place.trace("agent", life.number)))
        for device in self._place.devices:
            if f"published heartbeat {device}" not in trace:
                return f"a heartbeat of {device}"
        state = self._place.device_state
        if not disk.is_quiet(state / "device.db"):
            return "an acknowledgement"
        updates = [path.name for path in (state / "updates").iterdir()]
        return f"the end of the updates {updates}" if updates else None

    def _stop(self, role: Role) -> None:
        """End a role in good order; one that is killed meanwhile starts again, and ends then."""
        while True:
            os.kill(self._lives[role].pid, signal.SIGTERM)
            if self._has_ended_well(role):
                return
            self._begin(role)
            self._until_done()

    def _has_ended_well(self, role: Role) -> bool:
        """Wait for the end of a role that was asked to end."""
        while True:
            for ended in self._watch():
                if ended == role:
                    return not self._bury(role)
                self._follow(ended)

    def _watch(self) -> list[Role]:
        """Hear for a moment what the lives say; return whose have ended."""
        if time.monotonic() > self._deadline:
            what = self._waits_for or "an orderly end"
            raise Broken(f"waited {self._patience_s:.0f} s in vain for {what}")
        by_descriptor = {life.ended: role for role, life in self._lives.items()}
        ready, _, _ = select.select([*by_descriptor, self._voices], [], [], _GLANCE_S)
        if self._voices in ready:
            for line in os.read(self._voices, 65536).splitlines():
                self._model = json.loads(line)["model"]
        return [by_descriptor[d] for d in ready if d in by_descriptor]

    def _bury(self, role: Role) -> bool:
        """Note how a life ended; return whether it was killed as planned."""
        life = self._lives.pop(role)
        code = life.bury()
        if code == 0:
            return False
        trace = lines_of(self._place.trace(role, life.number))
        if code != -signal.SIGKILL or len(trace) != life.kill_at:
            said = lines_of(self._place.said(role))[-1:]
            raise Broken(f"the {role} ended with {code} after {trace[-1:]}: {said}")
        self._verdict.killed.append(f"{role} {trace[-1]}")
        if role == "agent":
            self._remember_answers(life.number)
        else:
            self._remember_settlements()
        return True

    def _remember_answers(self, number: int) -> None:
        """Note what a life of the agent had answered, and how much work was begun until then."""
        self._past.agent_deaths += 1
        begun = len(lines_of(self._place.work))
        durable = disk.answered(self._place.device_state / "device.db")
        for id_ in durable | set(self._published(number)):
            self._past.answered.setdefault(id_, begun)

    def _remember_settlements(self) -> None:
        settled = disk.settled(self._place.gateway_state / "journal.db")
        self._verdict.problems += differences(self._past.settled, settled)
        self._past.settled |= settled
        self._model = None  # its next life has to say it again

    # ----------------------------------------------------------------------------- the end

    def _count(self) -> None:
        published = Counter(i for number in self._agents() for i in self._published(number))
        self._verdict.duplicates = published.total() - len(published)
        begun = begun_in(self._place)
        self._verdict.begun_again = begun.total() - len(begun)

    def _agents(self) -> range:
        return range(self._numbers["agent"])

    def _published(self, number: int) -> list[str]:
        """Return the commands whose replies a life of the agent published."""
        return replies_in(lines_of(self._place.trace("agent", number)))


def held_port() -> tuple[socket.socket, int]:
    """Return a port that stays ours: whoever says that it is to be reused may listen on it."""
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.bind(("127.0.0.1", 0))
    return held, int(held.getsockname()[1])
