"""Runs the core of the suite on the oldest and the newest release of Flower. Standard library only.

    python tools/flower_releases.py           the oldest that is allowed, and the newest there is
    python tools/flower_releases.py 1.35.0    others

Each release gets an environment of its own below `.releases`: what the project asks for, in the
locked versions as far as they fit to that release. It needs uv and a package index.
"""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / ".releases"
LOCK = ROOT / "requirements.lock"
CORE = (
    "tests/conformance/test_features.py",
    "tests/conformance/test_legacy.py",
    "tests/memory/test_one_hash.py",
    "tests/memory/test_outcomes.py",
)
"""Message API and legacy apps on real processes, and whole runs in one process."""


def main(releases: Sequence[str]) -> int:
    """Test each release, print a table, and return 1 if one failed."""
    failed, rows = False, []
    for release in releases or (oldest(), "newest"):
        python = environment(release)
        began = time.monotonic()
        done = subprocess.run(
            [python, "-m", "pytest", "-q", *CORE],
            cwd=ROOT,
            env=variables(python),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            sys.stderr.write(done.stdout[-8000:])
        failed |= done.returncode != 0
        said = done.stdout.strip().splitlines()[-1].strip("= ") if done.stdout else done.stderr
        rows.append((version(python), said, f"{time.monotonic() - began:.0f} s"))
    for row in (("flwr", "tests", "took"), *rows):
        sys.stdout.write(f"{row[0]:<8}  {row[1]:<48}  {row[2]}\n")
    return int(failed)


def oldest() -> str:
    """Return the oldest release that the project allows."""
    found = re.search(r'"flwr>=([0-9.]+),', (ROOT / "pyproject.toml").read_text())
    if found is None:
        raise SystemExit("pyproject.toml no longer says from which flwr on")
    return f"{found[1]}.0"


def environment(release: str) -> Path:
    """Return the Python of a release's environment; `newest` asks the package index each time."""
    uv = shutil.which("uv") or shutil.which("uv", path=str(Path(sys.executable).parent))
    if uv is None:
        raise SystemExit("uv is not installed")
    folder = FOLDER / release
    folder.mkdir(parents=True, exist_ok=True)
    pins, made_from = folder / "requirements.txt", folder / "made-from"
    # What stands in the output file is preferred, not demanded: so pins stay as far as they fit.
    locked = [line for line in LOCK.read_text().splitlines() if not line.startswith("flwr==")]
    pins.write_text("\n".join(locked) + "\n")
    wanted = folder / "wanted.txt"
    wanted.write_text("" if release == "newest" else f"flwr=={release}\n")
    run(
        *(uv, "pip", "compile", "--quiet", "pyproject.toml", "--group", "test", "--universal"),
        *("--no-annotate", "--no-header", "-c", str(wanted), "-o", str(pins)),
    )
    python = folder / "venv" / "bin" / "python"
    if not made_from.exists() or made_from.read_text() != pins.read_text():
        run(uv, "venv", "--quiet", "--clear", "-p", sys.executable, str(folder / "venv"))
        run(uv, "pip", "install", "--quiet", "-p", str(python), "-r", str(pins))
        run(uv, "pip", "install", "--quiet", "-p", str(python), "--no-deps", "-e", str(ROOT))
        made_from.write_text(pins.read_text())
    return python


def version(python: Path) -> str:
    """Return which release of Flower an environment holds."""
    code = "from importlib.metadata import version; print(version('flwr'))"
    return subprocess.run(
        [python, "-c", code], capture_output=True, text=True, check=True
    ).stdout.strip()


def variables(python: Path) -> dict[str, str]:
    """Return the environment variables for a program of an environment."""
    path = os.pathsep.join([str(python.parent), os.environ.get("PATH", ""), "/usr/sbin"])
    quiet = {"FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1"}
    return {**os.environ, **quiet, "PATH": path, "PYTHONPATH": str(ROOT / "tests")}


def run(*command: str) -> None:
    """Run a command that must succeed."""
    if subprocess.run(command, check=False, cwd=ROOT).returncode != 0:
        raise SystemExit(f"failed: {' '.join(command[:4])} ...")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
