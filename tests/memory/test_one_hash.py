"""What everything stands on: the same seed gives the same bits, whatever the timing."""

import asyncio
import random
from pathlib import Path

import pytest

from windflower.adapters.memory.fleet import Shape
from windflower.flower.app_folder import AppFolder
from windflower.pipeline.in_memory import MemoryRequest, MemoryResult, run_in_memory
from windflower.ports import Done, Job, Worker

APPS = Path(__file__).parents[1] / "apps"
DEVICES = 6


class Delayed:
    """Holds each answer back for a number of loop turns that differs from device to device."""

    def __init__(self, seed: int, worker: Worker) -> None:
        self._random = random.Random(seed)
        self._worker = worker

    async def work(self, job: Job) -> Done:
        done = await self._worker.work(job)
        for _ in range(self._random.randrange(200)):
            await asyncio.sleep(0)
        return done

    async def stop(self) -> None:
        await self._worker.stop()


def request(app: str, *, order: int, seed: int = 7, shape: Shape = "push") -> MemoryRequest:
    return MemoryRequest(
        app=AppFolder.read(APPS / app),
        node_configs={
            f"device-{i}": f"partition-id={i} num-partitions={DEVICES}" for i in range(DEVICES)
        },
        seed=seed,
        shape=shape,
        around=lambda device, worker: Delayed(order * 1000 + int(device[-1]), worker),
    )


def model_hash(result: MemoryResult) -> str:
    assert 0 == result.replies["failed"] + result.replies["late"]
    return str(result.summary["model-hash"])


def order_of_arrival(result: MemoryResult) -> list[str]:
    return [line["device"] for line in result.events.of("reply-accepted")]


async def test_five_arrival_orders_and_run_ids_give_one_model() -> None:
    results = [await run_in_memory(request("averaging", order=order)) for order in range(5)]

    assert 1 == len({model_hash(result) for result in results})
    assert 1 < len({tuple(order_of_arrival(result)) for result in results})
    assert 5 == len({result.run.run for result in results})


async def test_another_seed_gives_another_model() -> None:
    first = await run_in_memory(request("averaging", order=1, seed=1))
    second = await run_in_memory(request("averaging", order=1, seed=2))

    assert model_hash(first) != model_hash(second)


async def test_a_table_that_can_only_be_polled_gives_the_same_model() -> None:
    pushed = await run_in_memory(request("averaging", order=1))
    polled = await run_in_memory(request("averaging", order=2, shape="table"))

    assert model_hash(pushed) == model_hash(polled)


@pytest.mark.parametrize("seed", [3])
async def test_a_legacy_app_gives_one_model_too(seed: int) -> None:
    results = [await run_in_memory(request("legacy", order=o, seed=seed)) for o in range(3)]

    assert 1 == len({model_hash(result) for result in results})
