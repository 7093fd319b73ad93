"""The desk where runs are served: what a run may ask of its gateway, in one class.

A run is somebody's ServerApp in a process of its own. Whatever it is told is journaled before, so
that it can be started again from the top and is told the same.
"""

import asyncio
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from windflower.core.events import PhaseClosed, PhaseOpened, RunEnded, RunStarted
from windflower.core.roster import Presence
from windflower.errors import LocalProtocolError, NotEnoughDevices
from windflower.gateway.feed import Feed
from windflower.gateway.fleet import Fleet
from windflower.ports import (
    Blobs,
    Clock,
    Journal,
    PhaseRecord,
    PullRecord,
    RosterRecord,
    RunRecord,
    Settlement,
)
from windflower.wire.blobs import BlobRef
from windflower.wire.content import Values
from windflower.wire.messages import Command


@dataclass(frozen=True, slots=True)
class RunRequest:
    """What somebody wants to run.

    Attributes:
        app: the app's name.
        bundle: the app; adopted before.
        config: the run configuration's overrides.
        seed: what all random sources derive from; None draws one.
        is_strict: whether every chosen device is waited for.
        devices: how many of the freshest devices take part; None takes all.
    """

    app: str
    bundle: BlobRef
    config: Values
    seed: int | None
    is_strict: bool
    devices: int | None = None


