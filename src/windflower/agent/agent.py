"""One device's agent: carries out what its duty says, and tells its duty what came of it."""

import asyncio
import platform
import secrets
import shutil
import time
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from windflower import __version__
from windflower.core import device_effects, duty
from windflower.core.device_effects import Effect, FetchProblem
from windflower.core.duty import Duty
from windflower.core.events import AgentStarted, Event, KeyPinned, MessageRefused
from windflower.core.retention import device_needs_bytes
from windflower.errors import (
    BlobsUnavailable,
    BlobTooLarge,
    GrantRefused,
    IdentityTaken,
    MalformedMessage,
    WorkerDied,
)
from windflower.ports import (
    Clock,
    Done,
    Events,
    Job,
    Link,
    LinkDown,
    LinkUp,
    Models,
    Received,
    Store,
    Transfers,
    Worker,
)
from windflower.wire.blobs import BlobRef, Grant
from windflower.wire.content import Content
from windflower.wire.messages import NOTHING, Command, Control, Envelope, Failure

_ENDING: Final = (device_effects.Forget, device_effects.Drop, device_effects.ForgetBelow)
"""After these, blobs may be in the cache that nothing needs."""


AGENT: Final = f"windflower {__version__}, Python {platform.python_version()}"
"""What a device says that its agent is."""


@dataclass(frozen=True, slots=True)
class AgentSettings:
    """What an agent is told when it is started.

    Attributes:
        device: its id.
        broker: for messages to people.
        interval_s: seconds between heartbeats.
        node_config: what it tells the app about itself, `key=value ...` as Flower spells it.
        gateway_key: the only gateway that it obeys, base64; None pins the first that it hears.
        labels: what its owner tells devices apart by.
        may_install: whether packages that an app lacks may be installed.
        allowed: digests of the bundles that may run here; empty for all.
        grace_s: for so long work that was cancelled may still end by itself, which keeps the
            worker warm; then it is killed.
    """

    device: str
    broker: str
    interval_s: float = 60.0
    node_config: str = ""
    gateway_key: str | None = None
    labels: dict[str, str] = field(default_factory=dict)
    may_install: bool = False
    allowed: tuple[str, ...] = ()
    grace_s: float = 2.0


class MonotonicClock:
    """A clock that never goes back: a device may not know what time it is."""

    def now(self) -> float:
        """Return seconds since some moment."""
        return time.monotonic()


