"""Where a system runs: what coordinates at the near end of the link, the devices at the far end."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from chaos.line import Link
from chaos.tunnel import Tunnel, tunnel
from conformance.fleet import as_flower_spells
from processes import Programs

from windflower.flower.app_folder import ConfigValue

APP: Final = Path(__file__).resolve().parents[2] / "tests" / "apps" / "counted"


@dataclass(frozen=True, slots=True)
class Work:
    """What is to be done.

    Attributes:
        devices: how many there are.
        rounds: how many the app makes.
        seconds: how long one training takes.
    """

    devices: int = 3
    rounds: int = 10
    seconds: float = 1.0


@dataclass(frozen=True, slots=True)
class Place:
    """What a system is given.

    Attributes:
        link: between the two ends.
        programs: starts processes, and has the folder for their logs and state.
        work: what they are to do.
    """

    link: Tunnel
    programs: Programs
    work: Work

    @property
    def diary(self) -> Path:
        """The folder in which the app writes down what it does."""
        return self.programs.folder / "diary"

    def run_config(self, more: Mapping[str, ConfigValue]) -> str:
        """Return the app's run configuration, as both command lines take it."""
        work: dict[str, ConfigValue] = {
            "num-server-rounds": self.work.rounds,
            "num-nodes": self.work.devices,
            "seconds": self.work.seconds,
            "folder": str(self.diary),
        }
        return as_flower_spells({**work, **more})

    def node_config(self, number: int) -> str:
        """Return what a device tells the app of itself."""
        return as_flower_spells({"partition-id": number, "num-partitions": self.work.devices})


@contextmanager
def place(folder: Path, link: Link, work: Work, *, seed: int) -> Iterator[Place]:
    """Make the link; afterwards end all that was started at its ends, and remove it."""
    (folder / "diary").mkdir(parents=True)
    with tunnel(seed=seed, link=link) as made:
        try:
            yield Place(made, Programs(folder), work)
        finally:
            made.near.end_all()
            made.far.end_all()
