"""The gateway's half of the protocol: every command is answered, given up, or still asked for.

An *exchange* is a command and its reply. It opens when a run asks and settles once: by the device's
reply, or because its deadline passed, or because its device is offline and the run does not wait.

    asked ──record──> open ──reply──> inspect ──record──> settled ──> ack
                       │                 └─damaged─> open (asked again)
                       └──deadline / offline / quorum──record──> settled (what comes later is late)

Commands that are asked together are a *batch*; its terms say how many good replies close it, and
with how few it stays open past its deadline.

Nothing here trusts the broker: a command is sent again whenever a heartbeat shows that the device
does not have it, and a reply is acknowledged whenever a heartbeat shows that the device still keeps
it.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from windflower.core.events import (
    CommandSent,
    Event,
    MessageRefused,
    ReplyAccepted,
    ReplyFailed,
    ReplyLate,
    ReplyMissing,
)
from windflower.core.gateway_effects import (
    Effect,
    Hold,
    Inspect,
    RecordCommands,
    RecordMissing,
    RecordReply,
    RecordTerms,
    Report,
    Send,
    Settle,
    Tell,
)
from windflower.core.policy import Terms
from windflower.core.roster import MISSED_BEATS, Presence, Roster
from windflower.core.stages import Stages
from windflower.wire.limits import IDS
from windflower.wire.messages import Command, ControlMethod, Failure, Heartbeat, Reply

RESEND_AFTER_S: Final = 5.0
"""A heartbeat of a device that stayed connected may have crossed a command on its way: such a
command is sent again only when it is older than this, or than two heartbeats. Each time it was sent
in vain doubles that, up to sixteen times: a broker that is slow gets no more to do."""

_DOUBLINGS: Final = 4

RETURN_S: Final = 30.0
"""A deadline that passed while nobody could be heard is moved so far behind the link's return."""

OUTAGE_S: Final = 600.0
"""A deadline that passes while there is no link is moved by this at most."""

REPLY_UNAVAILABLE: Final = 4
NODE_UNAVAILABLE: Final = 5
"""Flower's error codes (flwr.common.constant.ErrorCode)."""


# ------------------------------------------------------------------------------------ state


@dataclass(slots=True)
class _Batch:
    id: str
    terms: Terms
    open: dict[str, None] = field(default_factory=dict)
    good: int = 0
    not_before: float = 0.0
    is_held: bool = False

    @property
    def is_full(self) -> bool:
        """Whether enough good replies came to close it without the rest."""
        return self.terms.quorum is not None and self.good >= self.terms.quorum

    @property
    def has_spare(self) -> bool:
        """Whether one that is open can be given up, and enough good replies may still come."""
        return self.good + len(self.open) > self.terms.minimum


@dataclass(slots=True)
class _Exchange:
    command: Command
    batch: _Batch
    asked_at: float
    sent_at: float | None = None
    sendings: int = 0
    is_inspecting: bool = False


@dataclass(frozen=True, slots=True)
class _Settled:
    run: str
    is_answered: bool


@dataclass(frozen=True, slots=True)
class _Run:
    number: int
    epoch: int


