"""Chooses adapters: the one place that knows which gateway stands on what."""

import asyncio
import fcntl
import hashlib
import json
import os
import secrets
import socket
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from windflower import __version__
from windflower.adapters.aws.costs import TrafficPrice
from windflower.adapters.local.access import Access
from windflower.adapters.local.blob_endpoint import blob_endpoint
from windflower.adapters.local.blob_folder import BlobFolder
from windflower.adapters.local.broker import LocalBroker
from windflower.adapters.local.broker_address import BrokerAddress
from windflower.adapters.local.event_file import EventFile, remembered_events
from windflower.adapters.local.files import make_private, write_durably
from windflower.adapters.local.fleet_link import MqttFleetLink
from windflower.adapters.local.http_server import HttpServer
from windflower.adapters.local.journal import open_journal
from windflower.adapters.local.tcp_ports import RememberedPort, in_url
from windflower.core.events import BrokerStarted, Event, GatewayStarted
from windflower.core.retention import Retention
from windflower.errors import ConfigError, FleetTaken, GatewayUnavailable
from windflower.gateway.budget import Budget
from windflower.gateway.desk import Desk
from windflower.gateway.feed import Feed
from windflower.gateway.fleet import Fleet, FleetPorts, SystemClock
from windflower.gateway.housekeeping import Housekeeping
from windflower.gateway.line import SocketLine
from windflower.gateway.line_server import LineServer
from windflower.gateway.models import Models
from windflower.observe.board import SUMS
from windflower.observe.endpoint import LOOPBACK, Looking
from windflower.observe.hooks import Hooks
from windflower.observe.sinks import Drain, name_of, open_sink
from windflower.ports import Blobs, Commands, Intake, Journal
from windflower.settings import Settings, host_and_port, own_broker_port
from windflower.wire.limits import INLINE_PACK_BYTES
from windflower.wire.sealing import KEY_BYTES, Signer

_LEFT_S: Final = 3600.0
"""A file that is on its way from a command to its gateway is younger than this."""

_SOCKET_PATH_BYTES: Final = 100
"""A unix socket's path has at most 108 bytes on Linux, 104 elsewhere."""


class StateFolder:
    """The one folder in which a fleet's gateway keeps everything."""

    def __init__(self, path: Path) -> None:
        self.path = path.expanduser().absolute()
        self.journal = self.path / "journal.db"
        self.blobs = self.path / "blobs"
        self.broker = self.path / "broker"
        self.events = self.path / "events.jsonl"
        self.card = self.path / "gateway.json"
        self.access = self.path / "access.json"
        self.lock = self.path / "gateway.lock"

    @property
    def socket(self) -> Path:
        """Where the gateway listens for runs; elsewhere if the folder's path is too long."""
        path = self.path / "gateway.sock"
        if len(str(path).encode()) <= _SOCKET_PATH_BYTES:
            return path
        name = hashlib.sha256(str(self.path).encode()).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"windflower-{os.getuid()}-{name}.sock"

    def secret(self, name: str) -> bytes:
        """Return a secret of the fleet, made at the first call; only this user can read it."""
        path = self.path / "keys" / name
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_durably(path, secrets.token_bytes(KEY_BYTES), mode=0o600)
        return path.read_bytes()

    def tidy(self) -> None:
        """Remove what a command that was killed had not handed over."""
        for part in self.path.glob("*.part"):
            if part.stat().st_mtime < time.time() - _LEFT_S:
                part.unlink(missing_ok=True)

    def gateway(self) -> dict[str, Any]:
        """Return what the running gateway says of itself.

        Raises:
            GatewayUnavailable: none runs here.
        """
        try:
            return dict(json.loads(self.card.read_text()))
        except (OSError, ValueError) as error:
            raise GatewayUnavailable(
                f"no gateway runs on {self.path}: start one with `windflower serve`"
            ) from error

    def line(self) -> SocketLine:
        """Return a line to the running gateway; raises GatewayUnavailable."""
        self.gateway()
        return SocketLine(self.socket)


