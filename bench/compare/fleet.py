"""windflower: a broker, a gateway, and an agent on each device."""

from typing import Final

from chaos.tunnel import NEAR
from processes import Program, events, until

from compare.place import APP, Place

PORT: Final = 1883
BROKER: Final = f"mqtt://{NEAR}:{PORT}"
HEARTBEAT_S: Final = 60.0
"""As it is when nobody says anything."""


class Fleet:
    """A `compare.system.System`.

    Args:
        place: where it runs.
        is_strict: whether a round waits for devices that are offline.
    """

    def __init__(self, place: Place, *, is_strict: bool) -> None:
        self.name = "windflower, strict" if is_strict else "windflower"
        self.runs = 0
        self.devices: list[int] = []
        self._place = place
        self._is_strict = is_strict
        self._state = place.programs.folder / "state"
        self._started = 0
        self._start_broker()
        self._gateway = self._start_gateway()
        self._run: Program | None = None

    def start(self) -> None:
        """Start the agents."""
        with self._place.link.far.entered():
            agents = [self._start_agent(number) for number in range(self._place.work.devices)]
        self.devices = [agent.process.pid for agent in agents]
        until(
            lambda: len({e["device"] for e in events(self._state, "device-heard")}) == len(agents),
            "the devices",
        )

    def submit(self) -> None:
        """Start the run."""
        self._run = self._near(
            *("run", str(APP), "--state", str(self._state), "--format", "json"),
            *("-c", self._place.run_config({}), "--strict" if self._is_strict else "--no-strict"),
        )
        self.runs += 1

    def kill(self) -> None:
        """Kill the gateway."""
        self._gateway.kill()
        self._gateway = self._start_gateway()

    def crash(self) -> None:
        """Kill the broker, the gateway and the run."""
        self._place.link.near.end_all()
        self._start_broker()
        self._gateway = self._start_gateway()

    def look(self) -> None:
        """Resume the run when its process is gone."""
        if self._run is not None and self._run.process.poll() is not None:
            run = events(self._state, "run-started")[-1]["run"]
            self._run = self._near("run", "--resume", run, "--state", str(self._state))
            self.runs += 1

    def _start_broker(self) -> None:
        with self._place.link.near.entered():
            self._place.programs.mosquitto("allow_anonymous true", f"listener {PORT} {NEAR}")

    def _start_gateway(self) -> Program:
        gateway = self._near(
            *("serve", "--state", str(self._state), "--broker", BROKER, "--format", "json"),
            *("--blobs", f"{NEAR}:8777"),
        )
        until(lambda: gateway.out, "the gateway")
        return gateway

    def _start_agent(self, number: int) -> Program:
        return self._place.programs.agent(
            *(f"device-{number}", BROKER, "--node-config", self._place.node_config(number)),
            interval=HEARTBEAT_S,
        )

    def _near(self, *arguments: str) -> Program:
        self._started += 1
        name = f"{self._started:03}-{arguments[0]}"
        with self._place.link.near.entered():
            return self._place.programs.windflower(*arguments, name=name)
