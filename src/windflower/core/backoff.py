"""How long to wait before the next try."""

from typing import Final

FIRST_S: Final = 0.5
LONGEST_S: Final = 30.0


def wait_s(failures: int) -> float:
    """Return the seconds to wait after so many failures in a row, doubling up to half a minute.

    Deterministic; whoever fears a herd adds chance outside of the core.
    """
    return float(min(FIRST_S * 2 ** min(max(failures - 1, 0), 10), LONGEST_S))