@dataclass(frozen=True, slots=True)
class RunningGateway:
    """A gateway at work.

    Attributes:
        fleet: its devices.
        desk: where runs are served.
        feed: its events.
        broker: the broker's address, for people.
        broker_name: mosquitto or iotcore where it is our own, else "external", or "aws".
        serving: keeps our own broker alive, cleans up, sends published models; each ends only if
            that cannot be done.
    """

    fleet: Fleet
    desk: Desk
    feed: Feed
    broker: str
    broker_name: str
    serving: list[asyncio.Task[None]]


@asynccontextmanager
async def open_gateway(settings: Settings) -> AsyncIterator[RunningGateway]:
    """Start a gateway on its state folder, and end all of it on leaving.

    Raises:
        FleetTaken: a gateway runs on this folder already, or on this fleet.
        BrokerUnavailable, BrokerRefused, PortTaken, ConfigError: as they say.
    """
    state = StateFolder(settings.state)
    make_private(state.path)
    state.tidy()
    reach = _reach_aws if settings.place == "aws" else _reach_broker
    with _Lock(state):
        async with reach(settings, state) as world, _gateway(settings, state, world) as gateway:
            yield gateway


@dataclass(frozen=True, slots=True)
class _World:
    """A fleet's place, and what is told of it.

    Attributes:
        commands, replies, presence, blobs, journal: the ports.
        secret: signs what devices are told.
        broker: the broker's address, for people.
        broker_name: what it is.
        blobs_url: where blobs are, for people.
        inline_bytes: a pack that is larger is not to stand in a command.
        own: the broker, where it is our own.
        access: how devices that are played beside us get in, where that is our own way.
    """

    commands: Commands
    replies: Intake
    presence: Intake
    blobs: Blobs
    journal: Journal
    secret: bytes
    broker: str
    broker_name: str
    blobs_url: str
    inline_bytes: int = INLINE_PACK_BYTES
    own: LocalBroker | None = None
    access: Access | None = None


@asynccontextmanager
async def _reach_broker(settings: Settings, state: StateFolder) -> AsyncIterator[_World]:
    """Reach a fleet at a broker: the one that is named, else one of our own."""
    broker = await _start_broker(settings, state)
    try:
        blobs = BlobFolder(state.blobs, secret=state.secret("blobs"))
        endpoint = await _open_endpoint(settings, state, broker, blobs)
        secret = state.secret("signing")
        link = MqttFleetLink(
            broker.address,
            fleet=hashlib.sha256(Signer(secret).public_key.encode()).hexdigest()[:12],
        )
        try:
            yield _World(
                *(link, link.replies, link.presence, blobs, open_journal(state.journal)),
                secret=secret,
                broker=str(broker.address),
                broker_name=broker.name,
                blobs_url=blobs.base_url,
                own=broker.own,
                access=Access.of(broker.address),
            )
        finally:
            await endpoint.stop()
            await blobs.close()
    finally:
        if broker.own is not None:
            await broker.own.stop()


@asynccontextmanager
async def _reach_aws(settings: Settings, state: StateFolder) -> AsyncIterator[_World]:
    """Reach a fleet behind AWS IoT Core."""
    try:
        from windflower.adapters.aws import names, place  # noqa: PLC0415 - the extra's packages
    except ImportError as error:
        raise ConfigError(
            f"the place aws needs more packages ({error.name}): pip install 'windflower[aws]'",
            key="place",
        ) from error

    def given(key: str) -> str:
        value = getattr(settings, f"aws_{key}")
        if not value:
            raise ConfigError(f"the place aws needs aws_{key}", key=f"aws_{key}")
        return str(value)

    stack = names.AwsNames(
        region=given("region"),
        fleet=given("fleet"),
        bucket=given("bucket"),
        prefix=settings.aws_prefix or f"{given('fleet')}/",
        responses=given("responses_table"),
        presences=given("fleet_table"),
        journal=given("journal_table"),
        transfer_role=given("transfer_role"),
    )
    disk = open_journal(state.journal)
    async with place.open_place(stack, copies=state.blobs, disk=disk) as aws:
        yield _World(
            *(aws.commands, aws.replies, aws.presence, aws.blobs, aws.journal),
            secret=aws.signing_secret,
            broker=f"AWS IoT Core in {stack.region}",
            broker_name="aws",
            blobs_url=str(aws.blobs),
            inline_bytes=place.INLINE_BYTES,
        )


