"""Named values, such as metrics and configuration, and their JSON: each has one form.

JSON numbers would lose large integers, NaN and the last bit, so that every value says its type.
"""

import re
from base64 import b64decode, b64encode
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, cast

from windflower.errors import LocalProtocolError, MalformedMessage
from windflower.wire.blobs import BLOB_BYTES
from windflower.wire.limits import NAME_CHARS
from windflower.wire.strict_json import Fields, array, integer, text


@dataclass(frozen=True, slots=True)
class Packed:
    """A value of bytes, as a pack's header describes it: `fill` puts the bytes in its place.

    Attributes:
        size_bytes: how many bytes it has.
        offset: where they start in the pack.
    """

    size_bytes: int
    offset: int = 0


Scalar = int | float | str | bytes | bool | Packed
Value = Scalar | tuple[Scalar, ...]

ReadScalar = Callable[[object, object], Scalar]

_LISTABLE: Final = ("int", "float", "str", "bytes", "bool", "packed")
_blob_bytes: Final = integer(0, BLOB_BYTES)
_INT_BITS: Final = 256
_INT_CHARS: Final = 80
MANY: Final = 1 << 24
_VALUES_TEXT: Final = 1 << 31
_INT = re.compile(r"0|-?[1-9][0-9]*")


@dataclass(frozen=True, slots=True)
class Values:
    """A metric or config record: named values in the order in which the app set them."""

    kind: str
    items: tuple[tuple[str, Value], ...]


def mapped(record: Values, change: Callable[[Scalar], Scalar]) -> Values:
    """Return the same values, each single one changed."""
    return Values(
        record.kind,
        tuple(
            (name, tuple(map(change, value)) if isinstance(value, tuple) else change(value))
            for name, value in record.items
        ),
    )


def fill(record: Values, read: Callable[[int, int], bytes]) -> Values:
    """Return values that were in a pack, with their bytes.

    Args:
        record: as `read_pack_header` returns it.
        read: returns the pack's bytes, given an offset and a number of bytes.
    """

    def put_in(scalar: Scalar) -> Scalar:
        return read(scalar.offset, scalar.size_bytes) if isinstance(scalar, Packed) else scalar

    return mapped(record, put_in)


def values_json(record: Values | None) -> object:
    """Return the JSON form; raises LocalProtocolError for what has none."""
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
    if isinstance(value, Packed):
        return "packed", value.size_bytes
    return "bytes", b64encode(value).decode()


def read_pair(value: object) -> tuple[str, object]:
    """Read a name and what it names; raises MalformedMessage, as all readers here."""
    if not isinstance(value, list) or len(value) != 2:  # noqa: PLR2004 - [name, record]
        raise MalformedMessage("a record is not a pair")
    return text(NAME_CHARS)(value[0]), value[1]


def read_values(body: object, read: ReadScalar) -> Values:
    """Read a record of values, with the types that may stand in its place."""
    fields = Fields(body, what="record")
    kind = fields.take("kind", text(16))
    if kind not in ("metrics", "configs"):
        raise MalformedMessage("a record is of no known kind")
    items = fields.take("items", array(lambda item: _item(item, read), at_most=MANY))
    fields.done()
    if len({name for name, _ in items}) != len(items):
        raise MalformedMessage("a value's name stands twice")
    return Values(kind, items)


def _item(value: object, read: ReadScalar) -> tuple[str, Value]:
    if not isinstance(value, list) or len(value) != 3:  # noqa: PLR2004 - [name, type, value]
        raise MalformedMessage("a value is not [name, type, value]")
    name, kind, raw = value
    name = text(NAME_CHARS)(name)
    if kind == "emptys":
        return name, array(_refuse, at_most=0)(raw)
    if isinstance(kind, str) and kind.endswith("s") and kind[:-1] in _LISTABLE:
        return name, array(lambda item: read(kind[:-1], item), at_most=MANY)(raw)
    return name, read(kind, raw)


def inline_scalar(kind: object, raw: object) -> Scalar:
    """Read a single value of a message: bytes stand in it."""
    return read_base64(raw) if kind == "bytes" else _read_scalar(kind, raw)


def packed_scalar(kind: object, raw: object) -> Scalar:
    """Read a single value of a pack's header: bytes stand behind it."""
    return Packed(_blob_bytes(raw)) if kind == "packed" else _read_scalar(kind, raw)


def _read_scalar(kind: object, raw: object) -> Scalar:
    if kind == "bool" and isinstance(raw, bool):
        return raw
    if kind == "str":
        return text(_VALUES_TEXT)(raw)
    if kind == "int" and isinstance(raw, str):
        return _read_int(raw)
    if kind == "float" and isinstance(raw, str):
        return _read_float(raw)
    raise MalformedMessage("a value is not of its type, or does not stand where it may")


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


def read_base64(raw: object) -> bytes:
    """Read base64 in its one form."""
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
