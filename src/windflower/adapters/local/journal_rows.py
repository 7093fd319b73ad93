"""How each entry of a gateway's journal becomes rows of SQLite."""

import hashlib
import json
import sqlite3
from dataclasses import replace
from typing import Final

from windflower.core import gateway_effects
from windflower.core.ledger import (
    AggregateRecord,
    CheckpointRecord,
    DropRecord,
    Entry,
    EpochRecord,
    ForgetRecord,
    PhaseRecord,
    PullRecord,
    RosterRecord,
    RunRecord,
    SpareRecord,
)
from windflower.core.policy import Terms
from windflower.core.retention import stored_bytes
from windflower.core.roster import Presence
from windflower.wire.strict_json import dumps

SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS runs (
    run TEXT PRIMARY KEY,
    number INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    state TEXT NOT NULL,
    record TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS commands (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    run TEXT NOT NULL,
    device TEXT NOT NULL,
    method TEXT NOT NULL,
    batch TEXT NOT NULL,
    body TEXT NOT NULL,
    asked_at REAL NOT NULL,
    settled_at REAL,
    reply BLOB,
    is_good INTEGER,
    size_bytes INTEGER NOT NULL DEFAULT 0,
    header TEXT,
    is_dropped INTEGER NOT NULL DEFAULT 0,
    code INTEGER,
    reason TEXT
);
CREATE TABLE IF NOT EXISTS batches (
    batch TEXT PRIMARY KEY,
    deadline REAL NOT NULL,
    waits_for_offline INTEGER NOT NULL,
    quorum INTEGER,
    minimum INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS commands_of_run ON commands (run);
CREATE TABLE IF NOT EXISTS phases (
    run TEXT NOT NULL,
    phase TEXT NOT NULL,
    ids TEXT NOT NULL,
    number INTEGER NOT NULL,
    closed_at REAL NOT NULL,
    PRIMARY KEY (run, phase)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS rosters (
    run TEXT NOT NULL, call INTEGER NOT NULL, devices TEXT NOT NULL, PRIMARY KEY (run, call)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS pulls (
    run TEXT NOT NULL, call INTEGER NOT NULL, ids TEXT NOT NULL, PRIMARY KEY (run, call)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS aggregates (
    run TEXT NOT NULL,
    key TEXT NOT NULL,
    digest TEXT NOT NULL,
    size_bytes INTEGER NOT NULL,
    PRIMARY KEY (run, key)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS checkpoints (
    run TEXT NOT NULL,
    name TEXT NOT NULL,
    number INTEGER NOT NULL,
    digest TEXT NOT NULL,
    size_bytes INTEGER NOT NULL,
    waiting_for TEXT NOT NULL,
    phases INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    PRIMARY KEY (run, name)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS headers (
    run TEXT NOT NULL, digest TEXT NOT NULL, data BLOB NOT NULL, PRIMARY KEY (run, digest)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS epochs (epoch INTEGER PRIMARY KEY);
CREATE TABLE IF NOT EXISTS presences (
    device TEXT PRIMARY KEY,
    heard_at REAL NOT NULL,
    boot TEXT NOT NULL,
    interval_s REAL NOT NULL,
    overdue_at REAL NOT NULL,
    is_online INTEGER NOT NULL,
    labels TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS models_in_use (
    device TEXT PRIMARY KEY, model TEXT NOT NULL
) WITHOUT ROWID;
"""
VERSION: Final = 6
_CHECKPOINT: Final = """
INSERT INTO checkpoints VALUES (?, ?, ?, ?, ?, ?, ?,
        (SELECT ifnull(max(seq), 0) FROM commands WHERE run = ?))
    ON CONFLICT (run, name) DO UPDATE SET number = excluded.number, digest = excluded.digest,
        size_bytes = excluded.size_bytes, waiting_for = excluded.waiting_for,
        phases = excluded.phases, seq = excluded.seq
    WHERE excluded.number > number
"""


def write(connection: sqlite3.Connection, entry: Entry, at: float) -> None:  # noqa: C901, PLR0912 - one case a kind
    """Write an entry inside of a transaction; a second time changes nothing."""
    match entry:
        case gateway_effects.RecordCommands():
            _write_commands(connection, entry, at)
        case gateway_effects.RecordTerms(batch, terms):
            _write_terms(connection, batch, terms)
        case gateway_effects.RecordReply(reply):
            connection.execute(
                "UPDATE commands SET settled_at = ?, reply = ?, is_good = ?, size_bytes = ?"
                " WHERE id = ? AND settled_at IS NULL",
                (at, reply.to_bytes(), reply.failure is None, stored_bytes(reply), reply.id),
            )
        case gateway_effects.RecordMissing(command, failure):
            connection.execute(
                "UPDATE commands SET settled_at = ?, code = ?, reason = ?"
                " WHERE id = ? AND settled_at IS NULL",
                (at, failure.code, failure.reason, command.id),
            )
        case RunRecord():
            connection.execute(
                "INSERT OR REPLACE INTO runs VALUES (?, ?, ?, ?, ?)",
                (entry.run, entry.number, entry.epoch, entry.state, dumps(entry.to_json())),
            )
        case PhaseRecord(run, phase, ids, number):
            connection.execute(
                "INSERT OR IGNORE INTO phases VALUES (?, ?, ?, ?, ?)",
                (run, phase, dumps(ids), number, at),
            )
        case RosterRecord(run, call, devices):
            connection.execute(
                "INSERT OR IGNORE INTO rosters VALUES (?, ?, ?)", (run, call, dumps(devices))
            )
        case PullRecord(run, call, ids):
            connection.execute(
                "INSERT OR IGNORE INTO pulls VALUES (?, ?, ?)", (run, call, dumps(ids))
            )
        case AggregateRecord(run, key, ref):
            connection.execute(
                "INSERT OR IGNORE INTO aggregates VALUES (?, ?, ?, ?)",
                (run, key, ref.digest, ref.size_bytes),
            )
        case SpareRecord():
            _write_spare(connection, entry)
        case CheckpointRecord():
            _write_checkpoint(connection, entry)
        case DropRecord(run, ids):
            connection.executemany(
                "UPDATE commands SET is_dropped = 1 WHERE id = ?", ((id_,) for id_ in ids)
            )
            connection.executemany(
                "DELETE FROM aggregates WHERE run = ? AND key = ?", ((run, id_) for id_ in ids)
            )
        case ForgetRecord(run):
            _forget(connection, run)
        case EpochRecord(epoch):
            connection.execute("INSERT OR IGNORE INTO epochs VALUES (?)", (epoch,))
        case Presence():
            _write_presence(connection, entry)


def _write_spare(connection: sqlite3.Connection, entry: SpareRecord) -> None:
    """Keep a header once for all updates that begin with it: those of one model do."""
    digest = hashlib.sha256(entry.header).hexdigest()
    connection.execute(
        "INSERT OR IGNORE INTO headers VALUES (?, ?, ?)", (entry.run, digest, entry.header)
    )
    connection.executemany(
        "UPDATE commands SET header = ? WHERE id = ?", ((digest, id_) for id_ in entry.ids)
    )


def _write_checkpoint(connection: sqlite3.Connection, entry: CheckpointRecord) -> None:
    ref = entry.ref
    connection.execute(
        _CHECKPOINT,
        (
            *(entry.run, entry.name, entry.number, ref.digest, ref.size_bytes),
            *(dumps(entry.waiting_for), entry.phases, entry.run),
        ),
    )


def _forget(connection: sqlite3.Connection, run: str) -> None:
    connection.execute(
        "DELETE FROM batches WHERE batch IN (SELECT batch FROM commands WHERE run = ?)", (run,)
    )
    for table in ("commands", "phases", "rosters", "pulls", "aggregates", "checkpoints", "headers"):
        connection.execute(f"DELETE FROM {table} WHERE run = ?", (run,))  # noqa: S608 - constants
    (text,) = connection.execute("SELECT record FROM runs WHERE run = ?", (run,)).fetchone()
    record = replace(RunRecord.from_json(json.loads(text)), is_forgotten=True)
    connection.execute(
        "UPDATE runs SET state = 'forgotten', record = ? WHERE run = ?",
        (dumps(record.to_json()), run),
    )


def _write_commands(
    connection: sqlite3.Connection, entry: gateway_effects.RecordCommands, at: float
) -> None:
    _write_terms(connection, entry.batch, entry.terms)
    connection.executemany(
        "INSERT OR IGNORE INTO commands (id, run, device, method, batch, body, asked_at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        ((c.id, c.run, c.client, c.method, entry.batch, c.to_body(), at) for c in entry.commands),
    )


def _write_terms(connection: sqlite3.Connection, batch: str, terms: Terms) -> None:
    connection.execute(
        "INSERT OR REPLACE INTO batches VALUES (?, ?, ?, ?, ?)",
        (batch, terms.deadline, terms.waits_for_offline, terms.quorum, terms.minimum),
    )


def _write_presence(connection: sqlite3.Connection, entry: Presence) -> None:
    connection.execute(
        "INSERT OR REPLACE INTO presences VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            entry.device,
            entry.heard_at,
            entry.boot,
            entry.interval_s,
            entry.overdue_at,
            entry.is_online,
            dumps(entry.labels),
        ),
    )
    if entry.model is None:
        connection.execute("DELETE FROM models_in_use WHERE device = ?", (entry.device,))
    else:
        connection.execute(
            "INSERT OR REPLACE INTO models_in_use VALUES (?, ?)", (entry.device, entry.model)
        )
