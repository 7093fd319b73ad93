"""Lines that outlive whoever wrote them."""

import os
from pathlib import Path


class Ledger:
    """Appends lines, each with one system call, so that a killed process leaves only whole ones.

    Args:
        path: the file; created where it is missing.
    """

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def append(self, line: str) -> None:
        """Append a line."""
        os.write(self._descriptor, line.encode() + b"\n")


def lines_of(path: Path) -> list[str]:
    """Return the lines of a ledger; of one that was never begun, none."""
    return path.read_text().splitlines() if path.exists() else []
