"""SecAgg+ on a fleet whose devices drop out: the mean is of those whose masked update came.

Its masks and its rounding are drawn from secrets, so that two runs agree in no bit of a message,
and in the mean to the quantization's step.
"""

from pathlib import Path

import pytest

from conformance.fleet import ConformanceFleet
from conformance.twin import Config, on_the_fleet, on_the_twin

TOLERANCE = 4 * 16 / (1 << 22) * 1000 / 9
"""Each of four devices rounds to one of 2**22 steps in 16 units, of weights that may be up to 1000
and add up to 9."""


def mean(*numbers: int) -> float:
    """Return what devices with these numbers come to, each weighted by its own."""
    return sum(n * n for n in numbers) / sum(numbers)


@pytest.mark.parametrize(
    ("stage", "expected"),
    [
        ("", mean(1, 2, 3, 4)),
        ("setup", None),  # Flower then lacks shares of the one that is gone, and gives the round up
        ("share_keys", None),
        ("collect_masked_vectors", mean(2, 3, 4)),
        ("unmask", mean(1, 2, 3, 4)),
    ],
)
def test_the_mean_is_that_of_the_devices_whose_update_came(
    fleet: ConformanceFleet, tmp_path: Path, stage: str, expected: float | None
) -> None:
    config: Config = {"drops-in": stage}
    answer, real = on_the_fleet(fleet, "secagg", tmp_path / "real", config, is_secret=True)
    twin = on_the_twin("secagg", tmp_path / "twin", {"drops-in": stage, "dies": False})

    assert bool(stage) == (answer["replies"]["failed"] > 0)
    for account in (real, twin):
        assert ([] if expected is None else ["server"]) == list(account)
    for account in (real, twin) if expected is not None else ():
        (line,) = account["server"]
        vector, matrix = line["mean"]
        assert [4, 4] == [len(vector), 2 * len(matrix)]
        assert [expected] * 8 == pytest.approx([*vector, *matrix[0], *matrix[1]], abs=TOLERANCE)
