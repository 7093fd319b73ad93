"""Says who listens on a TCP port of this machine, as far as Linux tells this user."""

import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

_LISTENS: Final = "0A"
"""TCP_LISTEN in /proc/net/tcp. Source: include/net/tcp_states.h of Linux."""


def holder_of(port: int) -> str | None:
    """Return who listens on a port, "mosquitto (pid 7)"; None where that cannot be seen."""
    wanted = {f"socket:[{inode}]" for inode in _inodes(port)}
    for process in Path("/proc").glob("[0-9]*") if wanted else ():
        with suppress(OSError):  # it has ended, or is somebody else's
            if any(str(file.readlink()) in wanted for file in (process / "fd").iterdir()):
                return f"{(process / 'comm').read_text().strip()} (pid {process.name})"
    return None


def _inodes(port: int) -> Iterator[str]:
    for table in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")):
        with suppress(OSError):
            for line in table.read_text().splitlines()[1:]:
                (
                    _,
                    local,
                    _,
                    state,
                    *_,
                ) = line.split()
                if state == _LISTENS and int(re.sub(".*:", "", local), 16) == port:
                    yield line.split()[9]
