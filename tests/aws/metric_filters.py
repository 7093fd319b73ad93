"""Evaluates CloudWatch's filter patterns over JSON lines, as much of them as our filters use."""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

_TERM = re.compile(
    r"\(?\s*(?P<path>\$(?:\.[A-Za-z_][\w-]*)+)\s*=\s*(?:\"(?P<text>[^\"]*)\"|(?P<any>\*))\s*\)?"
)


class BadPattern(Exception):  # noqa: N818 - a filter that CloudWatch would not take
    """It is not a pattern, or uses more of the language than we do."""


@dataclass(frozen=True, slots=True)
class Term:
    """One comparison: a field is a text, or is there at all where `text` is None."""

    path: str
    text: str | None


def read(pattern: str) -> list[Term]:
    """Read a pattern: terms joined by `&&` between braces; raises BadPattern."""
    if not (pattern.startswith("{") and pattern.endswith("}")):
        raise BadPattern("it does not stand between braces")
    terms = []
    for part in pattern[1:-1].split("&&"):
        found = _TERM.fullmatch(part.strip())
        if found is None or part.count("(") != part.count(")"):
            raise BadPattern(f"{part.strip()} is no comparison")
        terms.append(Term(found["path"], found["text"]))
    return terms


def field_of(line: Mapping[str, Any], path: str) -> Any:  # noqa: ANN401 - JSON is any
    """Return the field of a line that `$.a.b` names, None where it has none."""
    value: Any = line
    for name in path.split(".")[1:]:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def matcher(pattern: str) -> Callable[[Mapping[str, Any]], bool]:
    """Return what says of a line whether the pattern takes it."""
    terms = read(pattern)

    def takes(line: Mapping[str, Any]) -> bool:
        values = [(term.text, field_of(line, term.path)) for term in terms]
        return all(value is not None and text in (None, value) for text, value in values)

    return takes


def values(properties: Mapping[str, Any], log: Iterable[str]) -> list[float]:
    """Return what one metric filter makes of a log: a value for each line that it takes."""
    takes = matcher(properties["FilterPattern"])
    (transformation,) = properties["MetricTransformations"]
    found = []
    for text in log:
        try:
            line = json.loads(text)
        except ValueError:
            continue  # what is no JSON is taken by no filter
        if isinstance(line, dict) and takes(line):
            found.append(float(field_of(line, transformation["MetricValue"])))
    return found
