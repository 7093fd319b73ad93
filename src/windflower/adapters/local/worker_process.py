"""Workers as processes: spawned on a device, forked from a preloaded nursery in demo and crew."""

import asyncio
import json
import os
import shutil
import socket
import sys
import tempfile
import time
from asyncio.subprocess import Process
from base64 import b64decode, b64encode
from pathlib import Path
from typing import Any, Final

from windflower.adapters.local.process import end, kill_family, start
from windflower.core.events import WorkerStarted
from windflower.errors import MalformedMessage, WorkerDied
from windflower.ports import Done, Events, Job
from windflower.wire.blobs import BlobRef
from windflower.wire.content import Content
from windflower.wire.frames import PREFIX_BYTES, frame, frame_length
from windflower.wire.messages import Failure

WORKER_ENVIRONMENT: Final = {
    # One device has one core's worth of work at a time, and forking needs a single thread.
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "PYTHONHASHSEED": "0",
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
}
START_S: Final = 120.0

_SPAWN: Final = (sys.executable, "-m", "windflower.flower.worker")


class ProcessWorker:
    """One worker process, started at the first job and again whenever it died.

    Args:
        nursery: the unix socket of a nursery that forks workers; None spawns them.
        events: where it says how a worker was started, and in what time.
        scratch: where apps are unpacked; whoever owns it removes what a crash left.
    """

    def __init__(self, nursery: Path | None, events: Events, *, scratch: Path) -> None:
        self._nursery = nursery
        self._events = events
        self._scratch = scratch
        self._bundle: BlobRef | None = None
        self._channel: _Channel | None = None

    async def work(self, job: Job) -> Done:
        """Call the app; raises WorkerDied."""
        if self._channel is not None and self._bundle != job.command.bundle:
            await self.stop()
        if self._channel is None:
            self._channel = await self._start()
            self._bundle = job.command.bundle
        try:
            return _read_done(await self._channel.ask(_job_json(job)))
        except asyncio.CancelledError:
            # It is still at the old job: its answer must never be taken for that to the next.
            await self.stop()
            raise
        except (OSError, asyncio.IncompleteReadError, MalformedMessage) as error:
            await self.stop()
            raise WorkerDied(
                "the process that ran the app was killed, perhaps for its memory, or left by"
                " itself: let the app need less, or give the device more"
            ) from error

    async def stop(self) -> None:
        """End what is under way, without a result."""
        channel, self._channel = self._channel, None
        if channel is not None:
            await channel.close()

    async def _start(self) -> "_Channel":
        begun = time.monotonic()
        try:
            async with asyncio.timeout(START_S):
                channel = await _born(self._nursery, self._scratch) if self._nursery else None
                how = "spawned" if channel is None else "forked"
                channel = channel or await _spawned(self._scratch)
        except (OSError, TimeoutError, asyncio.IncompleteReadError) as error:
            raise WorkerDied(f"no worker started within {START_S:.0f} s: {error}") from error
        seconds = round(time.monotonic() - begun, 4)
        self._events.write(WorkerStarted(how=how, seconds=seconds).to_json())
        return channel


class _Channel:
    """A conversation with one worker."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        process: Process | None,
        scratch: Path,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._process = process
        self._pid = 0
        # Ours, not the worker's: a worker that is killed cleans up nothing.
        self._folder = tempfile.mkdtemp(prefix="app-", dir=scratch)

    async def greet(self) -> "_Channel | None":
        """Hear who it is; None where a nursery may not fork."""
        greeting = await self._read()
        if "pid" not in greeting:
            await self.close()
            return None
        self._pid = greeting["pid"]
        return self

    async def ask(self, value: dict[str, Any]) -> Any:  # noqa: ANN401 - JSON is any
        self._writer.write(frame({**value, "folder": self._folder}))
        await self._writer.drain()
        return await self._read()

    async def close(self) -> None:
        self.kill()
        if self._process is not None:
            await end(self._process)

    def kill(self) -> None:
        self._writer.close()
        if self._pid:
            kill_family(self._pid)
        shutil.rmtree(self._folder, ignore_errors=True)

    async def _read(self) -> Any:  # noqa: ANN401 - JSON is any
        prefix = await self._reader.readexactly(PREFIX_BYTES)
        return json.loads(await self._reader.readexactly(frame_length(prefix)))


async def _spawned(scratch: Path) -> _Channel:
    ours, theirs = socket.socketpair()
    with theirs:
        process = await start(
            *_SPAWN,
            str(theirs.fileno()),
            env={**os.environ, **WORKER_ENVIRONMENT},
            pass_fds=(theirs.fileno(),),
        )
    reader, writer = await asyncio.open_unix_connection(sock=ours)
    channel = _Channel(reader, writer, process, scratch)
    try:
        await channel.greet()
    except BaseException:  # cancelled or cut off: nobody else knows of the process
        await channel.close()
        raise
    return channel


async def _born(nursery: Path, scratch: Path) -> _Channel | None:
    """Let the nursery fork a worker; None where it may not, or is no more."""
    channel: _Channel | None = None
    try:
        reader, writer = await asyncio.open_unix_connection(str(nursery))
        channel = _Channel(reader, writer, None, scratch)
        return await channel.greet()
    except BaseException as error:  # cancelled too: nobody else knows of the channel
        if channel is not None:
            await channel.close()
        if isinstance(error, OSError | asyncio.IncompleteReadError):
            return None
        raise


class WorkerPool:
    """A few workers that many simulated devices take turns with.

    Args:
        size: how many work at a time.
        nursery: as for `ProcessWorker`.
        events: as for `ProcessWorker`.
        scratch: as for `ProcessWorker`.
    """

    def __init__(self, size: int, nursery: Path | None, events: Events, *, scratch: Path) -> None:
        self._free: asyncio.LifoQueue[ProcessWorker] = asyncio.LifoQueue()
        for _ in range(size):
            self._free.put_nowait(ProcessWorker(nursery, events, scratch=scratch))

    def turn(self) -> "PooledWorker":
        """Return one device's place in the queue."""
        return PooledWorker(self._free)

    async def close(self) -> None:
        """End the workers that are free."""
        while not self._free.empty():
            await self._free.get_nowait().stop()


class PooledWorker:
    """One device's place in a pool."""

    def __init__(self, free: "asyncio.LifoQueue[ProcessWorker]") -> None:
        self._free = free
        self._mine: ProcessWorker | None = None

    async def work(self, job: Job) -> Done:
        """Wait for a free worker, and call the app; raises WorkerDied."""
        self._mine = await self._free.get()
        try:
            return await self._mine.work(job)
        finally:
            self._free.put_nowait(self._mine)
            self._mine = None

    async def stop(self) -> None:
        """End what is under way for this device."""
        if self._mine is not None:
            await self._mine.stop()


def _job_json(job: Job) -> dict[str, Any]:
    return {
        "body": job.command.to_body(),
        "bundle": str(job.bundle),
        "pack": str(job.pack) if job.pack else None,
        "state": b64encode(job.state).decode() if job.state is not None else None,
        "node_config": job.node_config,
        "update": str(job.update),
        "secret": job.secret,
        "model": str(job.model) if job.model else None,
        "may_install": job.may_install,
    }


def _read_done(fields: Any) -> Done:  # noqa: ANN401 - JSON is any
    result: Content | Failure
    if fields["failure"] is not None:
        result = Failure(fields["failure"][0], fields["failure"][1])
    else:
        result = Content.from_json(fields["content"])
    state = fields["state"]
    return Done(result, b64decode(state) if state is not None else None, fields["worked_s"])
