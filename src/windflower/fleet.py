"""A fleet from Python: what the command line does, in a script or a notebook, in the same words.

import windflower

with windflower.open_fleet() as fleet:
run = fleet.run("path/to/app", devices=10, config={"num-server-rounds": 3})
for event in run.events():
print(event["event"])
result = run.result()
print(result.metrics, result.arrays["weights"].shape)
"""

import asyncio
import functools
import json
import queue
import secrets
import sys
import tempfile
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping
from concurrent.futures import CancelledError, Future
from contextlib import AbstractContextManager, AsyncExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, TypeVar

from windflower import errors
from windflower.compose import StateFolder
from windflower.errors import AppError, ConfigError, NotEnoughDevices, RunFailed, RunSuspended
from windflower.flower.app_bundle import make_bundle
from windflower.flower.app_folder import AppFolder, make_policy
from windflower.gateway.line import SocketLine
from windflower.gateway.request import RunRequest
from windflower.pipeline import publication
from windflower.pipeline.gateways import Gateway, gateway_for
from windflower.pipeline.job import JobRequest, JobResult, run_job
from windflower.settings import load_settings
from windflower.wire.blobs import BlobRef
from windflower.wire.content import Content
from windflower.wire.values import Values

if TYPE_CHECKING:
    import numpy as np
    from flwr.app import Context
    from flwr.serverapp import Grid
    from numpy.typing import NDArray

    Main = Callable[[Grid, Context], None]

Event = dict[str, Any]
_Told = queue.SimpleQueue["Event | None"]
ConfigValue = bool | int | float | str
T = TypeVar("T")

CLOSE_S: Final = 60.0
"""So long a fleet may take to end what it started."""


@dataclass(frozen=True, slots=True)
class Device:
    """What is known of one device.

    Attributes:
        device: its id.
        is_online: whether it counts as online.
        heard_at: when it was last heard, Unix seconds; 0 where it was only named.
        labels: what its owner tells devices apart by.
        model: digest of the published model that it uses, None where it has none.
    """

    device: str
    is_online: bool
    heard_at: float
    labels: dict[str, str]
    model: str | None


@dataclass(frozen=True, slots=True)
class RunResult:
    """What a run came to.

    Attributes:
        run: its id.
        rounds: how many a strategy measured.
        metrics: by stage, the last round's numbers.
        replies: how many were ok, failed and late.
        seconds: from the first look for the fleet to the end.
        model_hash: names the final arrays, bit for bit; None where the app shows none.
        model_file: where they are; None likewise.
    """

    run: str
    rounds: int
    metrics: dict[str, dict[str, float]]
    replies: dict[str, int]
    seconds: float
    model_hash: str | None
    model_file: Path | None

    @property
    def arrays(self) -> "dict[str, NDArray[np.generic]]":
        """The final arrays, read from their file; empty where the app shows none."""
        from windflower.flower.records import from_content  # noqa: PLC0415 - imports flwr

        if self.model_file is None or self.model_hash is None:
            return {}
        ref = BlobRef(self.model_hash, self.model_file.stat().st_size)
        records = from_content(Content((("arrays", None),), ref), self.model_file)
        return {name: array.numpy() for name, array in records.array_records["arrays"].items()}


class Run:
    """One run under way."""

    def __init__(
        self, future: "Future[JobResult]", told: "queue.SimpleQueue[Event | None]"
    ) -> None:
        self._future = future
        self._told = told
        self._future.add_done_callback(lambda _: self._told.put(None))

    def events(self) -> Iterator[Event]:
        """Yield what happens, as it happens, until the run is over; each event once."""
        while (event := self._told.get()) is not None:
            yield event
        self._told.put(None)  # whoever asks again is told that it is over

    def result(self, timeout_s: float | None = None) -> RunResult:
        """Wait for the end.

        Raises:
            RunFailed: it ended without a result, and the message says why.
            RunSuspended: it cannot go on now, and can be resumed.
            WindflowerError: it could not be begun: it cannot be run, or nobody is there.
            TimeoutError: it is not over after so long; it goes on.
        """
        try:
            job = self._future.result(timeout_s)
        except CancelledError:
            raise RunFailed("the run was stopped") from None
        if not job.success:
            kind = getattr(errors, job.error or "", RunFailed)
            raise (RunSuspended if kind is NotEnoughDevices else kind)(job.reason)
        result = job.result
        file = result.get("model-file")
        return RunResult(
            run=job.run,
            rounds=int(result.get("rounds", 0)),
            metrics=dict(result.get("metrics", {})),
            replies=job.replies,
            seconds=job.seconds,
            model_hash=result.get("model-hash"),
            model_file=None if file is None else Path(file),
        )

    def stop(self) -> None:
        """End the run for good; its devices are told to stop."""
        self._future.cancel()


