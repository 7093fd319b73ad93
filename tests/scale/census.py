"""Counts the tasks of an event loop, for whoever looks at its process from outside."""

import asyncio
from pathlib import Path
from typing import Final

_EVERY_S: Final = 0.5


async def count_tasks(path: Path) -> None:
    """Write again and again how many tasks this loop has, until cancelled."""
    part = path.with_name(path.name + ".part")
    while True:
        part.write_text(f"{len(asyncio.all_tasks())}\n")
        part.replace(path)
        await asyncio.sleep(_EVERY_S)


def tasks_in(path: Path) -> int:
    """Return how many there were when they were counted last."""
    return int(path.read_text())
