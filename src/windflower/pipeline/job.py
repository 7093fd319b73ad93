"""One run of an app, from finding the fleet to the last line of its report."""

import asyncio
import os
import secrets
import sys
import threading
from asyncio.subprocess import DEVNULL
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final

from windflower.adapters.local.mqtt import BrokerAddress
from windflower.adapters.local.process import end, start
from windflower.errors import ConfigError, GatewayUnavailable, RunFailed
from windflower.flower.app_folder import AppFolder, make_bundle
from windflower.gateway.desk import RunRequest
from windflower.gateway.line import SocketLine
from windflower.pipeline.gateways import Gateway, gateway_for
from windflower.pipeline.simulated import Simulation, simulated_devices
from windflower.wire.content import Values

Show = Callable[[dict[str, Any]], None]

END_S: Final = 10.0
"""The event that a run ended comes at most so long after its process did."""

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
        is_strict: whether every chosen device is waited for.
        devices: how many devices to simulate for this run; None for as many as is usual.
        limit: how many of the freshest devices take part; None takes all.
        need: how many devices must be online; None takes what the other two say.
        wait_devices_s: for how long to wait for them.
        broker: an MQTT broker; None uses the gateway's own.
        interval_s: seconds between the heartbeats of simulated devices.
        name: what simulated devices are called.
    """

    app: Path
    state: Path
    overrides: list[str] = field(default_factory=list)
    seed: int | None = None
    is_strict: bool = False
    devices: int | None = None
    limit: int | None = None
    need: int | None = None
    wait_devices_s: float = 60.0
    broker: str | None = None
    interval_s: float = 2.0
    name: str = "device"


@dataclass(frozen=True, slots=True)
class JobResult:
    """What a run came to.

    Attributes:
        run: its id.
        success: whether the ServerApp ended as it should.
        reason: why it ended.
        result: rounds, metrics, the model's hash and file.
        replies: how many were ok, failed and late.
        seconds: from the first look for the fleet to the end.
        devices: how many took part.
        broker: mosquitto, iotcore or external.
    """

    run: str
    success: bool
    reason: str
    result: dict[str, Any]
    replies: dict[str, int]
    seconds: float
    devices: int
    broker: str


async def run_job(
    request: JobRequest, show: Show, *, output: IO[Any] | None = None, log: IO[Any] | None = None
) -> JobResult:
    """Run an app and wait for its end.

    Args:
        request: what to run.
        show: called with each event, for people.
        output: where the app's standard output goes; None is our own.
        log: where its standard error goes; None is our own.

    Raises:
        AppError, ConfigError: what was asked cannot be run.
        NotEnoughDevices: the fleet is too small; the message names who is missed.
        WindflowerError: the gateway or the devices did not start.
    """
    begun = asyncio.get_running_loop().time()
    app = AppFolder.read(request.app.absolute())
    overrides = app.override(request.overrides)
    async with AsyncExitStack() as stack:
        gateway = await stack.enter_async_context(gateway_for(request.state, request.broker))
        _check_broker(request, gateway)
        show({"event": "gateway-ready", "broker": gateway.card.broker, "ours": gateway.is_ours})
        count = request.devices
        if count is None:
            count = 10 if gateway.is_ours and request.broker is None else 0
        if count:
            plan = _simulation(request, gateway, count)
            await stack.enter_async_context(simulated_devices(plan, app))
        need = request.need or request.limit or count or 1
        online = await _wait_for_devices(gateway.line, need, request.wait_devices_s, show)
        lines = await stack.enter_async_context(_events(gateway.line))
        run = await _open(app, overrides, request, gateway.line)
        follower = _Follower(run, show, lines)
        following = asyncio.create_task(follower.follow())
        try:
            code = await _execute(app, run, gateway, request, output, log)
        except asyncio.CancelledError:
            await _end(gateway.line, run, "a person stopped it")
            raise
        if code != GatewayUnavailable.exit_code:  # nothing, where the process ended the run
            reason = f"the run's process ended with code {code} and said nothing"
            await _end(gateway.line, run, reason)
        await _until_ended(following, code)
        record = await asyncio.to_thread(gateway.line.run, run)
        return JobResult(
            run=run,
            success=record.state == "done",
            reason=follower.reason,
            result=record.result,
            replies=follower.replies,
            seconds=round(asyncio.get_running_loop().time() - begun, 2),
            devices=min(online, request.limit or online),
            broker=gateway.card.broker_name,
        )


def _check_broker(request: JobRequest, gateway: Gateway) -> None:
    if request.broker and not gateway.is_ours:
        shown, wanted = gateway.card.broker, BrokerAddress.parse(request.broker)
        used = BrokerAddress.parse(shown)
        if (used.host, used.port) != (wanted.host, wanted.port):
            raise ConfigError(
                f"the gateway that runs on {request.state} uses {shown}: stop it, or leave --broker"
                " out",
                key="broker",
            )


def _simulation(request: JobRequest, gateway: Gateway, count: int) -> Simulation:
    return Simulation(
        count=count,
        name=request.name,
        interval_s=request.interval_s,
        broker=gateway.card.broker,
        gateway_key=gateway.card.key,
        folder=request.state / "simulated",
    )


async def _wait_for_devices(line: SocketLine, need: int, timeout_s: float, show: Show) -> int:
    show({"event": "waiting-for-devices", "need": need, "timeout-s": timeout_s})
    return await asyncio.to_thread(line.wait_for_devices, need, timeout_s=timeout_s)


async def _open(
    app: AppFolder, overrides: dict[str, Any], request: JobRequest, line: SocketLine
) -> str:
    ref, data = make_bundle(app)
    path = request.state / f"bundle-{secrets.token_hex(8)}.part"
    path.write_bytes(data)
    await asyncio.to_thread(line.adopt, path, ref)
    record = await asyncio.to_thread(
        line.open_run,
        RunRequest(
            app=app.name,
            bundle=ref,
            config=Values("configs", tuple(overrides.items())),
            seed=request.seed,
            is_strict=request.is_strict,
            devices=request.limit,
        ),
    )
    return record.run


async def _execute(
    app: AppFolder,
    run: str,
    gateway: Gateway,
    request: JobRequest,
    output: IO[Any] | None,
    log: IO[Any] | None,
) -> int:
    results = request.state / "runs" / run
    results.mkdir(parents=True, exist_ok=True)
    process = await start(
        *(sys.executable, "-m", "windflower.flower.run_process"),
        *(str(gateway.card.socket), run, str(app.path), str(results)),
        stdin=DEVNULL,
        stdout=output,
        stderr=log,
        env={**os.environ, **RUN_ENVIRONMENT},
    )
    try:
        return await process.wait()
    finally:
        await end(process)


async def _end(line: SocketLine, run: str, reason: str) -> None:
    """End a run whose process did not, so that its devices stop too."""
    with suppress(GatewayUnavailable):
        await asyncio.to_thread(line.end_run, run, success=False, reason=reason, result={})


@asynccontextmanager
async def _events(line: SocketLine) -> AsyncIterator["asyncio.Queue[dict[str, Any] | None]"]:
    """Yield a queue of the gateway's events; None when it ends."""
    queue: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    lines = await asyncio.to_thread(line.watch)

    def pump() -> None:
        with suppress(OSError, ValueError, RuntimeError):  # closed under our feet: the end
            for event in lines:
                loop.call_soon_threadsafe(queue.put_nowait, event)
            loop.call_soon_threadsafe(queue.put_nowait, None)

    threading.Thread(target=pump, name="events", daemon=True).start()
    yield queue


class _Follower:
    """Follows one run's events."""

    def __init__(self, run: str, show: Show, lines: "asyncio.Queue[dict[str, Any] | None]") -> None:
        self._run = run
        self._show = show
        self._lines = lines
        self._count: Counter[str] = Counter()
        self.reason = "its process ended"

    @property
    def replies(self) -> dict[str, int]:
        """How many replies were ok, failed and late."""
        return {kind: self._count[kind] for kind in ("ok", "failed", "late")}

    async def follow(self) -> None:
        """Show events until the run ended."""
        while (line := await self._lines.get()) is not None:
            if line.get("run") not in (None, self._run):
                continue
            kind = line["event"]
            if kind == "phase-closed":
                self._count.update({k: line[k] for k in ("ok", "failed", "late")})
            self._show(line)
            if kind == "run-ended":
                self.reason = line["reason"]
                return


async def _until_ended(following: "asyncio.Task[None]", code: int) -> None:
    try:
        async with asyncio.timeout(END_S):
            await following
    except TimeoutError:
        if code == GatewayUnavailable.exit_code:
            raise GatewayUnavailable("the gateway went away while the run was under way") from None
        raise RunFailed(f"the run's process ended with code {code} and said nothing") from None
