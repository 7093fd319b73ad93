"""The device's half of the protocol: keep a command, do it once, answer until it is acknowledged.

    command ──keep──> kept ──fetch──> ready ──work──> done ──keep the reply──> answered
                                                       (upload) ──publish──>  │
                                                     ack <── forget ──────────┘

A command is durable before work on it begins, and its result before anybody is told. So a device
may lose power at any step: what was begun is begun again from the old state, what was done is
answered again from the store and never done twice.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Final

from windflower.core.backoff import wait_s
from windflower.core.device_effects import (
    Beat,
    Drop,
    Effect,
    Fetch,
    FetchProblem,
    Forget,
    ForgetBelow,
    KeepCommand,
    KeepReply,
    KeepStart,
    Note,
    Publish,
    StopWork,
    Upload,
    Work,
)
from windflower.core.events import (
    CommandAccepted,
    FetchStarted,
    MessageRefused,
    UploadStarted,
    WorkEnded,
    WorkStarted,
)
from windflower.wire.blobs import Grant
from windflower.wire.content import Content
from windflower.wire.limits import IDS, PROGRESS
from windflower.wire.messages import (
    TIMED,
    Cause,
    Command,
    Control,
    Failure,
    Reply,
    Stage,
    TaskProgress,
)

FETCHES: Final = 20
"""So many failed downloads in a row answer a command with a failure, if they say that it is the
store that fails: it sent something damaged, or the gateway was heard since the failure before."""

MOVED: Final = 3
"""After so many failed transfers in a row the blob store may have moved: other grants may help."""

STARTS: Final = 3
"""A command that was begun so often without an end has killed its device: it is given up."""

LOAD_FAILED: Final = 1
MESSAGE_UNAVAILABLE: Final = 3
WORKER_CRASHED: Final = 8
"""Flower's error codes (flwr.common.constant.ErrorCode)."""


# ------------------------------------------------------------------------------------ state


@dataclass(frozen=True, slots=True)
class Kept:
    """What a store holds of one command after a restart.

    Attributes:
        command: the command.
        reply: its reply, once there is one.
        is_acknowledged: whether nothing is owed any more: the gateway has the reply, or cancelled.
        cancelled_by: the epoch in which it was cancelled, None where it was answered.
        starts: how often work on it was begun.
    """

    command: Command
    reply: Reply | None = None
    is_acknowledged: bool = False
    starts: int = 0
    cancelled_by: int | None = None


@dataclass(slots=True)
class _Task:
    command: Command
    received_at: float
    since: float
    grants: dict[str, Grant] = field(default_factory=dict)
    stage: Stage = "waiting"
    spent_s: dict[Stage, float] = field(default_factory=dict)
    reply: Reply | None = None
    failures: int = 0
    failed_at: float = -math.inf
    store_failures: int = 0
    refusals: int = 0
    retry_at: float | None = None
    is_starved: bool = False
    is_moving: bool = False

    @property
    def wants_grants(self) -> bool:
        """Whether other grants may help: these are dead, or lead where nobody answers."""
        return self.is_starved or self.failures >= MOVED

    def enter(self, stage: Stage, now: float) -> None:
        """Go on to a stage, and count how long the one before lasted."""
        self.spent_s[self.stage] = self.spent_s.get(self.stage, 0.0) + now - self.since
        self.stage, self.since = stage, now

    def progress(self, now: float) -> TaskProgress:
        """Say what it is at, and for how long it was in each stage until now."""
        spent_s = self.spent_s | {self.stage: self.spent_s.get(self.stage, 0.0) + now - self.since}
        return TaskProgress(
            self.command.id, self.stage, *(round(spent_s.get(stage, 0.0), 3) for stage in TIMED)
        )

    def take_time(self, again: Command, now: float) -> None:
        """Take more time, where a command that is sent again leaves more: its run waits anew."""
        if now + again.ttl_s > self.received_at + self.command.ttl_s:
            self.command = replace(self.command, ttl_s=again.ttl_s)
            self.received_at = now

    def renew(self, grants: Iterable[Grant]) -> None:
        """Take newer grants; they end a wait for them."""
        for grant in grants:
            self.grants[f"{grant.method} {grant.key}"] = grant
            self.is_starved = False
            self.retry_at = None


