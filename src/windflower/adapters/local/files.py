"""Files that survive a power cut: written, synced, then renamed into place."""

import hashlib
import os
from pathlib import Path
from typing import IO, Final

from windflower.wire.blobs import BlobRef

_CHUNK_BYTES: Final = 1 << 20


def make_private(folder: Path) -> None:
    """Make a folder that only this user may enter, where it is missing."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)


def make_durable(path: Path) -> None:
    """Return when the content of a file or folder is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def move_durably(source: Path, target: Path) -> None:
    """Rename a file into place; after a power cut it is there whole, or not at all."""
    make_durable(source)
    target.parent.mkdir(parents=True, exist_ok=True)
    source.replace(target)
    make_durable(target.parent)


def digest_of(path: Path) -> BlobRef:
    """Name the bytes of a file."""
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
            size += len(chunk)
    return BlobRef(digest.hexdigest(), size)


def write_durably(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Write a small file; after a power cut it has its old or its new content."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
    make_durable(path.parent)


def open_log(path: Path, *, keeps_bytes: int = 16 << 20) -> IO[bytes]:
    """Open a log for appending; one that grew too large is set aside first, the one before goes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and path.stat().st_size > keeps_bytes:
        path.replace(path.with_name(f"{path.name}.old"))
    return path.open("ab")
