"""Numbers the effects of a process, and kills it before one of them.

Effects are found by taking the place of the few functions through which they go, in this process
only: a forked child calls `install` before it does anything else.
"""

import functools
import http.client
import io
import os
import re
import signal
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import paho.mqtt.client as paho

from crash.ledger import Ledger
from windflower.adapters.local.blob_folder import BlobFolder
from windflower.adapters.local.mqtt import Connection

_ID: Final = re.compile(rb'"id":"([0-9a-f]{32})"')


class Points:
    """Counts effects.

    Args:
        trace: gets a line an effect, before it happens.
        kill_at: the number of the effect before which this process dies; None lets it live.
    """

    def __init__(self, trace: Ledger, kill_at: int | None) -> None:
        self._trace = trace
        self._kill_at = kill_at
        self._lock = threading.Lock()
        self._count = 0

    def reach(self, effect: str, half: Callable[[], object] | None = None) -> None:
        """Count an effect that is about to happen, and die if it is the one.

        Args:
            effect: what it is, for people.
            half: does the first half of it; called only before death.
        """
        with self._lock:  # until death: nothing else may happen after the first half of this
            self._count += 1
            self._trace.append(f"{self._count} {effect}")
            if self._count != self._kill_at:
                return
            if half is not None:
                half()
            os.kill(os.getpid(), signal.SIGKILL)


def install(points: Points) -> None:
    """Count the effects of this process from now on."""
    _watch_databases(points)
    _watch_files(points)
    _watch_writes(points)
    _watch_requests(points)
    _watch_blobs(points)
    _watch_messages(points)


# --------------------------------------------------------------------------------- databases


def _watch_databases(points: Points) -> None:
    connect = sqlite3.connect

    class Watched(sqlite3.Connection):
        """A connection whose commits are effects, where they change anything."""

        file = ""
        _changes = 0

        def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:  # noqa: ANN401 - as SQLite
            if sql.startswith("PRAGMA user_version="):
                points.reach(f"version {self.file}")
            if sql != "COMMIT" or self.total_changes == self._changes:
                return super().execute(sql, *parameters)
            self._changes = self.total_changes
            points.reach(f"commit {self.file}")
            cursor = super().execute(sql)
            points.reach(f"committed {self.file}")
            return cursor

        def executescript(self, sql: str) -> sqlite3.Cursor:
            first, _, _ = sql.rpartition("CREATE")
            half = functools.partial(super().executescript, first)
            points.reach(f"schema {self.file}", half)
            return super().executescript(sql)

    def connect_watched(file: Any, **named: Any) -> sqlite3.Connection:  # noqa: ANN401 - as SQLite
        connection = connect(file, **named, factory=Watched)
        connection.file = _name(file)
        return connection

    sqlite3.connect = connect_watched  # type: ignore[assignment]


# ------------------------------------------------------------------------------------- files


def _watch_files(points: Points) -> None:
    for name in ("replace", "link"):
        _watch(points, os, name, _moves)
    _watch(points, os, "unlink", _removes)
    _watch(points, os, "mkdir", _makes)
    _watch(points, os, "fsync", lambda _: "")


def _moves(paths: tuple[Any, ...]) -> str:
    return f"{_name(paths[0])} {_name(paths[1])}"


def _removes(paths: tuple[Any, ...]) -> str | None:
    return _name(paths[0]) if os.path.lexists(paths[0]) else None


def _makes(paths: tuple[Any, ...]) -> str | None:
    return None if os.path.lexists(paths[0]) else _name(paths[0])


def _name(path: Any) -> str:  # noqa: ANN401 - any path
    return Path(path).name


def _watch(
    points: Points,
    owner: Any,  # noqa: ANN401 - a module or a class
    name: str,
    describe: Callable[[tuple[Any, ...]], str | None],
) -> None:
    """Make calls of a function effects, where its arguments describe one."""
    real = getattr(owner, name)

    def watched(*given: Any, **named: Any) -> Any:  # noqa: ANN401 - as the real one
        what = describe(given)
        if what is not None:
            points.reach(f"{name} {what}".rstrip())
        return real(*given, **named)

    setattr(owner, name, watched)


def _watch_writes(points: Points) -> None:
    """Make each write to a binary file an effect; it can be cut in its middle."""
    real = io.open

    class Watched(io.BufferedWriter):
        name_of_file = ""

        def write(self, data: Any) -> int:  # noqa: ANN401 - any buffer
            def half() -> None:
                io.BufferedWriter.write(self, data[: len(data) // 2])
                self.flush()

            points.reach(f"write {self.name_of_file}", half)
            return super().write(data)

    def open_watched(file: Any, mode: str = "r", *given: Any, **named: Any) -> Any:  # noqa: ANN401 - as the real one
        opened = real(file, mode, *given, **named)
        if type(opened) is not io.BufferedWriter:
            return opened
        watched = Watched(opened.detach())
        watched.name_of_file = "" if isinstance(file, int) else _name(file)
        return watched

    io.open = open_watched


# --------------------------------------------------------------------------------- transfers


def _watch_requests(points: Points) -> None:
    connection = http.client.HTTPConnection
    send = connection.send

    def send_watched(self: http.client.HTTPConnection, data: Any) -> None:  # noqa: ANN401 - as the real one
        points.reach("send", lambda: send(self, data[: len(data) // 2]))
        send(self, data)

    connection.send = send_watched  # type: ignore[method-assign]
    _watch(points, connection, "getresponse", lambda _: "")


def _watch_blobs(points: Points) -> None:
    """Storing an upload has two ends: what was stored may not be answered any more."""
    for name in ("create_small", "create_large"):
        _watch_both_ends(points, name)


def _watch_both_ends(points: Points, name: str) -> None:
    real = getattr(BlobFolder, name)

    async def watched(*given: Any) -> bool:  # noqa: ANN401 - as the real one
        points.reach(name)
        is_there: bool = await real(*given)
        points.reach(f"{name} is done")
        return is_there

    setattr(BlobFolder, name, watched)


# ---------------------------------------------------------------------------------- messages


def _watch_messages(points: Points) -> None:
    """Publishing has two ends too: what the broker has may not be known here any more."""
    publish = Connection.publish

    def publish_watched(
        self: Connection, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False
    ) -> None:
        what = _message(topic, payload)
        if self.is_up:
            points.reach(f"publish {what}")
        publish(self, topic, payload, qos=qos, retain=retain)
        points.reach(f"published {what}")

    Connection.publish = publish_watched  # type: ignore[method-assign]
    for name in ("connect", "subscribe", "ack", "disconnect"):
        _watch(points, paho.Client, name, lambda _: "mqtt")


def _message(topic: str, payload: bytes) -> str:
    """Name the kind of a message: a heartbeat with its device, a reply with its command."""
    if topic.endswith("/update"):
        return "command"
    if not topic.endswith("/sent"):
        return f"heartbeat {topic.rpartition('/')[2]}"
    found = _ID.search(payload)
    return f"reply {found[1].decode() if found else '?'}"


def replies_in(trace: list[str]) -> list[str]:
    """Return the commands whose replies a process published, by its trace, one entry a time."""
    words = (line.split() for line in trace)
    return [line[3] for line in words if line[1:3] == ["published", "reply"]]
