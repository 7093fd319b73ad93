"""A whole run in this process: gateway, devices and ServerApp, without a broker.

For a first look, and for tests of what is above the wire. The messages are the real ones, bytes and
signatures included. The process becomes the run: Flower's identity is global, so one at a time.
So are the random sources: an app that draws from them while devices work, as one that pushes and
pulls may do, is not repeatable here. In processes of its own it is.
"""

import asyncio
import contextlib
import random
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from windflower.adapters.local.model_shelf import FolderShelf
from windflower.adapters.memory.blobs import MemoryBlobs, MemoryTransfers
from windflower.adapters.memory.events import EventList
from windflower.adapters.memory.fleet import MemoryFleetLink, Shape
from windflower.adapters.memory.journal import MemoryJournal
from windflower.adapters.memory.store import MemoryStore
from windflower.adapters.memory.worker import InlineWorker
from windflower.agent.agent import Agent, AgentSettings, MonotonicClock
from windflower.core.ledger import RunRecord
from windflower.core.policy import RoundPolicy
from windflower.core.retention import OPEN_RUN_BYTES
from windflower.flower.app_bundle import make_bundle
from windflower.flower.app_folder import AppFolder, ConfigValue
from windflower.flower.execution import Outcome, execute
from windflower.flower.worker import Trainer
from windflower.gateway.budget import Budget
from windflower.gateway.desk import Desk
from windflower.gateway.feed import Feed
from windflower.gateway.fleet import Fleet, FleetPorts, SystemClock
from windflower.gateway.line import LoopLine
from windflower.gateway.request import RunRequest
from windflower.ports import Done, Job, Worker
from windflower.wire.sealing import KEY_BYTES, Signer
from windflower.wire.values import Values

Around = Callable[[str, Worker], Worker]
"""Puts something around a device's worker: a test's way to order, delay or break the work."""


@dataclass(frozen=True, slots=True)
class MemoryRequest:
    """What to run in this process.

    Attributes:
        app: the app's folder.
        node_configs: what each device tells the app of itself, by device id.
        config: run configuration.
        seed: what all random sources derive from.
        is_strict: whether every device is waited for.
        policy: what rounds wait for; None is what the app says.
        shape: how replies arrive.
        around: put around each device's worker.
        budget_bytes: what the run may keep so that it can be begun again.
    """

    app: AppFolder
    node_configs: dict[str, str]
    config: dict[str, ConfigValue] = field(default_factory=dict)
    seed: int | None = 1
    is_strict: bool = True
    policy: RoundPolicy | None = None
    shape: Shape = "push"
    around: Around = lambda _, worker: worker
    budget_bytes: int = OPEN_RUN_BYTES


@dataclass(frozen=True, slots=True)
class MemoryResult:
    """What it came to.

    Attributes:
        run: what was run.
        outcome: final arrays and metrics.
        summary: as the journal of a real gateway keeps it.
        events: everything that happened.
    """

    run: RunRecord
    outcome: Outcome
    summary: dict[str, Any]
    events: EventList

    @property
    def replies(self) -> dict[str, int]:
        """How many replies were ok, failed and late."""
        kinds = {"ok": "reply-accepted", "failed": "reply-failed", "late": "reply-missing"}
        return {name: len(self.events.of(kind)) for name, kind in kinds.items()}


async def run_in_memory(request: MemoryRequest) -> MemoryResult:
    """Run an app on devices of this process.

    Raises:
        AppError, RunFailed: as from a run anywhere.
    """
    with tempfile.TemporaryDirectory(prefix="windflower-memory-") as name:
        folder = Path(name)
        events = EventList()
        async with memory_fleet(request, folder, events) as desk:
            return await _execute(request, folder, desk, events)


@contextlib.asynccontextmanager
async def memory_fleet(
    request: MemoryRequest, folder: Path, events: EventList
) -> AsyncIterator[Desk]:
    """Yield the desk of a gateway whose devices have all been heard."""
    async with (
        _desk(request, folder, events) as (desk, link, blobs),
        _devices(request, folder, link, blobs),
    ):
        await desk.wait_for_devices(len(request.node_configs), timeout_s=30)
        yield desk


