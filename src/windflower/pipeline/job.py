"""One run of an app, from finding the fleet to the last line of its report.

A job keeps its run going: when the run's process is killed, or its gateway, it begins the run again
at the top, and what was settled is told again.
"""

import asyncio
import os
import secrets
import signal
import sys
from asyncio.subprocess import DEVNULL
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import IO, Any, Final

from windflower.adapters.local.access import Access
from windflower.adapters.local.broker_address import BrokerAddress
from windflower.adapters.local.process import end, start
from windflower.core.ledger import RunRecord, Tally
from windflower.errors import (
    ConfigError,
    GatewayUnavailable,
    NotEnoughDevices,
    RunSuspended,
)
from windflower.flower.app_bundle import make_bundle
from windflower.flower.app_folder import AppFolder
from windflower.gateway.line import SocketLine
from windflower.gateway.request import RunRequest
from windflower.pipeline.following import Lines, followed
from windflower.pipeline.gateways import RETURN_S, Gateway, gateway_for
from windflower.pipeline.publication import publish
from windflower.pipeline.simulated import (
    AWAY_S,
    Show,
    Simulation,
    process_started,
    simulated_devices,
)
from windflower.settings import own_broker_port
from windflower.wire.values import Values

END_S: Final = 10.0
"""The event that a run ended comes at most so long after its process did."""

DEATHS: Final = 5
"""So often in a row a run's process may die without a new reply before the run is suspended."""

RENEWALS: Final = 20
"""So often the gateway may go away during one call: what kills it each time is not chance."""

USUAL_DEVICES: Final = 10

RUN_ENVIRONMENT: Final = {
    "PYTHONHASHSEED": "0",  # sets of strings keep their order when a run starts again
    "OPENBLAS_NUM_THREADS": "1",
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "PYTHONUNBUFFERED": "1",
}


@dataclass(frozen=True, slots=True)
class JobRequest:
    """What to run, and on whom.

    Attributes:
        app: the app's folder.
        state: the gateway's state folder.
        overrides: run configuration, `key=value ...`.
        seed: what all random sources derive from; None draws one.
        policy: what rounds wait for, over what the app says; see `RoundPolicy`.
        devices: how many devices to simulate for this run; None for as many as is usual.
        limit: how many of the freshest devices take part; None takes all.
        need: how many devices must be online; None takes what the other two say.
        broker: an MQTT broker; None uses the gateway's own.
        interval_s: seconds between the heartbeats of simulated devices.
        name: what simulated devices are called.
        resume: a run that is open, to go on with; most of the above is as it was then.
        is_lenient: whether a resumed run may ask with other values in phases that are closed.
        environment: what else the gateway finds in its environment, where it is started here.
        access: how simulated devices get in; None takes the gateway's own way.
        publishes: whether its model is given to the fleet where the run ends well.
        away_s: for how long a simulated device that was killed stays away.
    """

    app: Path
    state: Path
    overrides: list[str] = field(default_factory=list)
    seed: int | None = None
    policy: dict[str, Any] = field(default_factory=dict)
    devices: int | None = None
    limit: int | None = None
    need: int | None = None
    broker: str | None = None
    interval_s: float = 2.0
    name: str = "device"
    resume: str | None = None
    is_lenient: bool = False
    environment: dict[str, str] = field(default_factory=dict)
    access: Access | None = None
    publishes: bool = False
    away_s: float = AWAY_S


@dataclass(frozen=True, slots=True)
class JobResult:
    """What a run came to.

    Attributes:
        run: its id.
        success: whether the ServerApp ended as it should.
        reason: why it ended, or stopped.
        error: the kind of error that it ended with, None where it succeeded.
        result: rounds, metrics, the model's hash and file.
        replies: how many were ok, failed and late.
        seconds: from the first look for the fleet to the end.
        devices: how many took part.
        broker: mosquitto, iotcore or external.
    """

    run: str
    success: bool
    reason: str
    error: str | None
    result: dict[str, Any]
    replies: dict[str, int]
    seconds: float
    devices: int
    broker: str


