"""The gateway: a journal, the real `Exchanges` and `Roster`, a link, and the runs it serves."""

from dataclasses import dataclass, field, replace
from typing import Final

from sim.app import (
    Answers,
    Plan,
    Question,
    Script,
    command_of,
    digest,
    failure_text,
    reply_text,
    script,
    told_by,
)
from sim.codec import Parcel
from sim.journal import Asked, Journal, KeepPresence, RunRow
from sim.network import GATEWAY, Link
from sim.place import Place
from sim.process import Commit, Process
from sim.world import Violation
from sim.zombie import Zombie
from windflower.core.events import DeviceLost, MessageRefused, ReplyLate
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
from windflower.core.retention import DAY_S, PastRun, Retention, outlived
from windflower.wire.blobs import Grant
from windflower.wire.messages import Command, Control, Failure, Heartbeat, Reply

Step = Effect | KeepPresence

_SOON_S: Final = 0.001
_TOGETHER_S: Final = 0.1
"""When to judge next is thought over once for all that is heard within this."""

_DAWN_S: Final = 1e6
"""What the gateway's clock shows when the world begins: no time of it is negative."""

_KEPT_S: Final = 120.0
"""What a finished run rests on is kept for so long."""

_AWAY_S: Final = 20.0
"""A run that was cut off is started again after this, at most."""


@dataclass(slots=True)
class Execution:
    """One execution of a run's script; it begins at the top, and asks what it asked before."""

    plan: Plan
    script: Script
    waits_for: dict[Question, str] = field(default_factory=dict)


