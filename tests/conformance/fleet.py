"""A real broker, a gateway that stays, and real agents: one fleet for many runs, one by one."""

import itertools
import sys
from collections.abc import Mapping
from pathlib import Path

from processes import Program, Programs, events, until

from windflower.adapters.local.worker_process import WORKER_ENVIRONMENT
from windflower.flower.app_folder import ConfigValue

DEVICES = [f"device-{number}" for number in range(4)]


class ConformanceFleet:
    """A fleet whose agents fork their workers from one nursery, so that a run takes a second.

    Args:
        programs: starts processes.
        devices: who there is.
    """

    def __init__(self, programs: Programs, devices: list[str] = DEVICES) -> None:
        self.programs = programs
        self.state = programs.folder / "state"
        _, self.broker = programs.mosquitto()
        self._names = itertools.count()
        self._nursery = Path(programs.folder) / "nursery.sock"
        self._devices = devices
        self.agents: dict[str, Program] = {}
        gateway = programs.windflower(
            *("serve", "--broker", self.broker, "--state", str(self.state), "--format", "json"),
            name="serve",
        )
        programs.start(
            *(sys.executable, "-m", "windflower.flower.nursery", str(self._nursery)),
            name="nursery",
            **WORKER_ENVIRONMENT,
        )
        until(lambda: gateway.out and self._nursery.exists(), "the gateway and the nursery")
        for device in devices:
            self.start(device)
        until(lambda: len(events(self.state, "device-heard")) >= len(devices), "the devices")

    def start(self, device: str) -> None:
        """Start a device's agent, for the first time or again."""
        config = f"partition-id={self._devices.index(device)} num-partitions={len(self._devices)}"
        options = ("--node-config", config, "--nursery", str(self._nursery))
        self.agents[device] = self.programs.agent(device, self.broker, *options)

    def run(self, app: Path, config: Mapping[str, ConfigValue], *arguments: str) -> Program:
        """Start a run of an app on all devices."""
        pairs = " ".join(f"{key}={_toml(value)}" for key, value in config.items())
        return self.programs.windflower(
            *("run", str(app), "--state", str(self.state), "--format", "json"),
            *("--limit", str(len(self._devices)), "-c", pairs, *arguments),
            name=f"run-{next(self._names)}",
        )


def _toml(value: ConfigValue) -> str:
    if isinstance(value, str):
        return f"'{value}'"
    return str(value).lower() if isinstance(value, bool) else repr(value)
