r"""What a command or a reply carries: named records of arrays, metrics and configuration.

Small values stand in the JSON message itself. The bytes of all array records of a message form one
*pack*, which is inline where it is small and a blob where it is not. A pack is named by its digest,
so the same model is the same blob whoever it is sent to and whatever configuration goes with it.

    pack = b"WFPACK1\n"  length of header, 8 bytes little-endian  header  padding  arrays

The header is JSON and lists, for each record, each array's name, dtype, shape, serialisation type
and size. Every array starts at a multiple of 64 bytes. So do values of bytes in records that are in
the pack: an app that encrypts or masks its updates sends them as such.
"""

import hashlib
from base64 import b64encode
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from windflower.errors import LocalProtocolError, MalformedMessage
from windflower.wire.blobs import BLOB_BYTES, BlobRef
from windflower.wire.limits import (
    ARRAY_DIMENSIONS,
    DTYPE_CHARS,
    INLINE_PACK_BYTES,
    INLINE_VALUES_BYTES,
    NAME_CHARS,
    PACK_ALIGNMENT,
    PACK_HEADER_BYTES,
    RECORDS,
)
from windflower.wire.strict_json import Fields, array, dumps, integer, loads, text
from windflower.wire.values import (
    MANY,
    Packed,
    Scalar,
    Values,
    inline_scalar,
    mapped,
    packed_scalar,
    read_base64,
    read_pair,
    read_values,
    values_json,
)

PACK_MAGIC: Final = b"WFPACK1\n"
PACK_PREFIX_BYTES: Final = len(PACK_MAGIC) + 8


@dataclass(frozen=True, slots=True)
class ArrayEntry:
    """One array of a pack.

    Attributes:
        name: its key in the record.
        dtype: as the app's framework calls it, for example "float32".
        shape: its shape; empty for a single number.
        stype: how its bytes are to be read; "numpy.ndarray" is the .npy format.
        size_bytes: how many bytes it has.
        offset: where they start in the pack.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    stype: str
    size_bytes: int
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Arrays:
    """An array record: its entries, whose bytes stand in the pack."""

    entries: tuple[ArrayEntry, ...]


Record = Arrays | Values


@dataclass(frozen=True, slots=True)
class Content:
    """Everything that a message carries for the app.

    Attributes:
        records: name and record in the app's order. None stands for a record that is in the pack.
        pack: names the pack; None where there is none.
        inline: the pack's bytes where they travel in the message, else None.
    """

    records: tuple[tuple[str, Values | None], ...] = ()
    pack: BlobRef | None = None
    inline: bytes | None = None

    @property
    def digest(self) -> str:
        """SHA-256 over everything, the same whichever way the pack travels."""
        values = [[name, values_json(record)] for name, record in self.records]
        pack = self.pack.to_json() if self.pack else None
        return hashlib.sha256(dumps([values, pack]).encode()).hexdigest()

    def to_json(self) -> dict[str, object]:
        """Return the JSON form."""
        result: dict[str, object] = {
            "records": [[name, values_json(record)] for name, record in self.records]
        }
        if self.pack:
            result["pack"] = self.pack.to_json()
        if self.inline is not None:
            result["inline"] = b64encode(self.inline).decode()
        return result

    @classmethod
    def from_json(cls, value: Any) -> "Content":  # noqa: ANN401 - JSON is any
        """Read the JSON form; raises MalformedMessage. An inline pack is checked at once."""
        fields = Fields(value, what="content")
        records = fields.take("records", array(_named_values, at_most=RECORDS))
        pack = fields.take_or("pack", BlobRef.from_json, None)
        inline = fields.take_or("inline", read_base64, None)
        fields.done()
        if len({name for name, _ in records}) != len(records):
            raise MalformedMessage("a record's name stands twice")
        if inline is not None and (pack is None or pack != blob_ref(inline)):
            raise MalformedMessage("an inline pack is not what its digest names")
        if inline is not None and len(inline) > INLINE_PACK_BYTES:
            raise MalformedMessage("an inline pack is too large to be inline")
        if (pack is not None) != any(record is None for _, record in records):
            raise MalformedMessage("a pack without a record in it, or the other way round")
        return cls(records, pack, inline)


def blob_ref(data: bytes) -> BlobRef:
    """Name these bytes."""
    return BlobRef(hashlib.sha256(data).hexdigest(), len(data))


# ---------------------------------------------------------------------------------- packing


@dataclass(frozen=True, slots=True)
class Packing:
    """A message's records on their way out.

    Attributes:
        inline: records as they stand in the message.
        header: what the pack begins with; empty where nothing is packed.
        data: the bytes of arrays and of values, in the order of the header.
    """

    inline: tuple[tuple[str, Values | None], ...]
    header: bytes
    data: tuple[bytes, ...]

    def chunks(self) -> Iterator[bytes]:
        """Yield the pack piece by piece, padding included; nothing is copied."""
        if not self.header:
            return
        yield self.header
        for piece in self.data:
            yield piece
            if padding := -len(piece) % PACK_ALIGNMENT:
                yield bytes(padding)

    @property
    def size_bytes(self) -> int:
        """The size of the pack."""
        return len(self.header) + sum(_aligned(len(piece)) for piece in self.data)


def pack_records(
    records: Iterable[tuple[str, Record]],
    data: Iterable[bytes],
    *,
    inline_values_bytes: int = INLINE_VALUES_BYTES,
) -> Packing:
    """Decide what stands in the message and what in its pack.

    Args:
        records: in the app's order; the entries' offsets are ignored.
        data: the bytes of every array entry, in the same order.
        inline_values_bytes: values that need more JSON than this are packed too.

    Raises:
        LocalProtocolError: sizes do not fit the entries, or a reader would refuse it.
    """
    named = list(records)
    pieces = tuple(data)
    sizes = [entry.size_bytes for _, r in named if isinstance(r, Arrays) for entry in r.entries]
    if sizes != [len(piece) for piece in pieces]:
        raise LocalProtocolError("array sizes differ from their data")
    if len(named) > RECORDS:
        raise LocalProtocolError(f"{len(named)} records in a message, at most {RECORDS} fit")
    listed = [[name, _record_json(_without_bytes(record))] for name, record in named]
    _check_readable(listed)
    stays = _fits_inline(named, inline_values_bytes)
    inline = tuple(
        (name, record if stays and isinstance(record, Values) else None) for name, record in named
    )
    packed = [pair for pair, (_, kept) in zip(listed, inline, strict=True) if kept is None]
    outside = [record for (_, record), (_, kept) in zip(named, inline, strict=True) if kept is None]
    header = _pack_header(packed) if packed else b""
    return Packing(inline, header, tuple(_bytes_of(outside, iter(pieces))))


def _fits_inline(named: list[tuple[str, Record]], at_most: int) -> bool:
    """Return whether records of values may stand in the message."""
    names: list[list[object]] = [[name, None] for name, _ in named]
    if _inline_bytes(names) > INLINE_VALUES_BYTES:
        raise LocalProtocolError("the records' names alone do not fit in a message")
    values = [(name, record) for name, record in named if isinstance(record, Values)]
    # In base64 they take more than that: a gigabyte is not encoded to find out.
    if sum(len(piece) for piece in _bytes_of([v for _, v in values], iter(()))) > at_most:
        return False
    listed = [
        [name, values_json(record) if isinstance(record, Values) else None]
        for name, record in named
    ]
    return _inline_bytes(listed) <= at_most


def _bytes_of(records: Iterable[Record], arrays: Iterator[bytes]) -> Iterator[bytes]:
    """Yield what stands in the pack, record by record; takes the arrays' bytes as they come."""
    for record in records:
        if isinstance(record, Arrays):
            yield from (next(arrays) for _ in record.entries)
            continue
        for _, value in record.items:
            scalars = value if isinstance(value, tuple) else (value,)
            yield from (scalar for scalar in scalars if isinstance(scalar, bytes))