@contextlib.asynccontextmanager
async def _desk(
    request: MemoryRequest, folder: Path, events: EventList
) -> AsyncIterator[tuple[Desk, MemoryFleetLink, MemoryBlobs]]:
    link = MemoryFleetLink(request.shape)
    served = folder / "served"
    served.mkdir()
    blobs = MemoryBlobs(served)
    journal = MemoryJournal()
    clock = SystemClock()
    feed = Feed(events)
    ports = FleetPorts(link, link.replies, link.presence, blobs, journal, clock)
    fleet = Fleet(ports, signer=Signer(bytes(KEY_BYTES)), feed=feed, broker="memory")
    await fleet.start()
    try:
        world: dict[str, Any] = {"journal": journal, "blobs": blobs, "feed": feed}
        budget = Budget(request.budget_bytes, **world)
        yield Desk(fleet, **world, clock=clock, budget=budget), link, blobs
    finally:
        await fleet.stop()


@contextlib.asynccontextmanager
async def _devices(
    request: MemoryRequest, folder: Path, link: MemoryFleetLink, blobs: MemoryBlobs
) -> AsyncIterator[None]:
    turn = asyncio.Lock()
    trainer = Trainer(folder / "app")
    tasks = []
    for number, (device, node_config) in enumerate(request.node_configs.items()):
        agent = Agent(
            AgentSettings(device, "memory", node_config=node_config),
            link=link.device(device),
            store=MemoryStore(folder / f"device-{number}"),
            worker=request.around(device, InlineWorker(_aside(trainer), turn)),
            models=FolderShelf(folder / f"models-{number}"),
            transfers=MemoryTransfers(blobs),
            events=EventList(),
            clock=MonotonicClock(),
        )
        tasks.append(asyncio.create_task(agent.run()))
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _aside(trainer: Trainer) -> Callable[[Job], Done]:
    """Give the ServerApp its random sources back after each piece of a device's work."""

    def train(job: Job) -> Done:
        plain, arrays = random.getstate(), np.random.get_state()  # noqa: NPY002 - what apps use
        try:
            return trainer.work(job)
        finally:
            random.setstate(plain)
            np.random.set_state(arrays)  # noqa: NPY002

    return train


async def _execute(
    request: MemoryRequest, folder: Path, desk: Desk, events: EventList
) -> MemoryResult:
    run = await open_in_memory(request, folder, desk)
    line = LoopLine(desk, asyncio.get_running_loop())
    with private_modules(request.app):
        outcome = await asyncio.to_thread(execute, request.app, line, run, scratch=folder)
    summary = outcome.save(folder / "result")
    summary.pop("model-file", None)  # it goes with the folder
    await desk.end_run(run.run, success=True, reason="the ServerApp ended", result=summary)
    return MemoryResult(run, outcome, summary, events)


async def open_in_memory(request: MemoryRequest, folder: Path, desk: Desk) -> RunRecord:
    """Open the run that is requested."""
    ref, data = make_bundle(request.app)
    bundle = folder / "bundle"
    bundle.write_bytes(data)
    await desk.adopt(bundle, ref)
    return await desk.open_run(
        RunRequest(
            app=request.app.name,
            bundle=ref,
            config=Values("configs", tuple(request.config.items())),
            seed=request.seed,
            folder=str(request.app.path),
            policy=replace(request.policy or request.app.policy, is_strict=request.is_strict),
        )
    )


@contextlib.contextmanager
def private_modules(app: AppFolder) -> Iterator[None]:
    """Forget the app's modules afterwards: another app may have modules of the same name."""
    path, before = list(sys.path), set(sys.modules)
    try:
        yield
    finally:
        sys.path[:] = path
        own = (str(app.path), tempfile.gettempdir())
        for name in set(sys.modules) - before:
            if str(getattr(sys.modules[name], "__file__", "")).startswith(own):
                del sys.modules[name]
