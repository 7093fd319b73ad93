"""A run that is killed at any call to its gateway, and begun again, ends with the same bits."""

import asyncio
from pathlib import Path

import pytest
from one_process import DEVICES, Config, Fleet, fleet, holding

from windflower.core.ledger import RunRecord
from windflower.core.policy import RoundPolicy
from windflower.errors import NotEnoughReplies, RunDiverged

EQUAL = (
    "FedAvg", "FedAvgM", "FedAdam", "FedYogi", "FedAdagrad", "FedProx", "QFedAvg", "FedMedian",
    "FedTrimmedAvg", "Krum", "MultiKrum", "Bulyan",
)  # fmt: skip


async def undisturbed(folder: Path, app: str, config: Config | None = None) -> tuple[str, int, int]:
    """Return the hash, the calls and the replies of a run that nothing happens to."""
    async with fleet(folder, app, config) as calm:
        run = await calm.begin()
        outcome = await calm.execute(run)
        assert outcome is not None
        return await calm.end(run, outcome), calm.lines[0].calls, calm.works()


async def killed_at_every_call(
    folder: Path, app: str, config: Config | None = None
) -> list[tuple[str, int]]:
    """Return the hash and the replies of one run for each call before which it may be killed."""
    _, calls, _ = await undisturbed(folder / "calm", app, config)
    endings = []
    for dies_at in range(1, calls + 1):
        async with fleet(folder / str(dies_at), app, config) as disturbed:
            run = await disturbed.begin()
            assert await disturbed.execute(run, dies_at=dies_at) is None
            run = await disturbed.desk.resume_run(run.run)
            outcome = await disturbed.execute(run)
            assert outcome is not None
            endings.append((await disturbed.end(run, outcome), disturbed.works()))
    return endings


@pytest.mark.parametrize("name", EQUAL)
async def test_a_strategy_ends_with_the_same_bits_wherever_it_is_killed(
    tmp_path: Path, name: str
) -> None:
    short: Config = {"strategy": name, "num-server-rounds": 2}
    hash_, _, works = await undisturbed(tmp_path / "twin", "strategies", short)
    endings = await killed_at_every_call(tmp_path, "strategies", short)

    assert 8 <= len(endings)
    assert {(hash_, works)} == set(endings)  # and nothing was trained twice


@pytest.mark.parametrize("name", ["DPServerFixed", "DPServerAdaptive"])
async def test_noise_is_drawn_again_alike_while_the_run_is_open(tmp_path: Path, name: str) -> None:
    """With the seed that a gateway keeps for so long; the test's own, to have a twin."""
    short: Config = {"strategy": name, "num-server-rounds": 2}
    hash_, _, works = await undisturbed(tmp_path / "twin", "noisy", short)
    endings = await killed_at_every_call(tmp_path, "noisy", short)

    assert {(hash_, works)} == set(endings)


async def test_a_legacy_app_ends_with_the_same_bits_wherever_it_is_killed(tmp_path: Path) -> None:
    hash_, _, works = await undisturbed(tmp_path / "twin", "legacy")
    endings = await killed_at_every_call(tmp_path, "legacy")

    assert {(hash_, works)} == set(endings)


async def test_a_run_is_resumed_as_often_as_it_is_killed(tmp_path: Path) -> None:
    hash_, calls, works = await undisturbed(tmp_path / "twin", "strategies")
    async with fleet(tmp_path / "disturbed", "strategies") as disturbed:
        run = await disturbed.begin()
        for dies_at in range(1, calls + 1):
            assert await disturbed.execute(run, dies_at=dies_at) is None
            run = await disturbed.desk.resume_run(run.run)
        outcome = await disturbed.execute(run)
        assert outcome is not None

        assert (hash_, works) == (await disturbed.end(run, outcome), disturbed.works())


async def killed_in_round_two(disturbed: Fleet) -> RunRecord:
    run = await disturbed.begin()
    assert await disturbed.execute(run, dies_at=7) is None
    return run


@pytest.mark.parametrize("whim", ["clock", "entropy"])
async def test_an_app_that_asks_for_something_else_is_stopped_and_told_what(
    tmp_path: Path, whim: str
) -> None:
    async with fleet(tmp_path, "strategies", {"whim": whim}) as disturbed:
        run = await killed_in_round_two(disturbed)
        run = await disturbed.desk.resume_run(run.run)
        key = {"clock": "started-at", "entropy": "token"}[whim]
        with pytest.raises(
            RunDiverged, match=rf"device-\d \(train, .*'{key}' in 'config' is .*was"
        ):
            await disturbed.execute(run)

        assert "open" == disturbed.desk.run(run.run).state