@dataclass(frozen=True, slots=True)
class _Broker:
    address: BrokerAddress
    name: str
    own: LocalBroker | None


async def _start_broker(settings: Settings, state: StateFolder) -> _Broker:
    port = own_broker_port(settings.broker)
    if settings.broker is None or port is not None:
        own = LocalBroker(state.broker, port=port or 0)
        address = await own.start()
        return _Broker(address, own.name, own)
    address = BrokerAddress.parse(
        settings.broker,
        ca=settings.broker_ca,
        certificate=settings.broker_certificate,
        key=settings.broker_key,
    )
    return _Broker(address, "external", None)


@asynccontextmanager
async def _gateway(
    settings: Settings, state: StateFolder, world: _World
) -> AsyncIterator[RunningGateway]:
    signer = Signer(world.secret)
    journal, blobs = world.journal, world.blobs
    clock = SystemClock()
    events = EventFile(state.events)
    looking = Looking(
        lambda: fleet.roster.freshest(),  # noqa: PLW0108 - it has none before it has started
        clock.now,
        version=__version__,
        token=settings.page_token,
        price=TrafficPrice(),
    )
    looking.board.replay(remembered_events(state.events, SUMS))
    drains = _open_drains(
        settings.sinks,
        lambda event: feed.report(event),  # noqa: PLW0108 - the feed needs them first
    )
    feed = Feed(events, *looking.sinks, *drains)
    ports = FleetPorts(world.commands, world.replies, world.presence, blobs, journal, clock)
    fleet = Fleet(ports, signer=signer, feed=feed, broker=world.broker)
    budget = Budget(int(settings.resume_gb * (1 << 30)), journal=journal, blobs=blobs, feed=feed)
    desk = Desk(fleet, journal=journal, blobs=blobs, clock=clock, feed=feed, budget=budget)
    models = Models(desk, fleet, journal=journal, blobs=blobs, clock=clock, feed=feed)
    server = LineServer(desk, models, feed, state.socket)
    housekeeping = Housekeeping(
        *(desk, models),
        journal=journal,
        blobs=blobs,
        clock=clock,
        feed=feed,
        retention=Retention(settings.keep_days, int(settings.keep_gb * (1 << 30))),
    )
    serving: list[asyncio.Task[None]] = []
    async with _page(settings, state, looking) as page:
        try:
            memory = await fleet.start()
            looking.board.recall(memory.runs, memory.settled)
            desk.restore(memory.runs, memory.last_number)
            await server.start()
            feed.report(GatewayStarted(broker=world.broker, blobs=world.blobs_url))
            if world.access is not None:
                world.access.save(state.access)
            write_durably(
                state.card,
                _card(state.socket, world, signer.public_key, page, private=settings.private),
            )
            serving += [asyncio.create_task(job.run()) for job in (housekeeping, models)]
            serving += _helping(settings, world, feed)
            yield RunningGateway(fleet, desk, feed, world.broker, world.broker_name, serving)
        finally:
            state.card.unlink(missing_ok=True)
            state.access.unlink(missing_ok=True)
            for task in serving:
                task.cancel()
            await asyncio.gather(*serving, return_exceptions=True)
            await server.stop()
            await fleet.stop()
            await asyncio.gather(*(asyncio.to_thread(drain.close) for drain in drains))
            events.close()


def _open_drains(given: Sequence[str], report: Callable[[Event], None]) -> list[Drain]:
    """Open sinks; what they report from their threads is reported in the gateway's."""
    loop = asyncio.get_running_loop()
    sinks = [(name_of(one), open_sink(one)) for one in given]

    def report_soon(event: Event) -> None:
        with suppress(RuntimeError):  # the gateway has ended
            loop.call_soon_threadsafe(report, event)

    return [Drain(name, sink, report_soon) for name, sink in sinks]


def _helping(settings: Settings, world: _World, feed: Feed) -> list[asyncio.Task[None]]:
    """Begin what this gateway needs and not every one: its own broker, hooks."""
    tasks = []
    if world.own is not None:
        tasks.append(_keep(world.own, world.broker, feed))
    if settings.hooks:
        hooks = Hooks(settings.hooks, feed.report)
        tasks.append(asyncio.create_task(_tell(hooks, feed)))
    return tasks


