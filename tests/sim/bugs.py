"""Planted bugs: each is a small, tempting mistake, and the simulator must find every one.

A simulator that finds nothing proves nothing. Whoever adds a rule to the core adds the mistake
beside it here.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final, TypeVar

from sim.parts import SOUND, GatewayStep, Parts, in_one_commit
from sim.process import Commit
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
from windflower.core.exchange import Exchanges, _Batch, _Exchange
from windflower.core.gateway_effects import Effect as GatewayEffect
from windflower.core.gateway_effects import RecordMissing, RecordReply, Send, Settle, Tell
from windflower.core.policy import Terms
from windflower.core.roster import Roster
from windflower.wire.blobs import Grant
from windflower.wire.content import Content
from windflower.wire.messages import Command, Control, Failure, Heartbeat, Reply

E = TypeVar("E")


@dataclass(frozen=True, slots=True)
class Bug:
    """A mistake, and a simulation's parts with it."""

    mistake: str
    parts: Parts


def _later(effects: Iterable[E], kinds: type[E] | tuple[type[E], ...]) -> list[E]:
    """Put effects of some kinds behind all others."""
    kept = list(effects)
    return [e for e in kept if not isinstance(e, kinds)] + [e for e in kept if isinstance(e, kinds)]


# ------------------------------------------------------------------------------ the gateway


def _say_first(
    batch: Iterable[GatewayStep], kinds: type | tuple[type, ...]
) -> list[GatewayStep | Commit[GatewayStep]]:
    """Do some things before the commit that they rest on."""
    steps = in_one_commit(batch)
    said = [e for e in steps if isinstance(e, kinds)]
    return [*said, *(e for e in steps if not isinstance(e, kinds))]


def _acknowledge_first(
    batch: Iterable[GatewayStep],
) -> list[GatewayStep | Commit[GatewayStep]]:
    return _say_first(batch, Tell)


def _send_first(batch: Iterable[GatewayStep]) -> list[GatewayStep | Commit[GatewayStep]]:
    return _say_first(batch, Send)


def _tell_runs_first(batch: Iterable[GatewayStep]) -> list[GatewayStep | Commit[GatewayStep]]:
    return _say_first(batch, Settle)


def _renew_nothing(effects: Iterable[GatewayEffect]) -> list[GatewayEffect]:
    return [e for e in effects if not (isinstance(e, Tell) and e.method == "grant")]


def _tell_no_run(effects: Iterable[GatewayEffect]) -> list[GatewayEffect]:
    """A run learns of a reply, never that a device is given up."""
    kept = list(effects)
    missing = {e.command.id for e in kept if isinstance(e, RecordMissing)}
    return [e for e in kept if not (isinstance(e, Settle) and e.id in missing)]


class _TakesAnyReply(Exchanges):
    """A reply of a device answers whatever that device was asked by the same method."""

    def replied(self, reply: Reply, now: float) -> list[GatewayEffect]:
        for command in self.open_commands(reply.client):
            if command.method == reply.method and reply.failure is None:
                return super().replied(replace(reply, id=command.id, run=command.run), now)
        return super().replied(reply, now)


class _CountsDuplicates(Exchanges):
    def _unexpected(self, reply: Reply) -> list[GatewayEffect]:
        settled = self._settled.get(reply.id)
        if settled is not None and settled.is_answered:
            return [RecordReply(reply), Tell(reply.client, "ack", (reply.id,)), Settle(reply.id)]
        return super()._unexpected(reply)


class _CountsLateReplies(Exchanges):
    def _unexpected(self, reply: Reply) -> list[GatewayEffect]:
        settled = self._settled.get(reply.id)
        if settled is not None and not settled.is_answered:
            return [RecordReply(reply), Tell(reply.client, "ack", (reply.id,)), Settle(reply.id)]
        return super()._unexpected(reply)


class _NeverSendsAgain(Exchanges):
    def _is_missing(self, exchange: _Exchange, heartbeat: Heartbeat, now: float) -> bool:
        del exchange, heartbeat, now
        return False


class _SendsAtEachHeartbeat(Exchanges):
    def _is_missing(self, exchange: _Exchange, heartbeat: Heartbeat, now: float) -> bool:
        del heartbeat, now
        return not exchange.is_inspecting


