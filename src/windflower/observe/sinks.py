"""Where a run's measurements go beside our own events: files, TensorBoard, MLflow.

A sink may be slow or fail. It works in a thread of its own, behind a queue that does not grow for
ever; the gateway never waits for it. A sink that fails is said once, and tried again.
"""

import queue
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from windflower.core.events import Event, SinkFailed
from windflower.errors import ConfigError

BACKLOG: Final = 10_000
"""A sink that is so many events behind loses the oldest."""

RETRY_S: Final = 10.0

PATIENCE_S: Final = 5.0
"""So long the end of a gateway waits for what is still in a queue."""

TAKEN: Final = ("run-started", "round-measured", "phase-closed", "run-ended")

Line = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Measurement:
    """One number of a run.

    Attributes:
        at: when it was known, Unix seconds.
        run: the run.
        stage: train, evaluate, server; for replies, Flower's message type.
        name: the metric's; replies-ok, replies-failed and replies-late for replies.
        step: the round; for replies, the how manieth phase it was.
        value: the number.
    """

    at: float
    run: str
    stage: str
    name: str
    step: int
    value: float


class Sink(Protocol):
    """Keeps measurements somewhere."""

    def keep(self, line: Line) -> None:
        """Keep what an event measures, all or nothing; may block, and may raise anything."""
        ...


def measurements(line: Line) -> Iterator[Measurement]:
    """Yield what an event measures."""
    if line["event"] == "round-measured":
        for name, value in line["metrics"].items():
            yield Measurement(
                line["at"], line["run"], line["stage"], name, line["round"], float(value)
            )
    elif line["event"] == "phase-closed":
        for outcome in ("ok", "failed", "late"):
            name, value = f"replies-{outcome}", float(line[outcome])
            yield Measurement(line["at"], line["run"], line["type"], name, line["phase"], value)


def open_sink(given: str) -> Sink:
    """Return the sink that a setting names: KIND:WHERE.

    Raises:
        ConfigError: there is no such kind, or it lacks a package.
    """
    from windflower.observe import file_sinks  # noqa: PLC0415 - it knows measurements from here

    kind, _, where = given.partition(":")
    try:
        match kind:
            case "jsonl" if where:
                return file_sinks.JsonLines(Path(where))
            case "csv" if where:
                return file_sinks.Table(Path(where))
            case "tensorboard" if where:
                return file_sinks.TensorBoard(Path(where))
            case "mlflow" if where:
                from windflower.observe.mlflow_sink import MLflow  # noqa: PLC0415 - an extra

                return MLflow(where)
    except ImportError as error:
        raise ConfigError(
            f"the sink {kind} needs more packages ({error.name}): pip install 'windflower[{kind}]'",
            key="sinks",
        ) from error
    raise ConfigError(
        f"sinks: {kind!r} is none of jsonl:FILE, csv:FILE, tensorboard:FOLDER,"
        " mlflow:FOLDER or mlflow:URI",
        key="sinks",
    )


def name_of(given: str) -> str:
    """Return a sink's name for events: no URL, which may hold a password, is in it."""
    return "mlflow" if given.startswith("mlflow:") else given


def without_user(text: str) -> str:
    """Return a text without the users and passwords of URLs in it."""
    return re.sub(r"//[^/@\s]+@", "//", text)


class Drain:
    """One of the places where events go: hands what measures something to a sink's thread.

    Args:
        name: the sink's, for people; nothing secret is in it.
        sink: what keeps the measurements.
        report: takes what went wrong; called in the sink's thread.
        backlog: so many events wait at most.
        retry_s: so long after a failure the same is tried again.
    """

    def __init__(
        self,
        name: str,
        sink: Sink,
        report: Callable[[Event], None],
        *,
        backlog: int = BACKLOG,
        retry_s: float = RETRY_S,
    ) -> None:
        self._name = name
        self._sink = sink
        self._report = report
        self._retry_s = retry_s
        self._queue: queue.Queue[Line | None] = queue.Queue(backlog)
        self._ending = threading.Event()
        # A daemon: a server that does not answer must not keep the gateway from ending.
        self._thread = threading.Thread(target=self._work, name=f"sink {name}", daemon=True)
        self._thread.start()

    def write(self, line: Line) -> None:
        """Put an event into the queue, in place of the oldest where it is full."""
        if line["event"] in TAKEN:
            self._put(line)

    def close(self, *, patience_s: float = PATIENCE_S) -> None:
        """Let the sink keep what is there, for so long at most; what fails now is lost."""
        self._ending.set()
        self._put(None)
        self._thread.join(patience_s)

    def _put(self, line: Line | None) -> None:
        while True:
            try:
                return self._queue.put_nowait(line)
            except queue.Full:
                with suppress(queue.Empty):
                    self._queue.get_nowait()

    def _work(self) -> None:
        is_well = True
        while (line := self._queue.get()) is not None:
            while True:
                try:
                    self._sink.keep(line)
                except Exception as error:  # noqa: BLE001 - whatever a library raises is said
                    if is_well:
                        self._report(SinkFailed(sink=self._name, reason=_reason(error)))
                    is_well = False
                    if self._ending.wait(self._retry_s):
                        break
                else:
                    is_well = True
                    break


def _reason(error: Exception) -> str:
    """Return an error's first line; what a library says behind it may hold an address."""
    lines = str(error).splitlines()
    return lines[0][:200] if lines else type(error).__name__