class GatewayNode(Process[Step]):
    """Carries out what `Exchanges` decides, and lets runs ask."""

    def __init__(self, place: Place) -> None:
        super().__init__(place.world, "gateway", waits_for_records=place.parts.waits_for_records)
        self.place = place
        self.journal = Journal()
        self.link = Link(
            place.network,
            GATEWAY,
            came_up=self._came_up,
            went_down=self._went_down,
            receive=self._receive,
        )
        self.commands_sent = 0
        self.executions: dict[str, Execution] = {}
        self._roster = place.parts.roster()
        self._exchanges = place.parts.exchanges(self._roster)
        self._pending: list[Step] = []
        self._wake_at = float("inf")
        self._is_thinking = False
        self._ahead_s = _DAWN_S

    def clock(self) -> float:
        """Return the gateway's own time, which is right now and then."""
        return self.world.now + self._ahead_s

    # -------------------------------------------------------------------------------- lives

    def start(self) -> None:
        """Begin a life from what the journal holds."""
        if self.is_alive:
            return
        self.is_alive = True
        self.executions = {}
        self._pending = []
        self._wake_at, self._is_thinking = float("inf"), False
        self._ahead_s = _DAWN_S + self.world.between(-1.0, 1.0) * self.place.weather.clock_jump_s
        self.place.blobs.ahead_s = self._ahead_s
        # Nobody is online until heard.
        known = (replace(p, is_online=False) for p in self.journal.presences.values())
        self._roster = self.place.parts.roster(known)
        self._exchanges = self.place.parts.exchanges(self._roster)
        self.world.note("gateway", "starts for the", str(self.life + 1), "time")
        self._next_epoch()
        for row in self.journal.runs.values():
            if not row.is_over:
                self._open(row)
        for asked in self.journal.open_first():
            self._restore(asked.command.id, asked)
        self._plan_to_wake()
        self.link.start()
        for row in self.journal.runs.values():
            if not row.is_over:
                self._execute_soon(row.plan)

    def _restore(self, id_: str, asked: Asked) -> None:
        if self.journal.is_open(id_):
            self._exchanges.restore_open(
                asked.command, batch=asked.batch, terms=asked.terms, asked_at=asked.asked_at
            )
        elif self.place.parts.restores_settled and not self._is_over(asked.command.run):
            self._exchanges.restore_settled(
                id_,
                run=asked.command.run,
                batch=asked.batch,
                is_answered=id_ in self.journal.replies,
                is_good=id_ in self.journal.good,
            )

    def crash(self) -> None:
        """Lose power."""
        outage_s = self.world.between(0.5, self.place.weather.longest_outage_s)
        self.world.note("gateway", "loses power for", outage_s, "s")
        leftover, exchanges = self._leftover(), self._exchanges
        self.die()
        self.link.stop()
        self.world.after(outage_s, self.start)
        if self.world.chance(self.place.weather.zombie):
            zombie, awake_s = Zombie(self.place, exchanges, leftover), self.world.between(1.0, 90.0)
            self.world.after(self.world.between(1.0, 200.0), zombie.wake, awake_s)

    def _leftover(self) -> list[Step | Commit[Step]]:
        """Return what is not done yet, in its order."""
        writing = [] if self._writing is None else [self._writing]
        return [*writing, *self.steps, *self.place.parts.gateway_steps(self._pending)]

    def loses_power(self) -> bool:
        return self.world.chance(self.place.weather.gateway_power_loss)

    # --------------------------------------------------------------------------------- runs

    def open_run(self, plan: Plan) -> None:
        """Begin a run, as soon as there is a gateway to serve it."""
        if not self.is_alive:
            self.world.after(1.0, self.open_run, plan)
            return
        row = RunRow(plan, number=len(self.journal.runs) + 1, epoch=0)
        self.journal.runs[plan.run] = row
        self._open(row)
        self._execute_soon(plan)

    def kill_run(self, run: str) -> None:
        """End a run's process; it is started again soon, under a higher epoch."""
        if self.is_alive and run in self.executions:
            self.world.note(run, "is killed")
            del self.executions[run]
            self._next_epoch()
            self._open(self.journal.runs[run])
            self._execute_soon(self.journal.runs[run].plan)

    def stop_run(self, run: str) -> None:
        """End a run although it is not done, as soon as there is a gateway to do it."""
        row = self.journal.runs.get(run)
        if row is None or not self.is_alive:
            self.world.after(1.0, self.stop_run, run)
        elif not row.is_over:
            self._end(row.plan, None)

    def _next_epoch(self) -> None:
        self.journal.last_epoch += 1
        self._exchanges.begin(epoch=self.journal.last_epoch, last_number=len(self.journal.runs))

    def _open(self, row: RunRow) -> None:
        row.epoch = self.journal.last_epoch
        self._exchanges.open_run(row.plan.run, number=row.number, epoch=row.epoch)

    def _is_open(self, id_: str) -> bool:
        """Whether an exchange is open, on the disk and in what is being written."""
        for effect in (*self.unwritten(), *self._pending):
            if isinstance(effect, RecordReply) and effect.reply.id == id_:
                return False
            if isinstance(effect, RecordMissing) and effect.command.id == id_:
                return False
        return self.journal.is_open(id_)

    def _suspend(self, batch: str) -> None:
        """End the process of a run that has too few good answers; a person resumes it."""
        for run, execution in list(self.executions.items()):
            ids = execution.waits_for.values()
            if any(self.journal.asked[i].batch == batch for i in ids if i in self.journal.asked):
                self.world.note(run, "is suspended")
                self.kill_run(run)

    def _is_over(self, run: str) -> bool:
        return self.journal.runs[run].is_over

    def _execute_soon(self, plan: Plan) -> None:
        self.later(self.world.between(0.1, _AWAY_S), self._execute, plan)

    def _execute(self, plan: Plan) -> None:
        if plan.run in self.executions or self._is_over(plan.run):
            return
        self.world.note(plan.run, "begins at the top")
        execution = Execution(plan, script(plan))
        self.executions[plan.run] = execution
        self._ask(execution, next(execution.script))

    def _ask(self, execution: Execution, questions: tuple[Question, ...]) -> None:
        plan = execution.plan
        row = self.journal.runs[plan.run]
        now = self.clock()
        deadline = now + plan.timeout_s
        commands: dict[Question, Command] = {}
        for question in questions:
            commands[question] = self._spell(row, question, deadline)
            for ref in commands[question].blobs:
                self.place.blobs.adopt(ref.key, told_by(plan, question).pack or b"")
        execution.waits_for = {q: command.id for q, command in commands.items()}
        effects = self._exchanges.ask(
            tuple(commands.values()),
            batch=digest(*(command.id for command in commands.values())),
            terms=plan.policy.terms(len(commands), now=now, patience_s=plan.timeout_s),
            now=now,
        )
        self._check_deadline(execution, effects, now)
        self._take(effects)
        self.later(0.0, self._look, execution)

    def _check_deadline(self, execution: Execution, effects: list[Effect], now: float) -> None:
        """Every wait has a deadline: what was held past one is waited for on new terms."""
        renewed = {e.batch for e in effects if isinstance(e, RecordTerms)}
        asked = [self.journal.asked.get(id_) for id_ in execution.waits_for.values()]
        for row in asked:
            if row is not None and self._is_open(row.command.id):
                is_renewed = row.batch in renewed
                self.place.oracle.waited_for(row.command, row.terms, is_renewed=is_renewed, now=now)

    def _spell(self, row: RunRow, question: Question, deadline: float) -> Command:
        now = self.clock()
        return command_of(
            row.plan,
            question,
            number=row.number,
            epoch=row.epoch,
            now=now,
            ttl_s=deadline - now,
            reuses_ids=self.place.parts.reuses_ids,
        )

    def _look(self, execution: Execution) -> None:
        """Go on with a run if all that it waits for is settled."""
        plan = execution.plan
        if self.executions.get(plan.run) is not execution or not execution.waits_for:
            return
        outcomes = self.journal.outcomes
        if any(id_ not in outcomes for id_ in execution.waits_for.values()):
            return
        for id_ in execution.waits_for.values():
            self._check_there(id_)
        answers: Answers = {q: outcomes[id_] for q, id_ in execution.waits_for.items()}
        self.place.oracle.aggregated(execution.waits_for, answers)
        execution.waits_for = {}
        self.world.note(plan.run, "has its answers:", str(len(answers)))
        try:
            questions = execution.script.send(answers)
        except StopIteration as ended:
            self._end(plan, str(ended.value))
            return
        self.later(self.world.between(0.0, 2.0), self._ask_if_alive, execution, questions)

    def _check_there(self, id_: str) -> None:
        """A run that begins again reads its answers again."""
        reply = self.journal.replies.get(id_)
        if (
            reply is not None
            and reply.path is not None
            and reply.path not in self.place.blobs.blobs
        ):
            raise Violation("swept", f"the answer {reply.path} is gone, and its run is open")

    def clean(self) -> None:
        """Forget runs that ended long ago, and sweep the blob store."""
        if self.place.parts.sweeps == "all":
            return
        rows = self.journal.runs.values()
        ended = [
            PastRun(r.plan.run, r.ended_at, 0) for r in rows if r.is_over and not r.is_forgotten
        ]
        for run in outlived(ended, Retention(days=_KEPT_S / DAY_S), now=self.clock()):
            self.journal.runs[run].is_forgotten = True
        self.world.note("gateway", "cleans up")
        live = self.journal.live_keys(with_open=self.place.parts.sweeps != "settled")
        self.place.blobs.sweep(live, older_than_s=self.place.parts.orphaned_s)

    def _ask_if_alive(self, execution: Execution, questions: tuple[Question, ...]) -> None:
        if self.executions.get(execution.plan.run) is execution:
            self._ask(execution, questions)

    def _end(self, plan: Plan, model: str | None) -> None:
        self.world.note(plan.run, "ends with", model or "nothing")
        self.journal.runs[plan.run].is_over = True
        self.journal.runs[plan.run].ended_at = self.clock()
        self.executions.pop(plan.run, None)
        self.place.oracle.run_ended(plan, model, self.place.states_of(plan.run))
        self._take(self._exchanges.end_run(plan.run, self.clock()))

    # ------------------------------------------------------------------------------- inputs

    def _take(self, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, RecordMissing):
                self._check_silence(effect.command, effect.failure)
        self._pending += self.place.parts.gateway_filter(effects)
        self.carry_on()
        if self.is_alive and not self._is_thinking:
            self._is_thinking = True
            self.later(_TOGETHER_S, self._plan_to_wake)

    def next_steps(self) -> list[Step | Commit[Step]] | None:
        """Take all that gathered while the last batch was carried out."""
        if not self._pending:
            return None
        batch, self._pending = self._pending, []
        return self.place.parts.gateway_steps(batch)

    @property
    def is_idle(self) -> bool:
        """Whether every step was taken, and nothing waits."""
        return super().is_idle and not self._pending

    def _plan_to_wake(self) -> None:
        self._is_thinking = False
        next_wake = self._exchanges.next_wake()
        if next_wake is None:
            return
        wake_at = max(next_wake - self._ahead_s, self.world.now + _SOON_S)
        if self._wake_at <= self.world.now or wake_at < self._wake_at:
            self._wake_at = wake_at
            self.later(wake_at - self.world.now, self._wake, wake_at)

    def _wake(self, planned_at: float) -> None:
        if planned_at == self._wake_at:
            self._wake_at = float("inf")
            self._take(self._exchanges.tick(self.clock()))

    def _came_up(self) -> None:
        self.world.note("gateway", "is connected")
        self._take(self._exchanges.connected(self.clock()))

    def _went_down(self) -> None:
        self.world.note("gateway", "is disconnected")
        self._exchanges.disconnected()

    def _receive(self, kind: str, parcel: Parcel) -> None:
        codec = self.place.codec
        if kind == "kept heartbeat":
            heartbeat = codec.heartbeat(parcel)
            self._take(self._exchanges.named(heartbeat, self.clock()))
            self._keep_presence(heartbeat)
        elif kind == "heartbeat":
            heartbeat = codec.heartbeat(parcel)
            self.world.note("gateway", "hears of", heartbeat.client, heartbeat.cause)
            self.place.oracle.heard(heartbeat)
            self._take(self._exchanges.heard(heartbeat, self.clock()))
            self._keep_presence(heartbeat)
        else:
            reply = codec.reply(parcel)
            self.world.note("gateway", "hears from", reply.client, reply.id)
            self.place.oracle.heard_by_reply(reply.client)
            self._take(self._exchanges.replied(reply, self.clock()))

    def _keep_presence(self, heartbeat: Heartbeat) -> None:
        """Journal a presence that says something new; when it was heard need not be exact."""
        presence = self._roster.get(heartbeat.client)
        before = self.journal.presences.get(heartbeat.client)
        if presence is None or not self.is_alive:
            return
        is_known = before is not None and (before.boot, before.is_online) == (
            presence.boot,
            presence.is_online,
        )
        age_s = presence.heard_at - before.heard_at if before is not None else 0.0
        if not is_known or not 0 <= age_s < presence.interval_s / 2:
            self._pending.append(KeepPresence(presence))
            self.carry_on()

    # ------------------------------------------------------------------------------ records

    def write(self, record: Step) -> None:
        match record:
            case RecordCommands(commands, batch, terms):
                for command in commands:
                    self.place.oracle.command_recorded(command, batch, terms)
                    self.journal.asked[command.id] = Asked(command, batch, terms, self.clock())
            case RecordTerms(batch, terms):
                self.journal.renew(batch, terms)
            case RecordReply(reply):
                outcome = reply_text(reply, self.place.blobs.blobs)
                self._write_outcome(reply.id, outcome, reply)
                self.journal.replies[reply.id] = reply
                if reply.failure is None:
                    self.journal.good.add(reply.id)
            case RecordMissing(command, failure):
                self._write_outcome(command.id, failure_text(failure), None)
            case KeepPresence(presence):
                self.journal.presences[presence.device] = presence
            case _:
                raise AssertionError(record)

    def _check_silence(self, command: Command, failure: Failure) -> None:
        """Whoever says that a device is silent must have listened."""
        now = self.world.now
        device = self.place.network.links[command.client]
        self.place.oracle.given_up(
            command,
            failure.reason,
            listened_s=now - self.link.up_since if self.link.is_up else 0.0,
            there_s=now - device.up_since if device.is_up else 0.0,
            is_lossless=self.place.is_lossless,
        )

    def _write_outcome(self, id_: str, outcome: str, reply: Reply | None) -> None:
        self.world.note("gateway", "records", id_, outcome)
        if self._is_over(self.journal.asked[id_].command.run):
            return
        self.place.oracle.outcome_recorded(id_, outcome, reply)
        self.journal.outcomes[id_] = outcome

    # ------------------------------------------------------------------------------ effects

    def carry_out(self, effect: Step) -> None:
        match effect:
            case Send(command):
                self._send(command)
            case Tell():
                self._tell(effect)
            case Inspect(reply):
                self.later(self.world.between(0.01, 2.0), self._inspect, reply)
            case Settle(id_):
                self._settle(id_)
            case Hold(batch):
                self._suspend(batch)
            case Report(event):
                if isinstance(event, MessageRefused | DeviceLost | ReplyLate):
                    self.world.note("gateway", "reports", str(event))
            case _:
                raise AssertionError(effect)

    def _send(self, command: Command) -> None:
        if self._is_over(command.run):
            return
        self.world.note("gateway", "sends", command.method, command.id, "to", command.client)
        self.place.oracle.sent(command)
        self.commands_sent += 1
        parcel = self.place.codec.close(command, self._grants(command))
        self.link.send(command.client, "command", parcel)

    def _tell(self, tell: Tell) -> None:
        ids = tell.ids
        self.world.note("gateway", "tells", tell.device, tell.method, ids)
        self.place.oracle.told(tell.method, ids)
        grants: tuple[Grant, ...] = ()
        if tell.method == "grant":
            commands = [self.journal.asked[id_].command for id_ in ids]
            grants = tuple(g for command in commands for g in self._grants(command))
        control = Control(
            tell.device, tell.method, ids, tell.boot, epoch=tell.epoch, floor=tell.floor
        )
        self.link.send(tell.device, "control", self.place.codec.close(control, grants))

    def _grants(self, command: Command) -> tuple[Grant, ...]:
        gets = (self.place.blobs.grant_get(ref) for ref in command.blobs)
        return (*gets, self.place.blobs.grant_put(command.reply_key))

    def _inspect(self, reply: Reply) -> None:
        if reply.path is None or reply.content.pack is None:
            raise AssertionError(reply)
        is_sound = self.place.blobs.is_sound(
            reply.path, reply.content.pack, discards=self.place.parts.discards
        )
        is_sound = is_sound or not self.place.parts.inspects
        self.world.note("gateway", "finds", reply.id, "sound" if is_sound else "unsound")
        self._take(self._exchanges.inspected(reply, is_sound=is_sound, now=self.clock()))

    def _settle(self, id_: str) -> None:
        self.place.oracle.notified(self.life, id_)
        execution = self.executions.get(self.journal.asked[id_].command.run)
        if execution is not None:
            self.later(0.0, self._look, execution)