class _AcknowledgesAllItHearsOf(Exchanges):
    def heard(self, heartbeat: Heartbeat, now: float) -> list[GatewayEffect]:
        effects = super().heard(heartbeat, now)
        if heartbeat.outbox:
            effects.append(Tell(heartbeat.client, "ack", heartbeat.outbox))
        return effects


class _CancelsWhatItHearsOf(Exchanges):
    def heard(self, heartbeat: Heartbeat, now: float) -> list[GatewayEffect]:
        effects = super().heard(heartbeat, now)
        if heartbeat.queued:
            effects.append(Tell(heartbeat.client, "cancel", heartbeat.queued))
        return effects


class _ReleasesOnlyWhatItKnows(Exchanges):
    """A reply of a run that is over is nobody's, so nobody acknowledges it."""

    def _is_known(self, effect: GatewayEffect) -> bool:
        if isinstance(effect, Tell) and effect.method in ("ack", "cancel"):
            return all(id_ in self._settled for id_ in effect.ids)
        return True

    def replied(self, reply: Reply, now: float) -> list[GatewayEffect]:
        return [e for e in super().replied(reply, now) if self._is_known(e)]

    def heard(self, heartbeat: Heartbeat, now: float) -> list[GatewayEffect]:
        return [e for e in super().heard(heartbeat, now) if self._is_known(e)]


class _WantsItsOwnEpoch(Exchanges):
    def _mismatch(self, command: Command, reply: Reply) -> str | None:
        if reply.epoch != self._runs[command.run].epoch:
            return "it answers another epoch"
        return super()._mismatch(command, reply)


class _WaitsForNobody(Exchanges):
    def _is_doomed(self, exchange: _Exchange) -> bool:
        return not self._roster.is_online(exchange.command.client)


class _FailuresMakeAQuorum(Exchanges):
    """A device that says that it failed counts as one that answered."""

    def _settle(self, exchange: _Exchange, reply: Reply, now: float) -> list[GatewayEffect]:
        if reply.failure is not None:
            exchange.batch.good += 1
        return super()._settle(exchange, reply, now)


class _GivesUpUnderTheMinimum(Exchanges):
    """At the deadline all that is open is given up, however few have answered."""

    def _expire(self, batch: _Batch) -> list[GatewayEffect]:
        batch.good += batch.terms.minimum
        return super()._expire(batch)


class _HoldsForEver(Exchanges):
    """A run that is resumed does not wait anew for what was held open."""

    def _renew(self, batch: str, terms: Terms, now: float) -> list[GatewayEffect]:
        del batch, terms, now
        return []


class _QuorumCountsFromTheRestart(Exchanges):
    """A restart forgets who had answered well in a phase that is open."""

    def restore_settled(
        self, id_: str, *, run: str, batch: str, is_answered: bool, is_good: bool
    ) -> None:
        del is_good
        super().restore_settled(id_, run=run, batch=batch, is_answered=is_answered, is_good=False)


class _FloorIsTheNewestRun(Exchanges):
    @property
    def floor(self) -> int:
        return max((run.number for run in self._runs.values()), default=self._last_number + 1)


class _DeafGatewayJudges(Exchanges):
    def disconnected(self) -> None:
        """Go on counting."""

    def connected(self, now: float) -> list[GatewayEffect]:
        effects = super().connected(now)
        self._judges_at = now
        return effects


class _TakesRestartsForTwo(Roster):
    """A start of an agent that follows another is a second agent's."""

    def is_rival(self, heartbeat: Heartbeat) -> bool:
        super().is_rival(heartbeat)
        boots = self._boots.get(heartbeat.client)
        return boots is not None and boots.before not in ("", heartbeat.boot)


# ------------------------------------------------------------------------------- the device


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
        task.failures += problem == "refused"
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

    def _again(self, task: _Task) -> list[DeviceEffect]:
        del task
        return []


class _ForgetsItsOutbox(Duty):
    """A restart takes up what was begun, and not what was answered."""

    def restore(self, kept: Iterable[Kept], *, floor: int, now: float) -> list[DeviceEffect]:
        unanswered = [row for row in kept if row.reply is None]
        return super().restore(unanswered, floor=floor, now=now)


