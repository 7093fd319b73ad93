"""The device's program: `python -m windflower.agent --broker mqtt://... --device-id ...`.

With `--broker greengrass:` the nucleus of a Greengrass core is the way to the gateway. There is no
last will then: that such a device vanished, its silence tells.

The one module of this room that may choose adapters. It imports as little as it can: this is what
stays in a device's memory.
"""

import argparse
import asyncio
import json
import os
import re
import secrets
import shlex
import shutil
import ssl
import sys
import time
from base64 import b64decode
from contextlib import suppress
from pathlib import Path
from typing import Final

from windflower.adapters.local.access import BROKER_VARIABLE
from windflower.adapters.local.broker_address import BrokerAddress
from windflower.adapters.local.device_link import MqttDeviceLink
from windflower.adapters.local.device_store import DeviceStores
from windflower.adapters.local.event_file import EventStream
from windflower.adapters.local.files import make_private
from windflower.adapters.local.http_transfers import HttpTransfers
from windflower.adapters.local.model_shelf import FolderShelf
from windflower.adapters.local.process import allow_many_descriptors
from windflower.adapters.local.signals import stop_on_signal
from windflower.adapters.local.worker_process import ProcessWorker, WorkerPool
from windflower.agent.agent import Agent, AgentSettings, MonotonicClock
from windflower.errors import (
    ConfigError,
    MalformedMessage,
    WindflowerError,
)
from windflower.ports import Link, Worker
from windflower.wire.identifiers import check_device
from windflower.wire.messages import Heartbeat, check_labels
from windflower.wire.sealing import KEY_BYTES
from windflower.wire.topics import Ingest, Topics

GREENGRASS: Final = "greengrass:"


def parse(arguments: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="windflower agent", description="Serve one device, or a crew of simulated ones."
    )
    add = parser.add_argument
    broker = os.environ.pop(BROKER_VARIABLE, None)  # the app's worker need not know it
    help_ = "mqtt[s]://[user:password@]host[:port][/prefix], or greengrass:; else in "
    help_ += BROKER_VARIABLE
    add("--broker", default=broker, required=broker is None, help=help_)
    add("--device-id", required=True, help="this device's name in the fleet")
    add(
        "--node-config",
        default="",
        help="what the app is told of this device: 'key=value ...'; "
        "of a crew's, {number} is which one",
    )
    add("--state", type=Path, help="where the device keeps what it must not forget")
    add("--interval", type=_interval, default=60.0, help="seconds between heartbeats (60)")
    add("--gateway-key", help="obey only this gateway (its public key, base64); else the first")
    add("--label", action="append", default=[], help="key=value, to tell devices apart by")
    add("--ca", type=Path, help="certificates to check the broker's against")
    add("--certificate", help="this device's certificate; in the path, {device} is its id")
    add("--key", help="the key of this device's certificate; likewise")
    add("--alpn", help="what TLS asks for where a port speaks more than MQTT: x-amzn-mqtt-ca")
    add("--heartbeat-rule", help="the rule of AWS IoT that takes heartbeats (Basic Ingest)")
    add("--reply-rule", help="the rule of AWS IoT that takes replies")
    add("--install-dependencies", action="store_true", help="install packages that an app lacks")
    help_ = "run only the app whose bundle has this digest (windflower bundle); may be repeated"
    add("--allow-app", action="append", default=[], type=_digest, help=help_)
    add("--nursery", type=Path, help="fork workers from this nursery instead of spawning them")
    add("--crew", type=int, help="serve so many simulated devices: DEVICE_ID-0000, -0001, ...")
    add("--crew-workers", type=int, default=2, help="how many of a crew work at a time (2)")
    return parser.parse_args(arguments)


def _interval(text: str) -> float:
    seconds = float(text)
    if not 0.01 <= seconds <= 1e9:  # noqa: PLR2004 - what a heartbeat may say
        raise argparse.ArgumentTypeError(f"{text} is not a number of seconds from 0.01 on")
    return seconds


def _digest(text: str) -> str:
    if not re.fullmatch("[0-9a-f]{64}", text):
        raise argparse.ArgumentTypeError(f"{text} is no digest: 64 hex digits")
    return text


def _check_trust(given: argparse.Namespace) -> None:
    """Refuse now a key or a file with which nothing could ever be accepted."""
    if given.ca is not None and not given.ca.is_file():
        raise ConfigError(f"--ca: there is no file {given.ca}", key="ca")
    key = given.gateway_key
    try:
        is_key = key is None or len(b64decode(key, validate=True)) == KEY_BYTES
    except ValueError:
        is_key = False
    if not is_key:
        raise ConfigError(
            f"--gateway-key: {key} is no public key; `windflower serve --format json` prints it",
            key="gateway-key",
        )


