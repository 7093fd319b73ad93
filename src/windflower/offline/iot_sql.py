"""A subset of AWS IoT's rule SQL. What it does not know it refuses, where a rule is read.

`SELECT` with `*`, paths into the message, literals, `+ - * /`, functions; `FROM` a topic filter;
`WHERE` with comparisons, `AND`, `OR`, `NOT`. What is undefined is left out of the result.
"""

import base64
import math
import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

UNDEFINED: Final = object()
"""What a path that leads nowhere gives, and all that is made of it."""

_TOKEN: Final = re.compile(
    r"\s*(?:(?P<number>\d+(?:\.\d+)?)|'(?P<text>[^']*)'|(?P<word>[A-Za-z_][\w]*)"
    r"|(?P<sign><>|!=|<=|>=|[-()*,+/.=<>]))"
)
_KEYWORDS: Final = frozenset({"SELECT", "FROM", "WHERE", "AS", "AND", "OR", "NOT"})
_COMPARISONS: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "=": operator.eq, "<>": operator.ne, "!=": operator.ne,
    "<": operator.lt, ">": operator.gt, "<=": operator.le, ">=": operator.ge,
}  # fmt: skip
_SUMS: Final[dict[str, Callable[[Any, Any], Any]]] = {"+": operator.add, "-": operator.sub}
_PRODUCTS: Final[dict[str, Callable[[Any, Any], Any]]] = {"*": operator.mul, "/": operator.truediv}


class UnsupportedSql(Exception):  # noqa: N818 - named after what was read
    """A rule says what this subset does not know, or what no rule can say."""


@dataclass(frozen=True, slots=True)
class Message:
    """What a rule is evaluated over.

    Attributes:
        topic: where it was published, without a prefix of Basic Ingest.
        payload: its bytes.
        value: the same as JSON.
        time_ms: when, Unix milliseconds.
    """

    topic: str
    payload: bytes
    value: Any
    time_ms: int


Expression = Callable[[Message], Any]


@dataclass(frozen=True, slots=True)
class Statement:
    """A rule that was read.

    Attributes:
        columns: name and expression, in order; None as a name spreads the message's own fields.
        filter: the topics that it is for.
        condition: what has to hold, if anything.
    """

    columns: tuple[tuple[str | None, Expression], ...]
    filter: str
    condition: Expression | None

    def matches(self, topic: str) -> bool:
        """Return whether a message on this topic is for this rule."""
        return topic_matches(self.filter, topic)

    def select(self, message: Message) -> dict[str, Any] | None:
        """Return what a rule makes of a message; None where its condition does not hold."""
        if self.condition is not None and self.condition(message) is not True:
            return None
        result: dict[str, Any] = {}
        for name, expression in self.columns:
            value = expression(message)
            if name is None:
                result |= value if isinstance(value, dict) else {}
            elif value is not UNDEFINED:
                result[name] = value
        return result


def read(sql: str) -> Statement:
    """Read a rule's SQL; raises UnsupportedSql."""
    return _Reader(sql).statement()


def topic_matches(filter_: str, topic: str) -> bool:
    """Return whether an MQTT topic filter lets a topic through."""
    wanted, levels = filter_.split("/"), topic.split("/")
    if wanted[-1] == "#":
        wanted, levels = wanted[:-1], levels[: len(wanted) - 1]
    return len(wanted) == len(levels) and all(
        want in ("+", level) for want, level in zip(wanted, levels, strict=True)
    )


