"""What a round waits for, with strategies that know nothing of it."""

import asyncio
from pathlib import Path

import pytest
from one_process import DEVICES, Config, fleet, holding

from windflower.core.policy import RoundPolicy
from windflower.errors import NotEnoughReplies, RunFailed
from windflower.observe.sentences import sentence


async def replies_of(
    folder: Path, policy: RoundPolicy, config: Config, *held: int
) -> list[list[int]]:
    """Run the app while some devices never answer; return each phase's ok, failed and late."""
    around = holding(asyncio.Event(), *held)
    async with fleet(folder, "strategies", config, policy=policy, around=around) as disturbed:
        run = await disturbed.begin()
        outcome = await disturbed.execute(run)
        assert outcome is not None
        await disturbed.end(run, outcome)
        phases = disturbed.events.of("phase-closed")
        return [[line[kind] for kind in ("ok", "failed", "late")] for line in phases]


ROUNDS: Config = {"num-server-rounds": 2, "strategy": "FedAvgM"}


@pytest.mark.parametrize("quorum", [4, 0.8])
async def test_a_quorum_closes_a_phase_without_the_slowest(tmp_path: Path, quorum: float) -> None:
    phases = await replies_of(tmp_path, RoundPolicy(quorum=quorum), ROUNDS, 2)

    assert [[4, 0, 1]] * 4 == phases


async def test_a_deadline_closes_a_phase_with_those_who_answered(tmp_path: Path) -> None:
    policy = RoundPolicy(deadline_s=0.5)
    phases = await replies_of(tmp_path, policy, ROUNDS, 0, 3)

    assert [[3, 0, 2]] * 4 == phases


async def test_more_devices_are_asked_than_the_app_does_and_the_first_count(tmp_path: Path) -> None:
    """FedAvg asks a half, two of five, in training: one more is asked, and two must answer."""
    policy = RoundPolicy(over_select=0.5, deadline_s=0.5)
    phases = await replies_of(tmp_path, policy, {"num-server-rounds": 3}, 4)
    training, evaluation = phases[::2], phases[1::2]

    assert [[2, 0, 1]] * 3 == training
    assert [[4, 0, 1]] * 3 == evaluation  # all were asked: there was nobody to ask beside them


async def test_a_phase_with_too_few_answers_stops_the_run_and_loses_nothing(
    tmp_path: Path,
) -> None:
    may_end = asyncio.Event()
    policy = RoundPolicy(deadline_s=3.0, min_replies=DEVICES)
    around = holding(may_end, 1)
    async with fleet(tmp_path, "strategies", ROUNDS, policy=policy, around=around) as disturbed:
        run = await disturbed.begin()
        with pytest.raises(NotEnoughReplies, match="4 devices answered well in time, at least 5"):
            await disturbed.execute(run)
        assert "open" == disturbed.desk.run(run.run).state
        works = disturbed.works()
        may_end.set()
        run = await disturbed.desk.resume_run(run.run)
        outcome = await disturbed.execute(run)
        assert outcome is not None
        await disturbed.end(run, outcome)

        assert (4, 4 * DEVICES) == (works, disturbed.works())
        assert [0] == sorted({line["late"] for line in disturbed.events.of("phase-closed")})


async def test_a_phase_in_which_all_fail_ends_the_run_with_what_the_first_says(
    tmp_path: Path,
) -> None:
    app: Config = {"strategy": "FedAvgM", "num-server-rounds": 2, "fails": True}
    policy = RoundPolicy(min_replies=2)
    async with fleet(tmp_path, "strategies", app, policy=policy) as disturbed:
        run = await disturbed.begin()
        with pytest.raises(
            RunFailed, match=r"0 of 5 devices answered well, at least 2 must.*failed: .*told"
        ):
            await disturbed.execute(run)
        (closed,) = disturbed.events.of("phase-closed")

    assert (0, 5, 0) == (closed["ok"], closed["failed"], closed["late"])
    assert closed["traffic"]["commands"] == 5
    assert closed["worked_s"] == closed["failed_s"]


async def test_a_phase_is_over_when_its_run_is_ended(tmp_path: Path) -> None:
    around = holding(asyncio.Event(), 1)
    app: Config = {"strategy": "FedAvgM", "num-server-rounds": 1}
    async with fleet(tmp_path, "strategies", app, around=around) as disturbed:
        run = await disturbed.begin()
        going_on = asyncio.create_task(disturbed.execute(run))
        async with asyncio.timeout(20):
            while len(disturbed.events.of("reply-accepted")) < 4:  # noqa: ASYNC110 - it is a list
                await asyncio.sleep(0.01)
        await disturbed.desk.end_run(run.run, success=False, reason="no more", result={})
        with pytest.raises(RunFailed, match="was ended"):
            await going_on
        (closed,) = disturbed.events.of("phase-closed")

    assert (4, 0, 1) == (closed["ok"], closed["failed"], closed["late"])
    assert "the run was ended" == closed["reason"]


async def test_a_phase_says_on_which_terms_it_is_open(tmp_path: Path) -> None:
    policy = RoundPolicy(over_select=0.5, quorum=2, min_replies=1, deadline_s=9.0)
    app: Config = {"num-server-rounds": 1}
    async with fleet(tmp_path, "strategies", app, policy=policy) as disturbed:
        run = await disturbed.begin()
        assert await disturbed.execute(run) is not None
        training, evaluation = disturbed.events.of("phase-opened")

    terms = ("devices", "spares", "quorum", "minimum", "timeout_s")
    assert [3, 1, 2, 1, 9.0] == [training[name] for name in terms]
    assert "train: asked 3 devices, 1 of them to spare" == sentence(training)
    assert (0, "evaluate: asked 5 devices") == (evaluation["spares"], sentence(evaluation))