async def run_job(
    request: JobRequest, show: Show, *, output: IO[Any] | None = None, log: IO[Any] | None = None
) -> JobResult:
    """Run an app, or go on with a run, and wait for its end.

    Args:
        request: what to run.
        show: called with each event, for people.
        output: where the app's standard output goes; None is our own.
        log: where its standard error goes; None is our own.

    Raises:
        AppError, ConfigError: what was asked cannot be run.
        NotEnoughDevices: the fleet is too small; the message names who is missed.
        GatewayUnavailable: the gateway went away and did not come back. The run stays open.
        WindflowerError: the gateway or the devices did not start.
    """
    begun = asyncio.get_running_loop().time()
    # Before a broker and a gateway are started for nothing.
    app = AppFolder.read(request.app.absolute()) if request.resume is None else None
    async with AsyncExitStack() as stack:
        gateway = await stack.enter_async_context(
            gateway_for(request.state, request.broker, show, request.environment)
        )
        _check_broker(request, gateway)
        job = _Job(request, gateway, show, output, log)
        job.greet()
        record, app, online = await job.open(stack, app)
        record, reason, error = await job.keep_going(record, app)
        if request.publishes and record.state == "done":
            try:
                await publish(gateway.line, request.state, record.run)
            except ConfigError as refusal:  # the run is good all the same
                show({"event": "not-published", "run": record.run, "reason": str(refusal)})
        tally: Tally = await job.ask(SocketLine.tally, record.run)
        return JobResult(
            run=record.run,
            success=record.state == "done",
            reason=reason,
            error=error,
            result=record.result,
            replies=asdict(tally),
            seconds=round(asyncio.get_running_loop().time() - begun, 2),
            devices=min(online, record.limit or online),
            broker=gateway.card.broker_name,
        )


_TO_GO_ON: Final = "this command was told to end (SIGTERM); nothing is lost"


