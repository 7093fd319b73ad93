"""A gateway's journal in dictionaries: it remembers as long as the process lives."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from windflower.core import gateway_effects
from windflower.core.ledger import (
    AggregateRecord,
    CheckpointRecord,
    DropRecord,
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
    SpareRecord,
    Tally,
)
from windflower.core.retention import Holding, PastRun, keys_answered, keys_asked, stored_bytes
from windflower.core.roster import Presence
from windflower.wire.blobs import BlobRef
from windflower.wire.messages import Failure, Reply


@dataclass(slots=True)
class _Row:
    opened: OpenExchange
    settlement: Settlement | None = None
    header: bytes | None = None
    is_dropped: bool = False

    @property
    def size_bytes(self) -> int:
        """How much its update takes."""
        reply = self.settlement.reply if self.settlement is not None else None
        return 0 if reply is None or self.is_dropped else stored_bytes(reply)


class MemoryJournal:
    """The journal of one fleet."""

    def __init__(self) -> None:
        self._runs: dict[str, RunRecord] = {}
        self._rows: dict[str, _Row] = {}
        self._phases: dict[tuple[str, str], PhaseRecord] = {}
        self._rosters: dict[tuple[str, int], RosterRecord] = {}
        self._pulls: dict[tuple[str, int], PullRecord] = {}
        self._aggregates: dict[tuple[str, str], BlobRef] = {}
        self._checkpoints: dict[tuple[str, str], CheckpointRecord] = {}
        self._passed: dict[str, frozenset[str]] = {}
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
            case AggregateRecord(run, key, ref):
                self._aggregates.setdefault((run, key), ref)
            case SpareRecord(_, ids, header):
                for id_ in ids:
                    self._rows[id_].header = header
            case CheckpointRecord():
                self._write_checkpoint(entry)
            case DropRecord(run, ids):
                for id_ in ids:
                    self._aggregates.pop((run, id_), None)
                    if id_ in self._rows:
                        self._rows[id_].is_dropped = True
            case ForgetRecord(run):
                self._forget(run)
            case EpochRecord(epoch):
                self._last_epoch = max(self._last_epoch, epoch)
            case Presence():
                self._presences[entry.device] = entry

    def _write_checkpoint(self, entry: CheckpointRecord) -> None:
        before = self._checkpoints.get((entry.run, entry.name))
        if before is None or before.number < entry.number:
            self._checkpoints[entry.run, entry.name] = entry
            asked = (i for i, r in self._rows.items() if r.opened.command.run == entry.run)
            self._passed[entry.run] = frozenset(asked)

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
            self._passed.get(run, frozenset()),
        )

    def _forget(self, run: str) -> None:
        self._runs[run] = replace(self._runs[run], is_forgotten=True)
        self._rows = {i: r for i, r in self._rows.items() if r.opened.command.run != run}
        self._phases = {key: p for key, p in self._phases.items() if p.run != run}
        self._rosters = {key: r for key, r in self._rosters.items() if r.run != run}
        self._pulls = {key: p for key, p in self._pulls.items() if p.run != run}
        self._aggregates = {key: ref for key, ref in self._aggregates.items() if key[0] != run}
        self._checkpoints = {key: c for key, c in self._checkpoints.items() if key[0] != run}
        self._passed.pop(run, None)

    async def past(self) -> Sequence[PastRun]:
        """Return the finished runs that are not forgotten, with what they hold."""
        ended = [r for r in self._runs.values() if r.state != "open" and not r.is_forgotten]
        return [PastRun(r.run, r.ended_at, self._size_bytes(r.run)) for r in ended]

    def _size_bytes(self, run: str) -> int:
        made = sum(ref.size_bytes for (of, _), ref in self._aggregates.items() if of == run)
        made += sum(c.ref.size_bytes for c in self._checkpoints.values() if c.run == run)
        rows = (row for row in self._rows.values() if row.opened.command.run == run)
        return made + sum(row.size_bytes for row in rows)

    async def silent_since(self) -> dict[str, float]:
        """Return when each open run last asked for something."""
        since = {r.run: r.created_at for r in self._runs.values() if r.state == "open"}
        for row in self._rows.values():
            run = row.opened.command.run
            if run in since:
                since[run] = max(since[run], row.opened.asked_at)
        return since

    async def live_keys(self) -> frozenset[str]:
        """Return the keys of all blobs that an open exchange or a run not forgotten needs."""
        keys = {r.bundle.key for r in self._runs.values() if not r.is_forgotten}
        keys |= {ref.key for ref in self._aggregates.values()}
        keys |= {checkpoint.ref.key for checkpoint in self._checkpoints.values()}
        for row in self._rows.values():
            command, settled = row.opened.command, row.settlement
            if settled is None and self._runs[command.run].state == "open":
                keys |= keys_asked(command)
            elif settled is not None and settled.reply is not None and not row.is_dropped:
                keys |= keys_answered(settled.reply)
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
        rows = (self._rows[i] for i in ids if i in self._rows)
        return [
            replace(row.settlement, header=row.header if row.is_dropped else None)
            for row in rows
            if row.settlement is not None
        ]

    async def phase(self, run: str, phase: str) -> PhaseRecord | None:
        """Return how a phase closed, if it did."""
        return self._phases.get((run, phase))

    async def roster(self, run: str, call: int) -> RosterRecord | None:
        """Return what the app was told at its nth question for the fleet, if it asked."""
        return self._rosters.get((run, call))

    async def pull(self, run: str, call: int) -> PullRecord | None:
        """Return what the app was given at its nth pull, if it was given anything."""
        return self._pulls.get((run, call))

    async def aggregate(self, run: str, key: str) -> BlobRef | None:
        """Return what was made of updates, if that is kept."""
        return self._aggregates.get((run, key))

    async def checkpoint(self, run: str, name: str) -> CheckpointRecord | None:
        """Return the last checkpoint that a run kept under a name, if it kept any."""
        return self._checkpoints.get((run, name))

    async def holdings(self, run: str) -> Sequence[Holding]:
        """Return the updates that a run keeps, the oldest first, then what was made of them."""
        held = []
        waiting = {i for c in self._checkpoints.values() if c.run == run for i in c.waiting_for}
        passed = self._passed.get(run, frozenset()) - waiting
        for id_, row in self._rows.items():
            reply = row.settlement.reply if row.settlement is not None else None
            if row.size_bytes and reply is not None and reply.run == run:
                is_spare = row.header is not None or id_ in passed
                held.append(Holding(id_, reply.path or "", row.size_bytes, is_spare))
        return held + [
            Holding(key, ref.key, ref.size_bytes, is_aggregate=True)
            for (of, key), ref in sorted(self._aggregates.items())
            if of == run
        ]

    async def close(self) -> None:
        """Forget nothing: whoever opens it again goes on."""
