"""A gateway's journal in SQLite."""

import json
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Final, cast

from windflower.adapters.local.database import Database, DatabaseReader
from windflower.adapters.local.journal_rows import SCHEMA, VERSION, write
from windflower.core.ledger import (
    CheckpointRecord,
    Entry,
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
from windflower.core.policy import Terms
from windflower.core.retention import Holding, PastRun, keys_answered, keys_asked
from windflower.core.roster import Presence
from windflower.errors import StoreUnavailable
from windflower.wire.blobs import BlobRef
from windflower.wire.messages import Command, Failure, Method, Reply

_SETTLEMENT: Final = """
SELECT c.id, c.run, device, method, batch, reply, code, reason, h.data
    FROM commands c
    LEFT JOIN headers h ON c.is_dropped AND h.run = c.run AND h.digest = c.header
    WHERE c.id = ? AND settled_at IS NOT NULL
"""
_HOLDINGS: Final = """
SELECT id, reply, size_bytes,
    header IS NOT NULL
        OR (seq <= (SELECT max(seq) FROM checkpoints k WHERE k.run = c.run)
            AND id NOT IN (SELECT value FROM checkpoints k, json_each(k.waiting_for)
                WHERE k.run = c.run))
    FROM commands c
    WHERE run = ? AND size_bytes > 0 AND NOT is_dropped ORDER BY seq
"""
_PAST: Final = """
SELECT run, record,
    (SELECT total(size_bytes) FROM commands c WHERE c.run = r.run AND NOT is_dropped)
        + (SELECT total(size_bytes) FROM aggregates a WHERE a.run = r.run)
        + (SELECT total(size_bytes) FROM checkpoints k WHERE k.run = r.run)
    FROM runs r WHERE state IN ('done', 'failed')
"""


def open_journal(path: Path) -> "SqliteJournal":
    """Return a gateway's journal; the file is created where it is missing."""
    return SqliteJournal(Database(path, SCHEMA, version=VERSION))


def read_journal(path: Path) -> "SqliteJournal":
    """Return a journal to look into, while its gateway may be at work.

    Raises:
        StoreUnavailable: there is none, or one of another release.
    """
    if not path.exists():
        raise StoreUnavailable(f"there is no journal in {path.parent}: nothing was run there")
    return SqliteJournal(DatabaseReader(path, version=VERSION))


class SqliteJournal:
    """The journal of one fleet.

    Args:
        database: the file; see `open_journal` and `read_journal`.
    """

    def __init__(self, database: Database | DatabaseReader) -> None:
        self._database = database

    async def record(self, entries: Sequence[Entry], *, at: float) -> None:
        """Keep all entries or none; durable on return."""

        def change(connection: sqlite3.Connection) -> None:
            for entry in entries:
                write(connection, entry, at)

        await self._database.run(change)
        if any(isinstance(e, RunRecord) and e.is_private and e.state != "open" for e in entries):
            await self._database.erase()  # its seed was overwritten

    async def recall(self) -> Memory:
        """Return what to go on with."""
        return await self._database.run(_recall)

    async def past(self) -> Sequence[PastRun]:
        """Return the finished runs that are not forgotten, with what they hold."""

        def query(connection: sqlite3.Connection) -> list[PastRun]:
            rows = connection.execute(_PAST)
            ended = ((run, RunRecord.from_json(json.loads(text)), size) for run, text, size in rows)
            return [PastRun(run, record.ended_at, int(size)) for run, record, size in ended]

        return await self._database.run(query)

    async def silent_since(self) -> dict[str, float]:
        """Return when each open run last asked for something."""

        def query(connection: sqlite3.Connection) -> dict[str, float]:
            rows = connection.execute(
                "SELECT run, record, (SELECT max(asked_at) FROM commands c WHERE c.run = r.run)"
                " FROM runs r WHERE state = 'open'"
            )
            return {
                run: asked_at or RunRecord.from_json(json.loads(text)).created_at
                for run, text, asked_at in rows
            }

        return await self._database.run(query)

    async def live_keys(self) -> frozenset[str]:
        """Return the keys of all blobs on which a run rests that is not forgotten."""
        return await self._database.run(_live_keys)

    async def tally(self, run: str) -> Tally:
        """Count how the exchanges of a run ended."""

        def query(connection: sqlite3.Connection) -> Tally:
            ok, failed, late = connection.execute(
                "SELECT total(is_good = 1), total(is_good = 0), total(is_good IS NULL)"
                " FROM commands WHERE run = ? AND settled_at IS NOT NULL",
                (run,),
            ).fetchone()
            return Tally(int(ok), int(failed), int(late))

        return await self._database.run(query)

    async def settlements(self, ids: Sequence[str]) -> Sequence[Settlement]:
        """Return the settlements of those of these commands that are settled."""

        def query(connection: sqlite3.Connection) -> list[Settlement]:
            found = []
            for id_ in ids:
                row = connection.execute(_SETTLEMENT, (id_,)).fetchone()
                if row is not None:
                    found.append(_settlement(row))
            return found

        return await self._database.run(query)

    async def runs(self) -> Sequence[RunRecord]:
        """Return all runs, in the order of their numbers."""
        return await self._database.run(_runs)

    async def history(self, run: str) -> History:
        """Return what a run asked and was told."""

        def query(connection: sqlite3.Connection) -> History:
            commands = connection.execute(
                "SELECT body FROM commands WHERE run = ? ORDER BY seq", (run,)
            )
            passed = connection.execute(
                "SELECT id FROM commands c WHERE run = ?"
                " AND seq <= (SELECT max(seq) FROM checkpoints k WHERE k.run = c.run)",
                (run,),
            )
            phases = connection.execute(
                "SELECT phase, ids, number FROM phases WHERE run = ? ORDER BY number", (run,)
            )
            rosters = connection.execute(
                "SELECT devices FROM rosters WHERE run = ? ORDER BY call", (run,)
            )
            devices = [device for (text,) in rosters for device in json.loads(text)]
            return History(
                tuple(Command.from_body(body) for (body,) in commands),
                tuple(_phase(run, *row) for row in phases),
                tuple(dict.fromkeys(devices)),
                frozenset(id_ for (id_,) in passed),
            )

        return await self._database.run(query)

    async def phase(self, run: str, phase: str) -> PhaseRecord | None:
        """Return how a phase closed, if it did."""

        def query(connection: sqlite3.Connection) -> PhaseRecord | None:
            sql = "SELECT phase, ids, number FROM phases WHERE run = ? AND phase = ?"
            row = connection.execute(sql, (run, phase)).fetchone()
            return None if row is None else _phase(run, *row)

        return await self._database.run(query)

    async def roster(self, run: str, call: int) -> RosterRecord | None:
        """Return what the app was told at its nth question for the fleet, if it asked."""
        found = await self._list(
            "SELECT devices FROM rosters WHERE run = ? AND call = ?", run, call
        )
        return None if found is None else RosterRecord(run, call, found)

    async def pull(self, run: str, call: int) -> PullRecord | None:
        """Return what the app was given at its nth pull, if it was given anything."""
        ids = await self._list("SELECT ids FROM pulls WHERE run = ? AND call = ?", run, call)
        return None if ids is None else PullRecord(run, call, ids)

    async def aggregate(self, run: str, key: str) -> BlobRef | None:
        """Return what was made of updates, if that is kept."""

        def query(connection: sqlite3.Connection) -> BlobRef | None:
            sql = "SELECT digest, size_bytes FROM aggregates WHERE run = ? AND key = ?"
            row = connection.execute(sql, (run, key)).fetchone()
            return None if row is None else BlobRef(*row)

        return await self._database.run(query)

    async def checkpoint(self, run: str, name: str) -> CheckpointRecord | None:
        """Return the last checkpoint that a run kept under a name, if it kept any."""

        def query(connection: sqlite3.Connection) -> CheckpointRecord | None:
            sql = (
                "SELECT number, digest, size_bytes, waiting_for, phases FROM checkpoints"
                " WHERE run = ? AND name = ?"
            )
            row = connection.execute(sql, (run, name)).fetchone()
            if row is None:
                return None
            number, digest, size_bytes, waiting_for, phases = row
            ref = BlobRef(digest, size_bytes)
            return CheckpointRecord(run, name, number, ref, tuple(json.loads(waiting_for)), phases)

        return await self._database.run(query)

    async def holdings(self, run: str) -> Sequence[Holding]:
        """Return the updates that a run keeps, the oldest first, then what was made of them."""

        def query(connection: sqlite3.Connection) -> list[Holding]:
            rows = connection.execute(_HOLDINGS, (run,))
            updates = [
                Holding(id_, Reply.from_bytes(reply).path or "", size_bytes, bool(is_spare))
                for id_, reply, size_bytes, is_spare in rows
            ]
            made = connection.execute(
                "SELECT key, digest, size_bytes FROM aggregates WHERE run = ? ORDER BY key", (run,)
            )
            return updates + [
                Holding(key, BlobRef(digest, size).key, size, is_aggregate=True)
                for key, digest, size in made
            ]

        return await self._database.run(query)

    async def close(self) -> None:
        """Let go of the file."""
        await self._database.close()

    async def _list(self, sql: str, *key: object) -> tuple[str, ...] | None:
        def query(connection: sqlite3.Connection) -> tuple[str, ...] | None:
            row = connection.execute(sql, key).fetchone()
            return None if row is None else tuple(json.loads(row[0]))

        return await self._database.run(query)


def _runs(connection: sqlite3.Connection) -> tuple[RunRecord, ...]:
    records = connection.execute("SELECT record FROM runs ORDER BY number")
    return tuple(RunRecord.from_json(json.loads(row[0])) for row in records)


def _live_keys(connection: sqlite3.Connection) -> frozenset[str]:
    runs = connection.execute("SELECT record FROM runs WHERE state != 'forgotten'")
    keys = {RunRecord.from_json(json.loads(text)).bundle.key for (text,) in runs}
    asked = (
        "SELECT body FROM commands JOIN runs USING (run)"
        " WHERE state = 'open' AND settled_at IS NULL"
    )
    for (body,) in connection.execute(asked):
        keys |= keys_asked(Command.from_body(body))
    answered = "SELECT reply FROM commands WHERE size_bytes > 0 AND NOT is_dropped"
    for (reply,) in connection.execute(answered):
        keys |= keys_answered(Reply.from_bytes(reply))
    made = connection.execute(
        "SELECT digest, size_bytes FROM aggregates"
        " UNION ALL SELECT digest, size_bytes FROM checkpoints"
    )
    return frozenset(keys | {BlobRef(*row).key for row in made})


def _recall(connection: sqlite3.Connection) -> Memory:
    runs = _runs(connection)
    of_open = (
        "FROM commands JOIN batches USING (batch)"
        " WHERE run IN (SELECT run FROM runs WHERE state = 'open')"
    )
    opened = connection.execute(
        "SELECT body, batch, deadline, waits_for_offline, quorum, minimum, asked_at"
        f" {of_open} AND settled_at IS NULL ORDER BY seq"
    )
    # Not the replies: to read ten thousand of them takes as long as all the rest of a start.
    settled = connection.execute(
        f"SELECT id, run, batch, is_good {of_open} AND settled_at IS NOT NULL"
    )
    presences = connection.execute("SELECT * FROM presences LEFT JOIN models_in_use USING (device)")
    return Memory(
        runs=runs,
        open=tuple(
            OpenExchange(
                Command.from_body(body),
                batch,
                Terms(deadline, bool(waits), quorum, minimum),
                asked_at,
            )
            for body, batch, deadline, waits, quorum, minimum, asked_at in opened
        ),
        settled=tuple(
            SettledExchange(id_, run, batch, is_good is not None, bool(is_good))
            for id_, run, batch, is_good in settled
        ),
        presences=tuple(_presence(row) for row in presences),
        last_number=max((run.number for run in runs), default=0),
        last_epoch=connection.execute("SELECT max(epoch) FROM epochs").fetchone()[0] or 0,
    )


def _phase(run: str, phase: str, ids: str, number: int) -> PhaseRecord:
    return PhaseRecord(run, phase, tuple(json.loads(ids)), number)


def _settlement(row: tuple[object, ...]) -> Settlement:
    id_, run, device, method, batch, reply, code, reason, header = row
    return Settlement(
        str(id_),
        str(run),
        str(device),
        cast("Method", method),
        str(batch),
        None if reply is None else Reply.from_bytes(cast("bytes", reply)),
        None if reply is not None else Failure(cast("int", code), str(reason)),
        cast("bytes | None", header),
    )


def _presence(row: tuple[object, ...]) -> Presence:
    device, heard_at, boot, interval_s, overdue_at, is_online, labels, model = row
    return Presence(
        str(device),
        cast("float", heard_at),
        str(boot),
        cast("float", interval_s),
        cast("float", overdue_at),
        bool(is_online),
        json.loads(str(labels)),
        cast("str | None", model),
    )
