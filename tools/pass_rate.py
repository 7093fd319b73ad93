"""Says how many Flower apps of a folder run on windflower, and why the others do not.

    python tools/pass_rate.py FOLDER [--devices 5] [--seconds 120] [--format json]

Finds every pyproject.toml with [tool.flwr.app], at any depth. Runs each app on simulated devices,
with one round and one epoch where its configuration has such a number, and with no network for
those who ask politely (HF_HUB_OFFLINE). Nothing is installed.
"""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from windflower.errors import WindflowerError
from windflower.flower.app_folder import AppFolder, ConfigValue

SKIPPED = frozenset({"node_modules", "site-packages", "venv", "env", "build", "dist"})
FEW = re.compile(r"(^|[-_.])(num[-_.]?)?(server[-_.]?)?(rounds?|epochs?)$", re.IGNORECASE)
NETWORK = re.compile(
    r"offline|gaierror|Name or service not known|Temporary failure in name resolution"
    r"|MaxRetryError|HTTPSConnectionPool|ConnectionError|ConnectTimeout|URLError|huggingface",
    re.IGNORECASE,
)
MISSING = re.compile(r"([\w\[\],<>=.~! -]+) not installed|No module named '([\w.]+)'")
OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "WANDB_MODE": "disabled",
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
}


@dataclass(frozen=True)
class Tried:
    """What became of one app.

    Attributes:
        app: its folder, below the one that was given.
        outcome: pass, missing packages, network, time limit, no app, or failed.
        reason: in a line; empty where it passed.
    """

    app: str
    outcome: str
    reason: str


def main() -> int:
    """Try all apps; return 0 whatever comes of them, 1 where there are none."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--devices", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=120.0, help="for each app, at most")
    parser.add_argument("--format", choices=["default", "json"], default="default")
    given = parser.parse_args()
    tried = []
    for folder in found(given.folder):
        name = folder.relative_to(given.folder).as_posix()
        tried.append(tried_out(folder, name, devices=given.devices, seconds=given.seconds))
        sys.stderr.write(f"{tried[-1].outcome:<17} {name:<40} {tried[-1].reason}\n")
    passed = sum(one.outcome == "pass" for one in tried)
    if given.format == "json":
        answer = {"success": True, "passed": passed, "apps": [asdict(one) for one in tried]}
        sys.stdout.write(json.dumps(answer) + "\n")
    else:
        sys.stdout.write(f"{passed} of {len(tried)} apps pass\n")
    return 0 if tried else 1


def found(folder: Path) -> Iterator[Path]:
    """Yield the folders of apps, and of those that say something that nobody can read."""
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(n for n in folders if not n.startswith(".") and n not in SKIPPED)
        if "pyproject.toml" in files:
            try:
                project = tomllib.loads((Path(parent) / "pyproject.toml").read_text())
                flower = project.get("tool", {}).get("flwr", {})
            except (tomllib.TOMLDecodeError, UnicodeDecodeError, AttributeError):
                flower = {"app": "broken"}
            if isinstance(flower, dict) and "app" in flower:
                yield Path(parent)


def tried_out(folder: Path, name: str, *, devices: int, seconds: float) -> Tried:
    """Run one app with little to do."""
    try:
        app = AppFolder.read(folder)
    except WindflowerError as error:
        return Tried(name, "no app", _line(str(error)))
    with tempfile.TemporaryDirectory() as state:
        command = [sys.executable, "-m", "windflower.cli.main", "run", str(folder)]
        command += ["--state", state, "--devices", str(devices), "--format", "json"]
        if small := few(app.config):
            command += ["-c", small]
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **OFFLINE},
            start_new_session=True,
        )
        try:
            out, said = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)  # it ends all that it started
            process.communicate()
            return Tried(name, "time limit", f"not over after {seconds:g} s")
    return judged(name, out, said)


def few(config: Mapping[str, ConfigValue]) -> str:
    """Return a configuration with one round and one epoch, where there are such numbers."""
    keys = [key for key, value in config.items() if type(value) is int and FEW.search(key)]
    return " ".join(f"{key}=1" for key in keys)


def judged(name: str, out: str, said: str) -> Tried:
    """Say what became of an app by what its run wrote."""
    lines = out.strip().splitlines()
    try:
        answer: dict[str, Any] = json.loads(lines[-1]) if lines else {}
    except ValueError:
        answer = {}
    if answer.get("success") and answer.get("replies", {}).get("ok", 0) > 0:
        return Tried(name, "pass", "")
    reason = str(answer.get("error-message") or said)
    if missing := sorted({a.strip() or b for a, b in MISSING.findall(reason)}):
        return Tried(name, "missing packages", ", ".join(missing))
    outcome = "network" if NETWORK.search(reason) else "failed"
    return Tried(name, outcome, _line(reason) or "no device answered well")


def _line(reason: str) -> str:
    """Return the last line, which says what was raised."""
    lines = [line.strip() for line in reason.splitlines() if line.strip()]
    return lines[-1][:200] if lines else ""


if __name__ == "__main__":
    sys.exit(main())
