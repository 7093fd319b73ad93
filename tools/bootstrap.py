"""Makes `.venv` in seconds, then runs one of the project's commands in it. Standard library only.

    python3 tools/bootstrap.py demo      ten watches learn together
    python3 tools/bootstrap.py test      every test, but for those that follow
    python3 tools/bootstrap.py test-endurance   processes are killed, storms, long lives, weather
    python3 tools/bootstrap.py test-conformance   Flower's features, each compared with Flower
    python3 tools/bootstrap.py test-browser   the page, in Chromium
    python3 tools/bootstrap.py test-heavy   tests that need much disk or many packages
    python3 tools/bootstrap.py check     format, lint, types, the house's floors
    python3 tools/bootstrap.py nightly   the long runs
    python3 tools/bootstrap.py compare   one app over one bad link, on Flower's SuperLink and here

A second call starts at once: the environment is made anew only when what it is made from changed.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / ".venv"
BIN = VENV / "bin"
LOCK = ROOT / "requirements.lock"
HEAVY_LOCK = ROOT / "requirements-heavy.lock"
BROWSER_LOCK = ROOT / "requirements-browser.lock"
STAMP = VENV / "made-from"
SPREAD = [str(BIN / "python"), "-m", "pytest", "-n", "3", "--dist", "worksteal"]
"""Three at a time, also on two cores: half of the time tests wait for processes and clocks."""
MODULES = os.pathsep.join(str(ROOT / folder) for folder in ("tests", "bench"))
OLDEST = (3, 11)
PROGRAMS = {
    "mosquitto": "every test with the Mosquitto broker",
    "tcpdump": "the test that looks for a device's data in all traffic",
    "node": "the tests of the second device",
}
PACKAGES = {"node": "nodejs"}
"""Debian's packages whose names are not their program's."""
HEAVY_PROGRAMS = {
    **dict.fromkeys(
        ("debootstrap", "umoci", "skopeo", "docker-registry"), "the tests of the container image"
    ),
    "prometheus": "the tests with a real Prometheus",
}
BROWSER_PROGRAMS = {"chromium": "the tests of the page"}


def main() -> int:
    """Set up, run what was asked for, and return its exit code."""
    commands = {
        "demo": demo,
        "test": test,
        "test-endurance": test_endurance,
        "test-conformance": test_conformance,
        "test-browser": test_browser,
        "test-heavy": test_heavy,
        "check": check,
        "nightly": nightly,
        "compare": compare,
    }
    if len(sys.argv) < 2 or sys.argv[1] not in commands:  # noqa: PLR2004 - the program and a word
        sys.stderr.write(__doc__ or "")
        return 2
    if sys.version_info < OLDEST:
        found = ".".join(map(str, sys.version_info[:3]))
        sys.stderr.write(f"windflower needs Python 3.11 or newer, this is {found}: set PYTHON=\n")
        return 2
    set_up()
    return commands[sys.argv[1]](sys.argv[2:])


# ---------------------------------------------------------------------------------- set-up


def set_up() -> None:
    """Make the environment, unless it was made from the same files before."""
    wanted = fingerprint()
    if STAMP.exists() and STAMP.read_text() == wanted:
        return
    say("Setting up .venv (once; a few seconds)")
    venv.EnvBuilder(with_pip=True, clear=VENV.exists()).create(VENV)
    install(locked("uv"))
    STAMP.write_text(wanted)


def fingerprint() -> str:
    """Name what the environment is made from."""
    digest = hashlib.sha256(sys.version.encode())
    for path in (LOCK, ROOT / "pyproject.toml"):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def locked(package: str) -> str:
    """Return a package with its locked version."""
    lines = LOCK.read_text().splitlines()
    return next(line.split()[0] for line in lines if line.startswith(f"{package}=="))


def install(uv: str) -> None:
    """Let uv install the locked packages and this tree; pip does it where uv cannot be had."""
    pip = [str(BIN / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    what = ["-r", str(LOCK), "-e", str(ROOT)]
    if subprocess.run([*pip, uv], check=False).returncode == 0:
        run([str(BIN / "uv"), "pip", "install", "--quiet", "-p", str(BIN / "python"), *what])
    else:
        say("uv could not be installed: going on with pip, which takes a minute")
        run([*pip, *what])


def ensure_packages(lock: Path, what_for: str) -> None:
    """Install more packages, where pip finds them: uv looks in fewer places."""
    what = ["-r", str(lock), "-c", str(LOCK)]
    quietly = ["--quiet", "--disable-pip-version-check", "--retries", "1"]
    command = [str(BIN / "python"), "-m", "pip", "install", *quietly, *what]
    if subprocess.run(command, check=False).returncode != 0:
        say(f"SKIPPED: {what_for}: packages of {lock.name} are not installed")


def ensure_programs(programs: dict[str, str]) -> None:
    """Install Debian's programs that tests use, where they are missing and we may."""
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin"])
    missing = [name for name in programs if not shutil.which(name, path=path)]
    apt = shutil.which("apt-get")
    if missing and os.geteuid() == 0 and apt:
        packages = [PACKAGES.get(name, name) for name in missing]
        say(f"Installing {' '.join(packages)}")
        # RUNLEVEL=1 keeps Debian from starting a broker of its own on port 1883.
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
        for command in (["update"], ["install", "-y", "--no-install-recommends", *packages]):
            subprocess.run([apt, *command], check=False, env=environment, capture_output=True)
        missing = [name for name in missing if not shutil.which(name, path=path)]
    for name in missing:
        say(f"SKIPPED: {programs[name]} (Debian: sudo apt install {PACKAGES.get(name, name)})")


