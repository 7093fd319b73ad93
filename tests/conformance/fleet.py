"""A real broker, a gateway that stays, and real agents: one fleet for many runs, one by one."""

import itertools
import json
import sys
from collections.abc import Mapping
from pathlib import Path

from processes import Program, Programs, events, until

from windflower.adapters.local.worker_process import WORKER_ENVIRONMENT
from windflower.flower.app_folder import ConfigValue

DEVICES = [f"device-{number}" for number in range(4)]


def node_config(number: int) -> dict[str, ConfigValue]:
    """Return what a device tells the app of itself: a value of each type that there is."""
    config: dict[str, ConfigValue] = {"partition-id": number, "num-partitions": len(DEVICES)}
    return config | {"share": 0.1 * number, "is-fast": number > 1, "site": f"hall '{number}' = é"}


class ConformanceFleet:
    """A fleet whose agents fork their workers from one nursery, so that a run takes a second."""

    def __init__(self, programs: Programs) -> None:
        self.programs = programs
        self.state = programs.folder / "state"
        _, self.broker = programs.mosquitto()
        self._names = itertools.count()
        self._nursery = programs.folder / "nursery.sock"
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
        for device in DEVICES:
            self.start(device)
        until(lambda: len(events(self.state, "device-heard")) >= len(DEVICES), "the devices")

    def start(self, device: str) -> None:
        """Start a device's agent, for the first time or again."""
        config = as_flower_spells(node_config(DEVICES.index(device)))
        options = ("--node-config", config, "--nursery", str(self._nursery))
        self.agents[device] = self.programs.agent(device, self.broker, *options)

    def run(self, app: Path, config: Mapping[str, ConfigValue], *arguments: str) -> Program:
        """Start a run of an app on all devices."""
        return self.programs.windflower(
            *("run", str(app), "--state", str(self.state), "--format", "json"),
            *("--limit", str(len(DEVICES)), "-c", as_flower_spells(config), *arguments),
            name=f"run-{next(self._names)}",
        )


def as_flower_spells(config: Mapping[str, ConfigValue]) -> str:
    """Return `key=value ...`, as on Flower's command line."""
    return " ".join(f"{key}={_toml(value)}" for key, value in config.items())


def _toml(value: ConfigValue) -> str:
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    return str(value).lower() if isinstance(value, bool) else repr(value)
