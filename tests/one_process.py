"""A fleet in this process, whose run can be killed at any call to its gateway and begun again."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import CancelledError
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from windflower.adapters.memory.events import EventList
from windflower.core.ledger import RunRecord
from windflower.core.policy import RoundPolicy
from windflower.core.retention import OPEN_RUN_BYTES
from windflower.flower.app_folder import AppFolder, ConfigValue
from windflower.flower.execution import Outcome, execute
from windflower.gateway.desk import Desk
from windflower.gateway.line import LoopLine
from windflower.pipeline.in_memory import (
    Around,
    MemoryRequest,
    memory_fleet,
    open_in_memory,
    private_modules,
)
from windflower.ports import Done, Job, Worker

APPS = Path(__file__).parent / "apps"
DEVICES = 5

Config = Mapping[str, ConfigValue]
Killed = SystemExit
"""The run's process is gone: no app catches this."""


class Held:
    """A device whose work does not end before it may."""

    def __init__(self, worker: Worker, may_end: asyncio.Event) -> None:
        self._worker = worker
        self._may_end = may_end

    async def work(self, job: Job) -> Done:
        await self._may_end.wait()
        return await self._worker.work(job)

    async def stop(self) -> None:
        await self._worker.stop()


def holding(may_end: asyncio.Event, *devices: int) -> Around:
    names = {f"device-{number}" for number in devices}
    return lambda device, worker: Held(worker, may_end) if device in names else worker


class Turned:
    """A device that works only while it is its turn: random sources are the whole process's."""

    def __init__(self, worker: Worker, turn: asyncio.Lock) -> None:
        self._worker = worker
        self._turn = turn

    async def work(self, job: Job) -> Done:
        async with self._turn:
            return await self._worker.work(job)

    async def stop(self) -> None:
        await self._worker.stop()


class MortalLine(LoopLine):
    """A line whose run is killed before its nth call.

    Args:
        desk: who is called.
        loop: where the desk lives.
        dies_at: the call before which the run is killed; 0 for never.
        on_call: called, in the loop, at each call.
    """

    def __init__(
        self,
        desk: Desk,
        loop: asyncio.AbstractEventLoop,
        *,
        dies_at: int,
        on_call: Callable[[], None],
    ) -> None:
        super().__init__(desk, loop)
        self.calls = 0
        self._on_call = on_call
        self._owner: threading.Thread | None = None
        self._dies_at = dies_at

    def _wait(self, call: Any) -> Any:  # noqa: ANN401 - any call
        self._owner = self._owner or threading.current_thread()
        self.calls += 1
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._on_call)
        if (self._dies_at and self.calls >= self._dies_at) or self._loop.is_closed():
            call.close()
            self._die()
        try:
            return super()._wait(call)
        except CancelledError:
            self._die()

    def _die(self) -> NoReturn:
        """End this thread: the app's own by an exception, any other one by never going on."""
        if threading.current_thread() is self._owner:
            raise Killed
        threading.Event().wait()
        raise Killed


@dataclass
class Fleet:
    """A fleet in this process, for one run that is executed more than once."""

    request: MemoryRequest
    folder: Path
    desk: Desk
    events: EventList
    turn: asyncio.Lock
    lines: list[MortalLine] = field(default_factory=list)

    async def begin(self) -> RunRecord:
        return await open_in_memory(self.request, self.folder, self.desk)

    async def execute(self, run: RunRecord, *, dies_at: int = 0) -> Outcome | None:
        """Execute the run once; None where it was killed.

        No device works while the app draws what it begins with: until its first call.
        """
        await self.turn.acquire()
        begun = False

        def begin() -> None:
            nonlocal begun
            if not begun:
                begun = True
                self.turn.release()

        loop = asyncio.get_running_loop()
        line = MortalLine(self.desk, loop, dies_at=dies_at, on_call=begin)
        self.lines.append(line)

        def work() -> Outcome | None:
            try:
                return execute(self.request.app, line, run, scratch=self.folder)
            except Killed:
                return None

        with private_modules(self.request.app):
            outcome = await asyncio.to_thread(work)
        begin()
        return outcome

    async def end(self, run: RunRecord, outcome: Outcome) -> str:
        """End the run; return its model's hash."""
        summary = outcome.save(self.folder / "result")
        await self.desk.end_run(run.run, success=True, reason="it ended", result=summary)
        return str(summary.get("model-hash")) + str(summary["metrics"])

    def works(self) -> int:
        return len(self.events.of("reply-accepted"))


@asynccontextmanager
async def fleet(
    folder: Path,
    app: str,
    config: Config | None = None,
    *,
    policy: RoundPolicy | None = None,
    around: Around = lambda _, worker: worker,
    budget_bytes: int = OPEN_RUN_BYTES,
) -> AsyncIterator[Fleet]:
    """Yield a fleet of five devices.

    Args:
        folder: for files; made where it is missing.
        app: one of the test apps.
        config: run configuration.
        policy: what rounds wait for; None waits strictly.
        around: put around each device's worker.
        budget_bytes: what the run may keep so that it can be begun again.
    """
    folder.mkdir(exist_ok=True)
    turn = asyncio.Lock()
    request = MemoryRequest(
        app=AppFolder.read(APPS / app),
        node_configs={
            f"device-{i}": f"partition-id={i} num-partitions={DEVICES}" for i in range(DEVICES)
        },
        config=dict(config or {}),
        seed=7,
        is_strict=policy is None,
        policy=policy,
        around=lambda device, worker: around(device, Turned(worker, turn)),
        budget_bytes=budget_bytes,
    )
    events = EventList()
    async with memory_fleet(request, folder, events) as desk:
        yield Fleet(request, folder, desk, events, turn)