async def _tell(hooks: Hooks, feed: Feed) -> None:
    with feed.watch() as events:
        await hooks.follow(events)


def _keep(own: LocalBroker, broker: str, feed: Feed) -> asyncio.Task[None]:
    """Start our own broker again whenever it dies."""

    def started(pid: int) -> None:
        feed.report(BrokerStarted(broker=broker, pid=pid))

    return asyncio.create_task(own.keep(started))


async def _open_endpoint(
    settings: Settings, state: StateFolder, broker: _Broker, blobs: BlobFolder
) -> HttpServer:
    """Serve blobs, on the port of last time where that is free: devices hold URLs with it."""
    host, port = host_and_port(settings.blobs)
    host = host or _own_address(broker.address)
    if host in ("0.0.0.0", "::") and settings.blobs_url is None:  # noqa: S104 - refused here
        raise ConfigError(
            f"blobs {settings.blobs} is every address: say with --blobs-url how devices reach it",
            key="blobs_url",
        )
    remembered = RememberedPort(state.path / "blobs" / "port")
    port = port or await remembered.last(host)
    endpoint = HttpServer(blob_endpoint(blobs), host=host, port=port)
    port = await endpoint.start()
    remembered.remember(port)
    blobs.base_url = settings.blobs_url or f"http://{in_url(host)}:{port}"
    return endpoint


@asynccontextmanager
async def _page(settings: Settings, state: StateFolder, looking: Looking) -> AsyncIterator[str]:
    """Show what there is to see, on the port of last time where that is free; yield its URL."""
    host, port = host_and_port(settings.page)
    host = host or "127.0.0.1"
    if host not in LOOPBACK and settings.page_token is None:
        raise ConfigError(
            f"page {settings.page} can be reached by others: set page_token, which they must know",
            key="page_token",
        )
    remembered = RememberedPort(state.path / "page-port")
    port = port or await remembered.last(host)
    server = HttpServer(looking.application(), host=host, port=port)
    port = await server.start()
    remembered.remember(port)
    try:
        yield f"http://{in_url(host)}:{port}"
    finally:
        looking.end()
        await server.stop()


def _own_address(broker: BrokerAddress) -> str:
    """Return our address on the way to the broker: the one on which its devices may find us."""
    try:
        found = socket.getaddrinfo(broker.host, broker.port, type=socket.SOCK_DGRAM)
        family, *_, address = min(found, key=lambda one: one[0] != socket.AF_INET)
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect(address)  # sends nothing
            return str(probe.getsockname()[0])
    except OSError:
        return "127.0.0.1"


def _card(line: Path, world: _World, key: str, page: str, *, private: bool) -> bytes:
    card = {
        "success": True,
        "version": __version__,
        "pid": os.getpid(),
        "socket": str(line),
        "broker": world.broker,
        "broker-name": world.broker_name,
        "broker-pid": world.own.pid if world.own else None,
        "blobs": world.blobs_url,
        "key": key,
        "page": page,
        "inline-bytes": world.inline_bytes,
        "private": private,
    }
    return json.dumps(card).encode() + b"\n"


class _Lock:
    """One gateway a folder: the lock is the kernel's, so that it dies with its holder."""

    def __init__(self, state: StateFolder) -> None:
        self._state = state

    def __enter__(self) -> None:
        self._file = self._state.lock.open("w")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._file.close()
            raise FleetTaken(
                f"a gateway already runs on {self._state.path}: stop it, or choose another --state"
            ) from error
        self._state.card.unlink(missing_ok=True)

    def __exit__(self, *_: object) -> None:
        self._file.close()


async def serve_until(gateway: RunningGateway, stop: asyncio.Event) -> None:
    """Serve until told to stop; raises what ended the gateway if it was something else."""
    failed = asyncio.create_task(gateway.fleet.failed())
    stopped = asyncio.create_task(stop.wait())
    await asyncio.wait([failed, stopped, *gateway.serving], return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    for task in gateway.serving:
        if task.done():
            task.result()
    if failed.done():
        raise failed.result()
    failed.cancel()
