"""What a topic rule wrote: rows of DynamoDB back to the messages that devices sent."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Row:
    """One row.

    Attributes:
        client: who sent the message, by its topic.
        type: method and command of a reply; empty in a heartbeat's row.
        time_ms: when the cloud took a heartbeat, Unix milliseconds; 0 in a reply's row.
        ttl: when the row may go, Unix seconds; 0 where it says nothing.
        body: the device's very bytes; empty where the row holds none, which no decoder takes.
    """

    client: str
    type: str
    time_ms: int
    ttl: int
    body: bytes

    @classmethod
    def read(cls, item: Mapping[str, Any]) -> "Row":
        """Read a row as DynamoDB hands it out."""
        return cls(
            client=item["client"]["S"],
            type=_text(item, "type"),
            time_ms=_whole(item, "time"),
            ttl=_whole(item, "ttl"),
            body=_bytes(_text(item, "path")),
        )


def _text(item: Mapping[str, Any], name: str) -> str:
    return str(item.get(name, {}).get("S", ""))


def _whole(item: Mapping[str, Any], name: str) -> int:
    return int(float(item.get(name, {}).get("N", 0)))


def _bytes(encoded: str) -> bytes:
    try:
        return base64.b64decode(encoded, validate=True)
    except ValueError:
        return b""
