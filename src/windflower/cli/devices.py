"""`windflower devices`: who is in the fleet."""

import json
import sys
import time
from pathlib import Path

from windflower.compose import StateFolder


def show_devices(state: Path, *, limit: int | None, is_json: bool) -> None:
    """Print the devices that the running gateway knows, the one that was heard last first."""
    devices = StateFolder(state).line().devices(limit)
    if is_json:
        sys.stdout.write(json.dumps({"success": True, "devices": devices}) + "\n")
        return
    if not devices:
        sys.stdout.write("No device was heard yet.\n")
    now = time.time()
    for device in devices:
        heard = f"{now - device['heard-at']:8.1f} s ago" if device["heard-at"] else "     not yet"
        state_word = "online " if device["online"] else "offline"
        sys.stdout.write(f"{state_word}  {heard}  {device['device']}\n")
