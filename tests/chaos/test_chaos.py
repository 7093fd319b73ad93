"""Real processes are killed in bad weather, and the model is the same, bit for bit."""

from pathlib import Path

import pytest
from processes import MOSQUITTO

from chaos.faults import Fault
from chaos.plan import DEVICES, Plan
from chaos.scenario import play, undisturbed

ROUNDS = 1

pytestmark = [
    pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed"),
    pytest.mark.slow,
]


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The hash of the model when nothing goes wrong."""
    return undisturbed(tmp_path_factory.mktemp("undisturbed"), rounds=ROUNDS)


@pytest.mark.parametrize("seed", [1, 2])
def test_a_run_survives_whatever_is_killed_and_its_model_is_the_same(
    tmp_path: Path, expected: str, seed: int
) -> None:
    plan = Plan.draw(seed, rounds=ROUNDS)
    outcome = play(plan, tmp_path, expected=expected)

    assert {"gateway": 3, "broker": 3, "agent": 3} == outcome.kills
    assert 0.2 < outcome.faults[Fault.LOSS] / outcome.messages < 0.4
    assert set(Fault) == {fault for fault in Fault if outcome.faults[fault]}


def test_a_plan_is_drawn_from_its_seed() -> None:
    plans = [Plan.draw(seed) for seed in (1, 1, 2)]

    assert plans[0] == plans[1] != plans[2]
    assert sorted(plans[0].kills) == list(plans[0].kills)
    assert all(0 <= kill.number < DEVICES for kill in plans[0].kills)
