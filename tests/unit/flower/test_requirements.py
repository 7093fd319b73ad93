"""What an app asks for is held against what is installed."""

import pytest

from windflower.errors import AppError
from windflower.flower.requirements import missing, others, unlike


def test_what_every_device_has_is_not_asked_for() -> None:
    asked = ["flwr[simulation]>=1.31", "NumPy", "windflower", "torch>=2", "Pillow"]

    assert ("torch>=2", "Pillow") == others(asked)


def test_only_what_is_not_here_at_all_is_missing() -> None:
    asked = ["windflower-nowhere>=2", "pytest>=9999", "pytest", 'gone; python_version < "3"']

    assert ["windflower-nowhere>=2"] == missing(asked)
    (other,) = unlike(asked)
    assert other.startswith("pytest>=9999 wanted, ")
    assert other.endswith(" installed")


def test_a_name_counts_however_it_is_spelled() -> None:
    assert [] == missing(["PYTEST_asyncio", "pytest.asyncio[docs]>=0.1"])


def test_what_is_no_requirement_is_named() -> None:
    with pytest.raises(AppError, match="asks for 'torch >= two', which is no requirement"):
        others(["torch >= two"])