class Duty:
    """What one device owes to its gateway.

    Every method takes a clock in seconds that never goes back and returns effects to be carried out
    in order. None raises on what a gateway says.

    Args:
        device: its id.
        interval_s: seconds between heartbeats.
    """

    def __init__(self, device: str, *, interval_s: float) -> None:
        self._device = device
        self._interval_s = interval_s
        self._tasks: dict[str, _Task] = {}
        self._done: dict[str, int] = {}
        self._cancelled_by: dict[str, int] = {}
        self._epochs: dict[str, tuple[int, int]] = {}
        self._floor = 0
        self._next_beat = 0.0
        self._heard_at = -math.inf

    def restore(self, kept: Iterable[Kept], *, floor: int, now: float) -> list[Effect]:
        """Take up what the store holds, in the order in which it came; call once, at the start."""
        self._floor = floor
        effects: list[Effect] = []
        for row in kept:
            command = row.command
            effects += self._learn(command)
            if row.is_acknowledged:
                self._done[command.id] = command.number
                if row.cancelled_by is not None:
                    self._cancelled_by[command.id] = row.cancelled_by
                continue
            task = _Task(command, received_at=now, since=now, reply=row.reply)
            self._tasks[command.id] = task
            if row.reply is not None:
                task.enter("uploading" if row.reply.path else "answered", now)
            elif row.starts >= STARTS:
                reason = f"{self._device} stopped {row.starts} times while it worked on this"
                effects += self._answer(task, Failure(WORKER_CRASHED, reason), now)
        return effects

    def needed(self) -> frozenset[str]:
        """Return the digests of the blobs that commands name which are not answered yet."""
        waiting = (task.command for task in self._tasks.values() if task.reply is None)
        return frozenset(ref.digest for command in waiting for ref in command.blobs)

    # --------------------------------------------------------------------- from the gateway

    def ordered(self, command: Command, grants: tuple[Grant, ...], now: float) -> list[Effect]:
        """Take a command: keep it, or answer again if it was done before."""
        self._heard_at = now
        if problem := self._objection(command):
            return [_refused(problem, command)]
        effects = self._learn(command)  # from what is over too: older gateways are refused from now
        if over := self._is_over(command):
            return [*effects, _refused(over, command)]
        if (task := self._tasks.get(command.id)) is not None:
            task.take_time(command, now)
            task.renew(grants)
            return [
                *effects,
                *self._again(task, now),
                *self._upload_waiting(now),
                *self._go_on(now),
            ]
        task = _Task(command, received_at=now, since=now)
        task.renew(grants)
        self._tasks[command.id] = task
        for cancelled in (self._done, self._cancelled_by):
            cancelled.pop(command.id, None)
        accepted = CommandAccepted(device=self._device, command=command.id, method=command.method)
        return [*effects, KeepCommand(command), Note(accepted), *self._go_on(now)]

    def controlled(self, control: Control, grants: tuple[Grant, ...], now: float) -> list[Effect]:
        """Do at once what a control message says."""
        self._heard_at = now
        effects = self._raise_floor(control.floor)
        match control.method:
            case "ack":
                effects += self._acknowledged(self._heeded(control))
            case "cancel":
                effects += self._cancelled(self._heeded(control), control.epoch)
            case "grant":
                for task in self._tasks.values():
                    task.renew(g for g in grants if g.key in _keys(task.command))
                effects += self._upload_waiting(now)
            case "rollcall":
                effects += self._present("rollcall", now)
        return [*effects, *self._go_on(now)]

    # --------------------------------------------------------------- from link, clock, worker

    def connected(self, now: float) -> list[Effect]:
        """Say hello, answer again what was not acknowledged, go on with what waits.

        What failed is tried at once: most likely there was no link to the blob store either.
        """
        hello = self._present("connect", now)  # which asks for other grants, too, where all failed
        for task in self._tasks.values():
            task.failures, task.retry_at = 0, None
        return [*hello, *self._upload_waiting(now), *self._go_on(now)]

    def tick(self, now: float) -> list[Effect]:
        """Beat when it is time, and try again what failed."""
        effects: list[Effect] = []
        if self._next_beat <= now:
            effects.append(self._beat("interval", now))
        for task in self._tasks.values():
            if task.retry_at is not None and task.retry_at <= now:
                task.retry_at = None
        return [*effects, *self._upload_waiting(now), *self._go_on(now)]

    def next_wake(self) -> float:
        """Return when `tick` has something to do."""
        retries = (t.retry_at for t in self._tasks.values() if t.retry_at is not None)
        return min([self._next_beat, *retries])

    def fetched(self, id_: str, now: float) -> list[Effect]:
        """Go on with a command whose blobs are all there."""
        task = self._tasks.get(id_)
        if task is None or task.stage != "fetching":
            return []
        task.failures = task.store_failures = task.refusals = 0
        return self._work(task, now)

    def fetch_failed(self, id_: str, problem: FetchProblem, now: float) -> list[Effect]:
        """Wait for a new grant, or try again later; give up on a store that fails many times."""
        task = self._tasks.get(id_)
        if task is None or task.stage != "fetching":
            return []
        task.enter("waiting", now)
        effects = self._transfer_failed(task, problem, now)
        if task.store_failures >= FETCHES:
            reason = f"{self._device} could not download what it needs: {problem}"
            effects += self._answer(task, Failure(MESSAGE_UNAVAILABLE, reason), now)
        return [*effects, *self._go_on(now)]

    def turned_away(self, id_: str, failure: Failure, now: float) -> list[Effect]:
        """Answer with a failure before anything is downloaded or worked on."""
        task = self._tasks.get(id_)
        if task is None or task.stage not in ("fetching", "working"):
            return []
        refused = self._answer(task, failure, now)
        return [*refused, *self._go_on(now)]

    def worked(
        self, id_: str, result: Content | Failure, *, worked_s: float, now: float
    ) -> list[Effect]:
        """Keep a result and answer with it."""
        task = self._tasks.get(id_)
        if task is None or task.stage != "working":
            return []
        ended = WorkEnded(
            device=self._device,
            command=id_,
            method=task.command.method,
            seconds=round(worked_s, 4),
            failed=isinstance(result, Failure),
        )
        answer = self._answer(task, result, now, worked_s=worked_s)
        return [*answer, Note(ended), self._beat("task", now), *self._go_on(now)]

    def uploaded(self, id_: str, now: float) -> list[Effect]:
        """Publish a reply whose pack has arrived."""
        task = self._tasks.get(id_)
        if task is None or task.reply is None:
            return []
        task.enter("answered", now)
        task.failures = task.store_failures = task.refusals = 0
        task.is_moving = False
        return [Publish(task.reply)]

    def upload_failed(self, id_: str, problem: FetchProblem, now: float) -> list[Effect]:
        """Wait for a new grant, or try again later, for as long as it takes."""
        task = self._tasks.get(id_)
        if task is None or task.reply is None:
            return []
        task.is_moving = False
        return self._transfer_failed(task, problem, now)

    def upload_hopeless(self, id_: str, reason: str, now: float) -> list[Effect]:
        """Answer with a failure instead: no further try would bring the pack to the gateway."""
        task = self._tasks.get(id_)
        if task is None or task.stage != "uploading":
            return []
        task.is_moving = False
        return self._answer(task, Failure(WORKER_CRASHED, reason), now)

    # ------------------------------------------------------------------------------ inside

    def _objection(self, command: Command) -> str | None:
        if command.client != self._device:
            return "a command for another device"
        if command.number < self._floor:
            return "its run is over"
        if command.epoch < self._epochs.get(command.run, (0, 0))[1]:
            return "an older gateway sent it"
        return None

    def _is_over(self, command: Command) -> str | None:
        """Return why there is nothing left to do for a command."""
        if command.id not in self._done:
            return None
        cancelled_by = self._cancelled_by.get(command.id)
        if cancelled_by is None:
            return "it was done and acknowledged"
        # A gateway that was paused may cancel what its successor asks for: that one prevails.
        return None if cancelled_by < command.epoch else "it was cancelled"

    def _heeded(self, control: Control) -> list[str]:
        """Return the held commands of a control that no later gateway than its own asked for."""
        tasks = [self._tasks[i].command for i in control.ids if i in self._tasks]
        return [c.id for c in tasks if control.epoch >= self._epochs.get(c.run, (0, 0))[1]]

    def _learn(self, command: Command) -> list[Effect]:
        """Note a run's epoch, and forget the runs below the floor."""
        _, epoch = self._epochs.get(command.run, (0, 0))
        self._epochs[command.run] = (command.number, max(epoch, command.epoch))
        return self._raise_floor(command.floor)

    def _raise_floor(self, floor: int) -> list[Effect]:
        if floor <= self._floor:
            return []
        self._floor = floor
        self._done = {i: n for i, n in self._done.items() if n >= self._floor}
        self._cancelled_by = {i: e for i, e in self._cancelled_by.items() if i in self._done}
        self._epochs = {r: (n, e) for r, (n, e) in self._epochs.items() if n >= self._floor}
        over = [t.command.id for t in self._tasks.values() if t.command.number < self._floor]
        stopped = [effect for id_ in over for effect in self._remove(id_)]
        return [*stopped, ForgetBelow(self._floor)]

    def _again(self, task: _Task, now: float) -> list[Effect]:
        """Answer a command that came once more."""
        if task.reply is None or task.stage == "uploading":
            return []
        if task.reply.path:
            # The gateway may have lost the blob: what is there already is not sent twice.
            task.enter("uploading", now)
            return self._upload(task)
        return [Publish(task.reply)]

    def _acknowledged(self, ids: Iterable[str]) -> list[Effect]:
        done = tuple(i for i in ids if i in self._tasks and self._tasks[i].reply is not None)
        for id_ in done:
            self._done[id_] = self._tasks.pop(id_).command.number
        return [Forget(done)] if done else []

    def _cancelled(self, ids: Iterable[str], epoch: int) -> list[Effect]:
        """Drop what was not answered; what was is kept until it is acknowledged."""
        dropped = tuple(i for i in ids if self._tasks[i].stage != "answered")
        if not dropped:
            return []
        effects: list[Effect] = []
        for id_ in dropped:
            self._done[id_] = self._tasks[id_].command.number
            self._cancelled_by[id_] = epoch
            effects += self._remove(id_)
        return [*effects, Drop(dropped, epoch)]

    def _remove(self, id_: str) -> list[Effect]:
        return [StopWork(id_)] if self._tasks.pop(id_).stage == "working" else []

    def _go_on(self, now: float) -> list[Effect]:
        """Begin the next command that nothing holds up, if nothing is under way."""
        if any(task.stage in ("fetching", "working") for task in self._tasks.values()):
            return []
        effects: list[Effect] = []
        while (task := self._next_waiting()) is not None:
            if now - task.received_at > task.command.ttl_s:
                failure = Failure(MESSAGE_UNAVAILABLE, f"{self._device} had no time for it")
                effects += self._answer(task, failure, now)
                continue
            if not task.command.blobs:
                return [*effects, *self._work(task, now)]
            task.enter("fetching", now)
            command, grants = task.command, tuple(task.grants.values())
            return [*effects, _fetching(command), Fetch(command, grants)]
        return effects

    def _next_waiting(self) -> _Task | None:
        """The first command that can begin; a run's own keep their order, runs do not wait."""
        held_up: set[str] = set()
        for task in self._tasks.values():
            if task.stage != "waiting" or task.command.run in held_up:
                continue
            if not task.is_starved and task.retry_at is None:
                return task
            held_up.add(task.command.run)
        return None

    def _work(self, task: _Task, now: float) -> list[Effect]:
        task.enter("working", now)
        started = WorkStarted(
            device=self._device, command=task.command.id, method=task.command.method
        )
        return [Note(started), KeepStart(task.command.id), Work(task.command)]

    def _answer(
        self, task: _Task, result: Content | Failure, now: float, *, worked_s: float = 0.0
    ) -> list[Effect]:
        command = task.command
        reply = Reply(
            client=self._device,
            id=command.id,
            method=command.method,
            run=command.run,
            epoch=command.epoch,
            content=result if isinstance(result, Content) else Content(),
            failure=result if isinstance(result, Failure) else None,
            worked_s=round(worked_s, 4),
        )
        task.reply = reply
        task.failures = task.store_failures = task.refusals = 0
        task.retry_at, task.is_starved = None, False
        keep = KeepReply(reply, command.number)
        if reply.path is None:
            task.enter("answered", now)
            return [keep, Publish(reply)]
        task.enter("uploading", now)
        return [keep, *self._upload(task)]

    def _upload(self, task: _Task) -> list[Effect]:
        reply = task.reply
        grant = task.grants.get(f"PUT {task.command.reply_key}")
        if reply is None:
            return []
        if grant is None:
            task.is_starved = True
            return []
        task.is_moving = True
        return [_uploading(reply), Upload(reply, grant)]

    def _upload_waiting(self, now: float) -> list[Effect]:
        effects: list[Effect] = []
        for task in self._tasks.values():
            is_idle = not (task.is_moving or task.is_starved) and task.retry_at is None
            if task.stage == "uploading" and is_idle:
                effects += self._upload(task)
                if task.is_starved:
                    effects.append(self._beat("need", now))
        return effects

    def _transfer_failed(self, task: _Task, problem: FetchProblem, now: float) -> list[Effect]:
        if problem == "refused":
            # Never a failed device. Said at once, then with each heartbeat: a store that refuses
            # every grant must not make each device ask as fast as it is answered.
            task.refusals += 1
            task.retry_at = None
            task.is_starved = True
            return [self._beat("need", now)] if task.refusals == 1 else []
        if problem == "interrupted":
            task.failures = task.store_failures = 0
        # Whoever hears nobody may have no link to anybody, whatever the link to the broker says.
        task.store_failures += problem == "damaged" or self._heard_at > task.failed_at
        task.failures, task.failed_at = task.failures + 1, now
        task.retry_at = now + wait_s(task.failures)
        return []

    def _present(self, cause: Cause, now: float) -> list[Effect]:
        """Say what is held, and answer again all that was not acknowledged."""
        answered = [t.reply for t in self._tasks.values() if t.stage == "answered" and t.reply]
        return [self._beat(cause, now), *(Publish(reply) for reply in answered)]

    def _beat(self, cause: Cause, now: float) -> Beat:
        self._next_beat = now + self._interval_s
        tasks = self._tasks.values()
        running = [t.command.id for t in tasks if t.stage in ("fetching", "working")]
        return Beat(
            cause=cause,
            running=running[0] if running else None,
            queued=tuple(t.command.id for t in tasks if t.stage in ("waiting", "uploading"))[:IDS],
            outbox=tuple(t.command.id for t in tasks if t.stage == "answered")[:IDS],
            need=tuple(t.command.id for t in tasks if t.wants_grants)[:IDS],
            floor=self._floor,
            progress=self._progress(now),
        )

    def _progress(self, now: float) -> tuple[TaskProgress, ...]:
        """Say of the commands that were begun, the latest first, what they are at."""
        begun = [task for task in self._tasks.values() if task.stage != "waiting"]
        return tuple(task.progress(now) for task in reversed(begun))[:PROGRESS]


def _fetching(command: Command) -> Note:
    size_bytes = sum(ref.size_bytes for ref in command.blobs)
    named = {"device": command.client, "command": command.id, "method": command.method}
    return Note(FetchStarted(**named, size_bytes=size_bytes))


def _uploading(reply: Reply) -> Note:
    size_bytes = reply.content.pack.size_bytes if reply.content.pack is not None else 0
    named = {"device": reply.client, "command": reply.id, "method": reply.method}
    return Note(UploadStarted(**named, size_bytes=size_bytes))


def _keys(command: Command) -> frozenset[str]:
    return frozenset((command.reply_key, *(ref.key for ref in command.blobs)))


def _refused(reason: str, command: Command) -> Note:
    return Note(MessageRefused(reason=reason, device=command.client, command=command.id))
