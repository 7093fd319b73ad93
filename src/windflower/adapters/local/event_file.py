"""Events as lines of JSON in a file, or on a stream."""

import json
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import IO, Any, Final

from windflower.wire.strict_json import dumps, without_nan

LARGE_BYTES: Final = 64 << 20

_TOLD_BYTES: Final = 1 << 20
"""Whoever wants to know how far a log was read is told so often."""


class EventFile:
    """Appends events to a file, one line each; a line is whole or absent to whoever follows it.

    A file that grew large is set aside as NAME.old, and the one that was there goes.

    Args:
        path: the file.
        large_bytes: when it is set aside.
    """

    def __init__(self, path: Path, *, large_bytes: int = LARGE_BYTES) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._large_bytes = large_bytes
        self._file = path.open("a", buffering=1)
        self._size_bytes = path.stat().st_size

    def write(self, line: dict[str, object]) -> None:
        """Append a line."""
        text = dumps(without_nan(line)) + "\n"
        self._size_bytes += len(text)
        if self._size_bytes > self._large_bytes:
            self._file.close()
            self._path.replace(self._path.with_name(f"{self._path.name}.old"))
            self._file = self._path.open("a", buffering=1)
            self._size_bytes = len(text)
        self._file.write(text)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def latest_events(path: Path, *, at_most_bytes: int = 1 << 20) -> list[dict[str, Any]]:
    """Return the last lines of a file of events; none where there is no file.

    What is no event is skipped: a power cut may leave half a line.
    """
    if not path.is_file():
        return []
    with path.open("rb") as file:
        file.seek(max(path.stat().st_size - at_most_bytes, 0))
        lines = file.read(at_most_bytes).splitlines()
    return list(as_events(lines))


def kept_size_bytes(path: Path) -> int:
    """Return how large a log is with what was set aside of it."""
    return sum(part.stat().st_size for part in _parts(path))


def kept_events(
    path: Path, *holding: str, passed: Callable[[int], None] = lambda _: None
) -> Iterator[dict[str, Any]]:
    """Yield all events that are kept of a log, those that were set aside first.

    Args:
        path: the log.
        holding: only lines in which one of these stands as a JSON string; none takes all lines.
        passed: told how many bytes more were gone through.
    """
    words = [json.dumps(word).encode() for word in holding]
    for part in _parts(path):
        with part.open("rb") as lines:
            untold = 0
            for line in lines:
                untold += len(line)
                if untold > _TOLD_BYTES:
                    passed(untold)
                    untold = 0
                if not words or any(word in line for word in words):
                    yield from as_events([line])


def remembered_events(
    path: Path, kinds: Collection[str], *, whole_bytes: int = 1 << 20
) -> Iterator[dict[str, Any]]:
    """Yield what is worth to be remembered of a log, those that were set aside first.

    Args:
        path: the log.
        kinds: events of these kinds are yielded however old they are.
        whole_bytes: at the end of the log so many are yielded whatever they are.
    """
    wanted = {kind.encode() for kind in kinds}
    left_bytes = kept_size_bytes(path)
    for part in _parts(path):
        with part.open("rb") as lines:
            for line in lines:
                left_bytes -= len(line)
                if left_bytes < whole_bytes or _kind(line) in wanted:
                    yield from as_events([line])


def _kind(line: bytes) -> bytes:
    """Return an event's kind without reading the rest: a log may be long."""
    return line.partition(b'"event":"')[2].partition(b'"')[0]


def _parts(path: Path) -> list[Path]:
    return [file for file in (path.with_name(f"{path.name}.old"), path) if file.is_file()]


def as_events(lines: Iterable[bytes | str]) -> Iterator[dict[str, Any]]:
    """Yield the events that lines hold, and skip what is none."""
    yield from (line for line in map(_event, lines) if line is not None)


def _event(text: bytes | str) -> dict[str, Any] | None:
    try:
        line = json.loads(text)
    except ValueError:
        return None
    return line if isinstance(line, dict) and {"event", "at"} <= line.keys() else None


class EventStream:
    """Writes events, with the time, to a stream that somebody may read or not."""

    def __init__(self, stream: IO[str] | None = None) -> None:
        self._stream = stream or sys.stderr

    def write(self, line: dict[str, object]) -> None:
        """Write a line."""
        line = {"at": round(time.time(), 4), **line}
        self._stream.write(dumps(without_nan(line)) + "\n")
        self._stream.flush()
