"""Looks whether this machine is ready for a run."""

import importlib.metadata
import importlib.util
import os
import platform
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from windflower.core.finding import Finding
from windflower.core.retention import RESERVE_BYTES

ROOM_BYTES: Final = 64 * RESERVE_BYTES


def check_up(state: Path, broker: str | None) -> Iterator[Finding]:
    """Yield what is found.

    Args:
        state: the folder in which everything is kept.
        broker: the one that is set; None means one of our own.
    """
    python, flwr = platform.python_version(), importlib.metadata.version("flwr")
    yield Finding("versions", is_well=True, says=f"Python {python}, flwr {flwr}")
    yield _broker(broker)
    yield _state(state)


def _broker(broker: str | None) -> Finding:
    if broker is not None:
        return Finding("broker", is_well=True, says=f"{broker.rpartition('@')[2]}, which is set")
    for name, there in (
        ("mosquitto", shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")),
        ("iotcore", importlib.util.find_spec("iotcore")),
    ):
        if there:
            return Finding("broker", is_well=True, says=f"{name}, which we start")
    fix = "apt install mosquitto, or pip install 'windflower[demo]', or set one with --broker"
    return Finding("broker", is_well=False, says="there is none on this machine", fix=fix)


def _state(state: Path) -> Finding:
    there = next(folder for folder in (state, *state.parents) if folder.exists())
    room = shutil.disk_usage(there).free
    if not os.access(there, os.W_OK):
        fix = "choose another with --state, or change its owner"
        return Finding("state", is_well=False, says=f"{there} cannot be written to", fix=fix)
    is_well = room > ROOM_BYTES
    fix = "" if is_well else "make room, or choose another folder with --state"
    says = f"{state}, {room / 2**30:.3g} GiB free"
    return Finding("state", is_well=is_well, says=says, fix=fix)
