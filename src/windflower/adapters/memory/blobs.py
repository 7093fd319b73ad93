"""Blobs in a dictionary, and the transfers that reach them."""

import hashlib
import secrets
import time
from pathlib import Path
from typing import Final, Literal

from windflower.errors import BlobNotFound, BlobTooLarge, GrantRefused, MalformedMessage
from windflower.wire.blobs import BlobRef, Grant
from windflower.wire.content import blob_ref

_ORIGIN: Final = "http://memory.invalid/"


class MemoryBlobs:
    """Blobs of one process.

    Args:
        folder: where `fetch` writes what somebody wants as a file.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._bytes: dict[str, bytes] = {}
        self._grants: dict[str, tuple[Grant, float]] = {}

    async def adopt(self, path: Path, ref: BlobRef) -> None:
        """Take over a file whose content `ref` names. Idempotent."""
        self._bytes[ref.key] = path.read_bytes()
        path.unlink()

    async def matches(self, key: str, ref: BlobRef) -> bool:
        """Return whether what is stored under `key` is, byte for byte, what `ref` names."""
        return key in self._bytes and blob_ref(self._bytes[key]) == ref

    async def fetch(self, key: str) -> Path:
        """Return a local file with the bytes; raises BlobNotFound."""
        if key not in self._bytes:
            raise BlobNotFound(f"no blob {key}")
        path = self._folder / hashlib.sha256(key.encode()).hexdigest()
        if not path.exists():
            path.write_bytes(self._bytes[key])
        return path

    def grant(
        self, method: Literal["GET", "PUT"], key: str, *, size_bytes: int, ttl_s: float
    ) -> Grant:
        """Return a capability for one key."""
        url = _ORIGIN + secrets.token_hex(16)
        grant = Grant(method, key, url, size_bytes, ttl_s)
        self._grants[url] = (grant, time.monotonic() + ttl_s)
        return grant

    async def discard(self, key: str) -> None:
        """Drop what is stored under a key, if anything is."""
        self._bytes.pop(key, None)

    def room_bytes(self) -> int:
        """Return how many bytes can still be stored: here as many as a file may have."""
        return 1 << 40

    async def sweep(self, live: frozenset[str], *, older_than_s: float) -> int:
        """Drop what is stored under other keys than these; here all are old enough, or none is."""
        over = [key for key in self._bytes if key not in live] if older_than_s <= 0 else []
        for key in over:
            del self._bytes[key]
        return len(over)

    async def close(self) -> None:
        """Forget nothing: whoever opens it again goes on."""

    # ---------------------------------------------------------------------- for the transfers

    def read(self, url: str) -> bytes:
        """Return what a GET grant is for."""
        key = self._granted("GET", url).key
        if key not in self._bytes:
            raise GrantRefused("no such blob")
        return self._bytes[key]

    def create(self, url: str, data: bytes) -> None:
        """Store what a PUT grant is for, once."""
        grant = self._granted("PUT", url)
        if len(data) > grant.size_bytes:
            raise BlobTooLarge("larger than granted")
        self._bytes.setdefault(grant.key, data)

    def _granted(self, method: str, url: str) -> Grant:
        grant, expires = self._grants.get(url, (None, 0.0))
        if grant is None or grant.method != method or time.monotonic() >= expires:
            raise GrantRefused("this grant is not valid (any more)")
        return grant


class MemoryTransfers:
    """Moves bytes between a device's files and blobs of the same process."""

    def __init__(self, blobs: MemoryBlobs) -> None:
        self._blobs = blobs

    async def get(self, grant: Grant, ref: BlobRef, path: Path) -> None:
        """Download to a file and verify."""
        data = self._blobs.read(grant.url)
        if blob_ref(data) != ref:
            raise MalformedMessage("a downloaded blob is not what its digest names")
        path.write_bytes(data)

    async def put(self, grant: Grant, ref: BlobRef, path: Path) -> None:
        """Upload a file."""
        del ref
        self._blobs.create(grant.url, path.read_bytes())
