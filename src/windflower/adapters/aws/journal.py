"""A journal whose disk is lost with its task: kept in a table first, and read from the disk.

The disk answers every question. A disk that begins empty is filled from the table.
"""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from windflower.adapters.aws.commit_log import Commit, CommitLog, Entries, obsolete
from windflower.core.ledger import (
    CheckpointRecord,
    Entry,
    History,
    Memory,
    PhaseRecord,
    PullRecord,
    RosterRecord,
    RunRecord,
    Settlement,
    Tally,
)
from windflower.core.retention import Holding, PastRun
from windflower.ports import Journal
from windflower.wire.blobs import BlobRef

_TOGETHER: Final = 500
"""So many commits share a commit of the disk when it is filled."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    entries: Entries
    kept: asyncio.Future[None]


class TableJournal:
    """The journal of one fleet.

    Args:
        log: the commits in their table.
        disk: where they are read from; what it holds already does no harm.
    """

    def __init__(self, log: CommitLog, disk: Journal) -> None:
        self._log = log
        self._disk = disk
        self._filling: asyncio.Task[list[Commit]] | None = None
        self._waiting: list[_Waiting] = []
        self._writing: asyncio.Task[None] | None = None
        self._seeded: defaultdict[str, list[Commit]] = defaultdict(list)
        self._is_pruned = False

    async def record(self, entries: Sequence[Entry], *, at: float) -> None:
        """Keep all entries or none; durable on return.

        Whoever comes during a write shares the next one.
        """
        waiting = _Waiting(Entries(at, tuple(entries)), asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write())
        await waiting.kept

    async def _write(self) -> None:
        while self._waiting:
            group, self._waiting = self._waiting, []
            try:
                await self._keep([waiting.entries for waiting in group])
            except Exception as problem:  # noqa: BLE001 - handed to whoever asked
                for waiting in group:
                    if not waiting.kept.done():
                        waiting.kept.set_exception(problem)
            else:
                for waiting in group:
                    if not waiting.kept.done():
                        waiting.kept.set_result(None)

    async def _keep(self, records: list[Entries]) -> None:
        before = await self._fill()
        commit = await self._log.append(records)
        await self._apply([commit])
        await self._erase_seeds(commit)
        if not self._is_pruned:  # the table is ours now
            self._is_pruned = True
            for over in obsolete(before):
                await self._log.remove(over)

    async def _fill(self) -> list[Commit]:
        """Read the table into the disk, once; return what was there."""
        if self._filling is None:
            self._filling = asyncio.create_task(self._read())
        return await asyncio.shield(self._filling)

    async def _read(self) -> list[Commit]:
        commits = await self._log.read()
        for start in range(0, len(commits), _TOGETHER):
            await self._apply(commits[start : start + _TOGETHER])
        for commit in commits:
            self._note_seeds(commit)
        return commits

    async def _apply(self, commits: Sequence[Commit]) -> None:
        records = [record for commit in commits for record in commit.records]
        await asyncio.gather(*(self._disk.record(r.entries, at=r.at) for r in records))

    def _note_seeds(self, commit: Commit) -> None:
        for entry in commit.entries:
            if isinstance(entry, RunRecord) and entry.is_private and entry.seed:
                self._seeded[entry.run].append(commit)

    async def _erase_seeds(self, commit: Commit) -> None:
        """See to it that the seed of a private run that ended stands nowhere any more."""
        self._note_seeds(commit)
        for entry in commit.entries:
            if isinstance(entry, RunRecord) and entry.is_private and entry.state != "open":
                for seeded in self._seeded.pop(entry.run, []):
                    await self._log.erase_seeds(entry.run, seeded)

    async def close(self) -> None:
        """Write what waits, and let go of the disk."""
        if self._writing is not None:
            await asyncio.gather(self._writing, return_exceptions=True)
        await self._disk.close()

    # --------------------------------------------------------------- answered by the disk

    async def recall(self) -> Memory:
        """Return what to go on with."""
        await self._fill()
        return await self._disk.recall()

    async def history(self, run: str) -> History:
        """Return what a run asked and was told."""
        await self._fill()
        return await self._disk.history(run)

    async def past(self) -> Sequence[PastRun]:
        """Return the finished runs that are not forgotten, with what they hold."""
        await self._fill()
        return await self._disk.past()

    async def silent_since(self) -> dict[str, float]:
        """Return when each open run last asked for something."""
        await self._fill()
        return await self._disk.silent_since()

    async def live_keys(self) -> frozenset[str]:
        """Return the keys of all blobs on which a run rests that is not forgotten."""
        await self._fill()
        return await self._disk.live_keys()

    async def tally(self, run: str) -> Tally:
        """Count how the exchanges of a run ended."""
        await self._fill()
        return await self._disk.tally(run)

    async def settlements(self, ids: Sequence[str]) -> Sequence[Settlement]:
        """Return the settlements of those of these commands that are settled."""
        await self._fill()
        return await self._disk.settlements(ids)

    async def phase(self, run: str, phase: str) -> PhaseRecord | None:
        """Return how a phase closed, if it did."""
        await self._fill()
        return await self._disk.phase(run, phase)

    async def roster(self, run: str, call: int) -> RosterRecord | None:
        """Return what the app was told at its nth question for the fleet, if it asked."""
        await self._fill()
        return await self._disk.roster(run, call)

    async def pull(self, run: str, call: int) -> PullRecord | None:
        """Return what the app was given at its nth pull, if it was given anything."""
        await self._fill()
        return await self._disk.pull(run, call)

    async def aggregate(self, run: str, key: str) -> BlobRef | None:
        """Return what was made of updates, if that is kept."""
        await self._fill()
        return await self._disk.aggregate(run, key)

    async def checkpoint(self, run: str, name: str) -> CheckpointRecord | None:
        """Return the last checkpoint that a run kept under a name, if it kept any."""
        await self._fill()
        return await self._disk.checkpoint(run, name)

    async def holdings(self, run: str) -> Sequence[Holding]:
        """Return the updates that a run keeps, the oldest first, then what was made of them."""
        await self._fill()
        return await self._disk.holdings(run)