class _Reader:
    """A recursive descent; each method reads what its name says."""

    def __init__(self, sql: str) -> None:
        self._tokens = list(_tokens(sql))
        self._at = 0

    def statement(self) -> Statement:
        self._take("SELECT")
        columns = [self._column()]
        while self._has(","):
            columns.append(self._column())
        self._take("FROM")
        kind, filter_ = self._next()
        if kind != "text":
            raise UnsupportedSql(f"FROM is followed by {filter_!r}, not by a topic filter")
        condition = self._condition() if self._has("WHERE") else None
        if self._at < len(self._tokens):
            raise UnsupportedSql(f"{self._tokens[self._at][1]!r} after the end")
        return Statement(tuple(columns), filter_, condition)

    def _column(self) -> tuple[str | None, Expression]:
        is_path = self._peek()[0] == "word"
        begun = self._at
        expression = self._whole() if self._has("*") else self._sum()
        if self._has("AS"):
            kind, name = self._next()
            if kind != "word":
                raise UnsupportedSql(f"AS is followed by {name!r}, not by a name")
            return name, expression
        if self._tokens[begun] == ("sign", "*"):
            return None, expression
        last = self._tokens[self._at - 1]
        if is_path and last[0] == "word":
            return last[1], expression
        raise UnsupportedSql("a column that is no path needs AS and a name")

    def _whole(self) -> Expression:
        return lambda message: message.value

    def _condition(self) -> Expression:
        return self._chain(self._all, "OR", any)

    def _all(self) -> Expression:
        return self._chain(self._denial, "AND", all)

    def _chain(self, part: Callable[[], Expression], word: str, together: Any) -> Expression:  # noqa: ANN401 - any or all
        parts = [part()]
        while self._has(word):
            parts.append(part())
        if len(parts) == 1:
            return parts[0]
        return lambda message: together(part(message) is True for part in parts)

    def _denial(self) -> Expression:
        if self._has("NOT"):
            denied = self._denial()
            return lambda message: denied(message) is not True
        left = self._sum()
        kind, sign = self._peek()
        if kind == "sign" and sign in _COMPARISONS:
            self._at += 1
            return _calculation(_COMPARISONS[sign], left, self._sum())
        return left

    def _sum(self) -> Expression:
        return self._calculated(self._product, _SUMS)

    def _product(self) -> Expression:
        return self._calculated(self._value, _PRODUCTS)

    def _calculated(
        self, part: Callable[[], Expression], signs: dict[str, Callable[[Any, Any], Any]]
    ) -> Expression:
        left = part()
        while self._peek()[0] == "sign" and self._peek()[1] in signs:
            _, sign = self._next()
            left = _calculation(signs[sign], left, part())
        return left

    def _value(self) -> Expression:
        kind, text = self._next()
        if kind == "number":
            number = float(text) if "." in text else int(text)
            return lambda _: number
        if kind == "text":
            return lambda _: text
        if (kind, text) == ("sign", "("):
            inner = self._condition()
            self._take(")")
            return inner
        if kind == "word" and text.upper() not in _KEYWORDS:
            return self._call(text) if self._has("(") else self._path(text)
        raise UnsupportedSql(f"{text!r} where a value was expected")

    def _path(self, first: str) -> Expression:
        names = [first]
        while self._has("."):
            kind, name = self._next()
            if kind != "word":
                raise UnsupportedSql(f"{name!r} in a path")
            names.append(name)
        return lambda message: _at(message.value, names)

    def _call(self, name: str) -> Expression:
        if name == "encode":
            return self._encode()
        arguments: list[Expression] = []
        while not self._has(")"):
            if arguments:
                self._take(",")
            arguments.append(self._sum())
        if name not in _FUNCTIONS:
            raise UnsupportedSql(f"the function {name}()")
        return _FUNCTIONS[name](arguments)

    def _encode(self) -> Expression:
        """`encode(*, 'base64')`: the very bytes of the message."""
        for sign in ("*", ","):
            self._take(sign)
        if self._next() != ("text", "base64"):
            raise UnsupportedSql("encode() of anything but (*, 'base64')")
        self._take(")")
        return lambda message: base64.b64encode(message.payload).decode()

    def _peek(self) -> tuple[str, str]:
        return self._tokens[self._at] if self._at < len(self._tokens) else ("end", "the end")

    def _next(self) -> tuple[str, str]:
        token = self._peek()
        self._at += 1
        return token

    def _has(self, what: str) -> bool:
        kind, text = self._peek()
        is_there = kind in ("word", "sign") and text.upper() == what
        self._at += is_there
        return is_there

    def _take(self, what: str) -> None:
        if not self._has(what):
            raise UnsupportedSql(f"{self._peek()[1]!r} where {what} was expected")


def _tokens(sql: str) -> list[tuple[str, str]]:
    tokens, at = [], 0
    while sql[at:].strip():
        found = _TOKEN.match(sql, at)
        if found is None:
            raise UnsupportedSql(f"{sql[at : at + 20]!r}")
        kind = found.lastgroup or ""
        tokens.append((kind, found[kind]))
        at = found.end()
    return tokens


def _at(value: Any, names: list[str]) -> Any:  # noqa: ANN401 - JSON is any
    for name in names:
        if not isinstance(value, dict) or name not in value:
            return UNDEFINED
        value = value[name]
    return value


def _calculation(
    calculate: Callable[[Any, Any], Any], left: Expression, right: Expression
) -> Expression:
    def evaluate(message: Message) -> Any:  # noqa: ANN401 - what SQL calculates with
        values = (left(message), right(message))
        try:
            return UNDEFINED if UNDEFINED in values else calculate(*values)
        except (TypeError, ZeroDivisionError):
            return UNDEFINED

    return evaluate


def _topic(arguments: list[Expression]) -> Expression:
    if not arguments:
        return lambda message: message.topic
    _check_count("topic", arguments, 1)

    def level(message: Message) -> Any:  # noqa: ANN401 - a text, or undefined
        levels, number = message.topic.split("/"), arguments[0](message)
        is_there = isinstance(number, int) and 0 < number <= len(levels)
        return levels[number - 1] if is_there else UNDEFINED

    return level


def _concat(arguments: list[Expression]) -> Expression:
    def concatenate(message: Message) -> Any:  # noqa: ANN401 - a text, or undefined
        values = [argument(message) for argument in arguments]
        return UNDEFINED if UNDEFINED in values else "".join(map(str, values))

    return concatenate


def _floor(arguments: list[Expression]) -> Expression:
    _check_count("floor", arguments, 1)

    def down(message: Message) -> Any:  # noqa: ANN401 - a number, or undefined
        value = arguments[0](message)
        return math.floor(value) if isinstance(value, int | float) else UNDEFINED

    return down


def _timestamp(arguments: list[Expression]) -> Expression:
    _check_count("timestamp", arguments, 0)
    return lambda message: message.time_ms


def _check_count(name: str, arguments: list[Expression], count: int) -> None:
    if len(arguments) != count:
        raise UnsupportedSql(f"{name}() with {len(arguments)} arguments")


_FUNCTIONS: Final[dict[str, Callable[[list[Expression]], Expression]]] = {
    "topic": _topic,
    "concat": _concat,
    "floor": _floor,
    "timestamp": _timestamp,
}
