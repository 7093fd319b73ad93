"""One fleet for all tests of a worker of pytest."""

from collections.abc import Iterator

import pytest
from processes import MOSQUITTO, Programs

from conformance.fleet import ConformanceFleet


@pytest.fixture(scope="session")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConformanceFleet]:
    """Four devices, each a process; their gateway serves one run after another."""
    if MOSQUITTO is None:
        pytest.skip("mosquitto is not installed")
    programs = Programs(tmp_path_factory.mktemp("fleet"))
    try:
        yield ConformanceFleet(programs)
    finally:
        programs.end_all()
