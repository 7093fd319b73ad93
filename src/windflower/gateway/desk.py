"""The desk where runs are served: what a run may ask of its gateway, in one class.

A run is somebody's ServerApp in a process of its own. Whatever it is told is journaled before, so
that it can be started again from the top and is told the same.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from windflower.core.events import (
    RoundMeasured,
    RunEnded,
    RunLeftOpen,
    RunResumed,
    RunStarted,
    RunSuspended,
)
from windflower.core.ledger import (
    AggregateRecord,
    CheckpointRecord,
    DropRecord,
    EpochRecord,
    PhaseRecord,
    PullRecord,
    RosterRecord,
    RunRecord,
    Settlement,
    SpareRecord,
    Tally,
)
from windflower.core.policy import Terms
from windflower.core.retention import OPEN_RUN_BYTES
from windflower.core.roster import Presence
from windflower.errors import (
    ConfigError,
    LocalProtocolError,
    RunDiverged,
    RunFailed,
)
from windflower.gateway.budget import Budget
from windflower.gateway.feed import Feed
from windflower.gateway.fleet import Fleet
from windflower.gateway.phases import Phases
from windflower.gateway.request import RunRequest
from windflower.gateway.retracing import NO_HISTORY, Retracing
from windflower.gateway.waiting import wait_for_devices
from windflower.ports import Blobs, Clock, Journal
from windflower.wire.blobs import BlobRef
from windflower.wire.messages import Command

COHORT: Final = -(1 << 31)
"""The number under which is journaled who was there when a run was opened, which no app asked."""


@dataclass(slots=True)
class _Execution:
    """One execution of a run's ServerApp.

    Attributes:
        retracing: compares what it asks with what was asked before.
        cohort: whom a strict run waits for.
        phases: how many it has asked for.
        rounds: how many of them trained.
        measured: how many measurements it has made.
        reported: how many of them were reported, by it or by those before.
        is_suspended: whether its process has left.
    """

    retracing: Retracing
    cohort: dict[str, None] = field(default_factory=dict)
    read: set[str] = field(default_factory=set)
    phases: int = 0
    rounds: int = 0
    measured: int = 0
    reported: int = 0
    is_suspended: bool = False


class Desk:
    """Serves runs.

    Args:
        fleet: the devices.
        journal: what a run was told.
        blobs: where packs are.
        clock: Unix time.
        feed: takes events.
        budget: what an open run may hold; by default as much as is usual.
    """

    def __init__(
        self,
        fleet: Fleet,
        *,
        journal: Journal,
        blobs: Blobs,
        clock: Clock,
        feed: Feed,
        budget: Budget | None = None,
    ) -> None:
        self._fleet = fleet
        self._budget = budget or Budget(OPEN_RUN_BYTES, journal=journal, blobs=blobs, feed=feed)
        self._journal = journal
        self._blobs = blobs
        self._clock = clock
        self._feed = feed
        self._phases = Phases(fleet, journal=journal, clock=clock, feed=feed, budget=self._budget)
        self._runs: dict[str, RunRecord] = {}
        self._executions: dict[str, _Execution] = {}
        self._ending: set[str] = set()
        self._last_number = 0

    def restore(self, runs: Sequence[RunRecord], last_number: int) -> None:
        """Take up what the journal holds of runs; those that are open wait to be resumed."""
        self._runs = {record.run: record for record in runs}
        self._last_number = last_number
        for record in runs:
            if record.state == "open" and not record.publishes:
                self._feed.report(RunLeftOpen(run=record.run))

    # -------------------------------------------------------------------------------- runs

    async def open_run(self, request: RunRequest) -> RunRecord:
        """Begin a run; a request that was answered before, or should have been, begins no other."""
        known = [r for r in self._runs.values() if request.request and r.request == request.request]
        if known:
            return await self.resume_run(known[0].run)
        record = request.to_record(
            number=self.draw_number(), epoch=self._fleet.epoch, at=self._clock.now()
        )
        # At once: were a later number opened first, its floor would end this run on devices.
        self._fleet.open_run(record.run, number=record.number, epoch=record.epoch)
        self._runs[record.run] = record
        execution = self._executions[record.run] = _Execution(Retracing(NO_HISTORY))
        first = RosterRecord(record.run, COHORT, self._present(record, execution))
        await self._journal.record([record, first], at=self._clock.now())
        self._feed.report(
            RunStarted(
                run=record.run,
                number=record.number,
                epoch=record.epoch,
                app=record.app,
                bundle=record.bundle.digest,
                seed=None if record.is_private else record.seed,
            )
        )
        await self._budget.foresee(record, self._runs.values())
        return record

    async def resume_run(self, run: str, *, is_lenient: bool = False) -> RunRecord:
        """Begin an open run again: it will ask for what it asked before, and is told the same.

        Whatever executed it until now is not served any more.

        Args:
            run: the run.
            is_lenient: whether other values in configs of phases that are closed are accepted.

        Raises:
            ConfigError: it is over.
            RunFailed: it cannot be begun again, and is over now.
        """
        before = self.run(run)
        if not self._is_open(before):
            raise ConfigError(f"run {run} is over: there is nothing to resume", key="resume")
        if not before.is_resumable:
            reason = "it cannot be begun again: it held more than resume_gb, and old updates went"
            await self.end_run(run, success=False, reason=reason, result={})
            raise RunFailed(f"run {run}: {reason}")
        record = replace(before, epoch=self._fleet.next_epoch())
        await self._journal.record([EpochRecord(record.epoch), record], at=self._clock.now())
        self._fleet.open_run(run, number=record.number, epoch=record.epoch)
        history = await self._journal.history(run)
        cohort = dict.fromkeys(history.devices)
        self._runs[run] = record
        earlier = self._executions.get(run)
        self._executions[run] = _Execution(
            Retracing(history, is_lenient=is_lenient),
            cohort,
            reported=earlier.reported if earlier else 0,
        )
        phases = len(history.phases)
        self._feed.report(RunResumed(run=run, epoch=record.epoch, phases=phases, app=record.app))
        return record

    def begin(self, run: str, epoch: int) -> RunRecord:
        """Return what a process is to execute.

        Raises:
            RunDiverged: another process was started for this run since.
        """
        record = self._execution_of(run)[0]
        if record.epoch != epoch:
            raise RunDiverged(f"run {run} was begun again elsewhere")
        return record

    def is_executed(self, run: str) -> bool:
        """Return whether somebody began to execute a run and did not leave it."""
        execution = self._executions.get(run)
        return execution is not None and not execution.is_suspended

    def forget(self, run: str) -> None:
        """Note that what a finished run rested on is gone."""
        self._runs[run] = replace(self._runs[run], is_forgotten=True)

    def suspend_run(self, run: str, epoch: int, *, reason: str, error: str | None = None) -> None:
        """Say that a run's process stopped before its end; nothing is lost."""
        execution = self._executions.get(run)
        record = self.run(run)
        if execution is None or execution.is_suspended or record.epoch != epoch:
            return
        if record.state == "open":
            execution.is_suspended = True
            self._feed.report(RunSuspended(run=run, reason=reason, error=error))

    async def end_run(
        self, run: str, *, success: bool, reason: str, result: dict[str, Any]
    ) -> None:
        """End a run for good and keep what it came to; a run that is over stays as it is.

        Raises:
            RunDiverged: it ended well, and without asking for all that it asked before.
        """
        record = self.run(run)
        if not self._is_open(record):
            return
        if success and run in self._executions:
            self._executions[run].retracing.end()
        self._ending.add(run)  # while its end is written down, nothing is begun for it
        now = self._clock.now()
        state: Any = "done" if success else "failed"
        tally = asdict(await self._journal.tally(run))
        kept = {**result, "reason": reason, "replies": tally}
        seed = 0 if record.is_private else record.seed
        ended = replace(record, state=state, result=kept, ended_at=now, seed=seed)
        try:
            await self._journal.record([ended], at=now)
            self._runs[run] = ended
        finally:
            self._ending.discard(run)
        self._executions.pop(run, None)
        self._fleet.end_run(run)
        self._budget.forget(run)
        seconds = round(now - record.created_at, 3)
        self._feed.report(RunEnded(run=run, success=success, reason=reason, seconds=seconds))

    # ----------------------------------------------------------------------- publications

    def runs(self) -> list[RunRecord]:
        """Return what is known of all runs, publications among them."""
        return list(self._runs.values())

    def draw_number(self) -> int:
        """Return a number that no run has; what it is for is to be opened at once."""
        self._last_number += 1
        return self._last_number

    async def keep(self, record: RunRecord) -> None:
        """Write a publication down."""
        self._runs[record.run] = record
        await self._journal.record([record], at=self._clock.now())

    async def tally(self, run: str) -> Tally:
        """Count how the exchanges of a run have ended until now."""
        return await self._journal.tally(run)

    def run(self, run: str) -> RunRecord:
        """Return what is known of a run.

        Raises:
            ConfigError: there is none of this name.
        """
        if run not in self._runs:
            raise ConfigError(f"there is no run {run}: see `windflower runs`", key="run")
        return self._runs[run]

    def _is_open(self, record: RunRecord) -> bool:
        return record.state == "open" and record.run not in self._ending

    def _execution_of(self, run: str) -> tuple[RunRecord, _Execution]:
        record = self.run(run)
        if not self._is_open(record):
            raise LocalProtocolError(f"run {run} is over")
        if run not in self._executions:
            raise LocalProtocolError(f"run {run} has to be resumed first")
        return record, self._executions[run]

    # ------------------------------------------------------------------------------ devices

    def devices(self, limit: int | None = None) -> list[Presence]:
        """Return devices by their last heartbeat, the most recent first."""
        return self._fleet.roster.freshest(limit)

    async def wait_for_devices(self, need: int, *, timeout_s: float) -> int:
        """Wait until so many devices are online; return how many are.

        Raises:
            NotEnoughDevices: there were fewer for all that time; the message names who is missed.
        """
        return await wait_for_devices(self._fleet, self._clock, need, timeout_s=timeout_s)

    async def roster(self, run: str, call: int) -> tuple[str, ...]:
        """Return the devices that a run may ask: the same as when it asked before."""
        before = await self._journal.roster(run, call)
        if before is not None:
            return before.devices
        devices = self._present(*self._execution_of(run))
        await self._journal.record([RosterRecord(run, call, devices)], at=self._clock.now())
        return devices

    def _present(self, record: RunRecord, execution: _Execution) -> tuple[str, ...]:
        """Who is online, freshest first up to the limit; a strict run keeps whom it once had."""
        online = [p.device for p in self.devices() if p.is_online]
        if record.policy.is_strict:
            execution.cohort |= dict.fromkeys(online)
            online = list(execution.cohort)
        return tuple(sorted(online[: record.limit]))

    # ---------------------------------------------------------------------------- exchanges

    async def ask(
        self,
        run: str,
        phase: str,
        commands: Sequence[Command],
        *,
        timeout_s: float | None,
        spares: int = 0,
    ) -> Sequence[Settlement]:
        """Ask devices and return how each exchange ended, in the order of the commands.

        The list is journaled before it is returned; asked again, it is the same.

        Args:
            run: the run.
            phase: names what is asked; the same for the same commands.
            commands: at least one.
            timeout_s: how long the app would wait; None as long as the commands live.
            spares: how many of the commands, at the end, are for devices that are asked beside
                those that the app chose.

        Raises:
            NotEnoughReplies: too few came in time; what is open is held open.
            NotEnoughRoom: the answers would not fit on the disk.
            RunFailed: all devices answered, and too few of them well; or the run was ended.
            RunDiverged: a run that was started again asks for something else.
        """
        record, execution = self._execution_of(run)
        execution.phases += 1
        execution.rounds += commands[0].type.startswith("train")
        number = execution.phases
        before = await self._journal.phase(run, phase)
        if before is None:
            similar = execution.retracing.similar_phase(number, commands)
            if similar is not None:
                return await self._renamed(similar.ids, commands)
        execution.retracing.ask(commands)
        if before is None:
            patience_s = _patience_s(commands, timeout_s)
            asked = len(commands) - spares
            terms = record.policy.terms(asked, now=self._clock.now(), patience_s=patience_s)
            await self._make_room(run, commands)
            opened = PhaseRecord(run, phase, _ids(commands), number)
            await self._phases.run(opened, commands, terms, round_=execution.rounds, spares=spares)
        return await self._in_order(_ids(commands))

    async def _make_room(self, run: str, commands: Sequence[Command]) -> None:
        """Let updates go for the answers to come; a run that ended meanwhile asks no more."""
        execution = self._execution_of(run)[1]
        dropped = await self._budget.to_drop(run, commands, read=execution.read)
        self._budget.check_disk(run, commands, dropped)
        record = self._execution_of(run)[0]
        if dropped:
            entries: list[DropRecord | RunRecord] = [DropRecord(run, tuple(h.id for h in dropped))]
            if record.is_resumable and not all(holding.is_spare for holding in dropped):
                self._runs[run] = replace(record, is_resumable=False)
                entries.append(self._runs[run])
            await self._journal.record(entries, at=self._clock.now())
            await self._budget.drop(run, dropped, is_told=record.is_resumable)
        self._execution_of(run)

    async def push(self, run: str, commands: Sequence[Command]) -> None:
        """Ask devices without waiting for them; raises RunDiverged and NotEnoughRoom as `ask`."""
        record, execution = self._execution_of(run)
        execution.retracing.push(commands)
        if commands:
            await self._make_room(run, [c for c in commands if not self._fleet.is_settled(c.id)])
            now = self._clock.now()
            waits = record.policy.is_strict or record.policy.wait_for_offline
            terms = Terms(now + _patience_s(commands, None), waits_for_offline=waits)
            self._fleet.ask(commands, batch=commands[0].id, terms=terms)

    async def pull(self, run: str, call: int, ids: Sequence[str]) -> Sequence[Settlement]:
        """Return what of these is settled, and remember what was given.

        Args:
            run: the run.
            call: how many pulls have given something before.
            ids: the commands that it asks about.
        """
        before = await self._journal.pull(run, call)
        given = before.ids if before else tuple(i for i in ids if self._fleet.is_settled(i))
        settlements = await self._in_order(given)
        if before is None and given:
            await self._journal.record([PullRecord(run, call, given)], at=self._clock.now())
            self._budget.take(run, settlements)
        return settlements

    async def _renamed(
        self, ids: Sequence[str], commands: Sequence[Command]
    ) -> Sequence[Settlement]:
        """Return recorded settlements as answers to commands that stand for those recorded."""
        found = await self._in_order(ids)
        return [replace(s, id=c.id) for s, c in zip(found, commands, strict=True)]

    async def _in_order(self, ids: Sequence[str]) -> Sequence[Settlement]:
        found = {s.id: s for s in await self._journal.settlements(ids)}
        return [found[id_] for id_ in ids]

    # -------------------------------------------------------------------------------- blobs

    async def adopt(self, path: Path, ref: BlobRef) -> None:
        """Take over a file that the run wrote."""
        await self._blobs.adopt(path, ref)

    async def locate(self, run: str, keys: Sequence[str]) -> list[Path]:
        """Return the files of blobs that a run reads from now on; raises BlobNotFound."""
        paths = [await self._blobs.fetch(key) for key in keys]
        self._execution_of(run)[1].read.update(keys)
        return paths

    async def aggregate(self, run: str, key: str) -> BlobRef | None:
        """Return what the run made of updates, if it is kept."""
        return await self._journal.aggregate(run, key)

    async def keep_aggregate(self, run: str, key: str, path: Path, ref: BlobRef) -> None:
        """Keep what a run that can be begun again made of updates; `path` is taken over."""
        if self.run(run).is_resumable:
            await self._blobs.adopt(path, ref)
            await self._journal.record([AggregateRecord(run, key, ref)], at=self._clock.now())
            self._budget.add(run, ref.size_bytes)

    async def checkpoint(self, run: str, name: str) -> BlobRef | None:
        """Return what a strategy goes on from, if it kept that; what came before is not missed."""
        execution = self._execution_of(run)[1]
        found = await self._journal.checkpoint(run, name)
        if found is None:
            return None
        execution.phases = found.phases
        execution.retracing.pass_over()
        return found.ref

    async def keep_checkpoint(
        self, run: str, name: str, path: Path, ref: BlobRef, waiting_for: Sequence[str]
    ) -> None:
        """Keep what a strategy goes on from, instead of what it kept before.

        Args:
            run: the run.
            name: which strategy of the run.
            path: the pack; it is taken over.
            ref: what it holds.
            waiting_for: what was asked, and is not used yet.
        """
        phases = self._execution_of(run)[1].phases
        before = await self._journal.checkpoint(run, name)
        number = 1 if before is None else before.number + 1
        await self._blobs.adopt(path, ref)
        record = CheckpointRecord(run, name, number, ref, tuple(waiting_for), phases)
        await self._journal.record([record], at=self._clock.now())
        if before is not None and before.ref != ref:
            await self._blobs.discard(before.ref.key)

    async def spare(self, run: str, ids: Sequence[str], header: bytes) -> None:
        """Note that updates were read to be aggregated only, and what they began with."""
        await self._journal.record([SpareRecord(run, tuple(ids), header)], at=self._clock.now())

    def report(self, line: dict[str, Any]) -> None:
        """Write an event of the run's own, unless it is a measurement that was reported before."""
        execution = self._executions.get(line["run"])
        if execution is not None and line["event"] == RoundMeasured.kind():
            execution.measured += 1
            is_known = execution.retracing.is_behind or execution.measured <= execution.reported
            execution.reported = max(execution.reported, execution.measured)
            if is_known:
                return
        self._feed.write(line)


def _ids(commands: Sequence[Command]) -> tuple[str, ...]:
    return tuple(command.id for command in commands)


def _patience_s(commands: Sequence[Command], timeout_s: float | None) -> float:
    ttl_s = max(command.ttl_s for command in commands)
    return ttl_s if timeout_s is None else min(timeout_s, ttl_s)