class Fleet(AbstractContextManager["Fleet"]):
    """The fleet of one gateway: the one that runs, else one that lives as long as this.

    Made by `open_fleet`. Close it, or use it in a `with`.
    """

    def __init__(self, state: Path, broker: str | None) -> None:
        self._state = state
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fleet", daemon=True)
        self._thread.start()
        self._stack = AsyncExitStack()
        self._runs: list[Run] = []
        try:
            self._gateway = self._wait(self._enter(broker))
        except BaseException:  # cancelled too: nobody else knows of the thread
            self._stop()
            raise

    async def _enter(self, broker: str | None) -> Gateway:
        gateway = gateway_for(self._state, broker, lambda _: None)
        return await self._stack.enter_async_context(gateway)

    @property
    def broker(self) -> str:
        """The broker's address."""
        return self._gateway.card.broker

    def devices(self) -> list[Device]:
        """Return the devices that were ever heard, the one that was heard last first."""
        return [
            Device(d["device"], d["online"], d["heard-at"], d["labels"], d["model"])
            for d in self._gateway.line.devices()
        ]

    def run(
        self,
        app: str | Path,
        *,
        config: Mapping[str, ConfigValue] | None = None,
        devices: int = 0,
        limit: int | None = None,
        seed: int | None = None,
        publish: bool = False,
        resume: str | None = None,
        **policy: Any,  # noqa: ANN401 - what `[tool.windflower]` takes
    ) -> Run:
        """Begin to run an app; returns at once.

        Args:
            app: its folder.
            config: run configuration over what the app says.
            devices: how many to simulate for this run.
            limit: how many of the freshest devices take part; None takes all.
            seed: what all random sources derive from; None draws one.
            publish: whether its model is given to the fleet where the run ends well.
            resume: a run that is open, to go on with.
            **policy: what rounds wait for, as in `[tool.windflower]`: quorum=0.8, deadline_s=60.

        Raises:
            ConfigError: a policy that is none; or this fleet is closed.
        """
        if self._loop.is_closed():
            raise ConfigError("this fleet is closed: open another", key="state")
        if resume is not None and (config or policy or seed is not None):
            raise ConfigError("a run that goes on does so as it was begun", key="resume")
        make_policy(policy, source="run()")
        request = JobRequest(
            app=Path(app),
            state=self._state,
            overrides=[f"{key}={_toml(value)}" for key, value in (config or {}).items()],
            seed=seed,
            policy=policy,
            devices=devices,
            limit=limit,
            resume=resume,
            publishes=publish,
        )
        told: _Told = queue.SimpleQueue()
        job = run_job(request, told.put, output=sys.__stderr__)
        run = Run(asyncio.run_coroutine_threadsafe(job, self._loop), told)
        self._runs.append(run)
        return run

    def publish(self, run: str) -> None:
        """Give a run's model to the fleet; raises ConfigError where it has none."""
        self._wait(publication.publish(self._gateway.line, self._state, run))

    def close(self) -> None:
        """End what was started here: runs, simulated devices, the gateway. Idempotent."""
        if self._loop.is_closed():
            return
        for run in self._runs:
            run.stop()
        try:
            self._wait(self._leave())
        finally:
            self._stop()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """See `close`."""
        del kind, error, traceback
        self.close()

    async def _leave(self) -> None:
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        await asyncio.wait(others, timeout=CLOSE_S) if others else None
        await self._stack.aclose()

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def _stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(CLOSE_S)
        self._loop.close()


