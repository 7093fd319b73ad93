"""Follows a gateway's events while they are written."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any


class EventTail:
    """Counts the events of a state folder, whichever gateway wrote them.

    Args:
        state: the gateway's state folder.
    """

    def __init__(self, state: Path) -> None:
        self._file = state / "events.jsonl"
        self._place = 0
        self._counts: Counter[str] = Counter()
        self.devices: set[str] = set()

    def count(self, kind: str) -> int:
        """Return how many events of a kind there are by now."""
        for event in self._new():
            self._counts[event["event"]] += 1
            if event["event"] == "device-heard":
                self.devices.add(event["device"])
        return self._counts[kind]

    def _new(self) -> Iterator[dict[str, Any]]:
        if not self._file.exists():
            return
        with self._file.open("rb") as file:
            file.seek(self._place)
            for line in file:
                if not line.endswith(b"\n"):
                    return  # the rest is still to come
                self._place += len(line)
                yield json.loads(line)