class Quarters:
    """What the agents of this process share: broker, store, workers."""

    def __init__(self, given: argparse.Namespace) -> None:
        self._given = given
        self._ingest = _ingest(given)
        self._labels = _labels(given.label)
        self._state: Path = given.state or _default_state(given.device_id)
        make_private(self._state)  # it keeps secrets that noise for privacy is drawn from
        self._stores = DeviceStores(self._state)
        self.scratch = self._state / "apps"
        shutil.rmtree(self.scratch, ignore_errors=True)  # what a killed agent left
        self.scratch.mkdir()
        self._events = EventStream()
        tls = ssl.create_default_context(cafile=str(given.ca)) if given.ca else None
        self._transfers = HttpTransfers(tls)

    def agent(self, device: str, node_config: str, worker: Worker) -> Agent:
        """Return one device's agent."""
        given = self._given
        boot = secrets.token_hex(8)
        broker, link = self._way(check_device(device), boot)
        settings = AgentSettings(
            device=device,
            broker=broker,
            interval_s=given.interval,
            node_config=node_config,
            gateway_key=given.gateway_key,
            labels=self._labels,
            may_install=given.install_dependencies,
            allowed=tuple(given.allow_app),
        )
        return Agent(
            settings,
            link=link,
            store=self._stores.of(device),
            worker=worker,
            models=FolderShelf(self._state / "models" / file_name(device)),
            transfers=self._transfers,
            events=self._events,
            clock=MonotonicClock(),
            boot=boot,
        )

    def _way(self, device: str, boot: str) -> tuple[str, Link]:
        """Return the way to the gateway, and what people are told of it."""
        if self._given.broker == GREENGRASS:
            return GREENGRASS, self._by_nucleus(device)
        address = self._address(device)
        will = Heartbeat(device, time.time(), boot, "gone", self._given.interval)
        link = MqttDeviceLink(address, last_will=will, ingest=self._ingest)
        return str(address), link

    def _by_nucleus(self, device: str) -> Link:
        if self._ingest is None or self._given.crew:
            raise ConfigError(
                "--broker greengrass: serves one device, and needs --reply-rule and"
                " --heartbeat-rule",
                key="broker",
            )
        try:
            from windflower.adapters.greengrass.device_link import (  # noqa: PLC0415 - an extra
                GreengrassDeviceLink,
                Nucleus,
            )
        except ImportError as error:
            raise ConfigError(
                "--broker greengrass: needs more packages: pip install 'windflower[greengrass]'"
                f" ({error.name})",
                key="broker",
            ) from error
        nucleus = Nucleus.take(os.environ)
        return GreengrassDeviceLink(nucleus, device, topics=Topics(), ingest=self._ingest)

    def _address(self, device: str) -> BrokerAddress:
        """Return the broker with what shows that we are this device."""
        given = self._given
        return BrokerAddress.parse(
            given.broker,
            ca=given.ca,
            certificate=_file_of(given.certificate, device),
            key=_file_of(given.key, device),
            alpn=given.alpn,
        )

    async def close(self) -> None:
        """Let go of the store and the connections."""
        self._transfers.close()
        await self._stores.close()


async def serve(given: argparse.Namespace) -> None:
    """Serve until SIGTERM or Ctrl-C."""
    if given.crew:
        allow_many_descriptors()
    try:
        quarters = Quarters(given)
    except OSError as error:  # a folder of somebody else, a file that is not there
        raise ConfigError(str(error), key="state") from error
    events = EventStream()
    nursery, scratch = given.nursery, quarters.scratch
    pool = WorkerPool(given.crew_workers, nursery, events, scratch=scratch) if given.crew else None
    agents = (
        [
            quarters.agent(
                given.device_id,
                given.node_config,
                ProcessWorker(nursery, events, scratch=scratch),
            )
        ]
        if pool is None
        else [
            quarters.agent(
                f"{given.device_id}-{i:04}",
                f"partition-id={i} num-partitions={given.crew} "
                + given.node_config.replace("{number}", f"{i:02}"),
                pool.turn(),
            )
            for i in range(given.crew)
        ]
    )
    tasks = [asyncio.create_task(agent.run()) for agent in agents]

    def stop(_: object = None) -> None:
        for task in tasks:
            if not task.cancelling():  # it is never disturbed while it ends
                task.cancel()

    stop_on_signal(stop)
    try:
        with suppress(asyncio.CancelledError):
            await asyncio.gather(*tasks)
    finally:
        stop()
        await asyncio.gather(*tasks, return_exceptions=True)
        if pool is not None:
            await pool.close()
        await quarters.close()


def _file_of(path: str | None, device: str) -> Path | None:
    return None if path is None else Path(path.replace("{device}", device))


def _ingest(given: argparse.Namespace) -> Ingest | None:
    if bool(given.heartbeat_rule) != bool(given.reply_rule):
        raise ConfigError("--heartbeat-rule and --reply-rule go together", key="reply-rule")
    return Ingest(given.heartbeat_rule, given.reply_rule) if given.reply_rule else None


def _labels(texts: list[str]) -> dict[str, str]:
    try:
        return check_labels(dict(_pair(text) for text in texts))
    except MalformedMessage as error:
        raise ConfigError(f"--label: {error}", key="label") from error


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals:
        raise ConfigError(f"--label {text}: write key=value", key="label")
    return key, value


def _check_node_config(text: str) -> None:
    """Refuse now what the app would refuse at each piece of work; its worker reads the rest."""
    try:
        is_plain = all("=" in word for word in shlex.split(text))
    except ValueError:
        is_plain = False
    if not is_plain:
        raise ConfigError(f"--node-config {text}: write key=value ...", key="node-config")


def file_name(device: str) -> str:
    """Return a device's id as the name of a file: what is not plain in it is a number."""
    return "".join(c if c.isalnum() or c in "-_" else f"%{ord(c):02x}" for c in device)


def _default_state(device: str) -> Path:
    home = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    base = os.environ.get("WINDFLOWER_STATE") or Path(home) / "windflower"
    return Path(base) / "devices" / file_name(device)


def main() -> int:
    """Run the agent; return the exit code."""
    given = parse(sys.argv[1:])
    try:
        check_device(given.device_id)
        _check_node_config(given.node_config)
        _check_trust(given)
        asyncio.run(serve(given))
    except MalformedMessage as error:
        sys.stderr.write(f"windflower agent: --device-id: {error}\n")
        return 78
    except OSError as error:  # a full disk, say: to be tried again once that is mended
        sys.stderr.write(f"windflower agent: {error}\n")
        return 74
    except WindflowerError as error:
        sys.stderr.write(json.dumps({"event": "agent-stopped", "reason": str(error)}) + "\n")
        sys.stderr.write(f"windflower agent: {error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
