"""How a device gets in where a gateway does: for the devices that are played on its machine."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from windflower.adapters.local.broker_address import BrokerAddress
from windflower.adapters.local.files import write_durably

BROKER_VARIABLE: Final = "WINDFLOWER_BROKER"
"""Where an agent looks for its broker: whoever lists processes would read a flag's password."""


@dataclass(frozen=True, slots=True)
class Access:
    """A gateway's own way into its broker.

    Attributes:
        broker: the address, with user, password and what is put before topics.
        flags: what else an agent is told of it.
    """

    broker: str
    flags: tuple[str, ...]

    @classmethod
    def of(cls, broker: BrokerAddress) -> "Access":
        """Describe a gateway's way."""
        files = {"--ca": broker.ca, "--certificate": broker.certificate, "--key": broker.key}
        given = {flag: str(path.absolute()) for flag, path in files.items() if path is not None}
        return cls(broker.url, tuple(f"{flag}={value}" for flag, value in given.items()))

    @classmethod
    def read(cls, path: Path) -> "Access":
        """Read what was saved; raises OSError."""
        fields = json.loads(path.read_text())
        return cls(fields["broker"], tuple(fields["flags"]))

    def save(self, path: Path) -> None:
        """Write it down, for this user only."""
        write_durably(path, json.dumps(asdict(self)).encode(), mode=0o600)
