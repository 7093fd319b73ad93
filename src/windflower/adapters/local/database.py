"""SQLite behind one thread that commits in groups: whoever comes during a commit shares the next.

`synchronous=FULL` with a write-ahead log: a commit has reached the disk before it returns. One
commit carries all the changes that wait, so that the cost of the disk is shared by a busy fleet.
"""

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import quote

from windflower.errors import StoreUnavailable

T = TypeVar("T")
Change = Callable[[sqlite3.Connection], Any]

_CUTS: Final = 5
"""How often a log that is being read is tried to be cut; each waits for five seconds at most."""

_GROUP: Final = 2000
"""So many changes at most share one commit, to bound how long the first one waits."""


class Database:
    """One SQLite file.

    Args:
        path: the file; created with its folder where it is missing.
        schema: SQL that may run again on an existing file.
        version: the schema's number; it grows with each change that older code cannot read.

    Raises:
        StoreUnavailable: the file has a schema of another number, or the disk refuses it.
    """

    def __init__(self, path: Path, schema: str, *, version: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        try:
            self._connection = _opened(path, schema, version)
        except sqlite3.Error as error:
            raise StoreUnavailable(f"{path} cannot be used: {error}") from error
        self._queue: queue.SimpleQueue[_Item | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._serve, name=f"sqlite {path.name}", daemon=True)
        self._thread.start()

    async def run(self, change: Callable[[sqlite3.Connection], T]) -> T:
        """Run a change in a transaction; it is durable on return.

        Cancelling the caller does not take the change back.

        Raises:
            StoreUnavailable: nothing of the change was kept.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._queue.put(_Item(change, future, loop))
        return await future

    async def erase(self) -> None:
        """See to it that what was deleted stands nowhere in the files any more.

        `secure_delete` overwrites it in the file itself; the log still holds it until it is cut.
        Where somebody reads all the time, that is at the next start.
        """

        def cut() -> None:
            with closing(sqlite3.connect(self._path)) as other:
                for _ in range(_CUTS):
                    (is_busy, *_) = other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
                    if not is_busy:
                        return

        await asyncio.to_thread(cut)

    async def close(self) -> None:
        """Commit what waits, then close the file."""
        self._queue.put(None)
        await asyncio.get_running_loop().run_in_executor(None, self._thread.join)
        self._connection.close()

    def _serve(self) -> None:
        open_ = True
        while open_:
            group = [self._queue.get()]
            while len(group) < _GROUP and not self._queue.empty():
                group.append(self._queue.get())
            open_ = None not in group
            self._commit([item for item in group if item is not None])

    def _commit(self, group: list["_Item"]) -> None:
        answers: list[tuple[_Item, Any, BaseException | None]]
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            answers = [(item, *self._apply(item.change)) for item in group]
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            answers = [(item, None, self._unavailable(error)) for item in group]
        for item, value, problem in answers:
            item.answer(value, problem)

    def _apply(self, change: Change) -> tuple[Any, BaseException | None]:
        """Run one change of a group; that it fails does not touch the others."""
        self._connection.execute("SAVEPOINT change")
        try:
            value = change(self._connection)
        except Exception as error:  # noqa: BLE001 - handed to whoever asked for the change
            self._connection.execute("ROLLBACK TO change")
            is_ours = isinstance(error, sqlite3.OperationalError)
            return None, self._unavailable(error) if is_ours else error
        self._connection.execute("RELEASE change")
        return value, None

    def _unavailable(self, error: Exception) -> StoreUnavailable:
        problem = StoreUnavailable(f"{self._path} cannot be written: {error}")
        problem.__cause__ = error
        return problem


class DatabaseReader:
    """An existing SQLite file, for looking only: its owner may be at work meanwhile.

    Args:
        path: the file.
        version: the schema's number.

    Raises:
        StoreUnavailable: there is no such file, or it has a schema of another number.
    """

    def __init__(self, path: Path, *, version: int) -> None:
        self._path = path
        try:
            self._connection = sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)
            _check_version(self._connection, path, version)
        except sqlite3.Error as error:
            raise StoreUnavailable(f"{path} cannot be read: {error}") from error

    async def run(self, query: Callable[[sqlite3.Connection], T]) -> T:
        """Run a query; raises StoreUnavailable where it would change something."""
        try:
            return query(self._connection)
        except sqlite3.OperationalError as error:
            raise StoreUnavailable(f"{self._path}: {error}") from error

    async def erase(self) -> None:
        """Nothing was deleted here."""

    async def close(self) -> None:
        """Close the file."""
        self._connection.close()


def _opened(path: Path, schema: str, version: int) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA secure_delete=ON")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # what was deleted when we died
    _check_version(connection, path, version)
    # One transaction: tables without their number would look like another release's for ever.
    connection.executescript(f"BEGIN IMMEDIATE; {schema}; PRAGMA user_version={version}; COMMIT;")
    return connection


def _check_version(connection: sqlite3.Connection, path: Path, version: int) -> None:
    (found,) = connection.execute("PRAGMA user_version").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if tables and found != version:
        connection.close()
        raise StoreUnavailable(
            f"{path} was written by another release (format {found}, this one reads {version}):"
            " use that release, or move the folder away and begin anew"
        )


class _Item:
    def __init__(
        self, change: Change, future: asyncio.Future[Any], loop: asyncio.AbstractEventLoop
    ) -> None:
        self.change = change
        self._future = future
        self._loop = loop

    def answer(self, value: object, problem: BaseException | None) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._settle, value, problem)

    def _settle(self, value: object, problem: BaseException | None) -> None:
        if self._future.cancelled():
            return
        if problem is None:
            self._future.set_result(value)
        else:
            self._future.set_exception(problem)
