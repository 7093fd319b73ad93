"""Flower's records to the wire's content and back, bit for bit."""

import errno
import hashlib
import mmap
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Protocol, cast

from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict

from windflower.errors import LocalProtocolError, MalformedMessage, NotEnoughRoom, RunDiverged
from windflower.wire.blobs import BlobRef
from windflower.wire.content import (
    PACK_PREFIX_BYTES,
    ArrayEntry,
    Arrays,
    Content,
    Packing,
    Record,
    finish,
    merge,
    pack_header_bytes,
    pack_inline,
    pack_records,
    read_pack_header,
)
from windflower.wire.limits import INLINE_PACK_BYTES
from windflower.wire.npy import HEADER_PREFIX_BYTES, check_npy
from windflower.wire.values import Value, Values, fill

NUMPY: Final = "numpy.ndarray"
_FIRST_LOOK_BYTES: Final = 1024


class Reader(Protocol):
    """Whoever wants to know when arrays of a message are read."""

    def reads(self) -> None:
        """Note that one is read; what is raised here stops it."""
        ...


class LazyArray(Array):
    """An array whose bytes are read when they are asked for.

    An unmodified strategy that adds up updates one by one then needs memory for about one of them.

    Args:
        entry: what the array is, and where its bytes stand in its pack.
        read: returns the bytes.

    Attributes:
        offset: where its bytes stand in its pack.
        reader: is told before each reading.
    """

    def __init__(self, entry: ArrayEntry, read: Callable[[], bytes]) -> None:
        # Not the base class's constructor: it would copy the bytes.
        self.dtype = entry.dtype
        self.shape = entry.shape
        self.stype = entry.stype
        self.offset = entry.offset
        self.reader: Reader | None = None
        self.__dict__["_read"] = read

    @property
    def data(self) -> bytes:  # type: ignore[override]
        """The array's bytes, read again at each call."""
        if self.reader is not None:
            self.reader.reads()
        return cast("bytes", self.__dict__["_read"]())


# ------------------------------------------------------------------------------- to the wire


def to_packing(records: RecordDict) -> Packing:
    """Describe a message's records; raises LocalProtocolError for what the wire cannot say."""
    described: list[tuple[str, Record]] = []
    data: list[bytes] = []
    for name, record in records.items():
        if isinstance(record, ArrayRecord):
            entries = []
            for key, array in record.items():
                piece = array.data
                data.append(piece)
                shape = tuple(int(n) for n in array.shape)
                entries.append(ArrayEntry(key, array.dtype, shape, array.stype, len(piece)))
            described.append((name, Arrays(tuple(entries))))
        elif isinstance(record, MetricRecord | ConfigRecord):
            kind = "metrics" if isinstance(record, MetricRecord) else "configs"
            described.append((name, to_values(kind, record)))
        else:
            raise LocalProtocolError(f"{name!r} is no record but a {type(record).__name__}")
    return pack_records(described, data)


def to_values(kind: str, record: Any) -> Values:  # noqa: ANN401 - any mapping of plain values
    """Describe named values."""
    return Values(kind, tuple((key, _plain(value)) for key, value in record.items()))


def to_content(records: RecordDict, write_to: Path) -> Content:
    """Put records into a content; a pack that is too large for a message goes to a file.

    Args:
        records: what the app sends.
        write_to: where the pack goes; durable on return. Nothing is written for a small one.
    """
    packing = to_packing(records)
    if packing.size_bytes <= INLINE_PACK_BYTES:
        return pack_inline(packing)
    return finish(packing, write_pack(packing, write_to))