def _without_bytes(record: Record) -> Record:
    """Describe values of bytes instead of holding them."""
    return record if isinstance(record, Arrays) else mapped(record, _describe)


def _describe(scalar: Scalar) -> Scalar:
    return Packed(len(scalar)) if isinstance(scalar, bytes) else scalar


def _check_readable(listed: list[list[object]]) -> None:
    """Refuse here what every reader would refuse there, where nobody could mend it."""
    for name, record in listed:
        try:
            _named_record([name, record])
        except MalformedMessage as error:
            raise LocalProtocolError(f"record {str(name)[:64]!r}: {error.reason}") from error


def _inline_bytes(listed: list[list[object]]) -> int:
    """How much the records take within a command, which is text within JSON."""
    return len(dumps(dumps(listed)))


def _pack_header(listed: list[list[object]]) -> bytes:
    header = dumps({"records": listed}).encode()
    if len(header) > PACK_HEADER_BYTES:
        raise LocalProtocolError(f"{len(header)} bytes describe a pack, {PACK_HEADER_BYTES} fit")
    prefix = PACK_MAGIC + len(header).to_bytes(8, "little") + header
    return prefix + bytes(-len(prefix) % PACK_ALIGNMENT)


def finish(packing: Packing, pack: BlobRef | None, *, inline: bytes | None = None) -> Content:
    """Return the content of a message whose pack has been written and named."""
    return Content(packing.inline, pack, inline)


def pack_inline(packing: Packing) -> Content:
    """Return a content that carries its pack; raises LocalProtocolError where it is too large."""
    if packing.size_bytes > INLINE_PACK_BYTES:
        raise LocalProtocolError(f"a pack of {packing.size_bytes} bytes does not fit in a message")
    if not packing.header:
        return finish(packing, None)
    whole = b"".join(packing.chunks())
    return finish(packing, blob_ref(whole), inline=whole)


