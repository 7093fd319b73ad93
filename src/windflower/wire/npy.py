"""The header of NumPy's .npy format, checked without NumPy.

`numpy.load` allocates what a header claims, 8 TiB from a file of 128 bytes, before it looks at the
rest. So a header from outside is compared with the size that really is there first.

Source: NumPy Enhancement Proposal 1, format versions 1.0 to 3.0.
"""

import ast
import math
import re
from dataclasses import dataclass
from typing import Final

from windflower.errors import MalformedMessage
from windflower.wire.limits import ARRAY_DIMENSIONS

_MAGIC: Final = b"\x93NUMPY"
_LENGTH_BYTES: Final = {1: 2, 2: 4, 3: 4}
_HEADER_BYTES: Final = 64 * 1024
_SIMPLE = re.compile(r"[<>|=]?([biufcSVMm?U])(\d{0,9})(?:\[[0-9a-zA-Z/]{1,16}\])?")
_UNICODE_BYTES: Final = 4

HEADER_PREFIX_BYTES: Final = _HEADER_BYTES + 12
"""So many bytes from the start of an array always hold its whole header."""


@dataclass(frozen=True, slots=True)
class NpyHeader:
    """What a .npy header claims.

    Attributes:
        shape: the array's shape.
        item_bytes: bytes of one element.
        header_bytes: where the elements start.
    """

    shape: tuple[int, ...]
    item_bytes: int
    header_bytes: int

    @property
    def total_bytes(self) -> int:
        """Header and elements together."""
        return self.header_bytes + self.item_bytes * math.prod(self.shape)


def check_npy(prefix: bytes, *, shape: tuple[int, ...], size_bytes: int) -> None:
    """Raise MalformedMessage unless the header fits the announced shape and the real size.

    Args:
        prefix: the first bytes of the array, at least HEADER_PREFIX_BYTES or all of them.
        shape: what the message announced.
        size_bytes: how many bytes the array really has.
    """
    header = parse_npy_header(prefix)
    if header.shape != shape:
        raise MalformedMessage(f"an array is {header.shape}, its message says {shape}")
    if header.total_bytes != size_bytes:
        raise MalformedMessage(
            f"an array claims {header.total_bytes} bytes, {size_bytes} are there"
        )


def parse_npy_header(prefix: bytes) -> NpyHeader:
    """Read a .npy header; raises MalformedMessage. Object arrays are refused."""
    if len(prefix) < len(_MAGIC) + 2 or not prefix.startswith(_MAGIC):
        raise MalformedMessage("an array is not in npy format")
    width = _LENGTH_BYTES.get(prefix[6])
    if width is None:
        raise MalformedMessage(f"npy version {prefix[6]} is unknown")
    start = 8 + width
    length = int.from_bytes(prefix[8:start], "little")
    if length > _HEADER_BYTES or len(prefix) < start + length:
        raise MalformedMessage("an npy header is cut or too long")
    fields = _literal(prefix[start : start + length])
    return NpyHeader(_shape(fields["shape"]), _item_bytes(fields["descr"]), start + length)


def _literal(raw: bytes) -> dict[str, object]:
    try:
        value = ast.literal_eval(raw.decode("utf-8").strip())
    except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError) as error:
        raise MalformedMessage("an npy header is not a literal") from error
    if not isinstance(value, dict) or set(value) != {"descr", "fortran_order", "shape"}:
        raise MalformedMessage("an npy header has other keys than the format's")
    if not isinstance(value["fortran_order"], bool):
        raise MalformedMessage("fortran_order is not a bool")
    return value


def _shape(value: object) -> tuple[int, ...]:
    if not isinstance(value, tuple) or len(value) > ARRAY_DIMENSIONS:
        raise MalformedMessage("an npy shape is not a tuple")
    for length in value:
        if type(length) is not int or not 0 <= length < 1 << 48:
            raise MalformedMessage("an npy shape has a wrong length")
    return value


def _item_bytes(descr: object, *, depth: int = 0) -> int:
    """Bytes of one element; `descr` is a type string or a list of fields."""
    if isinstance(descr, str):
        return _simple_bytes(descr)
    if not isinstance(descr, list) or depth > 8:  # noqa: PLR2004 - nobody nests fields deeper
        raise MalformedMessage("an npy descr is unknown")
    return sum(_field_bytes(field, depth) for field in descr)


def _field_bytes(field: object, depth: int) -> int:
    if not isinstance(field, tuple) or len(field) not in (2, 3):
        raise MalformedMessage("an npy field is unknown")
    repeat = _shape(field[2]) if len(field) == 3 else ()  # noqa: PLR2004 - (name, type, shape)
    return _item_bytes(field[1], depth=depth + 1) * math.prod(repeat)


def _simple_bytes(descr: str) -> int:
    match = _SIMPLE.fullmatch(descr)
    if not match:
        raise MalformedMessage("an npy dtype is not plain data")
    kind, digits = match.groups()
    if kind == "?":
        return 1
    count = int(digits) if digits else 0
    return count * _UNICODE_BYTES if kind == "U" else count
