"""Reads what processes left on the disk, without changing it: even a read mends a log of SQLite."""

import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def opened(database: Path) -> Iterator[sqlite3.Connection]:
    """Yield a database that nobody has open; if there is a log beside it, a copy of both."""
    log = database.with_name(database.name + "-wal")
    if database.exists() and not log.exists():
        with closing(sqlite3.connect(f"file:{database}?immutable=1", uri=True)) as connection:
            yield connection
        return
    with tempfile.TemporaryDirectory(dir=database.parents[1]) as folder:
        for file in (database, log):
            if file.exists():
                shutil.copy(file, folder)
        with closing(sqlite3.connect(Path(folder) / database.name)) as connection:
            yield connection


def rows(connection: sqlite3.Connection, sql: str) -> list[tuple[Any, ...]]:
    """Return rows; of a table that was not made yet, none."""
    try:
        return connection.execute(sql).fetchall()
    except sqlite3.OperationalError as error:
        if "no such table" in str(error):
            return []
        raise


def is_quiet(database: Path) -> bool:
    """Return whether every command that the devices hold is answered and acknowledged."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        owed = "SELECT count(*) FROM commands WHERE is_acknowledged = 0"
        return bool(connection.execute(owed).fetchone() == (0,))


def answered(database: Path) -> set[str]:
    """Return the commands whose replies dead devices had made durable."""
    with opened(database) as connection:
        sql = "SELECT id FROM commands WHERE reply IS NOT NULL OR is_acknowledged"
        return {str(id_) for (id_,) in rows(connection, sql)}


def settled(database: Path) -> dict[str, Any]:
    """Return how the exchanges were settled that a dead gateway's journal holds settled."""
    with opened(database) as connection:
        sql = "SELECT id, reply, code, reason FROM commands WHERE settled_at IS NOT NULL"
        return {str(id_): how for id_, *how in rows(connection, sql)}


def states(database: Path) -> dict[str, bytes]:
    """Return the app's state on each device."""
    with opened(database) as connection:
        return {str(d): bytes(s) for d, s in rows(connection, "SELECT device, state FROM states")}


def floors(database: Path) -> dict[str, int]:
    """Return below which number each device has forgotten all runs."""
    with opened(database) as connection:
        sql = "SELECT device, value FROM facts WHERE name = 'floor'"
        return {str(device): int(floor) for device, floor in rows(connection, sql)}


def damage(database: Path) -> str | None:
    """Return what is wrong with a database, if anything is."""
    with opened(database) as connection:
        ((found,),) = connection.execute("PRAGMA integrity_check").fetchall()[:1]
        return None if found == "ok" else f"{database.name}: {found}"


def leftovers(place: Path) -> list[str]:
    """Return files that should be gone when all is done."""
    files = [path for path in place.rglob("*") if path.is_file()]
    halves = ("landing", "updates", "scratch")
    return sorted(
        str(path.relative_to(place))
        for path in files
        if path.suffix == ".part" or path.parent.name in halves
    )
