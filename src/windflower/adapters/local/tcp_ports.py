"""TCP ports that a gateway takes again after a restart: its devices know it by them."""

import asyncio
import socket
from contextlib import suppress
from pathlib import Path
from typing import Final

PATIENCE_S: Final = 3.0
"""A port whose last holder was just killed is free again after a moment."""

_LOOK_S: Final = 0.05


class RememberedPort:
    """The port that was used last.

    Args:
        file: where it is remembered.
    """

    def __init__(self, file: Path) -> None:
        self._file = file

    async def last(self, host: str = "127.0.0.1") -> int:
        """Return the port that was used last if it is free or becomes so soon, else 0."""
        try:
            port = int(self._file.read_text())
        except (OSError, ValueError):
            return 0
        return port if await until_free(port, host) else 0

    def remember(self, port: int) -> None:
        """Remember a port; that it cannot be written only costs the next start its port."""
        with suppress(OSError):
            self._file.parent.mkdir(parents=True, exist_ok=True)
            self._file.write_text(f"{port}\n")


async def until_free(port: int, host: str = "127.0.0.1") -> bool:
    """Wait a moment for a port of this machine; return whether it can be listened on."""
    for _ in range(int(PATIENCE_S / _LOOK_S)):
        if _is_free(port, host):
            return True
        await asyncio.sleep(_LOOK_S)
    return False


def bound(host: str, port: int) -> socket.socket:
    """Return a socket that has taken a port of an address, IPv4 or IPv6; raises OSError."""
    taken = socket.socket(socket.AF_INET6 if is_ipv6(host) else socket.AF_INET)
    try:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind((host, port))
    except OSError:
        taken.close()
        raise
    return taken


def is_ipv6(host: str) -> bool:
    """Return whether this is an IPv6 address: only these have colons."""
    return ":" in host


def in_url(host: str) -> str:
    """Return a host as URLs spell it."""
    return f"[{host}]" if is_ipv6(host) else host


def _is_free(port: int, host: str) -> bool:
    try:
        bound(host, port).close()
    except OSError:
        return False
    return True


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def listens(port: int) -> bool:
    """Return whether somebody listens on a port of 127.0.0.1."""
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex(("127.0.0.1", port)) == 0
