"""Events as lines of JSON in a file, or on a stream."""

import json
import sys
from pathlib import Path
from typing import IO


class EventFile:
    """Appends events to a file, one line each; a line is whole or absent to whoever follows it."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a", buffering=1)

    def write(self, line: dict[str, object]) -> None:
        """Append a line."""
        self._file.write(json.dumps(line, separators=(",", ":")) + "\n")

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class EventStream:
    """Writes events to a stream that somebody may read or not."""

    def __init__(self, stream: IO[str] | None = None) -> None:
        self._stream = stream or sys.stderr

    def write(self, line: dict[str, object]) -> None:
        """Write a line."""
        self._stream.write(json.dumps(line, separators=(",", ":")) + "\n")
        self._stream.flush()