# -------------------------------------------------------------------------------- unpacking


def pack_header_bytes(prefix: bytes) -> int:
    """Return how many bytes, from the start of a pack, hold its header; raises MalformedMessage.

    Args:
        prefix: at least the first PACK_PREFIX_BYTES of the pack.
    """
    if len(prefix) < PACK_PREFIX_BYTES or not prefix.startswith(PACK_MAGIC):
        raise MalformedMessage("not a pack")
    length = int.from_bytes(prefix[len(PACK_MAGIC) : PACK_PREFIX_BYTES], "little")
    if length > PACK_HEADER_BYTES:
        raise MalformedMessage(f"a pack's header has {length} bytes")
    return PACK_PREFIX_BYTES + length


def read_pack_header(header: bytes, *, pack_bytes: int) -> dict[str, Record]:
    """Read the records that a pack describes; raises MalformedMessage.

    Every offset and size is checked against `pack_bytes`, the size of the whole pack, so that a
    reader may seek to any entry without looking further.
    """
    end = pack_header_bytes(header)
    if len(header) < end:
        raise MalformedMessage("a pack's header is cut")
    raw = header[PACK_PREFIX_BYTES:end]
    fields = Fields(loads(raw, max_bytes=PACK_HEADER_BYTES), what="pack")
    listed = fields.take("records", array(_named_record, at_most=RECORDS))
    fields.done()
    records: dict[str, Record] = {}
    offset = _aligned(end)
    for name, record in listed:
        if name in records:
            raise MalformedMessage("a record's name stands twice in a pack")
        if isinstance(record, Arrays):
            records[name], offset = _place(record, offset)
        else:
            records[name], offset = _place_values(record, offset)
    if offset != pack_bytes:
        raise MalformedMessage(f"a pack describes {offset} bytes and has {pack_bytes}")
    return records


def merge(content: Content, packed: dict[str, Record]) -> list[tuple[str, Record]]:
    """Return all records of a message in the app's order; raises MalformedMessage."""
    left = dict(packed)
    merged: list[tuple[str, Record]] = []
    for name, inline in content.records:
        record = inline if inline is not None else left.pop(name, None)
        if record is None:
            raise MalformedMessage("a record is missing from its pack")
        merged.append((name, record))
    if left:
        raise MalformedMessage("a pack holds records that its message does not name")
    return merged


def _place(record: Arrays, offset: int) -> tuple[Arrays, int]:
    placed = []
    for entry in record.entries:
        placed.append(
            ArrayEntry(entry.name, entry.dtype, entry.shape, entry.stype, entry.size_bytes, offset)
        )
        offset += _aligned(entry.size_bytes)
    return Arrays(tuple(placed)), offset


def _place_values(record: Values, offset: int) -> tuple[Values, int]:
    def put(scalar: Scalar) -> Scalar:
        nonlocal offset
        if not isinstance(scalar, Packed):
            return scalar
        placed = Packed(scalar.size_bytes, offset)
        offset += _aligned(scalar.size_bytes)
        return placed

    return mapped(record, put), offset


def _aligned(size: int) -> int:
    return size + (-size % PACK_ALIGNMENT)


# ------------------------------------------------------------------------------------- JSON


def _record_json(record: Record) -> object:
    if isinstance(record, Values):
        return values_json(record)
    return {
        "kind": "arrays",
        "items": [[e.name, e.dtype, list(e.shape), e.stype, e.size_bytes] for e in record.entries],
    }


def _named_record(value: object) -> tuple[str, Record]:
    name, body = read_pair(value)
    if isinstance(body, dict) and body.get("kind") == "arrays":
        fields = Fields(body, what="record")
        fields.take("kind", text(16))
        entries = fields.take("items", array(_entry, at_most=MANY))
        fields.done()
        if len({entry.name for entry in entries}) != len(entries):
            raise MalformedMessage("an array's name stands twice")
        return name, Arrays(entries)
    return name, read_values(body, packed_scalar)


def _named_values(value: object) -> tuple[str, Values | None]:
    name, body = read_pair(value)
    return name, None if body is None else read_values(body, inline_scalar)


def _entry(value: object) -> ArrayEntry:
    if not isinstance(value, list) or len(value) != 5:  # noqa: PLR2004 - see _record_json
        raise MalformedMessage("an array is not [name, dtype, shape, stype, size]")
    name, dtype, shape, stype, size = value
    return ArrayEntry(
        text(NAME_CHARS)(name),
        text(DTYPE_CHARS)(dtype),
        array(integer(0, BLOB_BYTES), at_most=ARRAY_DIMENSIONS)(shape),
        text(64)(stype),
        integer(0, BLOB_BYTES)(size),
    )
