"""A gateway's journal in dictionaries: it remembers as long as the process lives."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from windflower.core import gateway_effects
from windflower.core.ledger import (
    Entry,
    EpochRecord,
    ForgetRecord,
    History,
    Memory,
    OpenExchange,
    PhaseRecord,
    PullRecord,
    RosterRecord,
    RunRecord,
    SettledExchange,
    Settlement,
    Tally,
)
from windflower.core.retention import PastRun, keys_of
from windflower.core.roster import Presence
from windflower.wire.messages import Failure, Reply


@dataclass(slots=True)
class _Row:
    opened: OpenExchange
    settlement: Settlement | None = None


class MemoryJournal:
    """The journal of one fleet."""

    def __init__(self) -> None:
        self._runs: dict[str, RunRecord] = {}
        self._rows: dict[str, _Row] = {}
        self._phases: dict[tuple[str, str], PhaseRecord] = {}
        self._rosters: dict[tuple[str, int], RosterRecord] = {}
        self._pulls: dict[tuple[str, int], PullRecord] = {}
        self._presences: dict[str, Presence] = {}
        self._last_epoch = 0

    async def record(self, entries: Sequence[Entry], *, at: float) -> None:
        """Keep all entries."""
        for entry in entries:
            self._write(entry, at)

    def _write(self, entry: Entry, at: float) -> None:  # noqa: C901, PLR0912 - one case a kind
        match entry:
            case gateway_effects.RecordCommands(commands, batch, terms):
                for command in commands:
                    opened = OpenExchange(command, batch, terms, at)
                    self._rows.setdefault(command.id, _Row(opened))
            case gateway_effects.RecordTerms(batch, terms):
                for row in self._rows.values():
                    if row.opened.batch == batch:
                        row.opened = replace(row.opened, terms=terms)
            case gateway_effects.RecordReply(reply):
                self._settle(reply.id, reply=reply)
            case gateway_effects.RecordMissing(command, failure):
                self._settle(command.id, failure=failure)
            case RunRecord():
                self._runs[entry.run] = entry
            case PhaseRecord():
                self._phases.setdefault((entry.run, entry.phase), entry)
            case RosterRecord():
                self._rosters.setdefault((entry.run, entry.call), entry)
            case PullRecord():
                self._pulls.setdefault((entry.run, entry.call), entry)
            case ForgetRecord(run):
                self._forget(run)
            case EpochRecord(epoch):
                self._last_epoch = max(self._last_epoch, epoch)
            case Presence():
                self._presences[entry.device] = entry

    def _settle(
        self,
        id_: str,
        *,
        reply: Reply | None = None,
        failure: Failure | None = None,
    ) -> None:
        row = self._rows.get(id_)
        if row is not None and row.settlement is None:
            command = row.opened.command
            row.settlement = Settlement(
                *(id_, command.run, command.client, command.method, row.opened.batch),
                reply,
                failure,
            )

    async def recall(self) -> Memory:
        """Return what to go on with."""
        open_runs = {run for run, record in self._runs.items() if record.state == "open"}
        rows = [r for r in self._rows.values() if r.opened.command.run in open_runs]
        return Memory(
            runs=tuple(sorted(self._runs.values(), key=lambda run: run.number)),
            open=tuple(row.opened for row in rows if row.settlement is None),
            settled=tuple(
                SettledExchange(s.id, s.run, s.batch, s.reply is not None, s.is_good)
                for s in (row.settlement for row in rows)
                if s is not None
            ),
            presences=tuple(self._presences.values()),
            last_number=max((run.number for run in self._runs.values()), default=0),
            last_epoch=self._last_epoch,
        )

    async def history(self, run: str) -> History:
        """Return what a run asked and was told."""
        commands = (row.opened.command for row in self._rows.values())
        phases = (p for p in self._phases.values() if p.run == run)
        rosters = (r for r in self._rosters.values() if r.run == run)
        devices = (device for roster in rosters for device in roster.devices)
        return History(
            tuple(c for c in commands if c.run == run),
            tuple(sorted(phases, key=lambda phase: phase.number)),
            tuple(dict.fromkeys(devices)),
        )

    def _forget(self, run: str) -> None:
        self._runs[run] = replace(self._runs[run], is_forgotten=True)
        self._rows = {i: r for i, r in self._rows.items() if r.opened.command.run != run}
        self._phases = {key: p for key, p in self._phases.items() if p.run != run}
        self._rosters = {key: r for key, r in self._rosters.items() if r.run != run}
        self._pulls = {key: p for key, p in self._pulls.items() if p.run != run}

    async def past(self) -> Sequence[PastRun]:
        """Return the finished runs that are not forgotten, with what they hold."""
        ended = [r for r in self._runs.values() if r.state != "open" and not r.is_forgotten]
        return [PastRun(r.run, r.ended_at, self._size_bytes(r.run)) for r in ended]

    def _size_bytes(self, run: str) -> int:
        replies = [r.settlement.reply for r in self._rows.values() if r.settlement is not None]
        packs = [r.content.pack for r in replies if r is not None and r.run == run and r.path]
        return sum(pack.size_bytes for pack in packs if pack is not None)

    async def silent_since(self) -> dict[str, float]:
        """Return when each open run last asked for something."""
        since = {r.run: r.created_at for r in self._runs.values() if r.state == "open"}
        for row in self._rows.values():
            run = row.opened.command.run
            if run in since:
                since[run] = max(since[run], row.opened.asked_at)
        return since

    async def live_keys(self) -> frozenset[str]:
        """Return the keys of all blobs on which a run rests that is not forgotten."""
        keys = {r.bundle.key for r in self._runs.values() if not r.is_forgotten}
        for row in self._rows.values():
            reply = row.settlement.reply if row.settlement is not None else None
            keys |= keys_of(row.opened.command, reply)
        return frozenset(keys)

    async def tally(self, run: str) -> Tally:
        """Count how the exchanges of a run ended."""
        settled = [s for s in (row.settlement for row in self._rows.values()) if s is not None]
        mine = [s for s in settled if s.run == run]
        ok = sum(s.is_good for s in mine)
        late = sum(s.reply is None for s in mine)
        return Tally(ok, len(mine) - ok - late, late)

    async def settlements(self, ids: Sequence[str]) -> Sequence[Settlement]:
        """Return the settlements of those of these commands that are settled."""
        found = (self._rows[i].settlement for i in ids if i in self._rows)
        return [settlement for settlement in found if settlement is not None]

    async def phase(self, run: str, phase: str) -> PhaseRecord | None:
        """Return how a phase closed, if it did."""
        return self._phases.get((run, phase))

    async def roster(self, run: str, call: int) -> RosterRecord | None:
        """Return what the app was told at its nth question for the fleet, if it asked."""
        return self._rosters.get((run, call))

    async def pull(self, run: str, call: int) -> PullRecord | None:
        """Return what the app was given at its nth pull, if it was given anything."""
        return self._pulls.get((run, call))

    async def close(self) -> None:
        """Forget nothing: whoever opens it again goes on."""
