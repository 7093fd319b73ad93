"""Planted bugs of the device's half, and of whoever carries out what it says."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Final, TypeVar

from sim.bug import Bug
from sim.parts import SOUND, Parts
from windflower.core.device_effects import (
    Beat,
    Drop,
    FetchProblem,
    KeepCommand,
    KeepReply,
    KeepStart,
    Publish,
)
from windflower.core.device_effects import Effect as DeviceEffect
from windflower.core.duty import Duty, Kept, _Task
from windflower.wire.blobs import Grant
from windflower.wire.content import Content
from windflower.wire.messages import Cause, Command, Control, Failure

E = TypeVar("E")


def _later(effects: Iterable[E], kinds: type[E] | tuple[type[E], ...]) -> list[E]:
    """Put effects of some kinds behind all others."""
    kept = list(effects)
    return [e for e in kept if not isinstance(e, kinds)] + [e for e in kept if isinstance(e, kinds)]


def _publish_first(effects: Iterable[DeviceEffect]) -> list[DeviceEffect]:
    return _later(effects, (KeepReply,))


def _work_first(effects: Iterable[DeviceEffect]) -> list[DeviceEffect]:
    return _later(effects, (KeepCommand,))


def _announce_once(effects: Iterable[DeviceEffect]) -> list[DeviceEffect]:
    return [e for e in effects if not (isinstance(e, Beat) and e.cause != "connect")]


def _count_no_start(effects: Iterable[DeviceEffect]) -> list[DeviceEffect]:
    return [e for e in effects if not isinstance(e, KeepStart)]


class _FiresAndForgets(Duty):
    def _sent(self, effects: list[DeviceEffect]) -> list[DeviceEffect]:
        sent = tuple(e.reply.id for e in effects if isinstance(e, Publish))
        return [*effects, *self._acknowledged(sent)]

    def worked(
        self, id_: str, result: Content | Failure, *, worked_s: float, now: float
    ) -> list[DeviceEffect]:
        return self._sent(super().worked(id_, result, worked_s=worked_s, now=now))


class _DoesDuplicatesAgain(Duty):
    def ordered(
        self, command: Command, grants: tuple[Grant, ...], now: float
    ) -> list[DeviceEffect]:
        self._done.pop(command.id, None)
        task = self._tasks.get(command.id)
        if task is not None and task.reply is not None:
            del self._tasks[command.id]
        return super().ordered(command, grants, now)


class _ObeysAnyControl(Duty):
    """A gateway that was paused is obeyed when it cancels or acknowledges."""

    def _heeded(self, control: Control) -> list[str]:
        return [i for i in control.ids if i in self._tasks]

    def _objection(self, command: Command) -> str | None:
        if command.id in self._done:
            return "it was done"
        return super()._objection(command)


class _TrustsOlderGateways(Duty):
    def _learn(self, command: Command) -> list[DeviceEffect]:
        effects = super()._learn(command)
        self._epochs.clear()
        return effects


class _IgnoresTheFloor(Duty):
    def _learn(self, command: Command) -> list[DeviceEffect]:
        effects = super()._learn(command)
        self._floor = 0
        return effects


class _NeverUploadsAgain(Duty):
    def _upload_waiting(self, now: float) -> list[DeviceEffect]:
        del now
        return []


class _StarvesForEver(Duty):
    def controlled(
        self, control: Control, grants: tuple[Grant, ...], now: float
    ) -> list[DeviceEffect]:
        return [] if control.method == "grant" else super().controlled(control, grants, now)


class _BegsForGrants(Duty):
    """A refused grant is asked for again as fast as it comes: the first bug that was found."""

    def _transfer_failed(
        self, task: _Task, problem: FetchProblem, now: float
    ) -> list[DeviceEffect]:
        task.refusals = 0
        return super()._transfer_failed(task, problem, now)


class _CountsRefusals(Duty):
    """A dead grant counts as a failed download, and twenty fail the device."""

    def _transfer_failed(
        self, task: _Task, problem: FetchProblem, now: float
    ) -> list[DeviceEffect]:
        effects = super()._transfer_failed(task, problem, now)
        task.store_failures += problem == "refused"
        return effects


class _QueuesBehindOtherRuns(Duty):
    """The first command that waits holds up all others: the second bug that was found."""

    def _next_waiting(self) -> _Task | None:
        first = next((t for t in self._tasks.values() if t.stage == "waiting"), None)
        is_held_up = first is None or first.is_starved or first.retry_at is not None
        return None if is_held_up else first


class _CancelsInMemory(Duty):
    """What is cancelled stays on the disk, and comes back with the next start."""

    def _cancelled(self, ids: Iterable[str], epoch: int) -> list[DeviceEffect]:
        return [e for e in super()._cancelled(ids, epoch) if not isinstance(e, Drop)]


class _CancelsForAMoment(Duty):
    """What is cancelled is begun anew when a duplicate of it comes late."""

    def _cancelled(self, ids: Iterable[str], epoch: int) -> list[DeviceEffect]:
        cancelled = tuple(ids)
        effects = super()._cancelled(cancelled, epoch)
        for id_ in cancelled:
            self._done.pop(id_, None)
        return effects


class _AnswersOnce(Duty):
    """What was answered is not answered again, whoever asks."""

    def _again(self, task: _Task, now: float) -> list[DeviceEffect]:
        del task, now
        return []


class _ForgetsItsOutbox(Duty):
    """A restart takes up what was begun, and not what was answered."""

    def restore(self, kept: Iterable[Kept], *, floor: int, now: float) -> list[DeviceEffect]:
        unanswered = [row for row in kept if row.reply is None]
        return super().restore(unanswered, floor=floor, now=now)


class _UploadsAtEachConnection(Duty):
    """What was uploaded is uploaded again, though nobody asked."""

    def connected(self, now: float) -> list[DeviceEffect]:
        for task in self._tasks.values():
            if task.stage == "answered" and task.reply is not None and task.reply.path:
                task.stage = "uploading"
        return super().connected(now)


class _RetrainsAtEachConnection(Duty):
    """What is under way is begun again with each connection."""

    def connected(self, now: float) -> list[DeviceEffect]:
        working = [task for task in self._tasks.values() if task.stage == "working"]
        again = [effect for task in working for effect in self._work(task, now)]
        return [*super().connected(now), *again]


class _BeatsTooOften(Duty):
    """A heartbeat comes twice as often as was promised."""

    def _beat(self, cause: Cause, now: float) -> Beat:
        beat = super()._beat(cause, now)
        self._next_beat = now + self._interval_s / 2
        return beat


class _ReadsForeignClocks(Duty):
    """Until when an answer is of use is read from the gateway's clock."""

    def _go_on(self, now: float) -> list[DeviceEffect]:
        for task in self._tasks.values():
            task.received_at = task.command.created_at
        return super()._go_on(now)


