"""A strategy with explicit state goes on from its checkpoint, not from the top."""

from pathlib import Path

import pytest
from one_process import Config, fleet

from windflower.adapters.memory.blobs import MemoryBlobs

ROUNDS = 4
BUFFERED: Config = {"strategy": "FedBuff", "num-server-rounds": ROUNDS}
LARGE: Config = {"strategy": "FedBuff", "num-server-rounds": 8, "weights": 20_000}
UPDATE_BYTES = 80_000


async def test_a_run_ends_wherever_it_is_killed_and_nothing_is_trained_twice(
    tmp_path: Path,
) -> None:
    async with fleet(tmp_path / "calm", "strategies", BUFFERED) as calm:
        assert await calm.execute(await calm.begin()) is not None
        calls = calm.lines[0].calls
    for dies_at in range(1, calls + 1, 3):
        async with fleet(tmp_path / str(dies_at), "strategies", BUFFERED) as disturbed:
            run = await disturbed.begin()
            if await disturbed.execute(run, dies_at=dies_at) is not None:
                continue  # this one had fewer calls: answers came earlier
            run = await disturbed.desk.resume_run(run.run)
            outcome = await disturbed.execute(run)
            assert outcome is not None
            await disturbed.end(run, outcome)
            commands = [line["command"] for line in disturbed.events.of("reply-accepted")]
            rounds = [
                line["round"]
                for line in disturbed.events.of("round-measured")
                if line["stage"] == "train"
            ]

            assert len(set(commands)) == len(commands)
            assert list(range(1, ROUNDS + 1)) == rounds


async def test_a_run_over_its_budget_is_resumed_though_what_it_used_is_gone(
    tmp_path: Path,
) -> None:
    async with fleet(tmp_path, "strategies", LARGE, budget_bytes=12 * UPDATE_BYTES) as disturbed:
        run = await disturbed.begin()
        deaths = 0
        while (outcome := await disturbed.execute(run, dies_at=18 + 6 * deaths)) is None:
            deaths += 1
            run = await disturbed.desk.resume_run(run.run)
        await disturbed.end(run, outcome)
        dropped = disturbed.events.of("updates-dropped")

        assert 2 <= deaths
        assert {True} == {line["is_resumable"] for line in dropped}
        assert UPDATE_BYTES < sum(line["size_bytes"] for line in dropped)


async def test_only_the_last_checkpoint_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    discarded: list[str] = []
    discard = MemoryBlobs.discard

    async def seen(blobs: MemoryBlobs, key: str) -> None:
        discarded.append(key)
        await discard(blobs, key)

    monkeypatch.setattr(MemoryBlobs, "discard", seen)
    async with fleet(tmp_path, "strategies", LARGE) as calm:
        assert await calm.execute(await calm.begin()) is not None

    assert 7 == len(discarded)


async def test_rounds_that_are_over_are_not_evaluated_again(tmp_path: Path) -> None:
    """The app's own function is called once a round: its numbers are drawn at random."""
    async with fleet(tmp_path, "strategies", BUFFERED) as disturbed:
        run = await disturbed.begin()
        executed = 0
        while (await disturbed.execute(run, dies_at=30 + 10 * executed)) is None:
            executed += 1
            run = await disturbed.desk.resume_run(run.run)
        stages = [(e["round"], e["stage"]) for e in disturbed.events.of("round-measured")]

        assert 1 <= executed
        assert [(n, stage) for n in range(1, ROUNDS + 1) for stage in ("train", "evaluate")] == (
            stages
        )
