"""The core in bad weather: a failing seed names the command that shows it again."""

import os
import subprocess
import sys
from typing import Final

import pytest

from sim.bugs import BUGS
from sim.parts import SOUND, Parts
from sim.simulation import Outcome, Simulation
from sim.world import Violation
from windflower.core.device_effects import Work
from windflower.core.duty import Duty
from windflower.wire.content import Content
from windflower.wire.messages import Command, Control

SEEDS: Final = 7700
"""So many are tried in all. Without a mistake most of them are tried by `make test-endurance`."""

CHUNK: Final = 100

_FIRST: Final = 1000

ONCE_BROKEN: Final = (
    47,
    83,
    97,
    117,
    142,
    280,
    285,
    426,
    718,
    762,
    918,
    1062,
    1167,
    1480,
    1610,
    3805,
    5521,
)
"""Seeds that found a bug in the core or in the simulator; what they show may change, they stay."""


def simulate(seed: int, parts: Parts = SOUND) -> Outcome:
    """Run one seed."""
    try:
        return Simulation(seed, parts=parts).run()
    except Violation as violation:
        violation.add_note(f"replay: PYTHONPATH=src:tests python -m sim {seed} --trace")
        raise


@pytest.mark.parametrize("first", range(0, _FIRST, CHUNK))
def test_no_weather_breaks_a_rule(first: int) -> None:
    assert sum(simulate(seed).works for seed in range(first, first + CHUNK)) > 0


@pytest.mark.parametrize("seed", range(0, 40, 2))
def test_one_seed_is_one_run(seed: int) -> None:
    assert simulate(seed) == simulate(seed)


def test_seeds_differ() -> None:
    assert len({simulate(seed).trace_hash for seed in range(20)}) == 20


def test_one_seed_is_one_run_in_another_process_too() -> None:
    code = "from sim.test_sim import simulate; print([simulate(s).trace_hash for s in range(8)])"
    said = {
        subprocess.run(
            [sys.executable, "-c", code],
            check=True,
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)},
        ).stdout
        for seed in ("1", "2")
    }

    assert said == {f"{[simulate(seed).trace_hash for seed in range(8)]}\n"}


@pytest.mark.parametrize("seed", ONCE_BROKEN)
def test_what_was_repaired_stays_repaired(seed: int) -> None:
    simulate(seed)


@pytest.mark.parametrize("name", BUGS)
def test_a_planted_bug_is_found(name: str) -> None:
    for seed in range(SEEDS):
        simulation = Simulation(seed, parts=BUGS[name].parts)
        if simulation.is_large:
            continue  # a mistake shows as well in a small fleet, and sooner
        try:
            simulation.run()
        except Violation as found:
            print(f"{name}: seed {seed}, {found.rule}")  # noqa: T201 - with -rP
            return
    pytest.fail(f"{BUGS[name].mistake}: {SEEDS} seeds do not notice")


def test_a_gateway_that_was_paused_cannot_cancel_what_its_successor_asked() -> None:
    device = Duty("d1", interval_s=60.0)
    device.ordered(_asked(epoch=2), (), 0.0)

    device.controlled(Control("d1", "cancel", ("a" * 32,), epoch=1), (), 1.0)

    assert device.worked("a" * 32, Content(), worked_s=1.0, now=2.0)


def test_what_a_gateway_that_was_paused_cancelled_is_begun_again_for_its_successor() -> None:
    device = Duty("d1", interval_s=60.0)
    device.ordered(_asked(epoch=1), (), 0.0)
    device.controlled(Control("d1", "cancel", ("a" * 32,), epoch=1), (), 1.0)

    duplicate = device.ordered(_asked(epoch=1), (), 2.0)
    revived = device.ordered(_asked(epoch=2), (), 3.0)

    assert not any(isinstance(e, Work) for e in duplicate)
    assert any(isinstance(e, Work) for e in revived)


def _asked(*, epoch: int) -> Command:
    return Command(
        id="a" * 32,
        client="d1",
        method="fit",
        type="train",
        group="1",
        run="run-1",
        number=1,
        epoch=epoch,
        floor=1,
        ttl_s=60.0,
        created_at=0.0,
        content=Content(),
    )
