"""What devices must not forget, in one SQLite file: one row a command, one a state.

A crew of simulated devices shares the file and its commits; a real device has it for itself.
"""

import asyncio
import hashlib
import os
import secrets
import shutil
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from windflower.adapters.local.database import Database
from windflower.adapters.local.files import digest_of, make_durable
from windflower.core import device_effects
from windflower.core.duty import Kept
from windflower.core.retention import unneeded
from windflower.errors import MalformedMessage
from windflower.wire.blobs import BlobRef
from windflower.wire.messages import NOTHING, Command, Reply

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS commands (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    device TEXT NOT NULL,
    id TEXT NOT NULL,
    number INTEGER NOT NULL,
    body TEXT NOT NULL,
    shell TEXT NOT NULL,
    reply BLOB,
    is_acknowledged INTEGER NOT NULL DEFAULT 0,
    starts INTEGER NOT NULL DEFAULT 0,
    cancelled_by INTEGER,
    UNIQUE (device, id)
);
CREATE TABLE IF NOT EXISTS states (
    device TEXT NOT NULL,
    run TEXT NOT NULL,
    number INTEGER NOT NULL,
    state BLOB NOT NULL,
    PRIMARY KEY (device, run)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS secrets (
    device TEXT NOT NULL,
    run TEXT NOT NULL,
    number INTEGER NOT NULL,
    secret TEXT NOT NULL,
    PRIMARY KEY (device, run)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS facts (
    device TEXT NOT NULL,
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (device, name)
) WITHOUT ROWID;
"""


class DeviceStores:
    """The file and the blob cache that the devices of one process share.

    Args:
        folder: where everything is kept; created where it is missing.
    """

    def __init__(self, folder: Path) -> None:
        self.database = Database(folder / "device.db", _SCHEMA, version=3)
        self.blobs = folder / "blobs"
        self.updates = folder / "updates"
        self.landing = folder / "landing"
        self.needed: dict[str, frozenset[str]] = {}
        for place in (self.blobs, self.updates, self.landing):
            place.mkdir(parents=True, exist_ok=True)
        for path in self.blobs.iterdir():
            if digest_of(path).digest != path.name:
                path.unlink()

    def trim(self) -> None:
        """Drop what nobody needs; the one that was used longest ago goes first."""
        paths = sorted(self.blobs.iterdir(), key=lambda path: path.stat().st_mtime)
        needed = frozenset[str]().union(*self.needed.values())
        for digest in unneeded([path.name for path in paths], needed):
            (self.blobs / digest).unlink(missing_ok=True)

    def of(self, device: str) -> "DeviceStore":
        """Return one device's view."""
        return DeviceStore(self, device)

    async def close(self) -> None:
        """Let go of the file."""
        await self.database.close()


class DeviceStore:
    """One device's view of the store."""

    def __init__(self, shared: DeviceStores, device: str) -> None:
        self._shared = shared
        self._device = device

    async def open(self) -> tuple[Sequence[Kept], int]:
        """Return the commands in the order in which they came, and the floor."""
        kept, floor = await self._shared.database.run(self._open)
        for row in kept:
            if row.reply is None and not row.is_acknowledged:
                self._need(row.command)
        live = {row.command.id for row in kept if not row.is_acknowledged}
        self._clean(live)
        return kept, floor

    def _open(self, connection: sqlite3.Connection) -> tuple[list[Kept], int]:
        rows = connection.execute(
            "SELECT body, reply, is_acknowledged, starts, cancelled_by FROM commands"
            " WHERE device = ? ORDER BY seq",
            (self._device,),
        )
        kept = [
            Kept(
                Command.from_body(body),
                None if reply is None else Reply.from_bytes(reply),
                bool(acknowledged),
                starts,
                cancelled_by,
            )
            for body, reply, acknowledged, starts, cancelled_by in rows
        ]
        return kept, int(_fact(connection, self._device, "floor") or 0)

    def _clean(self, live: set[str]) -> None:
        """Remove what a crash left half written, and updates that nobody waits for."""
        for path in self._shared.landing.glob(f"{self._prefix}*"):
            path.unlink(missing_ok=True)
        for path in self._shared.updates.glob(f"{self._prefix}*"):
            if path.name.removeprefix(self._prefix).partition(".")[0] not in live:
                path.unlink(missing_ok=True)

    async def carry_out(
        self, effects: Sequence[device_effects.Effect], state: bytes | None
    ) -> None:
        """Commit all storing effects among these, with the app's new state."""
        storing = [e for e in effects if isinstance(e, device_effects.STORING)]
        if any(isinstance(e, device_effects.KeepReply) and e.reply.path for e in storing):
            # The update's file was synced by the worker; that it has a name is the folder's.
            await asyncio.to_thread(make_durable, self._shared.updates)
        for effect in storing:
            if isinstance(effect, device_effects.KeepCommand):
                self._need(effect.command)
        if storing:
            gone = await self._shared.database.run(lambda c: self._store_all(c, storing, state))
            self._drop_updates(gone)
        if any(isinstance(effect, device_effects.ForgetBelow) for effect in storing):
            await self._shared.database.erase()

    def _need(self, command: Command) -> None:
        """Hold what a command names against the other devices that share the cache."""
        before = self._shared.needed.get(self._device, frozenset())
        self._shared.needed[self._device] = before | {ref.digest for ref in command.blobs}

    def _store_all(
        self,
        connection: sqlite3.Connection,
        effects: Iterable[device_effects.Effect],
        state: bytes | None,
    ) -> list[str]:
        """Store, and return the commands whose updates nobody waits for any more."""
        gone: list[str] = []
        for effect in effects:
            match effect:
                case device_effects.KeepCommand():
                    self._keep_command(connection, effect.command)
                case device_effects.KeepReply():
                    self._keep_reply(connection, effect, state)
                case device_effects.KeepStart():
                    self._keep_start(connection, effect.id)
                case device_effects.Forget():
                    self._forget(connection, effect.ids, None)
                    gone += effect.ids
                case device_effects.Drop():
                    self._forget(connection, effect.ids, effect.epoch)
                    gone += effect.ids
                case device_effects.ForgetBelow():
                    gone += self._forget_below(connection, effect.number)
                case _:
                    pass
        return gone

    def _keep_start(self, connection: sqlite3.Connection, id_: str) -> None:
        connection.execute(
            "UPDATE commands SET starts = starts + 1 WHERE device = ? AND id = ?",
            (self._device, id_),
        )

    def _keep_command(self, connection: sqlite3.Connection, command: Command) -> None:
        # The shell stays when all else is forgotten: that it was done, in which run and epoch.
        shell = replace(command, content=NOTHING).to_body()
        connection.execute(
            "INSERT INTO commands (device, id, number, body, shell) VALUES (?, ?, ?, ?, ?)"
            " ON CONFLICT (device, id) DO UPDATE SET body = excluded.body, shell = excluded.shell,"
            " is_acknowledged = 0, starts = 0, cancelled_by = NULL WHERE cancelled_by < ?",
            (self._device, command.id, command.number, command.to_body(), shell, command.epoch),
        )

    def _keep_reply(
        self, connection: sqlite3.Connection, effect: device_effects.KeepReply, state: bytes | None
    ) -> None:
        reply = effect.reply
        connection.execute(
            "UPDATE commands SET reply = ? WHERE device = ? AND id = ?",
            (reply.to_bytes(), self._device, reply.id),
        )
        if state is not None and reply.failure is None:
            connection.execute(
                "INSERT OR REPLACE INTO states VALUES (?, ?, ?, ?)",
                (self._device, reply.run, effect.number, state),
            )

    def _forget(
        self, connection: sqlite3.Connection, ids: Iterable[str], cancelled_by: int | None
    ) -> None:
        connection.executemany(
            "UPDATE commands SET body = shell, reply = NULL, is_acknowledged = 1, cancelled_by = ?"
            " WHERE device = ? AND id = ?",
            ((cancelled_by, self._device, id_) for id_ in ids),
        )

    def _forget_below(self, connection: sqlite3.Connection, number: int) -> list[str]:
        over = connection.execute(
            "SELECT id FROM commands WHERE device = ? AND number < ?", (self._device, number)
        ).fetchall()
        for table in ("commands", "states", "secrets"):
            connection.execute(
                f"DELETE FROM {table} WHERE device = ? AND number < ?",  # noqa: S608 - three constants
                (self._device, number),
            )
        _set_fact(connection, self._device, "floor", str(number))
        return [str(id_) for (id_,) in over]

    async def state(self, run: str) -> bytes | None:
        """Return the app's state on this device, as the worker wrote it."""

        def query(connection: sqlite3.Connection) -> bytes | None:
            row = connection.execute(
                "SELECT state FROM states WHERE device = ? AND run = ?", (self._device, run)
            ).fetchone()
            return None if row is None else bytes(row[0])

        return await self._shared.database.run(query)

    async def secret(self, run: str, number: int) -> str:
        """Return what only this device knows of a run, drawn at the first call."""

        def draw(connection: sqlite3.Connection) -> str:
            drawn = (self._device, run, number, secrets.token_hex(32))
            connection.execute("INSERT OR IGNORE INTO secrets VALUES (?, ?, ?, ?)", drawn)
            (secret,) = connection.execute(
                "SELECT secret FROM secrets WHERE device = ? AND run = ?", (self._device, run)
            ).fetchone()
            return str(secret)

        return await self._shared.database.run(draw)

    async def fact(self, name: str) -> str | None:
        """Return a small thing that was remembered."""
        return await self._shared.database.run(lambda c: _fact(c, self._device, name))

    async def remember(self, name: str, value: str) -> None:
        """Remember a small thing."""
        await self._shared.database.run(lambda c: _set_fact(c, self._device, name, value))

    # --------------------------------------------------------------------------------- files

    def blob(self, ref: BlobRef) -> Path | None:
        """Return a whole and verified blob of the cache."""
        path = self._shared.blobs / ref.digest
        try:
            os.utime(path)  # what was used last is kept longest
        except FileNotFoundError:
            return None
        return path

    def landing(self, name: str) -> Path:
        """Return a path for a file that is not whole yet."""
        if "/" in name or name.startswith("."):
            raise MalformedMessage("a file's name has a path in it")
        return self._shared.landing / f"{self._prefix}{name}"

    async def keep_blob(self, path: Path, ref: BlobRef) -> None:
        """Move a whole and verified file into the cache."""
        # Not synced: after a power cut `open` reads the cache again and drops what is not whole.
        os.replace(path, self._shared.blobs / ref.digest)  # noqa: PTH105 - a rename does not block

    def drop_halves(self, needed: frozenset[str]) -> None:
        """Drop what landed in part for nothing: another device of the crew may have been first."""
        for path in self._shared.landing.glob(f"{self._prefix}*"):
            digest = path.name.removeprefix(self._prefix)
            if digest not in needed or (self._shared.blobs / digest).exists():
                path.unlink(missing_ok=True)

    def room_bytes(self) -> int:
        """Return how many bytes the file system still takes."""
        return shutil.disk_usage(self._shared.updates).free

    def trim(self, needed: frozenset[str]) -> None:
        """Drop blobs of the cache that no command needs, of any device here."""
        self._shared.needed[self._device] = needed
        self._shared.trim()

    def update(self, command: str) -> Path:
        """Return where the pack of a reply is kept until it is acknowledged."""
        return self._shared.updates / f"{self._prefix}{command}"

    async def close(self) -> None:
        """Let go of nothing: the file belongs to `DeviceStores`."""

    def _drop_updates(self, ids: Iterable[str]) -> None:
        for id_ in ids:
            self.update(id_).unlink(missing_ok=True)

    @property
    def _prefix(self) -> str:
        """Tells the devices of a crew apart without using an id as a path."""
        return f"{hashlib.sha256(self._device.encode()).hexdigest()[:16]}-"


def _fact(connection: sqlite3.Connection, device: str, name: str) -> str | None:
    row = connection.execute(
        "SELECT value FROM facts WHERE device = ? AND name = ?", (device, name)
    ).fetchone()
    return None if row is None else str(row[0])


def _set_fact(connection: sqlite3.Connection, device: str, name: str, value: str) -> None:
    connection.execute("INSERT OR REPLACE INTO facts VALUES (?, ?, ?)", (device, name, value))
