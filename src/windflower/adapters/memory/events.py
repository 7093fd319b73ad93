"""Events in a list."""

from typing import Any


class EventList:
    """Keeps every line."""

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []

    def write(self, line: dict[str, object]) -> None:
        """Keep a line."""
        self.lines.append(line)

    def of(self, kind: str) -> list[dict[str, Any]]:
        """Return the lines of one kind."""
        return [line for line in self.lines if line["event"] == kind]