# ------------------------------------------------------------------------------------ a list


def _gateway(exchanges: type[Exchanges]) -> Parts:
    return replace(SOUND, exchanges=exchanges)


def _device(duty: type[Duty]) -> Parts:
    return replace(SOUND, duty=duty)


BUGS: Final = {
    "acknowledge-first": Bug(
        "a reply is acknowledged before it is recorded",
        replace(SOUND, gateway_steps=_acknowledge_first),
    ),
    "send-first": Bug(
        "a command is sent before it is recorded", replace(SOUND, gateway_steps=_send_first)
    ),
    "tell-runs-first": Bug(
        "a run learns of a reply before it is recorded",
        replace(SOUND, gateway_steps=_tell_runs_first),
    ),
    "torn-cache": Bug("a torn file in the cache is used", replace(SOUND, checks_cache=False)),
    "overtaken-records": Bug(
        "records are written in the background", replace(SOUND, waits_for_records=False)
    ),
    "any-reply": Bug("a reply answers another command", _gateway(_TakesAnyReply)),
    "duplicates-count": Bug("a reply counts each time it comes", _gateway(_CountsDuplicates)),
    "late-replies-count": Bug("a late reply settles once more", _gateway(_CountsLateReplies)),
    "settled-forgotten": Bug(
        "a restart takes up only what is open", replace(SOUND, restores_settled=False)
    ),
    "given-up-in-silence": Bug(
        "a run is not told that a device was given up",
        replace(SOUND, gateway_filter=_tell_no_run),
    ),
    "never-again": Bug("no heartbeat makes a command go out again", _gateway(_NeverSendsAgain)),
    "ever-again": Bug("every heartbeat does", _gateway(_SendsAtEachHeartbeat)),
    "ack-unread": Bug("what is heard of is acknowledged", _gateway(_AcknowledgesAllItHearsOf)),
    "cancel-open": Bug("what is waited for is cancelled", _gateway(_CancelsWhatItHearsOf)),
    "never-released": Bug(
        "a reply of an ended run stays in the outbox", _gateway(_ReleasesOnlyWhatItKnows)
    ),
    "impatient": Bug("a strict run gives devices up", _gateway(_WaitsForNobody)),
    "failures-count": Bug("a failure counts for the quorum", _gateway(_FailuresMakeAQuorum)),
    "minimum-ignored": Bug("too few answers close a phase", _gateway(_GivesUpUnderTheMinimum)),
    "held-for-ever": Bug("what was held is not waited for again", _gateway(_HoldsForEver)),
    "quorum-forgotten": Bug(
        "a restart counts the quorum from nought", _gateway(_QuorumCountsFromTheRestart)
    ),
    "floor-too-high": Bug("the newest run is the floor", _gateway(_FloorIsTheNewestRun)),
    "deaf": Bug("who hears nobody says that all are lost", _gateway(_DeafGatewayJudges)),
    "two-for-one": Bug(
        "a restart is taken for a second agent", replace(SOUND, roster=_TakesRestartsForTwo)
    ),
    "no-renewal": Bug("grants are not renewed", replace(SOUND, gateway_filter=_renew_nothing)),
    "no-inspection": Bug("no blob is looked at", replace(SOUND, inspects=False)),
    "open-swept": Bug("what is open is swept", replace(SOUND, sweeps="settled")),
    "young-swept": Bug(
        "a blob is swept before its command is recorded", replace(SOUND, orphaned_s=-1.0)
    ),
    "never-swept": Bug("no blob ever goes", replace(SOUND, sweeps="all")),
    "id-reuse": Bug("a command's id does not name its round", replace(SOUND, reuses_ids=True)),
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
    "own-epoch-only": Bug("replies to an earlier epoch are refused", _gateway(_WantsItsOwnEpoch)),
    "answered-once": Bug("a lost reply is not said again", _device(_AnswersOnce)),
    "unchecked-download": Bug(
        "a damaged model is trained on", replace(SOUND, checks_downloads=False)
    ),
}
"""By name; `python -m sim --bug NAME SEED` plants one."""
