"""What a large fleet, a long journal and a long life do to the real code.

Facts decide; how long it took is printed with `pytest -rP` and recorded in the JUnit report. A case
that fails is seen again with the command in its name: `python -m scale storm 2000`.
"""

import json
import os
from collections.abc import Callable
from dataclasses import asdict
from typing import Final

import pytest
from conftest import needs_mosquitto
from processes import Programs

from scale.restart import RestartFigures, restart
from scale.soak import SoakFigures, soak
from scale.storm import StormFigures, storm

DEVICES: Final = 2000
SETTLED: Final = 10_000
SOAK_S: Final = 60

Record = Callable[[str, object], None]

pytestmark = [needs_mosquitto, pytest.mark.slow]


def test_after_the_brokers_death_every_device_is_commanded_and_answers_once(
    programs: Programs, record_property: Record
) -> None:
    figures = storm(programs, DEVICES)
    say(record_property, figures)

    assert [] == figures.problems()
    assert DEVICES == figures.good


def test_a_gateway_with_a_long_journal_takes_up_what_was_open(
    programs: Programs, record_property: Record
) -> None:
    figures = restart(programs, SETTLED)
    say(record_property, figures)

    assert [] == figures.problems()
    assert SETTLED == figures.recalled


def test_a_fleet_that_works_for_long_grows_in_nothing(
    programs: Programs, record_property: Record
) -> None:
    figures = soak(programs, SOAK_S)
    say(record_property, figures)

    assert [] == figures.problems()


def say(record: Record, figures: StormFigures | RestartFigures | SoakFigures) -> None:
    """Put what was measured into the report, with the load that the machine was under."""
    measured = {"load": os.getloadavg()[0], **asdict(figures)}
    for name, value in measured.items():
        record(name, value)
    print(json.dumps(measured))  # noqa: T201 - pytest keeps it
