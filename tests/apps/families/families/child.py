"""A process that its parent forgets."""

import subprocess
from pathlib import Path


def leave_behind(file: Path) -> None:
    """Start a process that would live for ten minutes, and write down which one."""
    child = subprocess.Popen(["sleep", "600"])
    file.with_suffix(".part").write_text(str(child.pid))
    file.with_suffix(".part").rename(file)
