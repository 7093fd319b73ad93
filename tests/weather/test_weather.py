"""The core in all the weather that there is time for: two million device-rounds."""

import os
from typing import Final

import pytest
from sim.tally import Tally
from sim.test_sim import CHUNK, SEEDS, simulate

DEVICE_ROUNDS: Final = 2_000_000
"""So many at least the seeds make together: what they made is counted and said by a test."""


@pytest.fixture(scope="session")
def tally(tmp_path_factory: pytest.TempPathFactory) -> Tally:
    """Counts for all processes of this test run: each has a folder of its own in one of the run."""
    own = tmp_path_factory.getbasetemp()
    shared = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own
    return Tally(shared / "device-rounds", parts=SEEDS // CHUNK)


@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
def test_no_weather_breaks_a_rule_in_two_million_device_rounds(first: int, tally: Tally) -> None:
    works = sum(simulate(seed).works for seed in range(first, first + CHUNK))
    print(f"{works} device-rounds, seeds {first} to {first + CHUNK - 1}")  # noqa: T201 - with -rP

    total = tally.add(first, works)
    if total is not None:
        print(f"{total} device-rounds in all, {SEEDS} seeds")  # noqa: T201 - with -rP

        assert total >= DEVICE_ROUNDS
