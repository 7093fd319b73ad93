"""What every test of the second device may ask for."""

from collections.abc import Iterator

import pytest
from second.minimal import NODE, Minimal, called


@pytest.fixture(scope="session")
def minimal() -> Iterator[Minimal]:
    """The functions of the minimal device, in one process for all tests."""
    if NODE is None:
        pytest.skip("node is not installed")
    with called() as process:
        yield process