@contextmanager
def on_a_full_disk_suspended() -> Iterator[None]:
    """Suspend a run that cannot write what it wants to send: room can be made, and nothing is lost.

    Raises:
        NotEnoughRoom: in place of the system's error.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise NotEnoughRoom(f"{error.strerror}: make room, then resume") from error


def write_pack(packing: Packing, path: Path) -> BlobRef:
    """Write a pack to a file, sync it, and name it."""
    digest, size = hashlib.sha256(), 0
    part = path.with_name(path.name + ".part")
    with part.open("wb") as file:
        for chunk in packing.chunks():
            digest.update(chunk)
            size += len(chunk)
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
    return BlobRef(digest.hexdigest(), size)


# ----------------------------------------------------------------------------- from the wire


def from_content(content: Content, pack: Path | None, *, header: bytes | None = None) -> RecordDict:
    """Return Flower's records, their arrays lazy; raises MalformedMessage.

    Args:
        content: what came; an inline pack stands in it.
        pack: the file of a pack that is not inline; it must stay while the records are used.
        header: what the pack began with, where it is gone: then no array can be read.
    """
    source: _Source | _Header | None = None
    if content.pack is not None and header is not None:
        source = _Header(content.pack, header)
    elif content.pack is not None:
        source = _Source(content.pack, content.inline, pack)
    packed = source.header() if source is not None else {}
    result = RecordDict()
    for name, record in merge(content, packed):
        if isinstance(record, Values):
            result[name] = from_values(record if source is None else fill(record, source.read))
            continue
        arrays = ArrayRecord()
        for entry in record.entries:
            assert source is not None  # noqa: S101 - `merge` found the record in its pack
            source.check(entry)
            # Not ArrayRecord({...}): that would read and copy every array.
            arrays[entry.name] = LazyArray(entry, source.reader(entry))
        result[name] = arrays
    return result


def from_values(values: Values) -> MetricRecord | ConfigRecord:
    """Return Flower's record of named values; raises MalformedMessage."""
    plain = {key: list(v) if isinstance(v, tuple) else v for key, v in values.items}
    try:
        if values.kind == "metrics":
            return MetricRecord(cast("Any", plain))
        return ConfigRecord(cast("Any", plain))
    except (TypeError, ValueError) as error:
        raise MalformedMessage(f"a {values.kind} record holds what Flower refuses") from error


class _Source:
    """The bytes of one pack, in memory or mapped from a file."""

    def __init__(self, ref: BlobRef, inline: bytes | None, path: Path | None) -> None:
        if inline is not None:
            self._bytes: bytes | mmap.mmap = inline
        elif path is not None:
            with path.open("rb") as file:
                if os.fstat(file.fileno()).st_size != ref.size_bytes or not ref.size_bytes:
                    raise MalformedMessage("a pack has another size than its message says")
                self._bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        else:
            raise MalformedMessage("a pack is missing")

    def header(self) -> dict[str, Record]:
        end = pack_header_bytes(self._bytes[:PACK_PREFIX_BYTES])
        return read_pack_header(self._bytes[:end], pack_bytes=len(self._bytes))

    def check(self, entry: ArrayEntry) -> None:
        """Compare an array's own header with its description, before numpy believes it."""
        if entry.stype != NUMPY:
            return
        # Flower's legacy parameters come without dtype and shape: only their header knows.
        shape = entry.shape if entry.dtype else None
        try:
            check_npy(
                self._look(entry, _FIRST_LOOK_BYTES), shape=shape, size_bytes=entry.size_bytes
            )
        except MalformedMessage:
            look = self._look(entry, HEADER_PREFIX_BYTES)
            check_npy(look, shape=shape, size_bytes=entry.size_bytes)

    def _look(self, entry: ArrayEntry, at_most: int) -> bytes:
        return self._bytes[entry.offset : entry.offset + min(entry.size_bytes, at_most)]

    def read(self, offset: int, size_bytes: int) -> bytes:
        return self._bytes[offset : offset + size_bytes]

    def reader(self, entry: ArrayEntry) -> Callable[[], bytes]:
        source, start, end = self._bytes, entry.offset, entry.offset + entry.size_bytes
        return lambda: source[start:end]


class _Header:
    """What is left of a pack that was dropped."""

    def __init__(self, ref: BlobRef, header: bytes) -> None:
        self._ref = ref
        self._header = header

    def header(self) -> dict[str, Record]:
        return read_pack_header(self._header, pack_bytes=self._ref.size_bytes)

    def check(self, entry: ArrayEntry) -> None:
        """There is nothing that numpy could believe."""

    def read(self, offset: int, size_bytes: int) -> bytes:
        raise RunDiverged(
            f"{size_bytes} bytes at {offset} of an update that was dropped are read now, and were"
            " not before: only what was made of it is kept"
        )

    def reader(self, entry: ArrayEntry) -> Callable[[], bytes]:
        return lambda: self.read(entry.offset, entry.size_bytes)


def header_of(pack: Path) -> bytes:
    """Return what a pack begins with: the names, dtypes and shapes of what is in it."""
    with pack.open("rb") as file:
        prefix = file.read(PACK_PREFIX_BYTES)
        return prefix + file.read(pack_header_bytes(prefix) - len(prefix))


def _plain(value: Any) -> Value:  # noqa: ANN401 - Flower checked it
    return tuple(value) if isinstance(value, list) else cast("Value", value)
