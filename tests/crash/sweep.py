"""Many cases over one broker: each in a forked process, a few at a time."""

import asyncio
import gc
import json
import os
import select
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, redirect_stderr
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

from processes import Programs

from crash.case import Case, Verdict, held_port
from crash.deaths import Effects, Plan
from crash.ledger import lines_of
from crash.life import ROLES, die_with_parent
from crash.place import Place, trace_in
from crash.script import undisturbed

LANES: Final = 3
"""So many cases at a time: while one waits, another works."""


MEMORY: Final = Path("/dev/shm")  # noqa: S108 - where there is one
"""A file system in memory: who is killed, and not cut off from power, leaves the same on any."""


@dataclass(slots=True)
class Tally:
    """What came of many cases.

    Attributes:
        cases: how many there were.
        killed: how many of the planned deaths really happened.
        planned: how many were planned.
        duplicates: how many replies were published again.
        begun_again: how much work was begun again.
        seconds: how long it took.
        failed: the cases that did not end as they should.
    """

    cases: int = 0
    killed: int = 0
    planned: int = 0
    duplicates: int = 0
    begun_again: int = 0
    seconds: float = 0.0
    failed: list[Verdict] = field(default_factory=list)

    def add(self, plan: Plan, verdict: Verdict) -> None:
        """Count a case."""
        self.cases += 1
        self.killed += len(verdict.killed)
        self.planned += plan.deaths
        self.duplicates += verdict.duplicates
        self.begun_again += verdict.begun_again
        if verdict.problems:
            self.failed.append(verdict)


class Sweep:
    """Runs cases.

    Args:
        folder: where cases leave what they leave.
        broker: the address of a broker.
        keeps: whether what a case leaves is kept although it ended well.
        bug: what is planted in all processes; empty for nothing.
    """

    def __init__(self, folder: Path, broker: str, *, keeps: bool, bug: str) -> None:
        self._folder = folder
        self._broker = broker
        self._keeps = keeps
        self._bug = bug
        self._cases = 0

    def effects(self) -> Effects:
        """Run two cases without a death, and return the effects of the shorter lives.

        Raises:
            AssertionError: even these do not end as they should.
        """
        listed: list[Effects] = []
        for verdict, folder in self._run([Plan()] * 2, lanes=1):
            assert not verdict.problems, (verdict, folder)
            traces = {role: lines_of(trace_in(folder, role, 0)) for role in ROLES}
            listed.append({r: [line.partition(" ")[2] for line in t] for r, t in traces.items()})
            self._clear(folder)
        return {role: min((effects[role] for effects in listed), key=len) for role in ROLES}

    def run(
        self, plans: Iterable[Plan], watch: Callable[[Verdict], None], *, lanes: int = LANES
    ) -> Tally:
        """Run cases, a few at a time; `watch` sees each verdict as it comes.

        With a planted bug, the first case that shows it is the last.
        """
        tally, began = Tally(), time.monotonic()
        by_name = {str(plan): plan for plan in plans}
        for verdict, folder in self._run(by_name.values(), lanes=lanes):
            if verdict.problems:
                verdict.problems.append(f"see {folder}")
            else:
                self._clear(folder)
            tally.add(by_name[verdict.plan], verdict)
            watch(verdict)
            if self._bug and verdict.problems:
                break
        tally.seconds = round(time.monotonic() - began, 1)
        return tally

    def _run(self, plans: Iterable[Plan], *, lanes: int) -> Iterator[tuple[Verdict, Path]]:
        waiting = iter(plans)
        under_way: dict[int, tuple[int, Plan, Path]] = {}
        try:
            while True:
                while len(under_way) < lanes and (plan := next(waiting, None)) is not None:
                    pid, folder = self._fork(plan)
                    under_way[os.pidfd_open(pid)] = (pid, plan, folder)
                if not under_way:
                    return
                for ended in select.select([*under_way], [], [])[0]:
                    pid, plan, folder = under_way.pop(ended)
                    os.close(ended)
                    os.waitpid(pid, 0)
                    yield _read(plan, folder), folder
        finally:
            for pid, _, _ in under_way.values():
                os.kill(pid, signal.SIGKILL)  # with all that it started
                os.waitpid(pid, 0)

    def _fork(self, plan: Plan) -> tuple[int, Path]:
        """Begin a case in a process of its own, where it can wait as it likes."""
        self._cases += 1
        folder = self._folder / f"c{self._cases}"
        folder.mkdir()
        pid = os.fork()
        if pid == 0:
            try:
                die_with_parent()
                verdict = _judge(plan, folder, self._broker, self._bug)
                (folder / "verdict.json").write_text(json.dumps(asdict(verdict)))
            except BaseException:  # noqa: BLE001 - a forked child must not go on as its parent
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(0)
        return pid, folder

    def _clear(self, folder: Path) -> None:
        if not self._keeps:
            shutil.rmtree(folder)


@contextmanager
def sweep(*, keeps: bool = False, bug: str = "") -> Iterator[Sweep]:
    """Open a sweep over a broker of its own; the folders of what failed stay, bugs apart."""
    folder = Path(tempfile.mkdtemp(prefix="crash-", dir=MEMORY if MEMORY.is_dir() else None))
    programs = Programs(folder)
    try:
        _, broker = programs.mosquitto()
        undisturbed()  # once for all cases
        _warm_up(folder / "warm", broker)
        gc.collect()
        gc.freeze()  # so that what is shared stays shared
        yield Sweep(folder, broker, keeps=keeps, bug=bug)
    finally:
        programs.end_all()
        if bug or not any(folder.glob("c*")):
            shutil.rmtree(folder, ignore_errors=True)


def _judge(plan: Plan, folder: Path, broker: str, bug: str) -> Verdict:
    hears, voice = os.pipe()
    held, port = held_port()
    with held:
        place = Place(folder, folder.name, broker, port, voice, bug)
        return Case(place, plan, hears).run()


def _read(plan: Plan, folder: Path) -> Verdict:
    file = folder / "verdict.json"
    if not file.exists():
        return Verdict(str(plan), ["the case itself broke"])
    return Verdict(**json.loads(file.read_text()))


def _warm_up(folder: Path, broker: str) -> None:
    """Run a whole case in this process: what is loaded and warm here is so in all that is forked.

    Its threads end with it, or nothing could be forked any more.
    """
    folder.mkdir()
    hears, voice = os.pipe()
    held, port = held_port()
    with held:
        asyncio.run(_serve_once(Place(folder, folder.name, broker, port, voice), hears))
    shutil.rmtree(folder)
    assert threading.active_count() == 1
    assert "flwr" not in sys.modules


async def _serve_once(place: Place, hears: int) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_reader(hears, stop.set)
    with place.said("warm").open("w") as said, redirect_stderr(said):
        await asyncio.gather(*(serve(place, stop) for serve in ROLES.values()))
