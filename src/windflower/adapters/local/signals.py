"""What Ctrl-C and SIGTERM do to a program that has children."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

KILLED: Final = 130
"""The exit code of whoever was stopped by Ctrl-C."""


def stop_on_signal(stop: Callable[[signal.Signals], object]) -> None:
    """Let the first Ctrl-C or SIGTERM stop this program in order, and a second Ctrl-C at once.

    A second SIGTERM changes nothing: a supervisor sends one to a whole family, in which each also
    hears from its parent. What is done after the first has an end of its own.

    Args:
        stop: begins to end what was started; called once, with what was heard.
    """
    loop = asyncio.get_running_loop()
    heard: list[signal.Signals] = []

    def hear(number: signal.Signals) -> None:
        heard.append(number)
        if len(heard) == 1:
            stop(number)
        elif number == signal.SIGINT:
            _end_at_once()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, hear, number)


def _end_at_once() -> None:
    """Kill whatever we started, and end. All that we keep survives that, as a power cut."""
    if not Path("/proc/self").exists():
        sys.stderr.write("windflower: still ending what was started\n")
        return
    sys.stderr.write("windflower: killing what was started\n")
    sys.stderr.flush()
    family: list[int] = []
    ahead = list(_children(os.getpid()))
    while ahead:
        pid = ahead.pop()
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)  # it starts no other while its children are counted
            family.append(pid)
            ahead += _children(pid)
    for pid in family:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    os._exit(KILLED)


def _children(pid: int) -> Iterator[int]:
    for thread in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):  # it has just ended
            yield from map(int, thread.read_text().split())
