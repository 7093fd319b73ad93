"""Measurements in files. What is appended is there as a whole or not at all."""

import csv
import dataclasses
import errno
import io
import os
import struct
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from windflower.observe.sinks import Measurement, measurements
from windflower.wire.strict_json import dumps, without_nan

_COLUMNS: Final = tuple(field.name for field in dataclasses.fields(Measurement))


def _append(path: Path, content: bytes, *, head: bytes = b"") -> None:
    """Append to a file that begins with `head`, or leave it as it was and raise OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab", buffering=0) as file:
        size_bytes = file.tell()
        whole = content if size_bytes else head + content
        written_bytes = 0
        try:
            written_bytes = file.write(whole)
        finally:
            if written_bytes != len(whole):
                with suppress(OSError):  # a device or a pipe
                    file.truncate(size_bytes)
        if written_bytes != len(whole):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


class JsonLines:
    """One JSON object a measurement, one measurement a line."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def keep(self, line: dict[str, Any]) -> None:
        """Append what an event measures; NaN and infinite become null."""
        rows = [dumps(without_nan(dataclasses.asdict(one))) + "\n" for one in measurements(line)]
        if rows:
            _append(self._path, "".join(rows).encode())


class Table:
    """A CSV file (RFC 4180), its columns named in the first line."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def keep(self, line: dict[str, Any]) -> None:
        """Append what an event measures."""
        rows = [dataclasses.astuple(one) for one in measurements(line)]
        if rows:
            _append(self._path, _csv(rows), head=_csv([_COLUMNS]))


def _csv(rows: list[tuple[Any, ...]]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue().encode()


class TensorBoard:
    """A folder for TensorBoard, with a folder for each run.

    tensorboardX has the format. Its writer is not used: it writes in a thread of its own, which
    dies unheard where the disk is full.
    """

    def __init__(self, folder: Path) -> None:
        from tensorboardX.proto.event_pb2 import Event  # noqa: PLC0415 - an extra
        from tensorboardX.proto.summary_pb2 import Summary  # noqa: PLC0415
        from tensorboardX.record_writer import masked_crc32c  # noqa: PLC0415

        self._folder = folder
        self._event, self._summary, self._checksum = Event, Summary, masked_crc32c

    def keep(self, line: dict[str, Any]) -> None:
        """Append what an event measures."""
        content = b"".join(self._record(one) for one in measurements(line))
        if content:
            version = self._event(wall_time=line["at"], file_version="brain.Event:2")
            path = self._folder / line["run"] / "events.out.tfevents.windflower"
            _append(path, content, head=self._framed(version.SerializeToString()))

    def _record(self, one: Measurement) -> bytes:
        value = self._summary.Value(tag=f"{one.stage}/{one.name}", simple_value=one.value)
        event = self._event(wall_time=one.at, step=one.step, summary=self._summary(value=[value]))
        return self._framed(event.SerializeToString())

    def _framed(self, data: bytes) -> bytes:
        """Return a TFRecord: length, its checksum, data, its checksum."""
        length = struct.pack("<Q", len(data))
        return length + self._crc(length) + data + self._crc(data)

    def _crc(self, data: bytes) -> bytes:
        return struct.pack("<I", self._checksum(data))
