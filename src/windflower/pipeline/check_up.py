"""Looks whether this machine is ready for a run."""

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
from packaging.requirements import Requirement

from windflower import __version__
from windflower.adapters.local.broker_address import BrokerAddress
from windflower.adapters.local.broker_check import check_broker
from windflower.adapters.local.event_file import latest_events
from windflower.adapters.local.port_holder import holder_of
from windflower.adapters.local.tcp_ports import bound
from windflower.core.finding import Finding
from windflower.core.retention import RESERVE_BYTES
from windflower.errors import ConfigError
from windflower.observe.lost_broker import lost_broker
from windflower.settings import Settings, host_and_port, ignored_variables, own_broker_port

ROOM_BYTES: Final = 64 * RESERVE_BYTES
SKEW_S: Final = 30.0
"""A clock that is so far off is said. A device's is never used, but TLS and logs need it."""

_LOOPBACK: Final = ("127.", "localhost", "::1")
_NAMED: Final = 3
_PATIENCE_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Running:
    """A gateway that runs on the state folder.

    Attributes:
        card: what it says of itself.
        devices: the devices that it knows, as the line tells them.
    """

    card: Mapping[str, Any]
    devices: Sequence[Mapping[str, Any]] = field(default=())


async def check_up(settings: Settings, running: Running | None) -> AsyncIterator[Finding]:
    """Yield what is found."""
    yield _versions(running)
    if ignored := ignored_variables():
        yield _ignored(ignored)
    yield _gateway(settings.state, running)
    yield await _broker(settings, running)
    yield _state(settings)
    yield _clock(settings.state)
    for finding in _ports(settings, running):
        yield finding
    if running is not None:
        yield await _blobs(str(running.card["blobs"]), str(running.card["broker"]))
        yield _agents(running.devices)
        yield _device_clocks(running.devices)


def _versions(running: Running | None) -> Finding:
    python, flwr = platform.python_version(), importlib.metadata.version("flwr")
    says = f"windflower {__version__}, Python {python}, flwr {flwr}"
    named = map(Requirement, importlib.metadata.requires("windflower") or ())
    wanted = next((one.specifier for one in named if one.name == "flwr"), None)
    if wanted is not None and not wanted.contains(flwr, prereleases=True):
        fix = f"pip install 'flwr{wanted}'"
        return Finding("versions", is_well=False, says=f"{says}, which is not {wanted}", fix=fix)
    gateway = running.card.get("version", __version__) if running else __version__
    if gateway != __version__:
        says += f"; the gateway that runs is {gateway}"
        return Finding("versions", is_well=True, says=says, fix="start the gateway again")
    return Finding("versions", is_well=True, says=says)


def _ignored(ignored: Mapping[str, str | None]) -> Finding:
    says = f"{', '.join(ignored)}: no setting has that name, so it is ignored"
    meant = sorted(name for name in ignored.values() if name)
    fix = f"is {' or '.join(meant)} meant?" if meant else "windflower config show lists settings"
    return Finding("environment", is_well=True, says=says, fix=fix)


def _gateway(state: Path, running: Running | None) -> Finding:
    if running is not None:
        says = f"runs (pid {running.card['pid']}), page {running.card['page']}"
        return Finding("gateway", is_well=True, says=says)
    if not (state / "gateway.json").exists():  # a gateway that ends takes it away
        says = "none runs; windflower run starts one for its run"
        return Finding("gateway", is_well=True, says=says)
    fix = "start it again with windflower serve, or run; it goes on where it was"
    return Finding("gateway", is_well=True, says="it was killed, or does not answer", fix=fix)


async def _broker(settings: Settings, running: Running | None) -> Finding:
    if settings.broker is None or own_broker_port(settings.broker) is not None:
        return _own_broker() if running is None else _gateways_broker(running, settings.state)
    try:
        address = BrokerAddress.parse(
            settings.broker,
            ca=settings.broker_ca,
            certificate=settings.broker_certificate,
            key=settings.broker_key,
        )
    except ConfigError as error:
        return Finding("broker", is_well=False, says=str(error), fix="correct the setting broker")
    return await check_broker(address)


def _gateways_broker(running: Running, state: Path) -> Finding:
    """See how the gateway that runs gets on with its broker, which it was told by a flag."""
    broker = f"{running.card['broker']} ({running.card['broker-name']})"
    lost = lost_broker(latest_events(state / "events.jsonl"))
    if lost is None:
        return Finding("broker", is_well=True, says=f"{broker}, to which the gateway is connected")
    fix = "see whether it runs, and what is between; the gateway goes on trying"
    return Finding("broker", is_well=False, says=f"{broker} {lost}", fix=fix)


