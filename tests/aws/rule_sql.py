"""Reads a topic rule's SQL: enough of the language to say of a broken one that it is broken."""

import re
from dataclasses import dataclass

_TOKEN = re.compile(
    r"\s*(?:(?P<number>[0-9]+)|'(?P<text>[^']*)'|(?P<word>[A-Za-z_$][\w$.]*)|(?P<sign>[()*,+/-]))"
)
FUNCTIONS = {"topic": (0, 1), "timestamp": (0, 0), "concat": (1, 9), "floor": (1, 1)}


class BadSql(Exception):  # noqa: N818 - a rule that AWS would not take
    """It is not SQL of a topic rule, or uses more of it than we do."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What a rule says.

    Attributes:
        columns: what each column is made of, as written, by its name.
        topics: the filter of FROM.
    """

    columns: dict[str, str]
    topics: str


def read(sql: str) -> Rule:
    """Read a rule; raises BadSql."""
    found = re.fullmatch(r"\s*SELECT\s+(.*?)\s+FROM\s+'([^']+)'\s*", sql, re.DOTALL)
    if found is None:
        raise BadSql("it is not SELECT ... FROM '...'")
    selected, topics = found.groups()
    _check_filter(topics)
    return Rule(_Reader(selected).columns(), topics)


def topic_matches(topics: str, topic: str) -> bool:
    """Return whether a filter takes a topic."""
    expression = re.escape(topics).replace(r"\+", "[^/]+").replace(r"\#", ".*")
    return re.fullmatch(expression, topic) is not None


def _check_filter(topics: str) -> None:
    for level in topics.split("/"):
        if ("+" in level or "#" in level) and len(level) > 1:
            raise BadSql(f"{topics} is no topic filter")


class _Reader:
    """A recursive descent over the list of columns."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens: list[tuple[str, str, int]] = []
        at = 0
        while text[at:].strip():
            found = _TOKEN.match(text, at)
            if found is None:
                raise BadSql(f"what is {text[at : at + 12]!r}?")
            kind = str(found.lastgroup)
            self._tokens.append((kind, found[kind], found.end()))
            at = found.end()
        self._next = 0

    def columns(self) -> dict[str, str]:
        columns: dict[str, str] = {}
        while True:
            begin = self._tokens[self._next - 1][2] if self._next else 0
            self._take_column()
            text = self._text[begin : self._tokens[self._next - 1][2]].strip()
            self._take("word", "AS")
            name = self._take("word")
            if name in columns:
                raise BadSql(f"two columns {name}")
            columns[name] = text
            if self._peek() is None:
                return columns
            self._take("sign", ",")

    def _take_column(self) -> None:
        if self._peek() == ("sign", "*"):
            self._next += 1
        else:
            self._take_sum()

    def _take_sum(self) -> None:
        self._take_value()
        while (peeked := self._peek()) and peeked[0] == "sign" and peeked[1] in "+-*/":
            self._next += 1
            self._take_value()

    def _take_value(self) -> None:
        kind, text = self._peek() or ("nothing", "")
        self._next += 1
        if kind == "word" and self._peek() == ("sign", "("):
            self._take_arguments(text)
        elif kind == "word" and text.upper() in {"AS", "FROM", "SELECT"}:
            raise BadSql(f"{text} where a value is due")
        elif kind not in {"number", "text", "word"}:
            raise BadSql(f"{text or 'the end'} where a value is due")

    def _take_arguments(self, function: str) -> None:
        if function not in FUNCTIONS:
            raise BadSql(f"there is no function {function}")
        self._take("sign", "(")
        count = 0
        while self._peek() != ("sign", ")"):
            if count:
                self._take("sign", ",")
            self._take_sum()
            count += 1
        self._take("sign", ")")
        fewest, most = FUNCTIONS[function]
        if not fewest <= count <= most:
            raise BadSql(f"{function} of {count}")

    def _take(self, kind: str, text: str | None = None) -> str:
        peeked = self._peek()
        if peeked is None or peeked[0] != kind or text not in (None, peeked[1]):
            raise BadSql(f"{text or 'a name'} is due, not {peeked[1] if peeked else 'the end'}")
        self._next += 1
        return peeked[1]

    def _peek(self) -> tuple[str, str] | None:
        if self._next >= len(self._tokens):
            return None
        kind, text, _ = self._tokens[self._next]
        return kind, text
