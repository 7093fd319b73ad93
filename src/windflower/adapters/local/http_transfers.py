"""Moves bytes between a device and a blob store by grants: plain HTTP, standard library only."""

import asyncio
import hashlib
import http.client
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from windflower.errors import BlobsUnavailable, GrantRefused, MalformedMessage
from windflower.wire.blobs import BlobRef, Grant

TIMEOUT_S: Final = 60.0
_CHUNK_BYTES: Final = 1 << 20
_REFUSED: Final = frozenset({401, 403, 404, 405, 410})


class HttpTransfers:
    """Downloads and uploads; each call is one request in a thread.

    Args:
        tls: for https grants; the system's trust store by default.
    """

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls

    async def get(self, grant: Grant, ref: BlobRef, path: Path) -> None:
        """Download to a file and verify; go on where an earlier try stopped."""
        await asyncio.to_thread(self._reach, lambda: self._get(grant, ref, path))

    async def put(self, grant: Grant, ref: BlobRef, path: Path) -> None:
        """Upload a file; that it is there already, with these bytes, is success."""
        await asyncio.to_thread(self._reach, lambda: self._put(grant, ref, path))

    def _reach(self, transfer: Callable[[], None]) -> None:
        try:
            transfer()
        except (OSError, http.client.HTTPException) as error:
            reason = str(error) or type(error).__name__
            raise BlobsUnavailable(f"the blob store does not answer: {reason}") from error

    def _get(self, grant: Grant, ref: BlobRef, path: Path) -> None:
        digest, have = hashlib.sha256(), 0
        if path.exists() and 0 < path.stat().st_size < ref.size_bytes:
            with path.open("rb") as file:
                while chunk := file.read(_CHUNK_BYTES):
                    digest.update(chunk)
                    have += len(chunk)
        connection, target = self._connect(grant)
        try:
            connection.request("GET", target, headers={"Range": f"bytes={have}-"} if have else {})
            response = connection.getresponse()
            _check(response.status)
            if have and response.status != http.client.PARTIAL_CONTENT:
                digest, have = hashlib.sha256(), 0  # a store that knows no ranges sends all
            with path.open("ab" if have else "wb") as file:
                while chunk := response.read(_CHUNK_BYTES):
                    have += len(chunk)
                    if have > ref.size_bytes:
                        break
                    digest.update(chunk)
                    file.write(chunk)
        finally:
            connection.close()
        if have < ref.size_bytes:
            raise BlobsUnavailable("the download broke off")
        if have > ref.size_bytes or digest.hexdigest() != ref.digest:
            path.unlink()
            raise MalformedMessage("a downloaded blob is not what its digest names")

    def _put(self, grant: Grant, ref: BlobRef, path: Path) -> None:
        connection, target = self._connect(grant)
        try:
            with path.open("rb") as file:
                connection.request(
                    "PUT", target, body=file, headers={"Content-Length": str(ref.size_bytes)}
                )
            response = connection.getresponse()
            response.read()
        finally:
            connection.close()
        _check(response.status)

    def _connect(self, grant: Grant) -> tuple[http.client.HTTPConnection, str]:
        parts = urlsplit(grant.url)
        connection: http.client.HTTPConnection
        if parts.scheme == "https":
            context = self._tls or ssl.create_default_context()
            connection = http.client.HTTPSConnection(
                parts.netloc, timeout=TIMEOUT_S, context=context
            )
        else:
            connection = http.client.HTTPConnection(parts.netloc, timeout=TIMEOUT_S)
        connection.blocksize = _CHUNK_BYTES
        return connection, f"{parts.path}?{parts.query}" if parts.query else parts.path


def _check(status: int) -> None:
    """Tell a grant that is dead from a store that has trouble; redirects are not followed."""
    if status in _REFUSED:
        raise GrantRefused(f"the blob store says {status}")
    if not 200 <= status < 300 and status != http.client.CONFLICT:  # noqa: PLR2004 - success
        raise BlobsUnavailable(f"the blob store says {status}")
