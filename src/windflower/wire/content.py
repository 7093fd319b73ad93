r"""What a command or a reply carries: named records of arrays, metrics and configuration.

Small values stand in the JSON message itself. The bytes of all array records of a message form one
*pack*, which is inline where it is small and a blob where it is not. A pack is named by its digest,
so the same model is the same blob whoever it is sent to and whatever configuration goes with it.

    pack = b"WFPACK1\n"  length of header, 8 bytes little-endian  header  padding  arrays

The header is JSON and lists, for each record, each array's name, dtype, shape, serialisation type
and size. Every array starts at a multiple of 64 bytes.
"""

import hashlib
import re
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final, cast

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

PACK_MAGIC: Final = b"WFPACK1\n"
PACK_PREFIX_BYTES: Final = len(PACK_MAGIC) + 8

Scalar = int | float | str | bytes | bool
Value = Scalar | tuple[Scalar, ...]

_LISTABLE: Final = ("int", "float", "str", "bytes", "bool")
_INT_BITS: Final = 256
_INT_CHARS: Final = 80
_MANY: Final = 1 << 24
_VALUES_TEXT: Final = 1 << 31
_INT = re.compile(r"0|-?[1-9][0-9]*")


@dataclass(frozen=True, slots=True)
class Values:
    """A metric or config record: named values in the order in which the app set them."""

    kind: str
    items: tuple[tuple[str, Value], ...]


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
        values = [[name, _values_json(record)] for name, record in self.records]
        pack = self.pack.to_json() if self.pack else None
        return hashlib.sha256(dumps([values, pack]).encode()).hexdigest()

    def to_json(self) -> dict[str, object]:
        """Return the JSON form."""
        result: dict[str, object] = {
            "records": [[name, _values_json(record)] for name, record in self.records]
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
        inline = fields.take_or("inline", _base64, None)
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
        data: the arrays' bytes, in the order of the header.
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
    listed = [[name, _record_json(record)] for name, record in named]
    _check_readable(listed)
    stays = [isinstance(record, Values) for _, record in named]
    if _inline_bytes(listed, stays) > inline_values_bytes:
        stays = [False] * len(named)
        if _inline_bytes(listed, stays) > INLINE_VALUES_BYTES:
            raise LocalProtocolError("the records' names alone do not fit in a message")
    inline = tuple(
        (name, record if stay and isinstance(record, Values) else None)
        for (name, record), stay in zip(named, stays, strict=True)
    )
    packed = [pair for pair, stay in zip(listed, stays, strict=True) if not stay]
    return Packing(inline, _pack_header(packed) if packed else b"", pieces)


def _check_readable(listed: list[list[object]]) -> None:
    """Refuse here what every reader would refuse there, where nobody could mend it."""
    for name, record in listed:
        try:
            _named_record([name, record])
        except MalformedMessage as error:
            raise LocalProtocolError(f"record {str(name)[:64]!r}: {error.reason}") from error


def _inline_bytes(listed: list[list[object]], stays: list[bool]) -> int:
    """How much the records take within a command, which is text within JSON."""
    inline = [
        [pair[0], pair[1] if stay else None] for pair, stay in zip(listed, stays, strict=True)
    ]
    return len(dumps(dumps(inline)))


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
            records[name] = record
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


def _aligned(size: int) -> int:
    return size + (-size % PACK_ALIGNMENT)


# ------------------------------------------------------------------------------------- JSON


def _record_json(record: Record) -> object:
    if isinstance(record, Values):
        return _values_json(record)
    return {
        "kind": "arrays",
        "items": [[e.name, e.dtype, list(e.shape), e.stype, e.size_bytes] for e in record.entries],
    }


def _values_json(record: Values | None) -> object:
    if record is None:
        return None
    return {"kind": record.kind, "items": [[name, *_typed(value)] for name, value in record.items]}


def _typed(value: Value) -> tuple[str, object]:
    """A value with the name of its type: JSON numbers would lose ints, NaN and the last bit."""
    if isinstance(value, tuple):
        items = [_scalar(item) for item in value]
        kinds = {kind for kind, _ in items}
        if kinds == {"bool", "int"}:  # True is an int to Python, and so to Flower
            return "ints", [_scalar(int(cast("int", item)))[1] for item in value]
        if len(kinds) > 1:
            raise LocalProtocolError("a list value mixes types")
        kind = kinds.pop() if kinds else "empty"
        return f"{kind}s", [item for _, item in items]
    return _scalar(value)


def _scalar(value: Scalar) -> tuple[str, object]:
    if isinstance(value, bool):
        return "bool", value
    if isinstance(value, int):
        if value.bit_length() > _INT_BITS:
            raise LocalProtocolError(f"an int of {value.bit_length()} bits, {_INT_BITS} fit")
        return "int", int.__repr__(value)  # the name of an enumeration's member is not its value
    if isinstance(value, float):
        return "float", value.hex()
    if isinstance(value, str):
        return "str", value
    return "bytes", b64encode(value).decode()


def _named_record(value: object) -> tuple[str, Record]:
    name, body = _pair(value)
    if isinstance(body, dict) and body.get("kind") == "arrays":
        fields = Fields(body, what="record")
        fields.take("kind", text(16))
        entries = fields.take("items", array(_entry, at_most=_MANY))
        fields.done()
        if len({entry.name for entry in entries}) != len(entries):
            raise MalformedMessage("an array's name stands twice")
        return name, Arrays(entries)
    return name, _read_values(body)


def _named_values(value: object) -> tuple[str, Values | None]:
    name, body = _pair(value)
    return name, None if body is None else _read_values(body)


def _pair(value: object) -> tuple[str, object]:
    if not isinstance(value, list) or len(value) != 2:  # noqa: PLR2004 - [name, record]
        raise MalformedMessage("a record is not a pair")
    return text(NAME_CHARS)(value[0]), value[1]


def _read_values(body: object) -> Values:
    fields = Fields(body, what="record")
    kind = fields.take("kind", text(16))
    if kind not in ("metrics", "configs"):
        raise MalformedMessage("a record is of no known kind")
    items = fields.take("items", array(_item, at_most=_MANY))
    fields.done()
    if len({name for name, _ in items}) != len(items):
        raise MalformedMessage("a value's name stands twice")
    return Values(kind, items)


def _item(value: object) -> tuple[str, Value]:
    if not isinstance(value, list) or len(value) != 3:  # noqa: PLR2004 - [name, type, value]
        raise MalformedMessage("a value is not [name, type, value]")
    name, kind, raw = value
    name = text(NAME_CHARS)(name)
    if kind == "emptys":
        return name, array(_refuse, at_most=0)(raw)
    if isinstance(kind, str) and kind.endswith("s") and kind[:-1] in _LISTABLE:
        return name, array(lambda item: _read_scalar(kind[:-1], item), at_most=_MANY)(raw)
    return name, _read_scalar(kind, raw)


def _read_scalar(kind: object, raw: object) -> Scalar:
    if kind == "bool" and isinstance(raw, bool):
        return raw
    if kind == "str":
        return text(_VALUES_TEXT)(raw)
    if kind == "int" and isinstance(raw, str):
        return _read_int(raw)
    if kind == "float" and isinstance(raw, str):
        return _read_float(raw)
    if kind == "bytes":
        return _base64(raw)
    raise MalformedMessage("a value is not of its type")


def _read_int(raw: str) -> int:
    if len(raw) > _INT_CHARS or not _INT.fullmatch(raw):
        raise MalformedMessage("not an int, or not in its one form")
    number = int(raw)
    if number.bit_length() > _INT_BITS:
        raise MalformedMessage("an int is too large")
    return number


def _read_float(raw: str) -> float:
    try:
        number = float.fromhex(text(64)(raw))
    except (ValueError, OverflowError) as error:
        raise MalformedMessage("not a float") from error
    if number.hex() != raw:
        raise MalformedMessage("a float is not in its one form")
    return number


def _base64(raw: object) -> bytes:
    encoded = text(_VALUES_TEXT)(raw)
    try:
        decoded = b64decode(encoded, validate=True)
    except ValueError as error:
        raise MalformedMessage("not base64") from error
    if b64encode(decoded).decode() != encoded:
        raise MalformedMessage("base64 is not in its one form")
    return decoded


def _refuse(value: object) -> Scalar:
    raise MalformedMessage(f"an empty list holds {type(value).__name__}")


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