class _Job:
    """One run and what it needs around it."""

    def __init__(
        self,
        request: JobRequest,
        gateway: Gateway,
        show: Show,
        output: IO[Any] | None,
        log: IO[Any] | None,
    ) -> None:
        self._request = request
        self._gateway = gateway
        self._show = show
        self._output = output
        self._log = log
        self._lines: Lines | None = None

    def greet(self) -> None:
        """Say that there is a gateway."""
        card, is_ours = self._gateway.card, self._gateway.is_ours
        page = {"page": card.page} if card.page else {}
        self._show({"event": "gateway-ready", "broker": card.broker, "ours": is_ours, **page})
        if is_ours:
            self._show(process_started("gateway", card.pid))
            if card.broker_pid is not None:
                self._show(process_started("broker", card.broker_pid))

    async def ask(self, call: Callable[..., Any], *args: Any, **more: Any) -> Any:  # noqa: ANN401
        """Call the gateway, which may go away: then find it again and ask once more.

        Raises:
            GatewayUnavailable: it went away and did not come back, or too often.
        """
        for _ in range(RENEWALS):
            try:
                return await asyncio.to_thread(call, self._gateway.line, *args, **more)
            except GatewayUnavailable:
                limit = {"timeout-s": RETURN_S} if self._gateway.is_waited_for else {}
                self._show({"event": "gateway-lost", **limit})
                await self._gateway.renew()
                self.greet()
        return await asyncio.to_thread(call, self._gateway.line, *args, **more)

    # ------------------------------------------------------------------------------ beginning

    async def open(
        self, stack: AsyncExitStack, app: AppFolder | None
    ) -> tuple[RunRecord, AppFolder, int]:
        """Open or resume the run, with its devices; return it, its app, and who is online."""
        request = self._request
        if request.resume is not None:
            return await self._resume(stack, request.resume)
        assert app is not None  # noqa: S101 - it was read, since nothing is resumed
        overrides = app.override(request.overrides)
        _check_seed(app, request.seed)
        policy = replace(app.policy, **request.policy)
        count = request.devices
        if count is None:
            has_own_broker = own_broker_port(request.broker) is not None
            count = USUAL_DEVICES if self._gateway.is_ours and has_own_broker else 0
        await self._simulate(stack, app, count, request.name)
        need = request.need or request.limit or count or 1
        online = await self._wait_for_devices(need, policy.wait_devices_s)
        self._lines = await _events(self)  # what it may need is said when it is opened
        record = await self.ask(
            SocketLine.open_run,
            RunRequest(
                app=app.name,
                folder=str(app.path),
                bundle=await self._bundle(app),
                config=Values("configs", tuple(overrides.items())),
                seed=request.seed,
                policy=policy,
                is_private=app.noise is not None,
                limit=request.limit,
                request=secrets.token_hex(16),
                simulated=count,
                crew=request.name,
            ),
        )
        return record, app, online

    async def _resume(self, stack: AsyncExitStack, run: str) -> tuple[RunRecord, AppFolder, int]:
        record: RunRecord = await self.ask(SocketLine.run, run)
        if record.state != "open":
            raise ConfigError(f"run {run} is over: there is nothing to resume", key="resume")
        app = AppFolder.read(Path(record.folder))
        if make_bundle(app)[0] != record.bundle:
            raise ConfigError(
                f"{app.path} is not what run {run} was started with: put it back as it was, or"
                " start a new run",
                key="resume",
            )
        await self._simulate(stack, app, record.simulated, record.crew)
        online = await self._look_for_devices(record)
        self._lines = await _events(self)
        resumed = await self.ask(SocketLine.resume_run, run, is_lenient=self._request.is_lenient)
        return resumed, app, online

    async def _bundle(self, app: AppFolder) -> Any:  # noqa: ANN401 - BlobRef
        ref, data = make_bundle(app)
        path = self._request.state / f"bundle-{secrets.token_hex(8)}.part"
        path.write_bytes(data)
        await self.ask(SocketLine.adopt, path, ref)
        return ref

    async def _simulate(self, stack: AsyncExitStack, app: AppFolder, count: int, name: str) -> None:
        if count:
            card = self._gateway.card
            plan = Simulation(
                count=count,
                name=name,
                interval_s=self._request.interval_s,
                access=self._request.access or self._gateway.access(),
                gateway_key=card.key,
                folder=self._request.state / "simulated",
                away_s=self._request.away_s,
            )
            await stack.enter_async_context(simulated_devices(plan, app, self._show))

    async def _wait_for_devices(self, need: int, timeout_s: float) -> int:
        known = await self.ask(SocketLine.devices)
        if sum(device["online"] for device in known) < need:
            self._show({"event": "waiting-for-devices", "need": need, "timeout-s": timeout_s})
        return int(await self.ask(SocketLine.wait_for_devices, need, timeout_s=timeout_s))

    async def _look_for_devices(self, record: RunRecord) -> int:
        """Give devices time to be heard; a run that goes on does so with those that are there.

        A strict run knows whom it waits for.
        """
        if record.policy.is_strict:
            return record.limit or record.simulated
        need = record.limit or record.simulated or 1
        try:
            return await self._wait_for_devices(need, record.policy.wait_devices_s)
        except NotEnoughDevices as short:
            return short.have

    # -------------------------------------------------------------------------------- going on

    async def keep_going(
        self, record: RunRecord, app: AppFolder
    ) -> tuple[RunRecord, str, str | None]:
        """Execute a run until it ends, or cannot go on; return it, why, and the kind of error."""
        deaths, replies = 0, Tally()
        while True:
            lines, self._lines = self._lines or await _events(self), None
            follower = _Follower(record.run, self._show, lines)
            following = asyncio.create_task(follower.follow())
            code = await self._execute(record, app)
            with suppress(TimeoutError):
                async with asyncio.timeout(END_S if code >= 0 else 0):
                    await following
            following.cancel()
            executed, record = record.epoch, await self.ask(SocketLine.run, record.run)
            if record.state != "open":
                return record, *_how_it_ended(record)
            if follower.error is not None:
                return record, follower.reason, follower.error
            if record.epoch != executed:
                await self._check_elsewhere(record)
            tally = await self.ask(SocketLine.tally, record.run)
            deaths, replies = (deaths + 1 if tally == replies else 1), tally
            if deaths > DEATHS:
                reason = f"its process ended {DEATHS} times in a row, last with code {code}"
                return record, reason, RunSuspended.__name__
            self._show({"event": "run-process-lost", "run": record.run, "code": code})
            await self._look_for_devices(record)
            lenient = self._request.is_lenient
            record = await self.ask(SocketLine.resume_run, record.run, is_lenient=lenient)

    async def _check_elsewhere(self, record: RunRecord) -> None:
        """Leave a run alone that another job has taken over; raises RunSuspended."""
        if await self.ask(SocketLine.is_executed, record.run):
            raise RunSuspended(f"run {record.run} was resumed by another `windflower run`")

    async def _execute(self, record: RunRecord, app: AppFolder) -> int:
        """Execute a run's ServerApp once, in a process of its own; return its exit code."""
        results = self._request.state / "runs" / record.run
        results.mkdir(parents=True, exist_ok=True)
        process = await start(
            *(sys.executable, "-m", "windflower.flower.run_process"),
            *(str(self._gateway.card.socket), record.run, str(record.epoch)),
            *(str(app.path), str(results), str(self._gateway.card.inline_bytes)),
            stdin=DEVNULL,
            stdout=self._output,
            stderr=self._log,
            env={**os.environ, **RUN_ENVIRONMENT},
        )
        self._show(process_started("run", process.pid, name=record.run))
        try:
            return await process.wait()
        except asyncio.CancelledError as cancelled:
            if cancelled.args == (signal.SIGTERM,):  # a supervisor's, who may start it again
                self._show({"event": "run-suspended", "run": record.run, "reason": _TO_GO_ON})
            else:
                await self._end(record.run, "a person stopped it")
                self._show({"event": "run-given-up", "run": record.run})
            raise
        finally:
            await end(process)

    async def _end(self, run: str, reason: str) -> None:
        """End a run for good, so that its devices stop too."""
        line = self._gateway.line
        with suppress(GatewayUnavailable):
            await asyncio.to_thread(line.end_run, run, success=False, reason=reason, result={})


