"""What befalls a system while it runs the app, and what came of it."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Final

from processes import children_of

from compare.account import Account, read_account
from compare.place import Place
from compare.system import System

PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
LOOK_S: Final = 0.1
STILL_S: Final = 10.0
"""So long nothing moves before somebody looks."""

Say = Callable[[str], None]


class Incident(StrEnum):
    """What befalls a system."""

    CUT = "cut"
    KILL = "kill"
    CRASH = "crash"


IN_ROUND: Final = {Incident.CUT: 0.3, Incident.KILL: 0.5, Incident.CRASH: 0.8}
"""In which round each happens, as a share of all: 3, 5 and 8 of 10."""


@dataclass(frozen=True, slots=True)
class Course:
    """How a system is tried.

    Attributes:
        incidents: what befalls it, each once, while devices train.
        cut_s: how long a cut lasts.
        idle_s: how long idle devices are watched before the run.
        deadline_s: how long the run may take.
    """

    incidents: tuple[Incident, ...] = tuple(Incident)
    cut_s: float = 20.0
    idle_s: float = 60.0
    deadline_s: float = 900.0


@dataclass(slots=True)
class Outcome:
    """What came of it.

    Attributes:
        system: its name.
        account: what became of the trainings.
        seconds: from the submission to the end of the app, or to the deadline.
        runs: how often somebody started the run by hand.
        sent_bytes: what both ends sent meanwhile, counted as IP.
        idle_bytes: what an idle device and its peer sent in a minute.
        idle_mb: the resident memory of a device that waits for its first work.
        peak_mb: the most that it was.
        back_after_s: by incident, how long it took until one more round was finished.
    """

    system: str
    account: Account = field(default_factory=Account)
    seconds: float = 0.0
    runs: int = 0
    sent_bytes: int = 0
    idle_bytes: float = 0.0
    idle_mb: float = 0.0
    peak_mb: float = 0.0
    back_after_s: dict[str, float] = field(default_factory=dict)


def run_course(system: System, place: Place, course: Course, say: Say) -> Outcome:
    """Start a system, let it run the app, do to it what is to be done, and say what came of it."""
    outcome = Outcome(system.name)
    say("starts")
    system.start()
    if course.idle_s:
        say(f"is idle for {course.idle_s:g} s")
        before = place.link.sent_bytes
        time.sleep(course.idle_s)
        each = (place.link.sent_bytes - before) / place.work.devices
        outcome.idle_bytes = each * 60 / course.idle_s
    outcome.idle_mb = outcome.peak_mb = memory_mb(system.devices[0])
    before, begun = place.link.sent_bytes, time.monotonic()
    system.submit()
    _watch(system, place, course, outcome, say)
    outcome.seconds = time.monotonic() - begun
    outcome.sent_bytes = place.link.sent_bytes - before
    outcome.runs = system.runs
    say("is done" if outcome.account.is_over else f"did not end within {course.deadline_s:g} s")
    return outcome


def _watch(system: System, place: Place, course: Course, outcome: Outcome, say: Say) -> None:
    """Follow the app to its end or the deadline."""
    begun = moved = time.monotonic()
    ahead = {incident: place.work.rounds * IN_ROUND[incident] for incident in course.incidents}
    behind: dict[Incident, tuple[float, int]] = {}
    while not outcome.account.is_over and time.monotonic() - begun < course.deadline_s:
        time.sleep(LOOK_S)
        now, account = time.monotonic(), read_account(place.diary)
        outcome.peak_mb = max(outcome.peak_mb, memory_mb(system.devices[0]))
        if account != outcome.account:
            if account.finished != outcome.account.finished:
                say(f"{now - begun:.0f} s: finished rounds: {account.finished}")
            outcome.account, moved = account, now
        for incident, (since, finished) in list(behind.items()):
            if account.finished > finished:
                outcome.back_after_s[incident] = round(now - since, 1)
                del behind[incident]
        for incident in [incident for incident, number in ahead.items() if account.begun >= number]:
            say(f"{now - begun:.0f} s: {incident}")
            behind[incident] = (now, account.finished)
            del ahead[incident]
            befall(system, place, course, incident)
        if now - moved > STILL_S:
            system.look()
            moved = time.monotonic()


def befall(system: System, place: Place, course: Course, incident: Incident) -> None:
    """Do to a system what an incident is."""
    match incident:
        case Incident.CUT:
            place.link.cut(course.cut_s)
        case Incident.KILL:
            system.kill()
        case Incident.CRASH:
            system.crash()


def memory_mb(pid: int) -> float:
    """Return the resident memory of a process and of all that it started.

    A page that two of them share counts twice, for each system alike.
    """
    pages = 0
    for each in (pid, *children_of(pid)):
        path = Path(f"/proc/{each}/statm")
        if path.exists():
            pages += int(path.read_text().split()[1])
    return round(pages * PAGE_BYTES / 1e6, 1)
