"""Blobs as files, small ones as rows, each reached by signed URLs.

A key never becomes a path: a file is named by the digest of its key. Whoever holds a URL may do one
thing with one key until it expires; a PUT creates a blob once.

Small blobs are rows of one SQLite file, because a thousand small uploads share its commits, while a
thousand files need a thousand syncs (measured: half of a round's time at 50 devices).
"""

import asyncio
import contextlib
import hashlib
import hmac
import os
import secrets
import shutil
import sqlite3
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, Literal
from urllib.parse import quote

from windflower.adapters.local.database import Database, DatabaseReader
from windflower.adapters.local.files import digest_of, make_durable, move_durably
from windflower.errors import BlobNotFound
from windflower.wire.blobs import BlobRef, Grant
from windflower.wire.content import blob_ref

SMALL_BYTES: Final = 1 << 20
"""A larger upload is a file of its own."""

_VERSION: Final = 2
_NUMBERS_CHARS: Final = 40
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS blobs (
    key TEXT PRIMARY KEY,
    digest TEXT NOT NULL,
    data BLOB NOT NULL,
    created_at REAL NOT NULL DEFAULT (CAST(strftime('%s', 'now') AS REAL))
) WITHOUT ROWID;
"""


class BlobReader:
    """Blobs of a folder, for looking only: its gateway may be at work meanwhile.

    Args:
        folder: where they are kept.
        scratch: where `fetch` writes what has no file of its own.
    """

    def __init__(self, folder: Path, *, scratch: Path) -> None:
        self._folder = folder
        self._scratch = scratch
        self._small = DatabaseReader(folder / "small.db", version=_VERSION)

    async def fetch(self, key: str) -> Path:
        """Return a local file with the bytes; raises BlobNotFound."""
        path = path_of(self._folder, key)
        if path.exists():
            return path
        data = await self._small.run(lambda connection: _row(connection, key))
        if data is None:
            raise BlobNotFound(f"no blob {key}")
        view = self._scratch / path.name
        view.write_bytes(data)
        return view

    async def close(self) -> None:
        """Let go of what is open."""
        await self._small.close()


class BlobFolder:
    """Blobs in a folder.

    Args:
        folder: where they are kept; created where it is missing, leftovers of a crash removed.
        secret: signs the URLs; whoever knows it may make any.
        base_url: how devices reach the endpoint, for example "http://192.0.2.1:8777".
    """

    def __init__(self, folder: Path, *, secret: bytes, base_url: str = "") -> None:
        self._folder = folder
        self._secret = secret
        self.base_url = base_url
        self._verified: dict[str, BlobRef] = {}
        self._sweeping = threading.Lock()
        self._landing = folder / "landing"
        self._views = folder / "views"
        for place in (self._landing, self._views):
            place.mkdir(parents=True, exist_ok=True)
            for leftover in place.iterdir():
                leftover.unlink()
        self._small = Database(folder / "small.db", _SCHEMA, version=_VERSION)

    async def close(self) -> None:
        """Let go of what is open."""
        await self._small.close()

    # ----------------------------------------------------------------------------- the port

    async def adopt(self, path: Path, ref: BlobRef) -> None:
        """Take over a file whose content `ref` names; durable on return. Idempotent."""
        if self._renew(ref.key):
            await asyncio.to_thread(path.unlink, missing_ok=True)
        else:
            await asyncio.to_thread(move_durably, path, self.path(ref.key))
        self._verified[ref.key] = ref

    def _renew(self, key: str) -> bool:
        """Make a file count as new, if there is one: it is about to be needed once more."""
        with self._sweeping, contextlib.suppress(FileNotFoundError):
            os.utime(self.path(key))
            return True
        return False

    async def matches(self, key: str, ref: BlobRef) -> bool:
        """Return whether what is stored under `key` is, byte for byte, what `ref` names."""
        if key not in self._verified:
            try:
                path = await self.fetch(key)
            except BlobNotFound:
                return False
            self._verified[key] = await asyncio.to_thread(digest_of, path)
        return self._verified[key] == ref

    async def fetch(self, key: str) -> Path:
        """Return a local file with the bytes; raises BlobNotFound."""
        path, view = self.path(key), self._view(key)
        if path.exists():
            return path
        if not view.exists():
            data = await self._row(key)
            if data is None:
                raise BlobNotFound(f"no blob {key}")
            async with self.landing() as half:  # a full disk must not leave half a view
                half.write_bytes(data)
                half.replace(view)
        return view

    def grant(
        self, method: Literal["GET", "PUT"], key: str, *, size_bytes: int, ttl_s: float
    ) -> Grant:
        """Return a capability for one key."""
        expires = int(time.time() + ttl_s) + 1
        signature = self._sign(method, key, size_bytes, expires)
        query = f"n={size_bytes}&e={expires}&s={signature}"
        url = f"{self.base_url}/{method.lower()}/{quote(key, safe='/')}?{query}"
        return Grant(method, key, url, size_bytes, ttl_s)

    async def discard(self, key: str) -> None:
        """Drop what is stored under a key, if anything is."""
        self._verified.pop(key, None)
        for path in (self.path(key), self._view(key)):
            path.unlink(missing_ok=True)
        await self._small.run(lambda c: c.execute("DELETE FROM blobs WHERE key = ?", (key,)))

    def room_bytes(self) -> int:
        """Return how many bytes the file system still takes."""
        return shutil.disk_usage(self._folder).free

    async def sweep(self, live: frozenset[str], *, older_than_s: float) -> int:
        """Drop what is stored under other keys than these for so long; return how many went."""
        names = frozenset(path_of(self._folder, key).name for key in live)
        before = time.time() - older_than_s
        went = await asyncio.to_thread(self._sweep_files, names, before)
        went += await self._small.run(lambda connection: _sweep_rows(connection, live, before))
        self._verified = {key: ref for key, ref in self._verified.items() if key in live}
        return went

    def _sweep_files(self, live: frozenset[str], before: float) -> int:
        went = 0
        for path in (*self._folder.glob("??/*"), *self._views.iterdir()):
            is_view = path.parent == self._views
            with self._sweeping, contextlib.suppress(FileNotFoundError):  # discarded just now
                is_old = path.stat().st_mtime <= before
                if is_old and (is_view or path.name not in live):
                    path.unlink()
                    went += not is_view
        return went

    # --------------------------------------------------------------------------- for inside

    def path(self, key: str) -> Path:
        """Return where the file of a key is, if it has one."""
        return path_of(self._folder, key)

    def is_granted(self, method: str, key: str, *, size: str, expires: str, given: str) -> bool:
        """Return whether a request carries a signature that we made, still in time."""
        numbers = size + expires
        if not (numbers.isascii() and size.isdigit() and expires.isdigit() and given.isascii()):
            return False
        if len(numbers) > _NUMBERS_CHARS:
            return False
        expected = self._sign(method, key, int(size), int(expires))
        return hmac.compare_digest(expected, given) and time.time() < int(expires)

    @asynccontextmanager
    async def landing(self) -> AsyncIterator[Path]:
        """Yield a path for bytes that are still coming; what is left there is removed."""
        path = self._landing / secrets.token_hex(16)
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)

    async def create_small(self, key: str, data: bytes) -> bool:
        """Store bytes under a key that is free; return whether the key now holds them."""
        ref = blob_ref(data)
        if self.path(key).exists():
            return await self.matches(key, ref)

        def insert(connection: sqlite3.Connection) -> str:
            row = (key, ref.digest, data)
            sql = "INSERT OR IGNORE INTO blobs (key, digest, data) VALUES (?, ?, ?)"
            connection.execute(sql, row)
            found = connection.execute("SELECT digest FROM blobs WHERE key = ?", (key,))
            return str(found.fetchone()[0])

        if await self._small.run(insert) != ref.digest:
            return False
        self._verified[key] = ref
        return True

    async def create_large(self, key: str, path: Path, ref: BlobRef) -> bool:
        """Store a file under a key that is free; return whether the key now holds `ref`."""
        if await self._row(key) is not None:
            return await self.matches(key, ref)
        target = self.path(key)
        target.parent.mkdir(parents=True, exist_ok=True)
        await asyncio.to_thread(make_durable, path)
        try:
            os.link(path, target)
        except FileExistsError:
            return await self.matches(key, ref)
        await asyncio.to_thread(make_durable, target.parent)
        self._verified[key] = ref
        return True

    async def _row(self, key: str) -> bytes | None:
        return await self._small.run(lambda connection: _row(connection, key))

    def _view(self, key: str) -> Path:
        return self._views / hashlib.sha256(key.encode()).hexdigest()

    def _sign(self, method: str, key: str, size_bytes: int, expires: int) -> str:
        text = f"{method}\n{key}\n{size_bytes}\n{expires}".encode()
        return hmac.new(self._secret, text, hashlib.sha256).hexdigest()


def path_of(folder: Path, key: str) -> Path:
    """Return where the file of a key is, if it has one."""
    name = hashlib.sha256(key.encode()).hexdigest()
    return folder / name[:2] / name


def _row(connection: sqlite3.Connection, key: str) -> bytes | None:
    row = connection.execute("SELECT data FROM blobs WHERE key = ?", (key,)).fetchone()
    return None if row is None else bytes(row[0])


def _sweep_rows(connection: sqlite3.Connection, live: frozenset[str], before: float) -> int:
    old = connection.execute("SELECT key FROM blobs WHERE created_at <= ?", (before,)).fetchall()
    over = [(key,) for (key,) in old if key not in live]
    connection.executemany("DELETE FROM blobs WHERE key = ?", over)
    return len(over)
