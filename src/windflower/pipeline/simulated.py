"""Simulated devices: agents in processes of their own, the very program that runs on real ones."""

import asyncio
import os
import sys
import tempfile
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from windflower.adapters.local.access import BROKER_VARIABLE, Access
from windflower.adapters.local.files import open_log
from windflower.adapters.local.process import end, start
from windflower.adapters.local.worker_process import WORKER_ENVIRONMENT
from windflower.errors import AppError, WorkerDied
from windflower.flower.app_folder import AppFolder

Show = Callable[[dict[str, Any]], None]

START_S: Final = 60.0

AWAY_S: Final = 0.5
"""For so long a device that was killed stays away, unless somebody wants to see that."""


@dataclass(frozen=True, slots=True)
class Simulation:
    """What devices to play.

    Attributes:
        count: how many.
        name: their ids are NAME-00, NAME-01, ...
        interval_s: seconds between heartbeats.
        access: how they get into the broker.
        gateway_key: the gateway that they obey.
        folder: where each keeps its state and its log.
        away_s: for how long one that was killed stays away.
    """

    count: int
    name: str
    interval_s: float
    access: Access
    gateway_key: str
    folder: Path
    away_s: float = AWAY_S


@asynccontextmanager
async def simulated_devices(plan: Simulation, app: AppFolder, show: Show) -> AsyncIterator[None]:
    """Start devices, each with a folder of data of its own if the app says how; end them after.

    A device that is killed is started again: it takes up what its store holds.

    Args:
        plan: what to play.
        app: the app that is going to run.
        show: told of each process that is started.

    Raises:
        AppError: the app's script that prepares data failed.
        WorkerDied: the nursery did not start.
    """
    data = await prepare(app, plan.folder, plan.count)
    async with AsyncExitStack() as stack:
        nursery = await stack.enter_async_context(_nursery(plan.folder))
        devices = [_Device(plan, number, data, nursery, show) for number in range(plan.count)]
        stack.push_async_callback(_end_all, devices)
        for device in devices:
            await device.start()
        yield


class _Device:
    """One simulated device, kept alive."""

    def __init__(
        self, plan: Simulation, number: int, data: Path | None, nursery: Path, show: Show
    ) -> None:
        self._name, config = node_config(number, plan.count, data, name=plan.name)
        self._folder = plan.folder / self._name
        self._show = show
        self._away_s = plan.away_s
        self._keeping: asyncio.Task[None] | None = None
        command = [sys.executable, "-m", "windflower.agent", *plan.access.flags]
        command += ["--device-id", self._name, "--node-config", config]
        command += ["--state", str(self._folder), "--interval", str(plan.interval_s)]
        command += ["--gateway-key", plan.gateway_key, "--nursery", str(nursery)]
        self._command = command
        self._environment = {**os.environ, BROKER_VARIABLE: plan.access.broker}

    async def start(self) -> None:
        """Start it, and again whenever it is killed."""
        process = await self._begin()
        self._keeping = asyncio.create_task(self._keep(process))

    async def end(self) -> None:
        """End it for good."""
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.gather(self._keeping, return_exceptions=True)

    async def _keep(self, process: Process) -> None:
        try:
            # Whoever ends by itself has said why, and would end again.
            while await process.wait() < 0:
                await asyncio.sleep(self._away_s)
                process = await self._begin()
        finally:
            await end(process)

    async def _begin(self) -> Process:
        with open_log(self._folder / "agent.log") as log:
            process = await start(
                *self._command, stdin=DEVNULL, stdout=log, stderr=log, env=self._environment
            )
        self._show(process_started("device", process.pid, name=self._name))
        return process


def process_started(kind: str, pid: int, *, name: str = "") -> dict[str, Any]:
    """Return the event of a job's process."""
    return {"event": "process-started", "kind": kind, "pid": pid, "name": name}


def node_config(number: int, count: int, data: Path | None, *, name: str) -> tuple[str, str]:
    """Return the id of a simulated device, and what it tells the app of itself."""
    config = f"partition-id={number} num-partitions={count}"
    if data is not None:
        config += f" data-dir='{data / f'{number:02}'}'"
    return f"{name}-{number:02}", config


async def _end_all(devices: Sequence[_Device]) -> None:
    await asyncio.gather(*(device.end() for device in devices))


async def prepare(app: AppFolder, folder: Path, count: int) -> Path | None:
    """Let the app's own script make a folder of data for each device, if it has one.

    Raises:
        AppError: the script failed; its last line is in the message.
    """
    if app.prepare is None:
        return None
    data = folder / "data"
    command = [sys.executable, str(app.path / app.prepare), "--out", str(data)]
    command += ["--devices", str(count)]
    log = folder / "prepare.log"
    folder.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        process = await start(*command, stdin=DEVNULL, stdout=output, stderr=output)
    try:
        code = await process.wait()
    finally:
        await end(process)
    if code != 0:
        last = log.read_text(errors="replace").strip().splitlines()[-1:]
        raise AppError(f"{app.prepare} of {app.name} failed: {''.join(last) or f'exit {code}'}")
    return data


@asynccontextmanager
async def _nursery(folder: Path) -> AsyncIterator[Path]:
    with tempfile.TemporaryDirectory(prefix="windflower-") as place:
        path = Path(place) / "nursery.sock"
        folder.mkdir(parents=True, exist_ok=True)
        with open_log(folder / "nursery.log") as log:
            process = await start(
                *(sys.executable, "-m", "windflower.flower.nursery", str(path)),
                stdin=DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **WORKER_ENVIRONMENT},
            )
        try:
            await _until_born(path, process, folder / "nursery.log")
            yield path
        finally:
            await end(process)


async def _until_born(path: Path, process: Process, log: Path) -> None:
    try:
        async with asyncio.timeout(START_S):
            while not path.exists():
                if process.returncode is not None:
                    raise WorkerDied(f"the nursery of workers did not start: see {log}")
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise WorkerDied(f"the nursery did not start within {START_S:.0f} s: see {log}") from None