def _device(duty: type[Duty]) -> Parts:
    return replace(SOUND, duty=duty)


DEVICE_BUGS: Final = {
    "torn-cache": Bug("a torn file in the cache is used", replace(SOUND, checks_cache=False)),
    "overtaken-records": Bug(
        "records are written in the background", replace(SOUND, waits_for_records=False)
    ),
    "publish-first": Bug(
        "a reply is published before it is kept", replace(SOUND, device_filter=_publish_first)
    ),
    "work-first": Bug(
        "work begins before the command is kept", replace(SOUND, device_filter=_work_first)
    ),
    "announce-once": Bug(
        "a device speaks up only on connecting", replace(SOUND, device_filter=_announce_once)
    ),
    "uncounted-start": Bug(
        "work begins and its start is not counted", replace(SOUND, device_filter=_count_no_start)
    ),
    "waiting-blamed": Bug(
        "a command that waits is blamed for crashes", replace(SOUND, counts_boots=True)
    ),
    "fire-and-forget": Bug("a published reply leaves the outbox", _device(_FiresAndForgets)),
    "no-memory": Bug("a duplicate is done again", _device(_DoesDuplicatesAgain)),
    "done-forgotten": Bug("a restart forgets what was done", replace(SOUND, remembers_done=False)),
    "outbox-forgotten": Bug("a restart forgets what was answered", _device(_ForgetsItsOutbox)),
    "no-fencing": Bug("an older gateway is obeyed", _device(_TrustsOlderGateways)),
    "no-fencing-of-controls": Bug("an older gateway may cancel", _device(_ObeysAnyControl)),
    "no-floor": Bug("a run that is over is worked for", _device(_IgnoresTheFloor)),
    "state-early": Bug("state is written before the reply", replace(SOUND, commits_state="before")),
    "state-late": Bug("state is written after the reply", replace(SOUND, commits_state="after")),
    "upload-once": Bug("a failed upload stays failed", _device(_NeverUploadsAgain)),
    "starved": Bug("a new grant does not wake who waits for it", _device(_StarvesForEver)),
    "begging": Bug("refused grants are begged for", _device(_BegsForGrants)),
    "refusals-count": Bug("a dead grant is a failed device", _device(_CountsRefusals)),
    "one-queue": Bug("one run's dead blob holds up all runs", _device(_QueuesBehindOtherRuns)),
    "cancelled-in-memory": Bug("a cancelled command stays on disk", _device(_CancelsInMemory)),
    "cancelled-again": Bug("a late duplicate revives it", _device(_CancelsForAMoment)),
    "answered-once": Bug("a lost reply is not said again", _device(_AnswersOnce)),
    "unchecked-download": Bug(
        "a damaged model is trained on", replace(SOUND, checks_downloads=False)
    ),
    "uploads-again": Bug("what is there is uploaded again", _device(_UploadsAtEachConnection)),
    "retrains": Bug("a connection begins the work again", _device(_RetrainsAtEachConnection)),
    "beats-twice": Bug("a device says twice as much", _device(_BeatsTooOften)),
    "ttl-by-date": Bug("a ttl begins with the command's date", _device(_ReadsForeignClocks)),
    "cache-unused": Bug("what is there is downloaded again", replace(SOUND, uses_cache=False)),
    "cache-emptied": Bug("a start empties the cache", replace(SOUND, empties_cache=True)),
    "torn-kept": Bug(
        "a download goes on behind damaged bytes for ever", replace(SOUND, drops_damaged=False)
    ),
}
