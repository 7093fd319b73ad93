"""Planted bugs of the gateway's half, and of whoever carries out what it says."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from sim.bug import Bug
from sim.parts import SOUND, GatewayStep, Parts, in_one_commit
from sim.process import Commit
from windflower.core.events import Event
from windflower.core.exchange import Exchanges, _Batch, _Exchange
from windflower.core.gateway_effects import Effect as GatewayEffect
from windflower.core.gateway_effects import RecordMissing, RecordReply, Send, Settle, Tell
from windflower.core.policy import Terms
from windflower.core.roster import Roster
from windflower.wire.messages import Command, Heartbeat, Reply


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


class _ExpiresAtOnce(Exchanges):
    """A deadline that passed while nobody could be heard is not moved."""

    def _expires_at(self, batch: _Batch) -> float:
        return min(super()._expires_at(batch), batch.terms.deadline)


class _AcknowledgesEachHeartbeat(Exchanges):
    """A device is told what it is released from, nothing included."""

    def heard(self, heartbeat: Heartbeat, now: float) -> list[GatewayEffect]:
        return [*super().heard(heartbeat, now), Tell(heartbeat.client, "ack")]


class _BelievesWills(Exchanges):
    """Whoever is said to be gone is gone, and is not asked whether it is back."""

    def heard(self, heartbeat: Heartbeat, now: float) -> list[GatewayEffect]:
        if heartbeat.cause != "gone":
            return super().heard(heartbeat, now)
        before = self._roster.get(heartbeat.client)
        if before is not None:
            self._roster._presences[before.device] = replace(before, is_online=False)
        return []


class _MissesOneBeat(Roster):
    """Half a heartbeat without a word, and a device counts as lost."""

    def heard(self, heartbeat: Heartbeat, now: float) -> list[Event]:
        return super().heard(replace(heartbeat, interval_s=heartbeat.interval_s / 5), now)


class _ReadsForeignClocks(Roster):
    """When a device was heard is read from its own clock."""

    def heard(self, heartbeat: Heartbeat, now: float) -> list[Event]:
        del now
        return super().heard(heartbeat, heartbeat.time)


def _roster(roster: type[Roster]) -> Parts:
    return replace(SOUND, roster=roster)


def _gateway(exchanges: type[Exchanges]) -> Parts:
    return replace(SOUND, exchanges=exchanges)


GATEWAY_BUGS: Final = {
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
    "own-epoch-only": Bug("replies to an earlier epoch are refused", _gateway(_WantsItsOwnEpoch)),
    "deadline-in-outage": Bug("nobody has time to answer after it", _gateway(_ExpiresAtOnce)),
    "idle-acks": Bug("each heartbeat is acknowledged", _gateway(_AcknowledgesEachHeartbeat)),
    "wills-believed": Bug("a late will loses who is back", _gateway(_BelievesWills)),
    "one-beat-missed": Bug("a device is lost within a heartbeat", _roster(_MissesOneBeat)),
    "foreign-clocks": Bug("a device's clock is believed", _roster(_ReadsForeignClocks)),
    "rotten-kept": Bug("an unsound blob keeps its key", replace(SOUND, discards=False)),
}
