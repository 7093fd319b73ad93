"""Every worker answers the job that it was given, whatever became of the one before."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from processes import Programs, alive, until
from samples import command

from windflower.adapters.local.worker_process import (
    WORKER_ENVIRONMENT,
    ProcessWorker,
    WorkerPool,
)
from windflower.adapters.memory.events import EventList
from windflower.errors import WorkerDied
from windflower.flower.app_bundle import make_bundle
from windflower.flower.app_folder import AppFolder
from windflower.flower.records import from_content, to_content
from windflower.ports import Done, Job, Worker
from windflower.wire.content import Content
from windflower.wire.frames import frame
from windflower.wire.values import Values

APPS = Path(__file__).parents[1] / "apps"


@pytest.fixture(params=["process", "pooled"])
async def worker(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Worker]:
    pool = WorkerPool(1, None, EventList(), scratch=tmp_path)
    held = ProcessWorker(None, EventList(), scratch=tmp_path)
    yield held if request.param == "process" else pool.turn()
    await held.stop()
    await pool.close()


def job(folder: Path, seed: str, *, pause: Path | None = None, app: str = "averaging") -> Job:
    import numpy as np  # noqa: PLC0415
    from flwr.app import Array, ArrayRecord, RecordDict  # noqa: PLC0415

    ref, data = make_bundle(AppFolder.read(APPS / app))
    bundle = folder / "bundle"
    bundle.write_bytes(data)
    arrays = RecordDict({"arrays": ArrayRecord({"w": Array(np.zeros(8, dtype=np.float32))})})
    settings = {"averaging": ("pause-file", str(pause or "")), "families": ("folder", str(folder))}
    config = Values("configs", (settings[app],))
    asked = replace(
        command(), content=to_content(arrays, folder / "p"), bundle=ref, seed=seed, config=config
    )
    return Job(
        command=asked,
        bundle=bundle,
        pack=None,
        state=None,
        node_config="partition-id=1 num-partitions=2",
        update=folder / "update",
        secret="",
    )


def bits(done: Done) -> bytes:
    assert isinstance(done.result, Content), done.result
    return from_content(done.result, None).array_records["arrays"]["w"].data


async def test_a_worker_does_one_job_after_another(worker: Worker, tmp_path: Path) -> None:
    first = bits(await worker.work(job(tmp_path, "1" * 16)))
    again = bits(await worker.work(job(tmp_path, "1" * 16)))
    other = bits(await worker.work(job(tmp_path, "2" * 16)))

    assert first == again != other


async def test_a_job_that_was_cancelled_never_answers_for_the_next(
    worker: Worker, tmp_path: Path
) -> None:
    expected = bits(await worker.work(job(tmp_path, "2" * 16)))
    pause = tmp_path / "pause"
    pause.touch()
    cut = asyncio.create_task(worker.work(job(tmp_path, "1" * 16, pause=pause)))
    await asyncio.wait([cut], timeout=0.3)
    cut.cancel()
    await asyncio.wait([cut])
    pause.unlink()

    assert cut.cancelled()
    assert expected == bits(await worker.work(job(tmp_path, "2" * 16)))


async def test_a_nursery_that_may_not_fork_leaves_the_agent_to_spawn(tmp_path: Path) -> None:
    nursery = tmp_path / "nursery.sock"

    async def refuse(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(frame({"refused": "the nursery has 2 threads"}))
        await writer.drain()
        writer.close()

    server = await asyncio.start_unix_server(refuse, path=str(nursery))
    events = EventList()
    worker = ProcessWorker(nursery, events, scratch=tmp_path)
    done = await worker.work(job(tmp_path, "1" * 16))
    await worker.stop()
    server.close()

    assert 32 < len(bits(done))
    assert ["spawned"] == [line["how"] for line in events.of("worker-started")]
    assert 0 < events.of("worker-started")[0]["seconds"]


async def test_a_worker_that_is_stopped_starts_afresh(worker: Worker, tmp_path: Path) -> None:
    first = bits(await worker.work(job(tmp_path, "1" * 16)))
    await worker.stop()

    assert first == bits(await worker.work(job(tmp_path, "1" * 16)))


async def test_a_worker_is_spawned_where_the_nursery_is_gone(tmp_path: Path) -> None:
    events = EventList()
    worker = ProcessWorker(tmp_path / "nobody.sock", events, scratch=tmp_path)
    done = await worker.work(job(tmp_path, "1" * 16))
    await worker.stop()

    assert 32 < len(bits(done))
    assert ["spawned"] == [line["how"] for line in events.of("worker-started")]


@pytest.fixture(params=["spawned", "forked"])
async def parent(
    request: pytest.FixtureRequest, programs: Programs, tmp_path: Path
) -> AsyncIterator[ProcessWorker]:
    nursery = tmp_path / "nursery.sock" if request.param == "forked" else None
    if nursery:
        module = "windflower.flower.nursery"
        command = (sys.executable, "-m", module, str(nursery))
        programs.start(*command, name="nursery", **WORKER_ENVIRONMENT)
        await asyncio.to_thread(until, nursery.exists, "the nursery")
    events = EventList()
    worker = ProcessWorker(nursery, events, scratch=tmp_path)
    yield worker
    await worker.stop()
    assert {request.param} == {line["how"] for line in events.of("worker-started")}


async def left_behind(folder: Path) -> int:
    """Return the process that the app started and forgot."""
    file = folder / "device-1"
    await asyncio.to_thread(until, file.exists, "the work to begin")
    child = int(file.read_text())
    assert alive(child)
    return child


async def until_dead(child: int) -> None:
    await asyncio.to_thread(until, lambda: not alive(child), "the app's child to end")


async def test_what_the_app_starts_ends_with_its_worker(
    parent: ProcessWorker, tmp_path: Path
) -> None:
    await parent.work(job(tmp_path, "1" * 16, app="families"))
    child = await left_behind(tmp_path)
    await parent.stop()

    await until_dead(child)


async def test_what_the_app_starts_ends_when_its_work_is_cancelled(
    parent: ProcessWorker, tmp_path: Path
) -> None:
    (tmp_path / "pause").touch()
    work = asyncio.create_task(parent.work(job(tmp_path, "1" * 16, app="families")))
    child = await left_behind(tmp_path)
    work.cancel()
    await asyncio.wait([work])

    await until_dead(child)


async def test_what_the_app_starts_ends_when_its_worker_is_killed(
    parent: ProcessWorker, tmp_path: Path
) -> None:
    (tmp_path / "pause").touch()
    work = asyncio.create_task(parent.work(job(tmp_path, "1" * 16, app="families")))
    child = await left_behind(tmp_path)
    os.kill(parent_of(child), signal.SIGKILL)

    with pytest.raises(WorkerDied):
        await work
    await until_dead(child)


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
