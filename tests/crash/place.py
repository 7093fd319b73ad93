"""Where a case happens: its folder, its names, its ports."""

from dataclasses import dataclass
from pathlib import Path

from crash.script import DEVICES


@dataclass(frozen=True, slots=True)
class Place:
    """What the processes of one case share, and no other case has.

    Attributes:
        folder: everything that it leaves behind.
        name: tells its topics and devices from those of other cases on the same broker.
        broker: the broker's address.
        blobs_port: where its gateway serves blobs, in each of its lives.
        voice: the descriptor on which processes tell the case how far they are.
        bug: what is planted in its processes; empty for nothing.
    """

    folder: Path
    name: str
    broker: str
    blobs_port: int
    voice: int
    bug: str = ""

    @property
    def devices(self) -> tuple[str, ...]:
        """The names of the devices, in order."""
        return tuple(f"{self.name}-{number}" for number in range(DEVICES))

    @property
    def device_state(self) -> Path:
        """What the devices must not forget."""
        return self.folder / "device"

    @property
    def gateway_state(self) -> Path:
        """What the gateway must not forget."""
        return self.folder / "gateway"

    @property
    def scratch(self) -> Path:
        """Where the app writes packs, on the gateway's file system."""
        return self.folder / "scratch"

    @property
    def work(self) -> Path:
        """The ledger of all work on devices."""
        return self.folder / "work"

    def trace(self, role: str, life: int) -> Path:
        """The effects of one life."""
        return trace_in(self.folder, role, life)

    def said(self, role: str) -> Path:
        """What a role wrote to its standard streams, in all its lives."""
        return self.folder / f"{role}.err"


def trace_in(folder: Path, role: str, life: int) -> Path:
    """Return where the effects of one life are listed."""
    return folder / f"{role}-{life}.trace"
