"""Real processes for tests: started, waited for with a deadline, and always ended."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

ENVIRONMENT = {
    **os.environ,
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "PYTHONUNBUFFERED": "1",
}
MOSQUITTO = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
DEADLINE_S = 60.0


def until(condition: Callable[[], Any], what: str, *, deadline_s: float = DEADLINE_S) -> Any:  # noqa: ANN401
    """Return the condition's first true value, or fail and say what was waited for."""
    pause = threading.Event()
    for _ in range(int(deadline_s / 0.02)):
        if value := condition():
            return value
        pause.wait(0.02)
    raise AssertionError(f"waited {deadline_s} s in vain for {what}")


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def listens(port: int) -> bool:
    """Return whether somebody listens on a port of 127.0.0.1."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Program:
    """One process, with what it wrote."""

    def __init__(self, command: list[str], log: Path, environment: dict[str, str]) -> None:
        self._out = log.with_suffix(".out")
        self._err = log.with_suffix(".err")
        with self._out.open("ab") as out, self._err.open("ab") as err:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env=environment,
                start_new_session=True,
            )

    @property
    def out(self) -> str:
        """Everything that it wrote to standard output."""
        return self._out.read_text()

    @property
    def err(self) -> str:
        """Everything that it wrote to standard error."""
        return self._err.read_text()

    @property
    def last(self) -> dict[str, Any]:
        """The JSON object in the last line of its standard output."""
        return dict(json.loads(self.out.splitlines()[-1]))

    def wait(self, *, deadline_s: float = DEADLINE_S) -> int:
        """Return its exit code."""
        try:
            return self.process.wait(deadline_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still runs after {deadline_s} s:\n{self.err}") from None

    def kill(self) -> None:
        """End it as a power cut would."""
        self.process.kill()
        self.process.wait()

    def end(self) -> int:
        """Ask it to end, and return its exit code."""
        with suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGTERM)
        return self.wait(deadline_s=20)


class Programs:
    """Starts programs and ends what is left of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._all: list[Program] = []

    def start(self, *command: str, name: str, **environment: str) -> Program:
        """Start any program."""
        program = Program(list(command), self.folder / name, {**ENVIRONMENT, **environment})
        self._all.append(program)
        return program

    def windflower(self, *arguments: str, name: str, **environment: str) -> Program:
        """Start the command line."""
        command = (sys.executable, "-m", "windflower.cli.main", *arguments)
        return self.start(*command, name=name, **environment)

    def agent(self, device: str, broker: str, *arguments: str, interval: float = 0.5) -> Program:
        """Start a device as a person would by hand."""
        state = str(self.folder / f"{device}-state")
        return self.windflower(
            *("agent", "--broker", broker, "--device-id", device, "--state", state),
            *("--interval", str(interval), *arguments),
            name=device,
        )

    def mosquitto(self, *lines: str, port: int = 0) -> tuple[Program, str]:
        """Start a broker, and return its address."""
        assert MOSQUITTO is not None
        port = port or free_port()
        configuration = self.folder / f"mosquitto-{port}.conf"
        plain = list(lines or ("allow_anonymous true",))
        if os.geteuid() == 0:  # else it becomes a user who cannot read the test's files
            plain.append("user root")
        text = "\n".join([f"listener {port} 127.0.0.1", "set_tcp_nodelay true", *plain, ""])
        configuration.write_text(text)
        broker = self.start(MOSQUITTO, "-c", str(configuration), name=f"mosquitto-{port}")
        until(lambda: listens(port), "mosquitto")
        return broker, f"mqtt://127.0.0.1:{port}"

    def end_all(self) -> None:
        """End what still runs."""
        for program in reversed(self._all):
            if program.process.poll() is None:
                program.kill()


def events(state: Path, kind: str | None = None) -> list[dict[str, Any]]:
    """Return the events that a gateway wrote."""
    file = state / "events.jsonl"
    lines = file.read_text().splitlines() if file.exists() else []
    parsed = [json.loads(line) for line in lines]
    return [line for line in parsed if kind is None or line["event"] == kind]


def children_of(pid: int) -> Iterator[int]:
    """Yield the processes that a process started, directly or not."""
    listing = Path(f"/proc/{pid}/task/{pid}/children")
    with suppress(FileNotFoundError):
        for child in map(int, listing.read_text().split()):
            yield child
            yield from children_of(child)


def alive(pid: int) -> bool:
    """Return whether a process runs; one that only waits to be buried does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"