# -------------------------------------------------------------------------------- commands


def demo(arguments: list[str]) -> int:
    """Run the demo."""
    return call([str(BIN / "windflower"), "demo", *arguments])


def test(arguments: list[str]) -> int:
    """Check the tree, then run every test, several at a time."""
    ensure_programs(PROGRAMS)
    if (code := check([])) != 0:
        return code
    return call([*SPREAD, *arguments])


def test_endurance(arguments: list[str]) -> int:
    """Kill real processes and links, let thousands of devices come back, simulate for long."""
    ensure_programs(PROGRAMS)
    return call([*SPREAD, *(arguments or ["tests/chaos", "tests/scale", "tests/weather"])])


def test_conformance(arguments: list[str]) -> int:
    """Run real Flower apps on a real fleet, and compare them with Flower."""
    ensure_programs(PROGRAMS)
    return call([*SPREAD, "tests/conformance", *arguments])


def test_browser(arguments: list[str]) -> int:
    """Look at the page in a real browser."""
    ensure_programs(PROGRAMS | BROWSER_PROGRAMS)
    ensure_packages(BROWSER_LOCK, "tests of the page")
    return call([str(BIN / "python"), "-m", "pytest", *(arguments or ["tests/browser"])])


def test_heavy(arguments: list[str]) -> int:
    """Run the tests that need more than the others: disk, packages, root."""
    ensure_programs(PROGRAMS | HEAVY_PROGRAMS)
    ensure_packages(HEAVY_LOCK, "tests of the heavy examples")
    return call([str(BIN / "python"), "-m", "pytest", *(arguments or ["tests/heavy"])])


def check(arguments: list[str]) -> int:
    """Format, lint, types, floors: the fastest first."""
    for command in (
        ["ruff", "format", "--check", "--quiet", "."],
        ["ruff", "check", "--quiet", "."],
        ["lint-imports"],
        ["mypy", *arguments],
    ):
        say(" ".join(command))
        code = call([str(BIN / command[0]), *command[1:]], quiet=command[0] == "lint-imports")
        if code != 0:
            return code
    return 0


NIGHTLY = (
    # About five hours on two cores; the seeds begin behind those of `test`.
    ("sim", "--device-rounds", "100000000", "--seeds", "100000:", "--processes", "2"),
    ("crash", "--nested", "3000"),
    ("chaos", "--scenarios", "30"),
    ("scale", "storm", "9000"),
    ("scale", "restart", "10000"),
    ("scale", "soak", "1800"),
)
"""Simulated fleets; deaths in the recovery from deaths; real chaos; storms and long lives."""


def nightly(arguments: list[str]) -> int:
    """Run the long ones, all or those that are named; one that fails does not stop the rest."""
    ensure_programs(PROGRAMS)
    failed = 0
    for name, *words in NIGHTLY:
        if not arguments or name in arguments:
            say(" ".join([name, *words]))
            failed |= call([str(BIN / "python"), "-m", name, *words], tests=True) != 0
    return int(failed)


def compare(arguments: list[str]) -> int:
    """Run one app over one bad link, on Flower's SuperLink and SuperNodes and on windflower."""
    ensure_programs({"mosquitto": "the comparison"})
    return call([str(BIN / "python"), "-m", "compare", *arguments], tests=True)


def call(command: list[str], *, quiet: bool = False, tests: bool = False) -> int:
    """Run a command in the tree; show what a quiet one said only if it failed."""
    environment = {
        **os.environ,
        # Debian keeps mosquitto where only root looks for programs.
        "PATH": os.pathsep.join([str(BIN), os.environ.get("PATH", ""), "/usr/sbin"]),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        **({"PYTHONPATH": MODULES} if tests else {}),
    }
    done = subprocess.run(
        command, check=False, cwd=ROOT, env=environment, capture_output=quiet, text=True
    )
    if quiet and done.returncode != 0:
        sys.stderr.write(done.stdout + done.stderr)
    return done.returncode


def run(command: list[str]) -> None:
    """Run a command that must succeed."""
    if subprocess.run(command, check=False, cwd=ROOT).returncode != 0:
        sys.exit(f"set-up failed: {' '.join(command[:4])} ...")


def say(text: str) -> None:
    """Tell a person what is under way."""
    sys.stderr.write(f"-- {text}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
