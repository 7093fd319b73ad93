"""Adds up, over all processes of one test run, how many device-rounds the seeds make."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Tally:
    """Counts in a folder that all processes share.

    Attributes:
        folder: of this test run and no other.
        parts: how many counts make the whole.
    """

    folder: Path
    parts: int

    def add(self, name: int, works: int) -> int | None:
        """Note one count; return the sum once all are there, else None."""
        self.folder.mkdir(exist_ok=True)
        unseen = self.folder / f".{name}"
        unseen.write_text(str(works))
        unseen.rename(self.folder / f"{name}")
        counts = [path.read_text() for path in self.folder.glob("[0-9]*")]
        return sum(map(int, counts)) if len(counts) == self.parts else None