def _check_seed(app: AppFolder, seed: int | None) -> None:
    """Whoever knows the seed of noise can take the noise off again."""
    if seed is not None and app.noise is not None:
        raise ConfigError(
            f"--seed: {app.name} draws noise for privacy ({app.noise}), which nobody may be able to"
            " repeat: leave --seed out",
            key="seed",
        )


def _how_it_ended(record: RunRecord) -> tuple[str, str | None]:
    """Return why a run ended, and the kind of error if it failed."""
    reason = str(record.result["reason"])
    if record.state == "done":
        return reason, None
    return reason, str(record.result.get("error-type", "RunFailed"))


def _check_broker(request: JobRequest, gateway: Gateway) -> None:
    if request.broker and not gateway.is_ours:
        shown = gateway.card.broker
        used, port = BrokerAddress.parse(shown), own_broker_port(request.broker)
        if port is None:
            wanted = BrokerAddress.parse(request.broker)
            is_used = used.place == wanted.place
        else:
            is_used = gateway.card.broker_pid is not None and port in (0, used.port)
        if not is_used:
            raise ConfigError(
                f"the gateway that runs on {request.state} uses {shown}: stop it, or leave --broker"
                " out",
                key="broker",
            )


async def _events(job: _Job) -> Lines:
    """Return a queue of the gateway's events from now on; None when it ends."""
    return followed(await job.ask(SocketLine.watch))


class _Follower:
    """Follows one run's events.

    Attributes:
        reason: why the run was suspended, once it was.
        error: the kind of error that suspended it.
    """

    def __init__(self, run: str, show: Show, lines: Lines) -> None:
        self._run = run
        self._show = show
        self._lines = lines
        self.reason = ""
        self.error: str | None = None

    async def follow(self) -> None:
        """Show events until the run ended, or its process said why it cannot go on."""
        while (line := await self._lines.get()) is not None:
            if line.get("run") not in (None, self._run):
                continue
            self._show(line)
            if line["event"] == "run-ended":
                return
            if line["event"] == "run-suspended":
                self.reason, self.error = line["reason"], line.get("error")
                return
