"""Evaluates policies: what IAM and IoT Core would allow, for as much of both as our template uses.

It knows Allow and Deny, stars and question marks in actions and resources, policy variables, and
the condition operators below. What it does not know, it refuses to judge.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

Context = Mapping[str, str | Sequence[str]]
Statement = Mapping[str, Any]

_VARIABLE = re.compile(r"\$\{([^}]+)\}")


class Unsupported(Exception):  # noqa: N818 - it is what was met, not what went wrong
    """A policy says something that is not judged here."""


def allows(
    document: Mapping[str, Any], action: str, resource: str, context: Context | None = None
) -> bool:
    """Return whether a policy allows an action on a resource; a Deny wins."""
    effects = {one["Effect"] for one in matching(document, action, resource, context or {})}
    return effects == {"Allow"}


def matching(
    document: Mapping[str, Any], action: str, resource: str, context: Context
) -> Iterator[Statement]:
    """Yield the statements that speak of this action on this resource, in this context."""
    for statement in document["Statement"]:
        actions, resources = listed(statement["Action"]), listed(statement.get("Resource", "*"))
        is_about = any(_matches(one.lower(), action.lower()) for one in actions)
        filled = [_fill(one, context) for one in resources]
        is_there = any(one is not None and _matches(one, resource) for one in filled)
        if is_about and is_there and _conditions_hold(statement.get("Condition", {}), context):
            yield statement


def listed(one_or_more: str | Sequence[str]) -> Sequence[str]:
    """Return a list of what may stand alone."""
    return [one_or_more] if isinstance(one_or_more, str) else one_or_more


def _matches(pattern: str, text: str) -> bool:
    """Match with `*` for anything, slashes too, and `?` for one character."""
    expression = re.escape(pattern).replace(r"\*", ".*").replace(r"\?", ".")
    return re.fullmatch(expression, text, re.DOTALL) is not None


def _fill(text: str, context: Context) -> str | None:
    """Fill in policy variables; a text with one that has no value matches nothing."""
    for name in _VARIABLE.findall(text):
        value = context.get(name)
        if not isinstance(value, str):
            return None
        text = text.replace(f"${{{name}}}", value)
    return text


_Operator = Callable[[str, str], bool]
_OPERATORS: dict[str, _Operator] = {
    "StringEquals": lambda wanted, given: wanted == given,
    "StringLike": _matches,
    "ArnEquals": _matches,
    "Bool": lambda wanted, given: wanted.lower() == given.lower(),
    "NumericGreaterThan": lambda wanted, given: float(given) > float(wanted),
}


def _conditions_hold(conditions: Mapping[str, Mapping[str, Any]], context: Context) -> bool:
    return all(
        _condition_holds(operator, listed(wanted), context.get(key))
        for operator, keys in conditions.items()
        for key, wanted in keys.items()
    )


def _condition_holds(
    operator: str, wanted: Sequence[str], given: str | Sequence[str] | None
) -> bool:
    is_for_all = operator.startswith("ForAllValues:")
    known = _OPERATORS.get(operator.removeprefix("ForAllValues:"))
    if known is None:
        raise Unsupported(f"the condition operator {operator}")
    if given is None:  # of no values, all are as wanted
        return is_for_all
    values = listed(given)
    if not is_for_all and len(values) != 1:
        raise Unsupported(f"{operator} of several values")
    return all(any(known(str(one), value) for one in wanted) for value in values)
