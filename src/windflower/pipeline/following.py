"""A gateway's events on this loop, which must not wait for a socket."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

Lines = asyncio.Queue[dict[str, Any] | None]
"""Events; None when they end."""


def followed(lines: Iterator[dict[str, Any]]) -> Lines:
    """Return a queue of what `lines` yields in a thread that nobody waits for."""
    queue: Lines = asyncio.Queue()
    loop = asyncio.get_running_loop()

    def pump() -> None:
        with suppress(OSError, ValueError, RuntimeError):  # closed under our feet: the end
            for event in lines:
                loop.call_soon_threadsafe(queue.put_nowait, event)
            loop.call_soon_threadsafe(queue.put_nowait, None)

    threading.Thread(target=pump, name="events", daemon=True).start()
    return queue
