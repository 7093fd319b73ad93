"""A broker, a gateway and twenty agents, each a process of its own that can be killed."""

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from processes import Program, Programs, free_port, until

from chaos.event_tail import EventTail
from chaos.plan import DEVICES, Kill, Plan
from chaos.running import RunningRelay

INTERVAL_S: Final = 0.5


class RealFleet:
    """Starts everything, and starts again what was killed.

    Args:
        programs: starts processes and ends what is left.
        relay: the weather between the agents and the broker.
        broker_port: where the broker listens, each time.
        nursery: the socket of what forks the agents' workers.
    """

    def __init__(
        self, programs: Programs, relay: RunningRelay, broker_port: int, nursery: Path
    ) -> None:
        self.folder = programs.folder
        self.state = programs.folder / "state"
        self.events = EventTail(self.state)
        self.restarts = 0
        self._programs = programs
        self._relay = relay
        self._broker_port = broker_port
        self._blobs_port = free_port()
        self._nursery = nursery
        self._broker = self._start_broker()
        self._gateway = self._start_gateway()
        until(lambda: self._gateway.out, "the gateway")
        self._agents = [self._start_agent(number) for number in range(DEVICES)]

    def wait_for_all(self) -> None:
        """Wait until the gateway heard every device."""
        until(
            lambda: self.events.count("device-heard") and len(self.events.devices) == DEVICES,
            f"{DEVICES} devices",
        )

    def kill(self, kill: Kill) -> None:
        """Kill what a plan names, and start it again."""
        if kill.victim == "broker":
            self._broker.kill()
            self._broker = self._start_broker()
        elif kill.victim == "gateway":
            self._gateway.kill()
            self._gateway = self._start_gateway()
        else:
            self._agents[kill.number].kill()
            self._agents[kill.number] = self._start_agent(kill.number)

    def keep(self) -> None:
        """Start the gateway again if it ended, as a service manager does.

        One that starts while there is no broker says so and ends.
        """
        if self._gateway.process.poll() is not None:
            self.restarts += 1
            self._gateway = self._start_gateway()

    def _start_broker(self) -> Program:
        return self._programs.mosquitto(port=self._broker_port)[0]

    def _start_gateway(self) -> Program:
        return self._programs.windflower(
            *("serve", "--state", str(self.state), "--format", "json"),
            *("--broker", f"mqtt://127.0.0.1:{self._broker_port}"),
            *("--blobs", f":{self._blobs_port}"),
            name="gateway",
        )

    def _start_agent(self, number: int) -> Program:
        device = f"device-{number:02}"
        return self._programs.start(
            *(sys.executable, "-m", "windflower.agent", "--broker", self._relay.url),
            *("--device-id", device, "--state", str(self._programs.folder / device)),
            *("--node-config", f"partition-id={number} num-partitions={DEVICES}"),
            *("--interval", str(INTERVAL_S), "--nursery", str(self._nursery)),
            name=device,
        )


@contextmanager
def real_fleet(folder: Path, plan: Plan) -> Iterator[tuple[RealFleet, Programs, RunningRelay]]:
    """Yield a fleet whose weather is still calm; end all of it afterwards."""
    folder.mkdir(parents=True, exist_ok=True)
    programs = Programs(folder)
    port = free_port()
    with (
        tempfile.TemporaryDirectory(prefix="chaos-") as place,
        RunningRelay(f"127.0.0.1:{port}", seed=plan.seed) as relay,
    ):
        nursery = Path(place) / "nursery.sock"  # a unix socket's path must be short
        try:
            programs.start(
                *(sys.executable, "-m", "windflower.flower.nursery", str(nursery)), name="nursery"
            )
            until(nursery.exists, "the nursery")
            yield RealFleet(programs, relay, port, nursery), programs, relay
        finally:
            programs.end_all()
