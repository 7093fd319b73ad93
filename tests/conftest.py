"""What every test may ask for."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from processes import MOSQUITTO, Programs

pytest_plugins = ["cloud"]

needs_mosquitto = pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed")


@pytest.fixture
def programs(tmp_path: Path) -> Iterator[Programs]:
    """Real processes, all ended afterwards."""
    started = Programs(tmp_path)
    yield started
    started.end_all()


@pytest.fixture
def apps() -> Path:
    """The folder of small Flower apps for tests."""
    return Path(__file__).parent / "apps"
