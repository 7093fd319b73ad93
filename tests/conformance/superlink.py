"""Flower's own SuperLink and SuperNodes on this machine, for whoever has no windflower."""

import itertools
import os
import shutil
import signal
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from processes import Program, Programs, children_of, free_port, listens, until

from conformance.fleet import DEVICES, as_flower_spells, node_config
from windflower.flower.app_folder import ConfigValue

QUIET = {
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.25",
    "OMP_NUM_THREADS": "1",
}


class SuperLink:
    """A SuperLink, with SuperNodes.

    Args:
        programs: starts them.
        nodes: how many; by default as many as the fleet has devices.
        environment: what all of them find in theirs.
    """

    def __init__(
        self, programs: Programs, *, nodes: int = len(DEVICES), **environment: str
    ) -> None:
        self.programs = programs
        self._names = itertools.count()
        self._started: list[Program] = []
        port = free_port()
        home = programs.folder / "flwr"
        home.mkdir()
        (home / "config.toml").write_text(
            f'[superlink]\ndefault = "local"\n[superlink.local]\naddress = "127.0.0.1:{port}"\n'
            "insecure = true\n"
        )
        self._environment = {**QUIET, "FLWR_HOME": str(home), **environment}
        self._start("flower-superlink", "--insecure", "--port", str(port), "--host", "127.0.0.1")
        until(lambda: listens(port), "the SuperLink")
        for number in range(nodes):
            config = as_flower_spells(node_config(number))
            link = ("--insecure", "--superlink", f"127.0.0.1:{port}")
            here = ("--host", "127.0.0.1", "--port", str(free_port()))
            self._start("flower-supernode", *link, *here, "--node-config", config)

    def run(self, app: Path, config: Mapping[str, ConfigValue]) -> Program:
        """Submit an app with `flwr run`, which ends when the app does."""
        pairs = as_flower_spells(config)
        return self._start("flwr", "run", str(app), "local", "--stream", "--run-config", pairs)

    def end(self) -> None:
        """End it with all that it started: its processes have processes of their own."""
        family = [pid for p in self._started for pid in children_of(p.process.pid)]
        self.programs.end_all()
        for pid in family:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _start(self, program: str, *arguments: str) -> Program:
        path = shutil.which(program)
        assert path is not None
        name = f"{program}-{next(self._names)}"
        started = self.programs.start(path, *arguments, name=name, **self._environment)
        self._started.append(started)
        return started
