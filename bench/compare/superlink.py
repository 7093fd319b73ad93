"""Flower as it comes: a SuperLink with a database, and a SuperNode on each device."""

import json
import shutil
from pathlib import Path
from typing import Any, Final

from chaos.tunnel import NEAR
from processes import Program, listens, until

from compare.place import APP, Place

PORT: Final = 8000
ENVIRONMENT: Final = {
    # `uv sync` before each run would need a package index.
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    # The one interval that a user can set; it is 1 s.
    "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.25",
    "OMP_NUM_THREADS": "1",
}


class SuperLink:
    """A `compare.system.System`, in the settings that survive most.

    With `--database` a SuperLink that is killed finds its state again, and with
    `--isolation process` the ServerApp is no child of it: by default it would end with it.

    Args:
        place: where it runs.
        has_checkpoints: whether the app writes one each round, and begins with it.
    """

    def __init__(self, place: Place, *, has_checkpoints: bool) -> None:
        self.name = "Flower, checkpoints" if has_checkpoints else "Flower"
        self.runs = 0
        self.devices: list[int] = []
        self._place = place
        self._has_checkpoints = has_checkpoints
        self._started = 0
        self._home = place.programs.folder / "coordinator"
        self._home.mkdir()
        (self._home / "config.toml").write_text(
            f'[superlink]\ndefault = "local"\n[superlink.local]\naddress = "127.0.0.1:{PORT}"\n'
            "insecure = true\n"
        )
        self._link = self._start_link()

    def start(self) -> None:
        """Also start what executes ServerApps."""
        self._start_superexec()
        nodes = [self._start_node(number) for number in range(self._place.work.devices)]
        self.devices = [node.process.pid for node in nodes]
        until(lambda: all("SuperNode ID" in node.out + node.err for node in nodes), "SuperNodes")

    def submit(self) -> None:
        """Give the app to the SuperLink."""
        config = self._place.run_config({"checkpoints": self._has_checkpoints})
        self._call("run", str(APP), "local", "--run-config", config)
        self.runs += 1

    def kill(self) -> None:
        """Kill the SuperLink."""
        self._link.kill()
        self._link = self._start_link()

    def crash(self) -> None:
        """Kill the SuperLink, and what executes the ServerApp."""
        self._place.link.near.end_all()
        self._link = self._start_link()
        self._start_superexec()

    def look(self) -> None:
        """Submit the app again when its run is over before its end."""
        newest = max(self._call("list", "local")["runs"], key=lambda run: str(run["pending-at"]))
        if newest["status"].startswith("finished"):
            self.submit()

    def _start_link(self) -> Program:
        database = str(self._place.programs.folder / "state.db")
        link = self._near(
            *("flower-superlink", "--insecure", "--host", "0.0.0.0", "--port", str(PORT)),  # noqa: S104 - inside the namespace
            *("--database", database, "--isolation", "process"),
        )
        with self._place.link.near.entered():
            until(lambda: listens(PORT), "the SuperLink")
        return link

    def _start_superexec(self) -> None:
        self._near("flower-superexec", "--insecure", "--runtime-api-address", f"127.0.0.1:{PORT}")

    def _start_node(self, number: int) -> Program:
        home = self._place.programs.folder / f"device-{number}"
        home.mkdir()
        with self._place.link.far.entered():
            return self._start(
                *("flower-supernode", "--insecure", "--superlink", f"{NEAR}:{PORT}"),
                *("--port", str(9100 + number), "--node-config", self._place.node_config(number)),
                home=home,
            )

    def _call(self, *arguments: str) -> dict[str, Any]:
        """Return what a command of `flwr` answers."""
        called = self._near("flwr", *arguments, "--format", "json")
        if called.wait(deadline_s=120) != 0:
            raise RuntimeError(called.out + called.err)
        return dict(json.loads(called.out[called.out.index("{") :]))

    def _near(self, program: str, *arguments: str) -> Program:
        with self._place.link.near.entered():
            return self._start(program, *arguments, home=self._home)

    def _start(self, program: str, *arguments: str, home: Path) -> Program:
        path = shutil.which(program)
        if path is None:
            raise FileNotFoundError(f"{program} is not on the PATH")
        self._started += 1
        name = f"{self._started:03}-{program}"
        more = {**ENVIRONMENT, "FLWR_HOME": str(home)}
        return self._place.programs.start(path, *arguments, name=name, **more)
