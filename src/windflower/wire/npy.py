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
_ENCODINGS: Final = {1: "latin-1", 2: "latin-1", 3: "utf-8"}
_HEADER_CHARS: Final = 10_000
"""Source: numpy.lib.format, which refuses to read longer ones."""

_HEADER_BYTES: Final = 4 * _HEADER_CHARS
_ESCAPE = re.compile(r"""\\[\\'"nrtxuU]""")
"""The escapes that Python's repr writes; about others its parser would warn."""

_SIZED = re.compile(r"[<>|=]?([SVU])([0-9]{1,9})")
_FIXED = re.compile(r"[<>|=]?(?:\?|b1|[iu][1248]|f(?:[248]|16)|c(?:8|16|32))")
_TIME = re.compile(r"[<>|=]?[Mm]8(?:\[(?:[1-9][0-9]{0,8})?(?:[YMWDhms]|[munpfa]s)\])?")
_UNICODE_BYTES: Final = 4
_ITEM_BYTES: Final = (1 << 31) - 1
_ARRAY_BYTES: Final = (1 << 63) - 1
"""Source: numpy, which keeps them in an int and a ssize_t."""

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


def check_npy(prefix: bytes, *, shape: tuple[int, ...] | None, size_bytes: int) -> None:
    """Raise MalformedMessage unless the header fits the announced shape and the real size.

    Args:
        prefix: the first bytes of the array, at least HEADER_PREFIX_BYTES or all of them.
        shape: what the message announced; None where it announced none.
        size_bytes: how many bytes the array really has.
    """
    header = parse_npy_header(prefix)
    if shape is not None and header.shape != shape:
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
    if width is None or prefix[7] != 0:
        raise MalformedMessage(f"npy version {prefix[6]}.{prefix[7]} is unknown")
    start = 8 + width
    length = int.from_bytes(prefix[8:start], "little")
    if length > _HEADER_BYTES or len(prefix) < start + length:
        raise MalformedMessage("an npy header is cut or too long")
    fields = _literal(prefix[start : start + length], _ENCODINGS[prefix[6]])
    shape, item_bytes = _shape(fields["shape"]), _item_bytes(fields["descr"])
    # numpy counts so even where a length is 0, and there are no bytes at all.
    if math.prod(n for n in shape if n) * max(item_bytes, 1) > _ARRAY_BYTES:
        raise MalformedMessage("an array is larger than any memory")
    return NpyHeader(shape, item_bytes, start + length)


def _literal(raw: bytes, encoding: str) -> dict[str, object]:
    try:
        text = raw.decode(encoding)
        if len(text) > _HEADER_CHARS or "\\" in _ESCAPE.sub("", text):
            raise MalformedMessage("an npy header is not as numpy writes it")
        value = ast.literal_eval(text)
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
        size = _simple_bytes(descr)
    elif isinstance(descr, list) and depth <= 8:  # noqa: PLR2004 - nobody nests fields deeper
        size = _fields_bytes(descr, depth)
    else:
        raise MalformedMessage("an npy descr is unknown")
    if size > _ITEM_BYTES:
        raise MalformedMessage("an npy element is too large")
    return size


def _fields_bytes(fields: list[object], depth: int) -> int:
    names: list[str] = []
    size = 0
    for field in fields:
        if not isinstance(field, tuple) or len(field) not in (2, 3):
            raise MalformedMessage("an npy field is unknown")
        names += _names(field[0], field[1])
        repeat = _shape(field[2]) if len(field) == 3 else ()  # noqa: PLR2004 - (name, type, shape)
        size += _item_bytes(field[1], depth=depth + 1) * math.prod(repeat)
    if len(set(names)) != len(names):
        raise MalformedMessage("an npy field's name stands twice")
    return size


def _names(name: object, descr: object) -> list[str]:
    """A field's name, and its title where it has one; none for the gaps between fields."""
    if name == "" and isinstance(descr, str) and "V" in descr:
        return []
    parts = name if isinstance(name, tuple) and len(name) == 2 else (name,)  # noqa: PLR2004
    names = [part for part in parts if isinstance(part, str) and part]
    if len(names) != len(parts):
        raise MalformedMessage("an npy field has no name")
    return names


def _simple_bytes(descr: str) -> int:
    if sized := _SIZED.fullmatch(descr):
        kind, digits = sized.groups()
        return int(digits) * (_UNICODE_BYTES if kind == "U" else 1)
    if _TIME.fullmatch(descr):
        return 8
    if _FIXED.fullmatch(descr):
        return int(descr.lstrip("<>|=biufc?") or 1)
    raise MalformedMessage("an npy dtype is not plain data")
