"""Simulated devices: agents in processes of their own, the very program that runs on real ones."""

import asyncio
import os
import sys
import tempfile
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from windflower.adapters.local.process import end, start
from windflower.adapters.local.worker_process import WORKER_ENVIRONMENT
from windflower.errors import AppError, WorkerDied
from windflower.flower.app_folder import AppFolder

START_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Simulation:
    """What devices to play.

    Attributes:
        count: how many.
        name: their ids are NAME-00, NAME-01, ...
        interval_s: seconds between heartbeats.
        broker: where they connect.
        gateway_key: the gateway that they obey.
        folder: where each keeps its state and its log.
    """

    count: int
    name: str
    interval_s: float
    broker: str
    gateway_key: str
    folder: Path


@asynccontextmanager
async def simulated_devices(plan: Simulation, app: AppFolder) -> AsyncIterator[dict[str, Process]]:
    """Start devices, each with a folder of data of its own if the app says how; end them after.

    Yields:
        the process of each device.

    Raises:
        AppError: the app's script that prepares data failed.
        WorkerDied: the nursery did not start.
    """
    data = await prepare(app, plan.folder, plan.count)
    async with AsyncExitStack() as stack:
        nursery = await stack.enter_async_context(_nursery(plan.folder))
        devices: dict[str, Process] = {}
        stack.push_async_callback(_end_all, devices)
        for number in range(plan.count):
            device, _ = node_config(number, plan.count, data, name=plan.name)
            devices[device] = await _device(plan, number, data, nursery)
        yield devices


def node_config(number: int, count: int, data: Path | None, *, name: str) -> tuple[str, str]:
    """Return the id of a simulated device, and what it tells the app of itself."""
    config = f"partition-id={number} num-partitions={count}"
    if data is not None:
        config += f" data-dir='{data / f'{number:02}'}'"
    return f"{name}-{number:02}", config


async def _device(plan: Simulation, number: int, data: Path | None, nursery: Path) -> Process:
    device, config = node_config(number, plan.count, data, name=plan.name)
    folder = plan.folder / device
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "windflower.agent", "--broker", plan.broker]
    command += ["--device-id", device, "--node-config", config, "--state", str(folder)]
    command += ["--interval", str(plan.interval_s), "--gateway-key", plan.gateway_key]
    command += ["--nursery", str(nursery)]
    with (folder / "agent.log").open("ab") as log:
        return await start(*command, stdin=DEVNULL, stdout=log, stderr=log)


async def _end_all(devices: dict[str, Process]) -> None:
    await asyncio.gather(*(end(process) for process in devices.values()))


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
        with (folder / "nursery.log").open("ab") as log:
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
