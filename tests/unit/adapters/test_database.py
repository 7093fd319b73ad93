"""Changes share commits, and a change that fails takes nobody with it."""

import asyncio
import sqlite3
from pathlib import Path

import pytest

from windflower.adapters.local.database import Database
from windflower.errors import StoreUnavailable

SCHEMA = "CREATE TABLE IF NOT EXISTS numbers (n INTEGER PRIMARY KEY);"


def insert(number: int) -> object:
    return lambda c: c.execute("INSERT INTO numbers VALUES (?)", (number,)).rowcount


async def count(database: Database) -> int:
    return await database.run(
        lambda c: int(c.execute("SELECT count(*) FROM numbers").fetchone()[0])
    )


async def test_what_was_committed_is_there_after_a_restart(tmp_path: Path) -> None:
    first = Database(tmp_path / "db", SCHEMA, version=1)
    await asyncio.gather(*(first.run(insert(n)) for n in range(100)))  # type: ignore[arg-type]
    await first.close()
    second = Database(tmp_path / "db", SCHEMA, version=1)

    assert 100 == await count(second)
    await second.close()


async def test_a_change_that_fails_takes_nobody_with_it(tmp_path: Path) -> None:
    database = Database(tmp_path / "db", SCHEMA, version=1)
    done = await asyncio.gather(
        *(database.run(insert(n)) for n in (1, 2, 1, 3)),  # type: ignore[arg-type]
        return_exceptions=True,
    )

    assert [False, False, True, False] == [isinstance(d, sqlite3.IntegrityError) for d in done]
    assert 3 == await count(database)
    await database.close()


async def test_a_full_disk_is_said_with_the_files_name(tmp_path: Path) -> None:
    database = Database(tmp_path / "db", SCHEMA, version=1)
    await database.run(lambda c: c.execute("PRAGMA max_page_count = 3"))
    fill = "INSERT INTO numbers SELECT value FROM json_each(?)"
    many = str(list(range(100_000)))
    with pytest.raises(StoreUnavailable, match="db cannot be written: database or disk is full"):
        await database.run(lambda c: c.execute(fill, (many,)))

    assert 0 == await count(database)
    await database.close()


async def test_a_file_of_another_format_is_refused_with_what_to_do(tmp_path: Path) -> None:
    await Database(tmp_path / "db", SCHEMA, version=1).close()

    with pytest.raises(StoreUnavailable, match=r"format 1, this one reads 2.*move the folder away"):
        Database(tmp_path / "db", SCHEMA, version=2)


def test_a_process_that_dies_while_it_makes_the_file_leaves_none_that_is_refused(
    tmp_path: Path,
) -> None:
    """The tables and their number are one commit: with only the first, the second open fails."""
    with sqlite3.connect(tmp_path / "db") as connection:
        connection.execute("PRAGMA journal_mode=WAL")  # as far as a first start may have come

    Database(tmp_path / "db", SCHEMA, version=3)
    with sqlite3.connect(tmp_path / "db") as connection:
        assert (3,) == connection.execute("PRAGMA user_version").fetchone()
