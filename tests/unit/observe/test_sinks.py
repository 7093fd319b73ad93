"""Measurements are kept whole, in order, and never in the gateway's way."""

import csv
import json
import math
import os
import queue
import resource
import struct
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from tensorboardX.proto.event_pb2 import Event as BoardEvent

from windflower.core.events import Event
from windflower.errors import ConfigError
from windflower.observe.sinks import Drain, name_of, open_sink, without_user
from windflower.settings import load_settings

ROUND = {
    "event": "round-measured",
    "at": 5.0,
    "run": "1-a",
    "round": 3,
    "stage": "evaluate",
    "metrics": {"accuracy": 0.5, "loss": math.nan},
}
PHASE = {
    "event": "phase-closed",
    "at": 6.0,
    "run": "1-a",
    "phase": 7,
    "type": "train",
    "ok": 8,
    "failed": 1,
    "late": 2,
}
ROWS = [
    ("5.0", "1-a", "evaluate", "accuracy", "3", "0.5"),
    ("5.0", "1-a", "evaluate", "loss", "3", "nan"),
    ("6.0", "1-a", "train", "replies-ok", "7", "8.0"),
    ("6.0", "1-a", "train", "replies-failed", "7", "1.0"),
    ("6.0", "1-a", "train", "replies-late", "7", "2.0"),
]


def keep_both(given: str) -> None:
    """Keep the two events, the second one as by a gateway that was started anew."""
    open_sink(given).keep(ROUND)
    open_sink(given).keep(PHASE)


def test_a_table_has_a_head_and_a_row_a_measurement(tmp_path: Path) -> None:
    keep_both(f"csv:{tmp_path}/new/measured.csv")
    with (tmp_path / "new" / "measured.csv").open(newline="") as file:
        head, *rows = csv.reader(file)

    assert ["at", "run", "stage", "name", "step", "value"] == head
    assert ROWS == [tuple(row) for row in rows]


def test_lines_of_json_have_null_for_what_is_no_number(tmp_path: Path) -> None:
    keep_both(f"jsonl:{tmp_path}/measured.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "measured.jsonl").read_text().splitlines()]

    assert [0.5, None, 8.0, 1.0, 2.0] == [row["value"] for row in rows]
    assert [list(row[1:4]) for row in ROWS] == [[r["run"], r["stage"], r["name"]] for r in rows]


def records(content: bytes) -> list[BoardEvent]:
    """Read TFRecords: a length of eight bytes, its checksum, the data, its checksum."""
    found, at = [], 0
    while at < len(content):
        (size,) = struct.unpack_from("<Q", content, at)
        found.append(BoardEvent.FromString(content[at + 12 : at + 12 + size]))
        at += 12 + size + 4
    return found


def test_tensorboard_finds_a_folder_a_run(tmp_path: Path) -> None:
    keep_both(f"tensorboard:{tmp_path}")
    (file,) = (tmp_path / "1-a").iterdir()
    head, *events = records(file.read_bytes())
    values = [(e.step, v.tag, v.simple_value) for e in events for v in e.summary.value]

    assert "tfevents" in file.name
    assert "brain.Event:2" == head.file_version
    assert (3, "evaluate/accuracy", 0.5) == values[0]
    assert math.isnan(values[1][2])
    assert (7, "train/replies-late", 2.0) == values[-1]


@pytest.mark.parametrize("given", ["csv:{}/file", "jsonl:{}/file", "tensorboard:{}/folder"])
def test_a_file_that_cannot_grow_stays_as_it_was(tmp_path: Path, given: str) -> None:
    sink = open_sink(given.format(tmp_path))
    sink.keep(ROUND)
    (file,) = (path for path in tmp_path.rglob("*") if path.is_file())
    before = file.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 20, hard))
    try:
        with pytest.raises(OSError, match=r"large|space"):
            sink.keep(PHASE)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert before == file.read_bytes()
    sink.keep(PHASE)
    assert file.read_bytes().startswith(before)


class Faulty:
    """A sink that fails so many times, and waits for a word before it keeps anything."""

    def __init__(self, failures: int = 0) -> None:
        self._failures = failures
        self.taken: queue.Queue[int] = queue.Queue()
        self.may_work = threading.Event()

    def keep(self, line: dict[str, Any]) -> None:
        self.may_work.wait()
        if self._failures > 0:
            self._failures -= 1
            raise RuntimeError("the server is away\nand more")
        self.taken.put(line["round"])


def test_a_sink_that_fails_is_said_once_and_tried_again_in_order() -> None:
    said: list[Event] = []
    sink = Faulty(failures=3)
    drain = Drain("faulty", sink, said.append, retry_s=0.001)
    sink.may_work.set()
    for number in (1, 2):
        drain.write({**ROUND, "round": number})

    assert [1, 2] == [sink.taken.get(timeout=30) for _ in range(2)]
    assert [{"event": "sink-failed", "sink": "faulty", "reason": "the server is away"}] == [
        event.to_json() for event in said
    ]
    drain.close()


def test_a_sink_that_hangs_holds_nobody_up_and_loses_the_oldest() -> None:
    sink = Faulty()
    drain = Drain("faulty", sink, lambda _: None, backlog=3)
    for number in range(100):
        drain.write({**ROUND, "round": number})
    drain.close(patience_s=0.0)
    sink.may_work.set()
    drain.close()
    kept = list(sink.taken.queue)

    assert kept == sorted(kept)
    assert 99 == kept[-1]
    assert len(kept) <= 4


@pytest.mark.parametrize("given", ["csv", "csv:", "paper:x", ""])
def test_a_sink_that_is_none_is_refused(given: str) -> None:
    with pytest.raises(ConfigError, match="none of jsonl:FILE"):
        open_sink(given)


@pytest.mark.parametrize(
    ("given", "package"),
    [("mlflow:x", "mlflow"), ("tensorboard:x", "tensorboardX.proto.event_pb2")],
)
def test_a_package_that_is_missing_is_named_with_its_extra(
    monkeypatch: pytest.MonkeyPatch, given: str, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, "windflower.observe.mlflow_sink", raising=False)
    kind = given.partition(":")[0]
    with pytest.raises(ConfigError, match=rf"pip install 'windflower\[{kind}\]'") as raised:
        open_sink(given)

    assert package in str(raised.value)


def test_no_password_is_told() -> None:
    assert "mlflow" == name_of("mlflow:https://me:secret@there")
    assert "mlflow:https://there/x" == without_user("mlflow:https://me:secret@there/x")


def test_sinks_stand_with_spaces_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "WINDFLOWER_SINKS", "csv:a.csv  jsonl:b")

    assert ("csv:a.csv", "jsonl:b") == load_settings().sinks
