"""Moves bytes between a device and a blob store by grants: plain HTTP, standard library only."""

import asyncio
import hashlib
import http.client
import ssl
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from windflower.errors import (
    BlobsUnavailable,
    BlobTooLarge,
    GrantRefused,
    MalformedMessage,
    WindflowerError,
)
from windflower.wire.blobs import BlobRef, Grant

ANSWER_S: Final = 60.0
"""A store may take so long to answer an upload: part of it may still be under way."""

SILENCE_S: Final = 15.0
"""A download that brings nothing for so long ends, and goes on over another connection.

After a cut TCP waits up to as long again as the cut lasted before it tries once more.
"""

_CHUNK_BYTES: Final = 1 << 20
_REFUSED: Final = frozenset({400, 401, 403, 404, 405, 410})
_THERE_ALREADY: Final = frozenset({http.client.CONFLICT, http.client.PRECONDITION_FAILED})


class HttpTransfers:
    """Downloads and uploads; each call is one request in a thread.

    Connections stay open for the next request: over TLS a new one costs more than a small blob.

    Args:
        tls: for https grants; the system's trust store by default.
        silence_s: how long a download may bring nothing.
    """

    def __init__(self, tls: ssl.SSLContext | None = None, *, silence_s: float = SILENCE_S) -> None:
        self._tls = tls
        self._silence_s = silence_s
        self._idle: dict[tuple[str, str], list[http.client.HTTPConnection]] = {}

    async def get(self, grant: Grant, ref: BlobRef, path: Path) -> None:
        """Download to a file and verify; go on where an earlier try stopped."""
        await asyncio.to_thread(
            self._reach, grant, self._silence_s, lambda c, t: _get(c, t, ref, path)
        )

    async def put(self, grant: Grant, ref: BlobRef, path: Path) -> None:
        """Upload a file; that it is there already, with these bytes, is success."""
        if not path.exists():
            raise FileNotFoundError(f"there is no file {path.name}")
        if ref.size_bytes > grant.size_bytes:
            raise BlobTooLarge(f"{ref.size_bytes} bytes, {grant.size_bytes} were granted")
        await asyncio.to_thread(self._reach, grant, ANSWER_S, lambda c, t: _put(c, t, ref, path))

    def _reach(self, grant: Grant, patience_s: float, transfer: "_Transfer") -> None:
        """Do one request; a connection that was idle may have been closed by the other end."""
        parts = urlsplit(grant.url)
        target = f"{parts.path}?{parts.query}" if parts.query else parts.path
        place = (parts.scheme, parts.netloc)
        idle = self._idle.setdefault(place, [])
        while True:
            connection, is_fresh = self._connection(idle, *place)
            connection.timeout = patience_s
            if connection.sock is not None:
                connection.sock.settimeout(patience_s)
            try:
                transfer(connection, target)
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                if is_fresh:
                    reason = str(error) or type(error).__name__
                    raise BlobsUnavailable(f"the blob store does not answer: {reason}") from error
                _close_all(idle)  # most likely as dead, and to learn it from each may take long
            except WindflowerError:
                connection.close()
                raise
            else:
                idle.append(connection)
                return

    def _connection(
        self, idle: list[http.client.HTTPConnection], scheme: str, place: str
    ) -> tuple[http.client.HTTPConnection, bool]:
        """Return an idle connection, or a new one, and whether it is new."""
        try:
            return idle.pop(), False  # not asked before: other threads take from it too
        except IndexError:
            return self._connect(scheme, place), True

    def _connect(self, scheme: str, place: str) -> http.client.HTTPConnection:
        connection: http.client.HTTPConnection
        if scheme == "https":
            context = self._tls or ssl.create_default_context()
            connection = http.client.HTTPSConnection(place, context=context)
        else:
            connection = http.client.HTTPConnection(place)
        connection.blocksize = _CHUNK_BYTES
        return connection

    def close(self) -> None:
        """Close the connections that are idle."""
        for connections in self._idle.values():
            _close_all(connections)


def _close_all(connections: list[http.client.HTTPConnection]) -> None:
    with suppress(IndexError):  # not asked before: other threads take from it too
        while True:
            connections.pop().close()


_Transfer = Callable[[http.client.HTTPConnection, str], None]


def _get(connection: http.client.HTTPConnection, target: str, ref: BlobRef, path: Path) -> None:
    digest, have = _already_there(path, ref)
    connection.request("GET", target, headers={"Range": f"bytes={have}-"} if have else {})
    response = connection.getresponse()
    _check(response.status)
    if have and response.status != http.client.PARTIAL_CONTENT:
        digest, have = hashlib.sha256(), 0  # a store that knows no ranges sends all
    with path.open("ab" if have else "wb") as file:
        # `read` would wait for a whole chunk, and lose what had come of it when the rest does not.
        while have <= ref.size_bytes and (chunk := response.read1(_CHUNK_BYTES)):
            have += len(chunk)
            digest.update(chunk)
            file.write(chunk)
    response.close()  # `read1` leaves it open at its end, and no other request could follow
    if have < ref.size_bytes:
        raise BlobsUnavailable("the download broke off")
    if have > ref.size_bytes or digest.hexdigest() != ref.digest:
        path.unlink()
        raise MalformedMessage("a downloaded blob is not what its digest names")


def _already_there(path: Path, ref: BlobRef) -> "tuple[hashlib._Hash, int]":
    """Return the digest of what an earlier try left, and how much that is."""
    digest, have = hashlib.sha256(), 0
    if path.exists() and path.stat().st_size < ref.size_bytes:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                digest.update(chunk)
                have += len(chunk)
    return digest, have


def _put(connection: http.client.HTTPConnection, target: str, ref: BlobRef, path: Path) -> None:
    # Object stores that can be told to create and never to change are told so by this header.
    headers = {"Content-Length": str(ref.size_bytes), "If-None-Match": "*"}
    with path.open("rb") as file:
        connection.request("PUT", target, body=file, headers=headers)
    response = connection.getresponse()
    response.read()
    _check(response.status)


def _check(status: int) -> None:
    """Tell a grant that is dead from a store that has trouble; redirects are not followed."""
    if status in _REFUSED:
        raise GrantRefused(f"the blob store says {status}")
    if status == http.client.REQUEST_ENTITY_TOO_LARGE:
        raise BlobTooLarge("the answer is larger than the fleet's blob store takes")
    if not 200 <= status < 300 and status not in _THERE_ALREADY:  # noqa: PLR2004 - success
        raise BlobsUnavailable(f"the blob store says {status}")
