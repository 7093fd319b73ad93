"""What one device does is data: the run goes on, and says what happened."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from windflower.errors import NotEnoughDevices, RunFailed, WorkerDied
from windflower.flower.app_folder import AppFolder
from windflower.pipeline.in_memory import MemoryRequest, run_in_memory
from windflower.ports import Done, Job, Worker

APPS = Path(__file__).parents[1] / "apps"


class Silent:
    """Never answers."""

    async def work(self, job: Job) -> Done:
        del job
        await asyncio.Event().wait()
        raise AssertionError

    async def stop(self) -> None:
        pass


class Dying:
    """Dies at its first job, as a worker that was killed for its memory."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._has_died = False

    async def work(self, job: Job) -> Done:
        if not self._has_died:
            self._has_died = True
            raise WorkerDied("the process that ran the app ended without an answer")
        return await self._worker.work(job)

    async def stop(self) -> None:
        await self._worker.stop()


def request(**config: float | str) -> MemoryRequest:
    return MemoryRequest(
        app=AppFolder.read(APPS / "averaging"),
        node_configs={f"device-{i}": f"partition-id={i} num-partitions=4" for i in range(4)},
        config={"num-server-rounds": 2, **{k.replace("_", "-"): v for k, v in config.items()}},
    )


async def test_a_device_that_fails_is_counted_and_the_others_go_on() -> None:
    result = await run_in_memory(request(fails_on=2))
    failed = result.events.of("reply-failed")

    assert {"ok": 14, "failed": 2, "late": 0} == result.replies
    assert {"device-2"} == {line["device"] for line in failed}
    assert "ValueError: device 2 was told to fail" in failed[0]["reason"]
    assert 2 == result.outcome.rounds


async def test_a_device_that_is_silent_is_late_at_the_timeout() -> None:
    slow = replace(
        request(timeout_s=0.3),
        around=lambda device, worker: Silent() if device == "device-1" else worker,
    )
    result = await run_in_memory(slow)
    missing = result.events.of("reply-missing")

    assert {"ok": 12, "failed": 0, "late": 4} == result.replies
    assert {"device-1 did not answer in time"} == {line["reason"] for line in missing}


async def test_a_worker_that_dies_is_a_failure_and_the_next_job_finds_another() -> None:
    dying = replace(
        request(), around=lambda device, worker: Dying(worker) if device == "device-3" else worker
    )
    result = await run_in_memory(dying)
    failed = result.events.of("reply-failed")

    assert {"ok": 15, "failed": 1, "late": 0} == result.replies
    assert [("device-3", 8)] == [(line["device"], line["code"]) for line in failed]


async def test_an_app_that_raises_ends_the_run_with_its_traceback(tmp_path: Path) -> None:
    with pytest.raises(RunFailed, match="FileNotFoundError"):
        await run_in_memory(replace(request(), app=broken_app(tmp_path)))


def broken_app(folder: Path) -> AppFolder:
    (folder / "broken").mkdir()
    (folder / "broken" / "__init__.py").write_text("")
    (folder / "broken" / "client_app.py").write_text(
        "from flwr.clientapp import ClientApp\napp = ClientApp()\n"
    )
    (folder / "broken" / "server_app.py").write_text(
        "from flwr.serverapp import ServerApp\n"
        "app = ServerApp()\n"
        "@app.main()\n"
        "def main(grid, context):\n"
        "    open('/no/such/file')\n"
    )
    (folder / "pyproject.toml").write_text(
        "[project]\nname = 'broken'\n[tool.flwr.app.components]\n"
        "serverapp = 'broken.server_app:app'\nclientapp = 'broken.client_app:app'\n"
        "[tool.flwr.app.config]\nnum-server-rounds = 1\n"
    )
    return AppFolder.read(folder)


async def test_the_state_of_the_app_lives_on_the_device_over_rounds() -> None:
    result = await run_in_memory(request())
    seen = [
        line["metrics"]["rounds-seen"]
        for line in result.events.of("reply-accepted")
        if line["method"] == "fit"
    ]

    assert [1.0] * 4 + [2.0] * 4 == seen


def test_not_enough_devices_says_how_many() -> None:
    error = NotEnoughDevices("needs 3 devices, 1 online", have=1, need=3)

    assert (1, 3) == (error.have, error.need)


async def test_the_replies_of_a_hand_driven_run_are_counted() -> None:
    mixing = replace(
        request(), app=AppFolder.read(APPS / "mixing"), config={"num-server-rounds": 3}
    )

    assert {"ok": 12, "failed": 0, "late": 0} == (await run_in_memory(mixing)).replies


@pytest.mark.parametrize("is_strict", [False, True])
async def test_a_run_that_nobody_ever_answers_well_fails(*, is_strict: bool) -> None:
    mixing = replace(
        request(),
        app=AppFolder.read(APPS / "mixing"),
        config={"num-server-rounds": 1, "fails": True},
        is_strict=is_strict,
    )

    with pytest.raises(RunFailed, match=r"(?s)no device ever answered well, of 4 answers.*told"):
        await run_in_memory(mixing)
