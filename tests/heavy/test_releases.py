"""The oldest and the newest release of Flower: the core of the suite, and a fleet that has both."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from processes import MOSQUITTO, Program, Programs, until

ROOT = Path(__file__).parents[2]
TOOL = ROOT / "tools" / "flower_releases.py"
BOTH = ("1.31.0", "newest")

sys.path.insert(0, str(TOOL.parent))
import flower_releases  # noqa: E402

pytestmark = [
    pytest.mark.skipif(
        not shutil.which("uv", path=str(Path(sys.executable).parent)) and not shutil.which("uv"),
        reason="uv is not installed",
    ),
    pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed"),
]


@pytest.mark.parametrize("release", BOTH)
def test_the_core_of_the_suite_passes(release: str) -> None:
    done = subprocess.run(
        [sys.executable, str(TOOL), release], capture_output=True, text=True, check=False
    )

    assert 0 == done.returncode, done.stdout + done.stderr
    assert "passed" in done.stdout


def test_the_oldest_release_is_that_of_the_project() -> None:
    assert BOTH[0] == flower_releases.oldest()


class MixedFleet:
    """A gateway and two agents, each with the Flower of its own environment."""

    def __init__(self, programs: Programs, gateway: Path, devices: Path, name: str) -> None:
        self._programs, self._gateway, self._name = programs, gateway, name
        _, broker = programs.mosquitto()
        self._state = str(programs.folder / name)
        serve = ("serve", "--broker", broker, "--state", self._state, "--format", "json")
        served = self._start(gateway, *serve, name="serve")
        until(lambda: served.out, "the gateway")
        for device in ("pi-01", "pi-02"):
            state = str(programs.folder / f"{name}-{device}")
            self._start(
                devices,
                *("agent", "--broker", broker, "--device-id", device, "--state", state),
                *("--node-config", f"partition-id={device[-1]} num-partitions=2"),
                name=device,
            )

    def _start(self, python: Path, *words: str, name: str) -> Program:
        command = (str(python), "-m", "windflower.cli.main", *words)
        variables = flower_releases.variables(python)
        return self._programs.start(*command, name=f"{self._name}-{name}", **variables)

    def run(self, app: Path) -> dict[str, Any]:
        """Run an app to its end, and return the run's last line."""
        run = self._start(
            self._gateway,
            *("run", str(app), "--state", self._state, "--format", "json", "--seed", "1"),
            *("--limit", "2", "--strict", "--wait-devices", "30", "-c", "numbers=100000"),
            name="run",
        )
        assert 0 == run.wait(), run.err
        return run.last


def test_gateway_and_devices_on_different_releases_come_to_the_same_model(
    programs: Programs, apps: Path
) -> None:
    oldest, newest = map(flower_releases.environment, BOTH)
    fleets = {"old-old": (oldest, oldest), "new-old": (newest, oldest), "old-new": (oldest, newest)}
    ends = [
        MixedFleet(programs, *pair, name).run(apps / "averaging") for name, pair in fleets.items()
    ]

    assert flower_releases.version(oldest) != flower_releases.version(newest)
    assert [{"ok": 8, "failed": 0, "late": 0}] * 3 == [end["replies"] for end in ends]
    assert 1 == len({end["model-hash"] for end in ends})
