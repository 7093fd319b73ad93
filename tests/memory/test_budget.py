"""A run that holds too much lets go of what can be spared, and says when it cannot be resumed."""

import asyncio
from pathlib import Path

import pytest
from one_process import Config, Fleet, fleet

from windflower.adapters.memory.blobs import MemoryBlobs
from windflower.core.ledger import RunRecord
from windflower.core.retention import OPEN_RUN_BYTES
from windflower.errors import NotEnoughRoom, RunFailed

UPDATE_BYTES = 80_000
"""A little less than what 20,000 weights and their header take."""

ROUNDS = 4
LARGE: Config = {"strategy": "FedAvgM", "num-server-rounds": ROUNDS, "weights": 20_000}
TIGHT_BYTES = 16 * UPDATE_BYTES
"""Two rounds, what was made of each, and a little: each phase asks five devices, whose last updates
are in use."""


async def run_to_its_end(disturbed: Fleet, run: RunRecord) -> tuple[str, int]:
    outcome = await disturbed.execute(run)
    assert outcome is not None
    return await disturbed.end(run, outcome), disturbed.works()


async def undisturbed(folder: Path, app: Config) -> tuple[str, int]:
    async with fleet(folder, "strategies", app) as calm:
        return await run_to_its_end(calm, await calm.begin())


@pytest.mark.parametrize("name", ["FedProx", "FedAvgM", "FedAdam"])
async def test_a_run_over_its_budget_is_resumed_with_the_same_bits(
    tmp_path: Path, name: str
) -> None:
    app = {**LARGE, "strategy": name}
    twin = await undisturbed(tmp_path / "twin", app)
    budget = int(TIGHT_BYTES * (1.7 if name == "FedAdam" else 1))  # it makes float64 of float32
    async with fleet(tmp_path / "it", "strategies", app, budget_bytes=budget) as disturbed:
        run = await disturbed.begin()
        calls = 24
        while not (dropped := disturbed.events.of("updates-dropped")):
            calls += 1  # when an update is let go depends on Python's garbage collector
            assert await disturbed.execute(run, dies_at=calls) is None
            run = await disturbed.desk.resume_run(run.run)

        assert twin == await run_to_its_end(disturbed, run)
        assert {True} == {line["is_resumable"] for line in dropped}
        assert UPDATE_BYTES < sum(line["size_bytes"] for line in dropped)


async def test_what_stays_of_a_run_fits_its_budget(tmp_path: Path) -> None:
    async with fleet(tmp_path, "strategies", LARGE, budget_bytes=TIGHT_BYTES) as tight:
        run = await tight.begin()
        await run_to_its_end(tight, run)
        (needed,) = tight.events.of("room-needed")
        dropped = sum(line["size_bytes"] for line in tight.events.of("updates-dropped"))
        asked = ROUNDS * 5 * UPDATE_BYTES

        assert 5 * UPDATE_BYTES <= needed["phase_bytes"] <= 6 * UPDATE_BYTES
        assert TIGHT_BYTES == needed["budget_bytes"]
        assert asked - dropped <= TIGHT_BYTES


async def test_what_a_run_may_keep_is_said_before_it_starts(tmp_path: Path) -> None:
    async with fleet(tmp_path, "strategies", LARGE) as roomy:
        first = await roomy.begin()
        await run_to_its_end(roomy, first)
        await roomy.begin()
        unknown, known = roomy.events.of("room-foreseen")
        kinds = [line["event"] for line in roomy.events.lines]

        assert kinds.index("room-foreseen") < kinds.index("phase-opened")
        assert OPEN_RUN_BYTES == unknown["budget_bytes"]
        assert 0 < unknown["free_bytes"]
        assert "earlier" not in unknown
        assert first.run == known["earlier"]
        assert ROUNDS * 5 * UPDATE_BYTES <= known["earlier_bytes"]


async def test_a_strategy_that_looks_at_updates_goes_on_and_cannot_be_begun_again(
    tmp_path: Path,
) -> None:
    app = {**LARGE, "strategy": "MultiKrum"}
    twin = await undisturbed(tmp_path / "twin", app)
    async with fleet(tmp_path / "it", "strategies", app, budget_bytes=TIGHT_BYTES) as tight:
        run = await tight.begin()

        assert twin == await run_to_its_end(tight, run)
        assert [False] == [line["is_resumable"] for line in tight.events.of("updates-dropped")][:1]
        assert not tight.desk.run(run.run).is_resumable


async def test_a_run_that_cannot_be_begun_again_ends_when_it_has_to_be(tmp_path: Path) -> None:
    app = {**LARGE, "strategy": "MultiKrum"}
    async with fleet(tmp_path, "strategies", app, budget_bytes=TIGHT_BYTES) as tight:
        run = await tight.begin()
        calls = 0
        while not tight.events.of("updates-dropped"):
            calls += 1
            assert await tight.execute(run, dies_at=calls) is None
            if tight.desk.run(run.run).is_resumable:
                run = await tight.desk.resume_run(run.run)
        with pytest.raises(RunFailed, match="resume_gb"):
            await tight.desk.resume_run(run.run)

        assert "failed" == tight.desk.run(run.run).state


async def test_within_its_budget_a_run_keeps_every_update(tmp_path: Path) -> None:
    async with fleet(tmp_path, "strategies", LARGE) as roomy:
        await run_to_its_end(roomy, await roomy.begin())

        assert [] == roomy.events.of("updates-dropped")


async def test_killed_before_any_call_a_run_over_its_budget_ends_alike(tmp_path: Path) -> None:
    """Whatever was dropped, asked, or kept when it died."""
    twin = await undisturbed(tmp_path / "twin", LARGE)
    async with fleet(tmp_path / "it", "strategies", LARGE, budget_bytes=TIGHT_BYTES) as disturbed:
        run = await disturbed.begin()
        deaths = 0
        while (outcome := await disturbed.execute(run, dies_at=deaths + 1)) is None:
            deaths += 1
            run = await disturbed.desk.resume_run(run.run)

        assert twin == (await disturbed.end(run, outcome), disturbed.works())
        assert 20 < deaths


async def test_where_the_disk_is_full_nothing_goes_in_vain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = {**LARGE, "strategy": "MultiKrum"}
    twin = await undisturbed(tmp_path / "twin", app)
    async with fleet(tmp_path / "it", "strategies", app, budget_bytes=TIGHT_BYTES) as tight:
        run = await tight.begin()
        assert await tight.execute(run, dies_at=14) is None
        run = await tight.desk.resume_run(run.run)
        with monkeypatch.context() as full:
            full.setattr(MemoryBlobs, "room_bytes", lambda _: 0)
            with pytest.raises(NotEnoughRoom):
                await tight.execute(run)
        assert [] == tight.events.of("updates-dropped")
        run = await tight.desk.resume_run(run.run)

        assert twin == await run_to_its_end(tight, run)


async def test_what_devices_are_about_to_fetch_stays_though_it_is_an_aggregate_too(
    tmp_path: Path,
) -> None:
    """The next round's model has the bits, and so the name, of what the last one was made into."""
    twin = await undisturbed(tmp_path / "twin", {**LARGE, "strategy": "FedAvg"})
    app = {**LARGE, "strategy": "FedAvg"}
    async with fleet(tmp_path / "it", "strategies", app, budget_bytes=1) as tight:
        run = await tight.begin()
        async with asyncio.timeout(30):
            ending = await run_to_its_end(tight, run)

        assert twin == ending
        assert not tight.desk.run(run.run).is_resumable
