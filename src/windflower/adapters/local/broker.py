"""Starts a real MQTT broker on loopback for whoever has none: Mosquitto, else the one from PyPI."""

import asyncio
import getpass
import importlib.util
import shutil
import sys
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from windflower.adapters.local.broker_address import BrokerAddress
from windflower.adapters.local.files import open_log
from windflower.adapters.local.process import allow_many_descriptors, end, start
from windflower.adapters.local.tcp_ports import RememberedPort, free_port, listens, until_free
from windflower.core.backoff import wait_s
from windflower.errors import BrokerUnavailable, ConfigError, PortTaken

START_S: Final = 15.0
TRIES: Final = 5

_MOSQUITTO: Final = """\
# Written by windflower at each start of its own broker.
listener {port} 127.0.0.1
allow_anonymous true
persistence false
# Without this a round of commands and replies waits 40 ms for Nagle's algorithm.
set_tcp_nodelay true
# Never 0: with it, each publish that an access list denies ends the connection.
max_queued_messages 100000
max_inflight_messages 1000
# The whole packet counts: this lets payloads of exactly 128 KiB through.
max_packet_size 132096
log_type error
log_type warning
# Started by root, it would become another user, and then outlive us when we are killed.
user {user}
"""

_RUMQTTD: Final = """\
# Written by windflower at each start of its own broker.
id = 0

[router]
id = 0
max_connections = 10010
max_outgoing_packet_count = 200
max_segment_size = 104857600
max_segment_count = 10

[v5.1]
name = "windflower"
listen = "127.0.0.1:{port}"
next_connection_delay_ms = 1

[v5.1.connections]
connection_timeout_ms = 60000
max_payload_size = 135168
max_inflight_count = 500
dynamic_filters = true
"""
_IOTCORE: Final = """\
import sys, threading
from iotcore import Broker
Broker(config_path=sys.argv[1]).start()
threading.Event().wait()
"""


class LocalBroker:
    """A broker of our own, on 127.0.0.1.

    Args:
        folder: where its configuration and log go.
        port: where it listens; 0 takes a free one.
    """

    def __init__(self, folder: Path, *, port: int = 0) -> None:
        self._folder = folder
        self._port = port
        self._process: Process | None = None
        self.name = ""

    async def start(self) -> BrokerAddress:
        """Start it and return its address once it answers.

        Raises:
            ConfigError: there is no broker on this machine.
            PortTaken: something listens on the port already.
            BrokerUnavailable: it did not start; its log says why.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        remembered = RememberedPort(self._folder / "port")
        port = self._port or await remembered.last() or free_port()
        if not await until_free(port):
            raise PortTaken(f"port {port} is in use: choose another with --broker :PORT")
        self.name, command = self._command(port)
        allow_many_descriptors()
        log = self._folder / "broker.log"
        with open_log(log) as output:
            self._process = await start(*command, stdin=DEVNULL, stdout=output, stderr=output)
        await self._until_it_answers(port, log)
        self._port = port
        remembered.remember(port)
        return BrokerAddress("127.0.0.1", port)

    async def keep(self, started: Callable[[int], None]) -> None:
        """Start it again whenever it ends, on the same port, until cancelled.

        Args:
            started: called with its process id each time that it was started again.

        Raises:
            BrokerUnavailable: it ended and would not start again.
        """
        while self._process is not None:
            await self._process.wait()
            await self._start_again()
            started(self._process.pid)

    async def _start_again(self) -> None:
        for failures in range(1, TRIES + 1):
            await asyncio.sleep(wait_s(failures))
            with suppress(BrokerUnavailable, PortTaken):
                await self.start()
                return
        raise BrokerUnavailable(
            f"{self.name} on port {self._port} ended and did not start again in {TRIES} tries:"
            f" see {self._folder / 'broker.log'}"
        )

    async def stop(self) -> None:
        """End it."""
        if self._process is not None:
            await end(self._process)

    @property
    def pid(self) -> int | None:
        """Its process id, once it was started."""
        return None if self._process is None else self._process.pid

    def _command(self, port: int) -> tuple[str, list[str]]:
        mosquitto = shutil.which("mosquitto")
        if mosquitto:
            configuration = self._folder / "mosquitto.conf"
            configuration.write_text(_MOSQUITTO.format(port=port, user=getpass.getuser()))
            return "mosquitto", [mosquitto, "-c", str(configuration)]
        if importlib.util.find_spec("iotcore"):
            configuration = self._folder / "iotcore.toml"
            configuration.write_text(_RUMQTTD.format(port=port))
            return "iotcore", [sys.executable, "-c", _IOTCORE, str(configuration)]
        raise ConfigError(
            "there is no MQTT broker on this machine: install mosquitto (Debian: apt install"
            " mosquitto), or pip install 'windflower[demo]', or name one with --broker",
            key="broker",
        )

    async def _until_it_answers(self, port: int, log: Path) -> None:
        try:
            async with asyncio.timeout(START_S):
                while not listens(port):
                    if self._process is not None and self._process.returncode is not None:
                        break
                    await asyncio.sleep(0.02)
                else:
                    return
        except TimeoutError:
            await self.stop()
        raise BrokerUnavailable(f"{self.name} did not start within {START_S:.0f} s: see {log}")