def _own_broker() -> Finding:
    for name, there in (
        ("mosquitto", shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")),
        ("iotcore", importlib.util.find_spec("iotcore")),
    ):
        if there:
            return Finding("broker", is_well=True, says=f"{name}, which we start")
    fix = "apt install mosquitto, or pip install 'windflower[demo]', or set one with --broker"
    return Finding("broker", is_well=False, says="there is none on this machine", fix=fix)


def _state(settings: Settings) -> Finding:
    state = settings.state
    there = next(folder for folder in (state, *state.parents) if folder.exists())
    room = shutil.disk_usage(there).free
    if not os.access(there, os.W_OK):
        fix = "choose another with --state, or change its owner"
        return Finding("state", is_well=False, says=f"{there} cannot be written to", fix=fix)
    says = f"{state}, {room / 2**30:.3g} GiB free"
    if room <= ROOM_BYTES:
        fix = "make room, or choose another folder with --state"
        return Finding("state", is_well=False, says=says, fix=fix)
    kept_gb = settings.keep_gb + settings.resume_gb
    if room < kept_gb * 2**30:
        says += f"; what is kept may take {kept_gb:g} (keep_gb and resume_gb)"
        fix = "set keep_gb and resume_gb lower, or make room"
        return Finding("state", is_well=True, says=says, fix=fix)
    return Finding("state", is_well=True, says=says)


def _clock(state: Path) -> Finding:
    """See whether time went back: what was written last must not come from the future."""
    ahead_s = max((e["at"] for e in latest_events(state / "events.jsonl")), default=0) - time.time()
    now = time.strftime("%Y-%m-%d %H:%M:%S %Z")
    if ahead_s > SKEW_S:
        says = f"it is {now} here, and the last event is of {ahead_s:.0f} s later"
        fix = "set this machine's clock: deadlines and grants are counted by it"
        return Finding("clock", is_well=False, says=says, fix=fix)
    return Finding("clock", is_well=True, says=f"it is {now} here")


def _ports(settings: Settings, running: Running | None) -> Iterator[Finding]:
    """See whether the ports that are set are free, or our own gateway's."""
    own = () if running is None else (running.card[key] for key in ("blobs", "page", "broker"))
    held = {urlsplit(str(url)).port for url in own}
    for setting, host, port in (
        ("broker", "", own_broker_port(settings.broker)),
        ("blobs", *host_and_port(settings.blobs)),
        ("page", *host_and_port(settings.page)),
    ):
        if port:
            yield _port(setting, host or "127.0.0.1", port, is_own=port in held)


def _port(setting: str, host: str, port: int, *, is_own: bool) -> Finding:
    subject = f"{setting} port"
    if is_own:
        return Finding(subject, is_well=True, says=f"{port} is our gateway's, which runs")
    try:
        bound(host, port).close()
    except OSError as error:
        holder = holder_of(port)
        says = f"{port} is used by {holder}" if holder else f"{port} of {host}: {error.strerror}"
        fix = f"end that, or set another port for {setting}"
        return Finding(subject, is_well=False, says=says, fix=fix)
    return Finding(subject, is_well=True, says=f"{port} is free")


async def _blobs(url: str, broker: str) -> Finding:
    try:
        async with httpx.AsyncClient(timeout=_PATIENCE_S) as web:
            await web.get(url)  # whatever it answers
    except httpx.HTTPError as error:
        fix = "see what is between: set blobs_url to how devices reach it"
        says = f"nobody answers at {url}: {error or type(error).__name__}"
        return Finding("blobs", is_well=False, says=says, fix=fix)
    host = urlsplit(url).hostname or ""
    is_far = not _is_loopback(urlsplit(broker).hostname or "")
    if is_far and _is_loopback(host):
        fix = "set blobs to an address of this machine that devices reach"
        says = f"{url} can be reached from this machine only"
        return Finding("blobs", is_well=True, says=says, fix=fix)
    return Finding("blobs", is_well=True, says=f"{url} answers")


def _is_loopback(host: str) -> bool:
    return host.startswith(_LOOPBACK)


def _agents(devices: Sequence[Mapping[str, Any]]) -> Finding:
    said = {device["device"]: str(device["agent"]) for device in devices if device.get("agent")}
    ours = f"windflower {__version__},"
    others = [f"{name} is {agent}" for name, agent in said.items() if not agent.startswith(ours)]
    if not said:
        return Finding("agents", is_well=True, says="none has said yet what it is")
    if not others:
        says = f"{len(said)} of {len(devices)} said what they are, all of them {ours[:-1]}"
        return Finding("agents", is_well=True, says=says)
    named = "; ".join(others[:_NAMED])
    says = f"{len(others)} of {len(devices)} are not {ours[:-1]}: {named}"
    fix = "they speak the same wire; install this release there when it suits them"
    return Finding("agents", is_well=True, says=says, fix=fix)


def _device_clocks(devices: Sequence[Mapping[str, Any]]) -> Finding:
    ahead = {d["device"]: d["clock-ahead-s"] for d in devices if d.get("clock-ahead-s") is not None}
    wrong = {device: by_s for device, by_s in ahead.items() if abs(by_s) > SKEW_S}
    if not wrong:
        says = f"{len(ahead)} clocks heard, none more than {SKEW_S:.0f} s off"
        return Finding("devices", is_well=True, says=says)
    worst = sorted(wrong.items(), key=lambda item: -abs(item[1]))[:_NAMED]
    named = ", ".join(f"{device} by {by_s:+.0f} s" for device, by_s in worst)
    says = f"{len(wrong)} of {len(ahead)} clocks are off: {named}"
    fix = "let devices ask a time server: a wrong clock breaks TLS, and their logs"
    return Finding("devices", is_well=True, says=says, fix=fix)