async def test_a_lenient_run_accepts_other_values_in_phases_that_are_closed(
    tmp_path: Path,
) -> None:
    async with fleet(tmp_path, "strategies", {"whim": "clock"}) as disturbed:
        run = await killed_in_round_two(disturbed)
        before = disturbed.works()
        run = await disturbed.desk.resume_run(run.run, is_lenient=True)
        outcome = await disturbed.execute(run)
        assert outcome is not None
        await disturbed.end(run, outcome)

        assert 0 < before < disturbed.works()


async def test_a_run_that_was_begun_again_is_not_served_under_its_old_epoch(
    tmp_path: Path,
) -> None:
    async with fleet(tmp_path, "strategies") as disturbed:
        run = await disturbed.begin()
        again = await disturbed.desk.resume_run(run.run)

        assert again.epoch > run.epoch
        assert again == disturbed.desk.begin(run.run, again.epoch)
        with pytest.raises(RunDiverged, match="begun again elsewhere"):
            disturbed.desk.begin(run.run, run.epoch)


@pytest.mark.parametrize("dies_at", [7, 9, 10])
async def test_what_was_measured_before_is_not_reported_again(tmp_path: Path, dies_at: int) -> None:
    async with fleet(tmp_path, "strategies") as disturbed:
        run = await disturbed.begin()
        assert await disturbed.execute(run, dies_at=dies_at) is None
        before = len(disturbed.events.of("round-measured"))
        run = await disturbed.desk.resume_run(run.run)
        assert await disturbed.execute(run) is not None
        measured = [
            (line["round"], line["stage"]) for line in disturbed.events.of("round-measured")
        ]

        assert 1 <= before < len(measured)
        assert [(n, stage) for n in (1, 2, 3) for stage in ("train", "evaluate")] == measured


async def test_secure_aggregation_ends_with_the_same_bits_wherever_it_is_killed(
    tmp_path: Path,
) -> None:
    """SecAgg+ draws other masks each time; they cancel out, and what is summed is the same."""
    short: Config = {"num-server-rounds": 1}
    hash_, _, works = await undisturbed(tmp_path / "twin", "secagg", short)
    endings = await killed_at_every_call(tmp_path, "secagg", short)

    assert 1 + (4 + 1) * DEVICES == works  # arrays to begin with; four to sum up, one to evaluate
    assert 6 <= len(endings)
    assert {(hash_, works)} == set(endings)
    assert not hash_.startswith("None")


async def test_a_phase_that_is_opened_again_says_how_many_had_answered(tmp_path: Path) -> None:
    may_end = asyncio.Event()
    policy = RoundPolicy(deadline_s=2.0, min_replies=DEVICES)
    app: Config = {"strategy": "FedAvg", "num-server-rounds": 1}
    around = holding(may_end, 1)
    async with fleet(tmp_path, "strategies", app, policy=policy, around=around) as disturbed:
        run = await disturbed.begin()
        with pytest.raises(NotEnoughReplies):
            await disturbed.execute(run)
        answered = len(disturbed.events.of("reply-accepted"))  # nobody else goes on meanwhile
        run = await disturbed.desk.resume_run(run.run)
        going_on = asyncio.create_task(disturbed.execute(run))
        async with asyncio.timeout(20):
            while len(disturbed.events.of("phase-opened")) == 1:  # noqa: ASYNC110 - it is a list
                await asyncio.sleep(0.01)
        may_end.set()
        assert await going_on is not None
        first, again, then = disturbed.events.of("phase-opened")

        assert [(0, 1), (answered, 1), (0, 1)] == [
            (line["ok"], line["round"]) for line in (first, again, then)
        ]
        assert 1 <= answered < DEVICES
        assert [True, False] == [line["again"] for line in disturbed.events.of("phase-closed")]


async def test_a_lenient_run_asks_anew_in_the_phase_that_was_open(tmp_path: Path) -> None:
    """Most of a run's life is within a phase, and so are most of its deaths."""
    may_end = asyncio.Event()
    policy = RoundPolicy(deadline_s=2.0, min_replies=DEVICES)
    app: Config = {"strategy": "FedAvgM", "num-server-rounds": 1, "whim": "clock"}
    around = holding(may_end, 1)
    async with fleet(tmp_path, "strategies", app, policy=policy, around=around) as disturbed:
        run = await disturbed.begin()
        with pytest.raises(NotEnoughReplies):
            await disturbed.execute(run)
        may_end.set()
        run = await disturbed.desk.resume_run(run.run)
        with pytest.raises(RunDiverged, match="'started-at' in 'config'"):
            await disturbed.execute(run)
        run = await disturbed.desk.resume_run(run.run, is_lenient=True)
        outcome = await disturbed.execute(run)
        assert outcome is not None
        await disturbed.end(run, outcome)

        assert "done" == disturbed.desk.run(run.run).state