def open_fleet(state: str | Path | None = None, *, broker: str | None = None) -> Fleet:
    """Open a fleet.

    Args:
        state: the gateway's state folder; None takes the usual one.
        broker: what a gateway that is started here connects to; None starts a broker too.

    Raises:
        GatewayUnavailable, BrokerUnavailable, BrokerRefused: as they say.
    """
    given = None if state is None else Path(state)
    settings = load_settings(state=given, broker=broker)
    return Fleet(settings.state, settings.broker)


def on_fleet(main: "Main") -> "Main":
    """Let a ServerApp that Flower itself started work with the fleet of a running gateway.

        @app.main()
        @windflower.on_fleet
        def main(grid: Grid, context: Context) -> None:
            ...

    It is one line; see `fleet_grid` for what it does and for what can be said.
    """
    folder = _app_around(Path(main.__code__.co_filename))

    @functools.wraps(main)
    def on_our_grid(grid: "Grid", context: "Context") -> None:
        del grid  # Flower's
        with fleet_grid(context, app=folder) as fleet:
            main(fleet, context)

    return on_our_grid


def fleet_grid(
    context: "Context",
    *,
    app: str | Path | None = None,
    state: str | Path | None = None,
    limit: int | None = None,
) -> "AbstractContextManager[Grid]":
    """Use the fleet of a running gateway in a ServerApp that Flower itself started.

        with windflower.fleet_grid(context) as grid:
            strategy.start(grid, ...)

    The run is one of the gateway's: `windflower runs` shows it. It cannot be resumed, since the
    ServerApp's process is Flower's. Its policy and its configuration are the app's own.

    Args:
        context: as the ServerApp was given it; its run configuration goes to the devices.
        app: the app's folder; None finds it around the file that calls this.
        state: the gateway's state folder; None takes the usual one.
        limit: how many of the freshest devices take part; None takes all.

    Raises:
        AppError: there is no app around the calling file.
        GatewayUnavailable: no gateway runs: `windflower serve`.
    """
    caller = Path(sys._getframe(1).f_code.co_filename)  # noqa: SLF001 - as `warnings` does it
    folder = _app_around(caller) if app is None else Path(app)
    place = load_settings(state=None if state is None else Path(state)).state
    return _grid(context, AppFolder.read(folder.absolute()), StateFolder(place).line(), limit)


@contextmanager
def _grid(
    context: "Context", app: AppFolder, line: SocketLine, limit: int | None
) -> "Iterator[Grid]":
    from windflower.flower.grid import FleetGrid  # noqa: PLC0415 - imports flwr
    from windflower.flower.requirements import others  # noqa: PLC0415

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        ref, data = make_bundle(app)
        (folder / "bundle").write_bytes(data)
        line.adopt(folder / "bundle", ref)
        given = {k: v for k, v in context.run_config.items() if app.config.get(k) != v}
        request = RunRequest(
            app=app.name,
            folder=str(app.path),
            bundle=ref,
            config=Values("configs", tuple(given.items())),
            seed=None,
            policy=app.policy,
            is_private=app.noise is not None,
            limit=limit,
            request=secrets.token_hex(16),
        )
        wanted = others(app.requires)
        opened = line.open_run(request)
        record = line.begin(opened.run, opened.epoch)
        grid = FleetGrid(line, record, scratch=folder, requires=wanted)
        reason, is_done = "the ServerApp ended", False
        try:
            yield grid
            grid.check_answers()
            is_done = True
        except BaseException as error:  # whatever ends the app ends its run
            reason = f"the ServerApp raised {type(error).__name__}: {error}"
            raise
        finally:
            line.end_run(record.run, success=is_done, reason=reason, result={})
            line.close()


def _app_around(file: Path) -> Path:
    for folder in file.resolve().parents:
        if (folder / "pyproject.toml").is_file():
            return folder
    raise AppError(f"there is no pyproject.toml around {file}: say where the app is (app=...)")


def _toml(value: ConfigValue) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value)
    if isinstance(value, int | float):
        return repr(value)
    raise ConfigError(f"{value!r} is no value of a run configuration", key="config")
