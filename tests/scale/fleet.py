"""A fleet of real processes on this machine: a broker that dies on demand, a gateway, crews."""

import getpass
import os
import resource
import sys
from pathlib import Path
from typing import Final

from crash.ledger import lines_of
from processes import DEADLINE_S, MOSQUITTO, Program, Programs, free_port, listens, until

from scale import crew, gateway
from scale.census import tasks_in
from windflower.adapters.local import broker
from windflower.compose import StateFolder
from windflower.gateway.line import SocketLine

_TESTS: Final = Path(__file__).parents[1]


class BrokerProcess:
    """A real broker with the limits of our own, always on the same port.

    Args:
        programs: starts it.

    Attributes:
        port: where it listens.
    """

    def __init__(self, programs: Programs) -> None:
        self._programs = programs
        self.port = free_port()
        self._configuration = programs.folder / "mosquitto.conf"
        text = broker._MOSQUITTO.format(port=self.port, user=getpass.getuser())
        self._configuration.write_text(text)
        self._program: Program | None = None

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"mqtt://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._program is not None
        return self._program.process.pid

    def start(self) -> None:
        """Start it; return when it listens."""
        assert MOSQUITTO is not None
        command = (MOSQUITTO, "-c", str(self._configuration))
        self._program = self._programs.start(*command, name="broker")
        until(lambda: listens(self.port), "the broker")

    def kill(self) -> None:
        """End it as a power cut would: all that it kept in memory is gone."""
        assert self._program is not None
        self._program.kill()


class GatewayProcess:
    """A real gateway.

    Args:
        programs: starts it.
        broker_address: where its broker is.
    """

    def __init__(self, programs: Programs, broker_address: str) -> None:
        self.state = StateFolder(programs.folder / "gateway")
        self._program = start_module(
            programs, "scale.gateway", str(self.state.path), broker_address, name="gateway"
        )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._program.process.pid

    @property
    def tasks(self) -> int:
        """How many tasks it had a moment ago."""
        return tasks_in(self.state.path / gateway.TASKS)

    def line(self, *, deadline_s: float = DEADLINE_S) -> SocketLine:
        """Return a line to it, once it serves."""
        until(self.state.card.exists, "the gateway", deadline_s=deadline_s)
        return self.state.line()

    def end(self) -> int:
        """Ask it to end, and return its exit code."""
        return self._program.end()


class CrewProcess:
    """Some real agents.

    Args:
        programs: starts it.
        broker_address: where their broker is.
        name: what their names begin with.
        size: how many they are.
        interval_s: between heartbeats.
        flags: what else they are told.
    """

    def __init__(
        self,
        programs: Programs,
        broker_address: str,
        *flags: str,
        name: str,
        size: int,
        interval_s: float,
    ) -> None:
        self.devices = tuple(crew.device_name(name, number) for number in range(size))
        self._state = programs.folder / name
        self._state.mkdir()
        self._program = start_module(
            programs,
            "scale.crew",
            *("--broker", broker_address, "--device-id", name, "--crew", str(size)),
            *("--state", str(self._state), "--interval", str(interval_s), *flags),
            name=name,
        )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._program.process.pid

    @property
    def tasks(self) -> int:
        """How many tasks it had a moment ago."""
        return tasks_in(self._state / crew.TASKS)

    @property
    def works(self) -> list[str]:
        """The command of each piece of work that was begun, in order."""
        return lines_of(self._state / crew.WORK)

    def end(self) -> int:
        """Ask it to end, and return its exit code."""
        return self._program.end()


def start_module(programs: Programs, module: str, *arguments: str, name: str) -> Program:
    """Start a module of the tests as a process that may have as many sockets as there can be."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    paths = [str(_TESTS), os.environ.get("PYTHONPATH", "")]
    path = os.pathsep.join(filter(None, paths))
    return programs.start(sys.executable, "-m", module, *arguments, name=name, PYTHONPATH=path)