class Agent:
    """Serves one device until it is cancelled.

    Args:
        settings: who it is.
        link: the way to the gateway.
        store: what it must not forget.
        worker: holds the user's ClientApp.
        models: those that were published to this device.
        transfers: moves blobs.
        events: where it says what happens.
        clock: never goes back.
    """

    def __init__(
        self,
        settings: AgentSettings,
        *,
        link: Link,
        store: Store,
        worker: Worker,
        models: Models,
        transfers: Transfers,
        events: Events,
        clock: Clock,
        boot: str | None = None,
    ) -> None:
        self._settings = settings
        self._link = link
        self._store = store
        self._worker = worker
        self._models = models
        self._transfers = transfers
        self._events = events
        self._clock = clock
        self._duty = Duty(settings.device, interval_s=settings.interval_s)
        self._boot = boot or secrets.token_hex(8)
        self._key = settings.gateway_key
        self._happened = asyncio.Event()
        self._inputs: list[_Input] = []
        self._jobs: set[asyncio.Task[None]] = set()
        self._fetching = asyncio.Lock()
        self._broken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._working: asyncio.Task[None] | None = None
        self._stopping: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Serve until cancelled.

        Raises:
            BrokerRefused: the broker does not let this device in.
            IdentityTaken: another agent runs under the same device id.
        """
        settings = self._settings
        await self._recall()
        self._note(AgentStarted(device=settings.device, broker=settings.broker))
        listening = asyncio.create_task(self._listen())
        serving = asyncio.create_task(self._serve())
        try:
            done, _ = await asyncio.wait(
                (listening, serving, self._broken), return_when=asyncio.FIRST_COMPLETED
            )
            for task in done:
                task.result()
        finally:
            await self._end(listening, serving)

    async def _recall(self) -> None:
        kept, floor = await self._store.open()
        self._key = self._key or await self._store.fact("gateway-key")
        await self._carry_out(self._duty.restore(kept, floor=floor, now=self._clock.now()), None)

    async def _end(self, *tasks: asyncio.Task[None]) -> None:
        everything = {*tasks, *self._jobs}
        for task in everything:
            task.cancel()
        await asyncio.gather(*everything, return_exceptions=True)
        await self._worker.stop()
        # A goodbye in the words of the last will, which the broker drops when we close in order.
        self._link.beat(self._heartbeat(device_effects.Beat("gone", None, (), (), ())))
        await self._link.close()

    # ------------------------------------------------------------------------------- inputs

    async def _listen(self) -> None:
        """Turn what the link says into inputs."""
        while True:
            match await self._link.next():
                case LinkUp():
                    self._put(_Input(self._duty.connected))
                case LinkDown(reason):
                    self._events.write({"event": "link-lost", "reason": reason})
                case Received(body, done):
                    await self._received(body)
                    done()

    async def _received(self, body: bytes) -> None:
        try:
            envelope = Envelope.from_bytes(body)
            opened = envelope.open(pinned_key=self._key or envelope.key)
        except MalformedMessage as refusal:
            self._note(MessageRefused(reason=refusal.reason, device=self._settings.device))
            return
        if opened.client != self._settings.device:
            # Signed, but for another device: somebody plays it again on our topic.
            reason = f"a message for {opened.client}"
            self._note(MessageRefused(reason=reason, device=self._settings.device))
            return
        if self._key is None:
            await self._pin(envelope.key)
        if isinstance(opened, Control) and opened.boot == self._boot:
            raise IdentityTaken(
                f"another agent runs as {self._settings.device}: give each device its own"
                " --device-id, and stop one of the two"
            )
        grants = envelope.grants
        if isinstance(opened, Command):
            self._put(_Input(lambda now: self._duty.ordered(opened, grants, now)))
        else:
            self._put(_Input(lambda now: self._duty.controlled(opened, grants, now)))

    async def _pin(self, key: str) -> None:
        await self._store.remember("gateway-key", key)
        self._key = key
        self._note(KeyPinned(device=self._settings.device, key=key))

    def _put(self, given: "_Input") -> None:
        self._inputs.append(given)
        self._happened.set()

    # -------------------------------------------------------------------------------- duty

    async def _serve(self) -> None:
        """Hand one input after another to the duty, and carry out what it says."""
        while True:
            now = self._clock.now()
            if self._inputs:
                given = self._inputs.pop(0)
                await self._carry_out(given.ask(now), given.state)
                continue
            self._happened.clear()
            wait = max(self._duty.next_wake() - now, 0.0)
            try:
                async with asyncio.timeout(wait):
                    await self._happened.wait()
            except TimeoutError:
                await self._carry_out(self._duty.tick(self._clock.now()), None)

    async def _carry_out(self, effects: list[Effect], state: bytes | None) -> None:
        """Carry out effects in order; neighbours that store share a commit."""
        storing: list[Effect] = []
        for effect in effects:
            if isinstance(effect, device_effects.STORING):
                storing.append(effect)
                continue
            if storing and not isinstance(effect, device_effects.Note):
                await self._store.carry_out(storing, state)
                storing = []
            self._begin(effect)
        if storing:
            await self._store.carry_out(storing, state)
        if any(isinstance(effect, _ENDING) for effect in effects):
            self._store.trim(self._duty.needed())
            if not self._fetching.locked():  # else it is done when that download is over
                self._store.drop_halves(self._duty.needed())

    def _begin(self, effect: Effect) -> None:
        match effect:
            case device_effects.Fetch(command, grants):
                self._job(self._fetch(command, grants))
            case device_effects.Work(command):
                self._working = self._job(self._work(command))
            case device_effects.StopWork():
                self._stopping = self._job(self._stop_work(self._working))
            case device_effects.Upload(reply, grant) if reply.content.pack is not None:
                self._job(self._upload(reply.id, reply.content.pack, grant))
            case device_effects.Publish(reply):
                self._link.answer(reply.method, reply.to_bytes())
            case device_effects.Beat():
                self._link.beat(self._heartbeat(effect))
            case device_effects.Note(event):
                self._note(event)
            case _:
                pass

    # --------------------------------------------------------------------------------- jobs

    def _job(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._jobs.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        """A job that broke in a way that nobody foresaw ends the agent: a restart mends more."""
        self._jobs.discard(task)
        problem = None if task.cancelled() else task.exception()
        if problem is not None and not self._broken.done():
            self._broken.set_exception(problem)

    def _turns_away(self, command: Command) -> bool:
        """Whether a command cannot be done here; then it is answered with that, in time."""
        failure = self._forbids(command) or self._lacks_room(command)
        if failure is not None:
            self._put(_Input(lambda now: self._duty.turned_away(command.id, failure, now)))
        return failure is not None

    def _forbids(self, command: Command) -> Failure | None:
        allowed, bundle = self._settings.allowed, command.bundle
        if not allowed or bundle is None or bundle.digest in allowed:
            return None
        reason = f"{self._settings.device} does not run the app {bundle.digest} (--allow-app)"
        return Failure(duty.LOAD_FAILED, reason)

    def _lacks_room(self, command: Command) -> Failure | None:
        """Return a failure where a command would fill the disk."""
        cached = [ref.digest for ref in command.blobs if self._store.blob(ref) is not None]
        landed = sum(_size_bytes(self._store.landing(ref.digest)) for ref in command.blobs)
        need, room = device_needs_bytes(command, cached) - landed, self._store.room_bytes()
        if need <= room:
            return None
        reason = (
            f"{self._settings.device} has no room: this needs {need / 1e6:.0f} MB,"
            f" {room / 1e6:.0f} MB are free"
        )
        return Failure(duty.MESSAGE_UNAVAILABLE, reason)

    async def _fetch(self, command: Command, grants: Iterable[Grant]) -> None:
        if self._turns_away(command):
            return
        id_, blobs = command.id, self._wanted(command)
        by_key = {grant.key: grant for grant in grants if grant.method == "GET"}
        problem: FetchProblem | None = None
        async with self._fetching:  # two downloads of one blob would write into one file
            for ref in blobs:
                if self._store.blob(ref) is None and problem is None:
                    problem = await self._fetch_one(ref, by_key.get(ref.key))
            self._store.drop_halves(self._duty.needed())
        if problem is None:
            self._put(_Input(lambda now: self._duty.fetched(id_, now)))
        else:
            self._put(_Input(lambda now: self._duty.fetch_failed(id_, problem, now)))

    def _wanted(self, command: Command) -> tuple[BlobRef, ...]:
        """Return what has to be here before work begins; a model may be on the shelf already."""
        is_model = command.method == "set_parameters"
        return tuple(r for r in command.blobs if not (is_model and self._models.holds(r.digest)))

    async def _fetch_one(self, ref: BlobRef, grant: Grant | None) -> FetchProblem | None:
        if grant is None:
            return "refused"
        path = self._store.landing(ref.digest)
        before = _size_bytes(path)
        try:
            await self._transfers.get(grant, ref, path)
        except GrantRefused:
            return "refused"
        except BlobsUnavailable:
            return "interrupted" if _size_bytes(path) > before else "unreachable"
        except MalformedMessage:
            return "damaged"
        await self._store.keep_blob(path, ref)
        return None

    async def _upload(self, id_: str, ref: BlobRef, grant: Grant) -> None:
        try:
            await self._transfers.put(grant, ref, self._store.update(id_))
        except GrantRefused:
            self._put(_Input(lambda now: self._duty.upload_failed(id_, "refused", now)))
        except BlobsUnavailable:
            self._put(_Input(lambda now: self._duty.upload_failed(id_, "unreachable", now)))
        except (BlobTooLarge, FileNotFoundError) as error:
            reason = f"{self._settings.device} cannot hand in its answer: {error}"
            self._put(_Input(lambda now: self._duty.upload_hopeless(id_, reason, now)))
        else:
            self._put(_Input(lambda now: self._duty.uploaded(id_, now)))

    async def _work(self, command: Command) -> None:
        if self._stopping is not None:
            await asyncio.wait([self._stopping])  # the worker is still busy with what was cancelled
        if self._turns_away(command):
            return
        done = await self._result(command)
        self._put(
            _Input(
                lambda now: self._duty.worked(
                    command.id, done.result, worked_s=done.worked_s, now=now
                ),
                done.state,
            )
        )

    async def _result(self, command: Command) -> Done:
        """Do what a command asks for: what is about the device's model asks no app."""
        if command.method == "set_parameters":
            return await self._take_model(command)
        if command.method == "get_parameters" and command.bundle is None:
            return await self._show_model(command)
        job = await self._make_job(command)
        if job is None:
            return self._failed("lost a downloaded blob from its cache")
        try:
            return await self._worker.work(job)
        except WorkerDied as error:
            reason = f"{self._settings.device}: {error}"
            return Done(Failure(duty.WORKER_CRASHED, reason), None, 0.0)

    async def _take_model(self, command: Command) -> Done:
        ref = command.content.pack
        if ref is None or command.content.inline is not None:
            return self._failed("was sent a model that is no blob")
        path = None if self._models.holds(ref.digest) else self._store.blob(ref)
        if path is None and not self._models.holds(ref.digest):
            return self._failed("lost a downloaded model from its cache")
        try:
            await self._models.put(ref, path)
        except MalformedMessage as error:
            return self._failed(f"was sent what is no model: {error}")
        return Done(NOTHING, None, 0.0)

    async def _show_model(self, command: Command) -> Done:
        kept = self._models.pack()
        if kept is None:
            return self._failed("has no model: none was published to it")
        path, ref = kept
        update = self._store.update(command.id)
        await asyncio.to_thread(shutil.copyfile, path, update)
        return Done(Content((("arrays", None),), ref), None, 0.0)

    def _failed(self, what: str) -> Done:
        failure = Failure(duty.MESSAGE_UNAVAILABLE, f"{self._settings.device} {what}")
        return Done(failure, None, 0.0)

    async def _make_job(self, command: Command) -> Job | None:
        paths = [self._store.blob(ref) for ref in command.blobs]
        if any(path is None for path in paths):
            return None
        by_digest = dict(zip((ref.digest for ref in command.blobs), paths, strict=True))
        bundle = by_digest.get(command.bundle.digest) if command.bundle else None
        has_pack = command.content.pack is not None and command.content.inline is None
        pack = by_digest[command.content.pack.digest] if has_pack and command.content.pack else None
        return Job(
            command=command,
            bundle=bundle or Path(),
            pack=pack,
            state=await self._store.state(command.run),
            node_config=self._settings.node_config,
            model=self._models.file(),
            update=self._store.update(command.id),
            secret=await self._secret(command),
            may_install=self._settings.may_install,
        )

    async def _secret(self, command: Command) -> str:
        if command.seed is not None:
            return ""
        return await self._store.secret(command.run, command.number)

    async def _stop_work(self, working: asyncio.Task[None] | None) -> None:
        """Let cancelled work end by itself for a moment, then kill it; its result goes nowhere."""
        if working is None:
            return
        done, _ = await asyncio.wait([working], timeout=self._settings.grace_s)
        if not done:
            working.cancel()
            await asyncio.wait([working])
            await self._worker.stop()

    # ---------------------------------------------------------------------------- messages

    def _heartbeat(self, beat: device_effects.Beat) -> bytes:
        return beat.heartbeat(
            device=self._settings.device,
            time=time.time(),
            boot=self._boot,
            interval_s=self._settings.interval_s,
            labels=self._settings.labels,
            model=self._models.current(),
            agent=AGENT,
        ).to_bytes()

    def _note(self, event: Event) -> None:
        self._events.write(event.to_json())


def _size_bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


@dataclass(frozen=True, slots=True)
class _Input:
    """Something that happened: what to ask the duty, and the app's state to commit with it."""

    ask: Callable[[float], list[Effect]]
    state: bytes | None = None
