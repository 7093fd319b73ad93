"""JSON without its traps: no NaN, no duplicate keys, bounded size and depth, one kind of error."""

import json
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NoReturn, TypeVar

from windflower.errors import MalformedMessage
from windflower.wire.limits import JSON_DEPTH, MESSAGE_BYTES

T = TypeVar("T")
D = TypeVar("D")


def dumps(value: object) -> str:
    """Write `value` in the one form that is signed and hashed: no spaces, keys as given, ASCII."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False)


def without_nan(value: object) -> object:
    """Return a value with None in place of numbers that JSON does not have."""
    match value:
        case float() if not math.isfinite(value):
            return None
        case dict():
            return {key: without_nan(item) for key, item in value.items()}
        case list() | tuple():
            return [without_nan(item) for item in value]
        case _:
            return value


def loads(data: bytes, *, max_bytes: int = MESSAGE_BYTES) -> Any:  # noqa: ANN401 - JSON is any
    """Read JSON text; MalformedMessage is the only thing that it raises, whatever the bytes."""
    if len(data) > max_bytes:
        raise MalformedMessage(f"{len(data)} bytes, at most {max_bytes} are read")
    try:
        value = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_object_without_duplicates,
            parse_constant=_refuse_constant,
            parse_int=_parse_int,
            parse_float=_parse_float,
        )
        _check_depth(value)
    except MalformedMessage:
        raise
    except (ValueError, RecursionError) as error:
        raise MalformedMessage(f"not JSON: {type(error).__name__}") from error
    return value


def _check_depth(value: object) -> None:
    """Walk level by level. The parser itself stops deep text with a RecursionError."""
    level = [value]
    for _ in range(JSON_DEPTH + 1):
        level = [
            child
            for container in level
            for child in _children(container)
            if isinstance(child, dict | list)
        ]
        if not level:
            return
    raise MalformedMessage(f"nested deeper than {JSON_DEPTH}")


def _children(container: object) -> Iterable[object]:
    if isinstance(container, dict):
        return container.values()
    return container if isinstance(container, list) else ()


def _object_without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise MalformedMessage("a key stands twice")
    return result


def _refuse_constant(name: str) -> NoReturn:
    raise MalformedMessage(f"{name} is not JSON")


def _parse_int(digits: str) -> int:
    # 2**63 has 19 digits; longer ones make int() slow, and nothing on this wire counts so far.
    if len(digits) > 20:  # noqa: PLR2004
        raise MalformedMessage("a number is too long")
    return int(digits)


def _parse_float(digits: str) -> float:
    number = float(digits)
    if number in (float("inf"), float("-inf")):
        raise MalformedMessage("a number is too large")
    return number


class Fields:
    """Reads a JSON object field by field; every mistake is a MalformedMessage with the name.

    `done` makes sure that nothing was left unread: unknown keys are refused.
    """

    def __init__(self, value: object, *, what: str) -> None:
        if not isinstance(value, dict):
            raise MalformedMessage(f"{what} is not an object")
        self._left: dict[str, Any] = dict(value)
        self._what = what

    def take(self, key: str, check: Callable[[Any], T]) -> T:
        """Return the checked value of a key that must be there."""
        if key not in self._left:
            raise MalformedMessage(f"{self._what} lacks {key!r}")
        try:
            return check(self._left.pop(key))
        except MalformedMessage as error:
            raise MalformedMessage(f"{self._what}.{key}: {error.reason}") from error

    def take_or(self, key: str, check: Callable[[Any], T], default: D) -> T | D:
        """Return the checked value of a key, or `default` where the key is absent."""
        if key not in self._left:
            return default
        return self.take(key, check)

    def done(self) -> None:
        """Refuse what nobody asked for."""
        if self._left:
            unknown = [key[:32] for key in sorted(self._left)[:4]]
            raise MalformedMessage(f"{self._what} has unknown keys {unknown!r}")


def text(max_chars: int) -> Callable[[object], str]:
    """Return a check for a string of at most so many characters."""

    def check(value: object) -> str:
        if not isinstance(value, str) or len(value) > max_chars:
            raise MalformedMessage(f"not a text of at most {max_chars} characters")
        if not is_unicode(value):
            raise MalformedMessage("a text holds half of a surrogate pair")
        return value

    return check


def is_unicode(value: str) -> bool:
    """Return whether every language can hold this text: Python alone knows lone surrogates."""
    if value.isascii():
        return True
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def integer(low: int, high: int) -> Callable[[object], int]:
    """Return a check for a whole number in a closed range."""

    def check(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise MalformedMessage(f"not a whole number from {low} to {high}")
        return value

    return check


def number(low: float, high: float) -> Callable[[object], float]:
    """Return a check for a finite number in a closed range."""

    def check(value: object) -> float:
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not low <= value <= high
        ):
            raise MalformedMessage(f"not a number from {low} to {high}")
        return float(value)

    return check


def array(check: Callable[[Any], T], *, at_most: int) -> Callable[[object], tuple[T, ...]]:
    """Return a check for a list of at most so many checked items."""

    def check_all(value: object) -> tuple[T, ...]:
        if not isinstance(value, list) or len(value) > at_most:
            raise MalformedMessage(f"not a list of at most {at_most}")
        return tuple(check(item) for item in value)

    return check_all


def present(fields: Mapping[str, object]) -> dict[str, object]:
    """Drop what says nothing (None, empty), so that messages stay small and readable."""
    return {k: v for k, v in fields.items() if v is not None and v not in ((), [], {})}