class Exchanges:
    """All exchanges of a fleet.

    Every method takes the gateway's clock in seconds and returns effects to be carried out in
    order. None raises on what a device says.

    Args:
        roster: who is online; the same object that the gateway keeps up to date.
    """

    def __init__(self, roster: Roster) -> None:
        self._roster = roster
        self._runs: dict[str, _Run] = {}
        self._open: dict[str, _Exchange] = {}
        self._batches: dict[str, _Batch] = {}
        self._of_device: defaultdict[str, dict[str, None]] = defaultdict(dict)
        self._settled: dict[str, _Settled] = {}
        self._stages = Stages()
        self._last_number = 0
        self.epoch = 0
        self._judges_at = math.inf
        self._connected_at = math.inf

    # ------------------------------------------------------------------------------- runs

    def begin(self, *, epoch: int, last_number: int) -> None:
        """Begin a gateway's life: nobody before it used this epoch or a higher one."""
        self.epoch = max(self.epoch, epoch)
        self._last_number = max(self._last_number, last_number)

    def open_run(self, run: str, *, number: int, epoch: int) -> None:
        """Begin a run, or go on with it under a higher epoch."""
        self._runs[run] = _Run(number, epoch)
        self.begin(epoch=epoch, last_number=number)

    def end_run(self, run: str, now: float) -> list[Effect]:
        """Forget a run: what its devices still do is cancelled, what they still send released."""
        del now  # every input has it; this one needs none
        left = [e.command for e in self._open.values() if e.command.run == run]
        for command in left:
            self._close(command, is_answered=False)
        self._settled = {i: s for i, s in self._settled.items() if s.run != run}
        self._runs.pop(run, None)
        return [self._tell(command.client, "cancel", (command.id,)) for command in left]

    @property
    def floor(self) -> int:
        """Every run with a lower number is over."""
        return min((run.number for run in self._runs.values()), default=self._last_number + 1)

    def restore_open(self, command: Command, *, batch: str, terms: Terms, asked_at: float) -> None:
        """Take up an exchange that the journal holds open; `connected` asks for it again."""
        self._add(
            _Exchange(command, self._batches.setdefault(batch, _Batch(batch, terms)), asked_at)
        )

    def restore_settled(
        self, id_: str, *, run: str, batch: str, is_answered: bool, is_good: bool
    ) -> None:
        """Take up an exchange that the journal holds settled; call it after `restore_open`."""
        self._settled[id_] = _Settled(run, is_answered)
        if is_good and batch in self._batches:
            self._batches[batch].good += 1

    # ------------------------------------------------------------------------ from the run

    def ask(
        self, commands: Sequence[Command], *, batch: str, terms: Terms, now: float
    ) -> list[Effect]:
        """Open an exchange for each command that is new; adopt what is open or settled already.

        Args:
            commands: of runs that are open; their ids are distinct.
            batch: names what is asked together; never used for anything else.
            terms: how long and for how many answers to wait; a batch that is open keeps its own
                until its deadline has passed.
            now: the gateway's clock.
        """
        new = tuple(c for c in commands if c.run in self._runs and not self._knows(c.id))
        if not new:
            return self._renew(batch, terms, now)
        together = self._batches.setdefault(batch, _Batch(batch, terms))
        effects: list[Effect] = [RecordCommands(new, batch, terms)]
        added = [_Exchange(command, together, now) for command in new]
        for exchange in added:
            self._add(exchange)
        for exchange in added:
            if self._is_doomed(exchange):
                effects += self._give_up(exchange, NODE_UNAVAILABLE, "is offline")
            else:
                effects += self._send(exchange, now)
        return effects

    def _knows(self, id_: str) -> bool:
        return id_ in self._open or id_ in self._settled

    def _renew(self, batch: str, terms: Terms, now: float) -> list[Effect]:
        """Wait anew for what was held open past its deadline."""
        held = self._batches.get(batch)
        if held is None or held.terms.deadline > now:
            return []
        held.terms, held.is_held = terms, False
        effects: list[Effect] = [RecordTerms(batch, terms)]
        for exchange in [self._open[id_] for id_ in held.open]:
            # A device that still holds it would give up in between.
            if exchange.asked_at + exchange.command.ttl_s <= terms.deadline:
                effects += self._send(exchange, now)
        return effects

    # --------------------------------------------------------------------- from the devices

    def replied(self, reply: Reply, now: float) -> list[Effect]:
        """Take a reply: settle its exchange, or say what else it is."""
        self._roster.answered(reply.client, now)
        exchange = self._open.get(reply.id)
        if exchange is None:
            return self._unexpected(reply)
        if problem := self._mismatch(exchange.command, reply):
            return [_refused(problem, reply)]
        if reply.path is None:
            return self._settle(exchange, reply, now)
        if exchange.is_inspecting:
            return []
        exchange.is_inspecting = True
        return [Inspect(reply)]

    def inspected(self, reply: Reply, *, is_sound: bool, now: float) -> list[Effect]:
        """Settle a reply whose blob is what it should be, else ask for it again.

        At once for the first time, then with the patience of whatever is sent in vain: what is not
        asked now is at a heartbeat.
        """
        exchange = self._open.get(reply.id)
        if exchange is None:
            return self._unexpected(reply)
        exchange.is_inspecting = False
        if is_sound:
            return self._settle(exchange, reply, now)
        refused = _refused("the reply's blob is not what it names", reply)
        if exchange.sendings > 1 and not _is_due(exchange, now, interval_s=math.inf):
            return [refused]
        return [refused, *self._send(exchange, now)]

    def named(self, heartbeat: Heartbeat, now: float) -> list[Effect]:
        """Learn a device's name from a heartbeat that a broker kept; it may be long gone."""
        self._roster.named(heartbeat, now)
        return [self._tell(heartbeat.client, "rollcall")]

    def heard(self, heartbeat: Heartbeat, now: float) -> list[Effect]:
        """Compare what a device holds with what it was asked, and repair the difference."""
        effects: list[Effect] = [Report(event) for event in self._roster.heard(heartbeat, now)]
        effects += [Report(event) for event in self._stages.news(heartbeat, self._run_of)]
        device = heartbeat.client
        if heartbeat.cause == "gone":
            return [*effects, self._tell(device, "rollcall")]
        if self._roster.is_rival(heartbeat):
            refusal = MessageRefused(reason="two agents run under this id", device=device)
            told = self._tell(device, "rollcall", boot=heartbeat.boot)
            return [*effects, Report(refusal), told]
        # One at a time: the grants of many commands would not fit into one message.
        needed = [i for i in heartbeat.need if i in self._of_device[device]]
        effects += [self._tell(device, "grant", (id_,)) for id_ in needed]
        released = tuple(i for i in heartbeat.outbox if i not in self._open)
        if released or heartbeat.floor < self.floor:
            effects.append(self._tell(device, "ack", released))
        in_vain = tuple(i for i in heartbeat.holds if i not in self._open)[:IDS]
        if in_vain:
            effects.append(self._tell(device, "cancel", in_vain))
        for id_ in self._of_device[device]:
            if self._is_missing(self._open[id_], heartbeat, now):
                effects += self._send(self._open[id_], now)
        return effects

    def _run_of(self, id_: str) -> str | None:
        settled, exchange = self._settled.get(id_), self._open.get(id_)
        if exchange is not None:
            return exchange.command.run
        return None if settled is None else settled.run

    # ------------------------------------------------------------------- from link and clock

    def connected(self, now: float) -> list[Effect]:
        """After the link came up: send what was never sent, call the roll for the rest."""
        self._judges_at = now + MISSED_BEATS * self._roster.longest_interval_s()
        self._connected_at = now
        for batch in self._batches.values():
            batch.not_before = now + RETURN_S
        effects: list[Effect] = []
        for device, ids in self._of_device.items():
            unsent = [i for i in ids if self._open[i].sent_at is None]
            for id_ in unsent:
                effects += self._send(self._open[id_], now)
            if len(unsent) < len(ids):
                effects.append(self._tell(device, "rollcall"))
        return effects

    def disconnected(self) -> None:
        """After the link went down: nobody counts as lost who had no time to be heard again."""
        self._judges_at = math.inf

    def tick(self, now: float) -> list[Effect]:
        """Settle what is past its deadline, or waits for a device that was lost."""
        effects = self._lose(now)
        for batch in [b for b in self._batches.values() if self._expires_at(b) <= now]:
            effects += self._expire(batch)
        return effects

    def next_wake(self) -> float | None:
        """Return when `tick` may have something to do."""
        times = [self._expires_at(batch) for batch in self._batches.values()]
        if (roster := self._roster.next_wake(self._judged_at)) is not None:
            times.append(roster)
        doomed = (e.command.client for e in self._open.values() if self._is_doomed(e))
        times += [self._judged_at(self._roster.get(device)) for device in doomed]
        wake = min(times, default=math.inf)
        return None if wake == math.inf else wake

    # -------------------------------------------------------------------------- for the page

    def open_commands(self, device: str | None = None) -> Iterable[Command]:
        """Return the commands that wait for their reply."""
        ids = self._open if device is None else self._of_device[device]
        return [self._open[i].command for i in ids]

    # ------------------------------------------------------------------------------ inside

    def _add(self, exchange: _Exchange) -> None:
        exchange.batch.open[exchange.command.id] = None
        self._open[exchange.command.id] = exchange
        self._of_device[exchange.command.client][exchange.command.id] = None

    def _close(self, command: Command, *, is_answered: bool) -> None:
        batch = self._open.pop(command.id).batch
        del batch.open[command.id]
        if not batch.open:
            del self._batches[batch.id]
        del self._of_device[command.client][command.id]
        self._settled[command.id] = _Settled(command.run, is_answered)

    def _tell(
        self, device: str, method: ControlMethod, ids: tuple[str, ...] = (), boot: str | None = None
    ) -> Tell:
        return Tell(device, method, ids, boot, self.epoch, self.floor)

    def _send(self, exchange: _Exchange, now: float) -> list[Effect]:
        """Send under the run's present epoch and floor.

        The command keeps its own time: a phase may be waited for anew, and says when it is over.
        """
        is_again = exchange.sent_at is not None
        exchange.sent_at = now
        exchange.sendings += 1
        command = replace(
            exchange.command,
            epoch=self._runs[exchange.command.run].epoch,
            floor=self.floor,
        )
        event = CommandSent(
            run=command.run,
            device=command.client,
            command=command.id,
            method=command.method,
            again=is_again,
        )
        return [Send(command), Report(event)]

    def _settle(self, exchange: _Exchange, reply: Reply, now: float) -> list[Effect]:
        batch = exchange.batch
        self._close(exchange.command, is_answered=True)
        batch.good += reply.failure is None
        effects: list[Effect] = [
            RecordReply(reply),
            self._tell(reply.client, "ack", (reply.id,)),
            Settle(reply.id),
            Report(_reply_event(reply, seconds=now - exchange.asked_at)),
        ]
        return [*effects, *self._leave_out(batch)] if batch.is_full else effects

    def _leave_out(self, batch: _Batch) -> list[Effect]:
        """Give up the rest of a batch that has enough good replies."""
        effects: list[Effect] = []
        for id_ in list(batch.open):
            reason = "was not waited for: enough others had answered"
            effects += self._give_up(self._open[id_], REPLY_UNAVAILABLE, reason)
        return effects

    def _lose(self, now: float) -> list[Effect]:
        """Give up what waits for devices that were lost, or not heard since we are connected."""
        effects: list[Effect] = []
        silent_s = {}
        for lost in self._roster.lose(now, self._judged_at):
            effects.append(Report(lost))
            silent_s[lost.device] = lost.silent_s
        for exchange in list(self._open.values()):
            if not self._is_doomed(exchange):  # one by one: each that goes leaves fewer to spare
                continue
            device = exchange.command.client
            if now < self._judged_at(self._roster.get(device)):
                continue
            silent = f"for {silent_s[device]:.0f} s" if device in silent_s else "again"
            effects += self._give_up(exchange, NODE_UNAVAILABLE, f"was not heard {silent}")
        return effects

    def _judged_at(self, presence: Presence | None) -> float:
        """Return from when on a silent device counts as lost, as far as the link is concerned.

        One that was heard since we are connected had its chance; any other is given the time in
        which the whole fleet can be heard.
        """
        is_deaf = self._judges_at == math.inf
        if is_deaf or presence is None or presence.heard_at < self._connected_at:
            return self._judges_at
        return presence.overdue_at

    def _is_doomed(self, exchange: _Exchange) -> bool:
        """Whether an exchange will be given up because its device is offline."""
        batch = exchange.batch
        if batch.terms.waits_for_offline or not batch.has_spare:
            return False
        return not self._roster.is_online(exchange.command.client)

    def _expires_at(self, batch: _Batch) -> float:
        """When a batch is given up: not before devices could say what they did in an outage."""
        if batch.is_full:
            return 0.0  # a gateway died between the reply that filled it and this
        if batch.is_held:
            return math.inf
        if self._judges_at == math.inf:
            return batch.terms.deadline + OUTAGE_S
        return max(batch.terms.deadline, batch.not_before)

    def _expire(self, batch: _Batch) -> list[Effect]:
        if batch.is_full:
            return self._leave_out(batch)
        if batch.good < batch.terms.minimum:
            batch.is_held = True
            return [Hold(batch.id, batch.good, batch.terms.minimum)]
        effects: list[Effect] = []
        for exchange in [self._open[id_] for id_ in batch.open]:
            if self._roster.is_online(exchange.command.client):
                effects += self._give_up(exchange, REPLY_UNAVAILABLE, "did not answer in time")
            else:
                reason = "was offline until the deadline"
                effects += self._give_up(exchange, NODE_UNAVAILABLE, reason)
        return effects

    def _give_up(self, exchange: _Exchange, code: int, reason: str) -> list[Effect]:
        command = exchange.command
        self._close(command, is_answered=False)
        failure = Failure(code, f"{command.client} {reason}")
        missing = ReplyMissing(
            run=command.run,
            device=command.client,
            command=command.id,
            method=command.method,
            reason=failure.reason,
        )
        effects: list[Effect] = [RecordMissing(command, failure)]
        if exchange.sent_at is not None:
            effects.append(self._tell(command.client, "cancel", (command.id,)))
        return [*effects, Settle(command.id), Report(missing)]

    def _unexpected(self, reply: Reply) -> list[Effect]:
        """Release a reply that nobody waits for: a duplicate, a late one, one of an ended run."""
        ack = self._tell(reply.client, "ack", (reply.id,))
        settled = self._settled.get(reply.id)
        if settled is None:
            return [_refused("its run is over or unknown", reply), ack]
        if settled.is_answered:
            return [ack]
        self._settled[reply.id] = replace(settled, is_answered=True)  # it is told once
        late = ReplyLate(
            run=reply.run,
            device=reply.client,
            command=reply.id,
            method=reply.method,
            worked_s=reply.worked_s,
        )
        return [ack, Report(late)]

    def _mismatch(self, command: Command, reply: Reply) -> str | None:
        if reply.client != command.client:
            return "it answers another device's command"
        if (reply.run, reply.method) != (command.run, command.method):
            return "it names another run or method than its command"
        if reply.epoch > self._runs[command.run].epoch:
            return "it answers a later epoch: another gateway works on this run"
        return None

    def _is_missing(self, exchange: _Exchange, heartbeat: Heartbeat, now: float) -> bool:
        """Whether to send this now: the device lacks it, or its reply was lost."""
        if exchange.is_inspecting or exchange.command.id in heartbeat.holds:
            return False
        is_in_outbox = exchange.command.id in heartbeat.outbox
        if is_in_outbox and heartbeat.cause in ("connect", "rollcall"):
            return False  # it answers again by itself
        if exchange.sent_at is None or heartbeat.cause == "connect":
            return True
        if heartbeat.cause == "rollcall" and exchange.sent_at < self._connected_at:
            return True  # what was sent since we are connected may have crossed this on its way
        return _is_due(exchange, now, interval_s=heartbeat.interval_s)


def _is_due(exchange: _Exchange, now: float, *, interval_s: float) -> bool:
    """Whether what was sent in vain until now may be sent again."""
    doublings = min(exchange.sendings - 1, _DOUBLINGS)
    patience_s: float = min(RESEND_AFTER_S, 2 * interval_s) * 2**doublings
    return exchange.sent_at is None or now - exchange.sent_at >= patience_s


def _refused(reason: str, reply: Reply) -> Report:
    return Report(MessageRefused(reason=reason, device=reply.client, command=reply.id))


def _reply_event(reply: Reply, *, seconds: float) -> Event:
    if reply.failure is not None:
        return ReplyFailed(
            run=reply.run,
            device=reply.client,
            command=reply.id,
            method=reply.method,
            code=reply.failure.code,
            reason=reply.failure.reason,
            worked_s=reply.worked_s,
        )
    return ReplyAccepted(
        run=reply.run,
        device=reply.client,
        command=reply.id,
        method=reply.method,
        seconds=round(seconds, 4),
        worked_s=reply.worked_s,
        metrics=reply.metrics(),
        not_finite=reply.not_finite(),
    )
