"""Each effect of the agent and of the gateway, with a death before it: nothing is lost or doubled.

A failing case names the command that shows it again. Points come in an order that is nearly the
same each time; one that a case does not reach leaves it undisturbed.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest
from conftest import needs_mosquitto
from processes import ENVIRONMENT

from crash.bugs import BUGS
from crash.deaths import Plan, plan_of

CHUNKS: Final = 16
POINTS: Final = 500
"""At least so many effects has a run, of both roles together."""

_TESTS: Final = Path(__file__).parents[1]
_DEADLINE_S: Final = 300


def crash(*arguments: str) -> dict[str, Any]:
    """Run cases in a process that has loaded nothing else; return what came of them."""
    paths = [str(_TESTS), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [sys.executable, "-m", "crash", *arguments],
        env={**ENVIRONMENT, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
        capture_output=True,
        text=True,
        check=False,
        timeout=_DEADLINE_S,
    )

    assert done.returncode in (0, 1), done.stdout + done.stderr
    return dict(json.loads(done.stdout.splitlines()[-1]))


@needs_mosquitto
@pytest.mark.slow
@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_a_death_before_any_effect_changes_nothing(chunk: int) -> None:
    tally = crash("--chunk", f"{chunk}/{CHUNKS}")

    assert [] == tally["failed"]
    assert POINTS <= sum(tally["points"].values())
    assert POINTS // CHUNKS <= tally["cases"] == tally["planned"]
    # Without duplicates, nothing would have been tested: replies were said again, and counted once.
    assert 0 < tally["duplicates"]
    assert 0.9 * tally["planned"] <= tally["killed"]


@needs_mosquitto
@pytest.mark.slow
def test_a_death_in_the_recovery_from_a_death_changes_nothing() -> None:
    tally = crash("--nested", "20")

    assert [] == tally["failed"]
    assert 40 == tally["planned"]


@needs_mosquitto
@pytest.mark.slow
@pytest.mark.parametrize("name", BUGS)
def test_a_planted_bug_is_found(name: str) -> None:
    # Few deaths show it, and which point is which moves a little with the threads.
    assert any(crash("--bug", name)["failed"] for _ in range(4)), BUGS[name].mistake


def test_a_plan_is_read_as_it_is_written() -> None:
    plan = Plan(agent=(37, 5), gateway=(9,))

    assert "agent 37 5 gateway 9" == str(plan)
    assert plan == plan_of(str(plan).split())
