"""Ports for programs that take seconds to listen: such as nobody is given meanwhile."""

import random
from typing import Final

from windflower.adapters.local.tcp_ports import listens

_RANGE: Final = range(15_000, 32_000)
"""Below Linux's ephemeral ports, from which every connection and every other free port is taken."""


def quiet_ports(count: int) -> list[int]:
    """Return so many ports of 127.0.0.1 on which nobody listens."""
    found: list[int] = []
    while len(found) < count:
        port = random.choice(_RANGE)  # noqa: S311 - so that two of us rarely choose alike
        if port not in found and not listens(port):
            found.append(port)
    return found
