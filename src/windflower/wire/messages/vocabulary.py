"""The words of wire version 1: its number, its methods, and what they are checked by."""

from typing import Final, Literal

from windflower.errors import MalformedMessage
from windflower.wire.strict_json import integer

VERSION: Final = 1

Method = Literal["get_parameters", "set_parameters", "fit", "evaluate", "query"]
METHODS: Final = ("get_parameters", "set_parameters", "fit", "evaluate", "query")

ControlMethod = Literal["ack", "cancel", "grant", "rollcall"]
CONTROLS: Final = ("ack", "cancel", "grant", "rollcall")

Cause = Literal["connect", "interval", "task", "rollcall", "need", "gone"]
CAUSES: Final = ("connect", "interval", "task", "rollcall", "need", "gone")

RESERVED: Final = (
    "v", "id", "method", "type", "group", "client", "run", "epoch", "ttl_s", "sig", "grants",
    "need", "acks", "floor", "labels", "progress", "state", "ext",
)  # fmt: skip
"""Names that keep their one meaning in every later version."""

_FLOWER_METHODS: Final[dict[str, Method]] = {
    "train": "fit",
    "evaluate": "evaluate",
    "query": "query",
    "get_properties": "query",
    "get_parameters": "get_parameters",
}

SECONDS: Final = 1e9
"""The longest time that a message may speak of."""

COUNT: Final = 1 << 53
"""Numbers that count stay where every JSON reader is exact."""


def method_of(message_type: str) -> Method:
    """Return the method that carries a Flower message type, "train.my-action" included.

    Raises:
        MalformedMessage: no method carries it.
    """
    method = _FLOWER_METHODS.get(message_type.split(".", 1)[0])
    if method is None:
        raise MalformedMessage(f"no method carries the message type {message_type[:64]!r}")
    return method


def check_version(value: object) -> int:
    """Return a version that this code speaks; raises MalformedMessage."""
    return integer(VERSION, VERSION)(value)


def check_method(value: object) -> Method:
    """Return a method; raises MalformedMessage."""
    if value not in METHODS:
        raise MalformedMessage("a method is unknown")
    return value


def ignored(value: object) -> object:
    """Accept anything: a field that is there for other readers."""
    return value