class Desk:
    """Serves runs.

    Args:
        fleet: the devices.
        journal: what a run was told.
        blobs: where packs are.
        clock: Unix time.
        feed: takes events.
    """

    def __init__(
        self, fleet: Fleet, *, journal: Journal, blobs: Blobs, clock: Clock, feed: Feed
    ) -> None:
        self._fleet = fleet
        self._journal = journal
        self._blobs = blobs
        self._clock = clock
        self._feed = feed
        self._runs: dict[str, RunRecord] = {}
        self._limits: dict[str, int | None] = {}
        self._cohorts: dict[str, dict[str, None]] = {}
        self._phases: dict[str, int] = {}
        self._last_number = 0

    def restore(self, runs: Sequence[RunRecord], last_number: int) -> None:
        """Take up what the journal holds of runs."""
        self._runs = {record.run: record for record in runs}
        self._last_number = last_number

    # -------------------------------------------------------------------------------- runs

    async def open_run(self, request: RunRequest) -> RunRecord:
        """Begin a run."""
        record = self._new_run(request)
        # At once: were a later number opened first, its floor would end this run on devices.
        self._fleet.open_run(record.run, number=record.number, epoch=record.epoch)
        self._runs[record.run] = record
        self._limits[record.run] = request.devices
        await self._journal.record([record], at=self._clock.now())
        self._feed.report(
            RunStarted(
                run=record.run,
                number=record.number,
                epoch=record.epoch,
                app=record.app,
                seed=record.seed,
            )
        )
        return record

    def _new_run(self, request: RunRequest) -> RunRecord:
        self._last_number += 1
        return RunRecord(
            run=f"{self._last_number}-{secrets.token_hex(4)}",
            number=self._last_number,
            epoch=self._fleet.epoch,
            app=request.app,
            bundle=request.bundle,
            config=request.config,
            seed=secrets.randbits(63) if request.seed is None else request.seed,
            is_strict=request.is_strict,
            state="open",
            created_at=self._clock.now(),
        )

    async def end_run(
        self, run: str, *, success: bool, reason: str, result: dict[str, Any]
    ) -> None:
        """End a run for good and keep what it came to; a run that is over stays as it is."""
        record = self.run(run)
        if record.state != "open":
            return
        ended = replace(record, state="done" if success else "failed", result=result)
        now = self._clock.now()
        await self._journal.record([ended], at=now)
        self._runs[run] = ended
        for kept in (self._limits, self._cohorts, self._phases):
            kept.pop(run, None)
        self._fleet.end_run(run)
        seconds = round(now - record.created_at, 3)
        self._feed.report(RunEnded(run=run, success=success, reason=reason, seconds=seconds))

    def run(self, run: str) -> RunRecord:
        """Return what is known of a run; raises LocalProtocolError."""
        if run not in self._runs:
            raise LocalProtocolError(f"there is no run {run}")
        return self._runs[run]

    def _check_open(self, run: str) -> None:
        if self.run(run).state != "open":
            raise LocalProtocolError(f"run {run} is over")

    # ------------------------------------------------------------------------------ devices

    def devices(self, limit: int | None = None) -> list[Presence]:
        """Return devices by their last heartbeat, the most recent first."""
        return self._fleet.roster.freshest(limit)

    async def wait_for_devices(self, need: int, *, timeout_s: float) -> int:
        """Wait until so many devices are online; return how many are.

        Raises:
            NotEnoughDevices: there were fewer for all that time; the message names who is missed.
        """
        try:
            async with asyncio.timeout(timeout_s):
                while (have := self._online()) < need:
                    await self._fleet.changed()
                return have
        except TimeoutError:
            have = self._online()
            if have >= need:
                return have
            raise NotEnoughDevices(self._shortage(need, have), have=have, need=need) from None

    def _online(self) -> int:
        return sum(presence.is_online for presence in self.devices())

    def _shortage(self, need: int, have: int) -> str:
        now = self._clock.now()
        missed = [p for p in self.devices() if not p.is_online and p.heard_at > 0]
        names = ", ".join(f"{p.device} last heard {_ago(now - p.heard_at)} ago" for p in missed[:5])
        plural = "device" if need == 1 else "devices"
        return f"needs {need} {plural}, {have} online" + (f" ({names})" if names else "")

    async def roster(self, run: str, call: int) -> tuple[str, ...]:
        """Return the devices that a run may ask: the same as when it asked before."""
        before = await self._journal.roster(run, call)
        if before is not None:
            return before.devices
        devices = self._present(run)
        await self._journal.record([RosterRecord(run, call, devices)], at=self._clock.now())
        return devices

    def _present(self, run: str) -> tuple[str, ...]:
        """Who is online, freshest first up to the limit; a strict run keeps whom it once had."""
        kept = self._cohorts.setdefault(run, {})
        online = [p.device for p in self.devices() if p.is_online]
        if self.run(run).is_strict:
            kept |= dict.fromkeys(online)
            online = list(kept)
        return tuple(sorted(online[: self._limits.get(run)]))

    # ---------------------------------------------------------------------------- exchanges

    async def ask(
        self, run: str, phase: str, commands: Sequence[Command], *, timeout_s: float | None
    ) -> Sequence[Settlement]:
        """Ask devices and return how each exchange ended, in the order of the commands.

        The list is journaled before it is returned; asked again, it is the same.
        """
        self._check_open(run)
        before = await self._journal.phase(run, phase)
        if before is None:
            await self._run_phase(run, phase, commands, timeout_s)
        return await self._in_order([c.id for c in commands])

    async def _run_phase(
        self, run: str, phase: str, commands: Sequence[Command], timeout_s: float | None
    ) -> None:
        number = self._phases[run] = self._phases.get(run, 0) + 1
        type_ = commands[0].type
        self._feed.report(
            PhaseOpened(
                run=run, phase=number, type=type_, devices=len(commands), timeout_s=timeout_s
            )
        )
        begun = self._clock.now()
        ttl_s = max(command.ttl_s for command in commands)
        patience_s = ttl_s if timeout_s is None else min(timeout_s, ttl_s)
        self._fleet.ask(
            commands,
            deadline=begun + patience_s,
            waits_for_offline=self.run(run).is_strict,
        )
        ids = tuple(command.id for command in commands)
        await self._fleet.settled(ids)
        now = self._clock.now()
        await self._journal.record([PhaseRecord(run, phase, ids)], at=now)
        settlements = await self._journal.settlements(ids)
        late = sum(s.reply is None for s in settlements)
        failed = sum(s.reply is not None and s.reply.failure is not None for s in settlements)
        self._feed.report(
            PhaseClosed(
                run=run,
                phase=number,
                type=type_,
                ok=len(ids) - late - failed,
                failed=failed,
                late=late,
                seconds=round(now - begun, 4),
            )
        )

    async def push(self, run: str, commands: Sequence[Command]) -> None:
        """Ask devices without waiting for them."""
        self._check_open(run)
        now = self._clock.now()
        ttl_s = max((command.ttl_s for command in commands), default=0.0)
        self._fleet.ask(commands, deadline=now + ttl_s, waits_for_offline=self.run(run).is_strict)

    async def pull(self, run: str, call: int, ids: Sequence[str]) -> Sequence[Settlement]:
        """Return what of these is settled, and remember what was given.

        Args:
            run: the run.
            call: how many pulls have given something before.
            ids: the commands that it asks about.
        """
        before = await self._journal.pull(run, call)
        given = before.ids if before else tuple(i for i in ids if self._fleet.is_settled(i))
        if before is None and given:
            await self._journal.record([PullRecord(run, call, given)], at=self._clock.now())
        return await self._in_order(given)

    async def _in_order(self, ids: Sequence[str]) -> Sequence[Settlement]:
        found = {s.id: s for s in await self._journal.settlements(ids)}
        return [found[id_] for id_ in ids]

    # -------------------------------------------------------------------------------- blobs

    async def adopt(self, path: Path, ref: BlobRef) -> None:
        """Take over a file that the run wrote."""
        await self._blobs.adopt(path, ref)

    async def locate(self, keys: Sequence[str]) -> list[Path]:
        """Return the files of blobs; raises BlobNotFound."""
        return [await self._blobs.fetch(key) for key in keys]

    def report(self, line: dict[str, Any]) -> None:
        """Write an event of the run's own."""
        self._feed.write(line)


def _ago(seconds: float) -> str:
    if seconds < 120:  # noqa: PLR2004 - two minutes
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min"
