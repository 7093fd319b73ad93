"""A run's end of the line to its gateway: it blocks, since a ServerApp does.

Any thread may call. Bulk passes as files.
"""

import asyncio
import socket
import threading
from base64 import b64encode
from collections.abc import Coroutine, Iterator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

from windflower.core.ledger import RunRecord, Settlement, Tally
from windflower.errors import GatewayUnavailable, WindflowerError
from windflower.gateway.desk import Desk
from windflower.gateway.line_json import (
    commands_to_json,
    error_from_json,
    settlement_from_json,
    values_to_json,
)
from windflower.gateway.recorded import RecordedDesk
from windflower.gateway.request import RunRequest
from windflower.wire.blobs import BlobRef
from windflower.wire.frames import frame, read_frame
from windflower.wire.messages import Command

T = TypeVar("T")

CALL_S: Final = 30.0
"""A gateway that does not answer a simple call for so long has gone."""


class RunLine(Protocol):
    """What a run's Grid needs; blocking, and safe to call from any thread."""

    def roster(self, run: str, call: int) -> tuple[str, ...]:
        """See `Desk.roster`."""
        ...

    def ask(
        self,
        run: str,
        phase: str,
        commands: Sequence[Command],
        *,
        timeout_s: float | None,
        spares: int = 0,
    ) -> Sequence[Settlement]:
        """See `Desk.ask`."""
        ...

    def push(self, run: str, commands: Sequence[Command]) -> None:
        """See `Desk.push`."""
        ...

    def pull(self, run: str, call: int, ids: Sequence[str]) -> Sequence[Settlement]:
        """See `Desk.pull`."""
        ...

    def adopt(self, path: Path, ref: BlobRef) -> None:
        """See `Desk.adopt`."""
        ...

    def locate(self, run: str, keys: Sequence[str]) -> list[Path]:
        """See `Desk.locate`."""
        ...

    def aggregate(self, run: str, key: str) -> BlobRef | None:
        """See `Desk.aggregate`."""
        ...

    def keep_aggregate(self, run: str, key: str, path: Path, ref: BlobRef) -> None:
        """See `Desk.keep_aggregate`."""
        ...

    def checkpoint(self, run: str, name: str) -> BlobRef | None:
        """See `Desk.checkpoint`."""
        ...

    def keep_checkpoint(
        self, run: str, name: str, path: Path, ref: BlobRef, waiting_for: Sequence[str]
    ) -> None:
        """See `Desk.keep_checkpoint`."""
        ...

    def spare(self, run: str, ids: Sequence[str], header: bytes) -> None:
        """See `Desk.spare`."""
        ...

    def report(self, line: dict[str, Any]) -> None:
        """See `Desk.report`."""
        ...

    def wait_for_devices(self, need: int, *, timeout_s: float) -> int:
        """See `Desk.wait_for_devices`."""
        ...


class LoopLine:
    """A line to a desk in the same process, whose event loop runs in another thread."""

    def __init__(self, desk: Desk | RecordedDesk, loop: asyncio.AbstractEventLoop) -> None:
        self._desk = desk
        self._loop = loop

    def roster(self, run: str, call: int) -> tuple[str, ...]:
        """See `Desk.roster`."""
        return self._wait(self._desk.roster(run, call))

    def ask(
        self,
        run: str,
        phase: str,
        commands: Sequence[Command],
        *,
        timeout_s: float | None,
        spares: int = 0,
    ) -> Sequence[Settlement]:
        """See `Desk.ask`."""
        asking = self._desk.ask(run, phase, commands, timeout_s=timeout_s, spares=spares)
        return self._wait(asking)

    def push(self, run: str, commands: Sequence[Command]) -> None:
        """See `Desk.push`."""
        self._wait(self._desk.push(run, commands))

    def pull(self, run: str, call: int, ids: Sequence[str]) -> Sequence[Settlement]:
        """See `Desk.pull`."""
        return self._wait(self._desk.pull(run, call, ids))

    def adopt(self, path: Path, ref: BlobRef) -> None:
        """See `Desk.adopt`."""
        self._wait(self._desk.adopt(path, ref))

    def locate(self, run: str, keys: Sequence[str]) -> list[Path]:
        """See `Desk.locate`."""
        return self._wait(self._desk.locate(run, keys))

    def aggregate(self, run: str, key: str) -> BlobRef | None:
        """See `Desk.aggregate`."""
        return self._wait(self._desk.aggregate(run, key))

    def keep_aggregate(self, run: str, key: str, path: Path, ref: BlobRef) -> None:
        """See `Desk.keep_aggregate`."""
        self._wait(self._desk.keep_aggregate(run, key, path, ref))

    def checkpoint(self, run: str, name: str) -> BlobRef | None:
        """See `Desk.checkpoint`."""
        return self._wait(self._desk.checkpoint(run, name))

    def keep_checkpoint(
        self, run: str, name: str, path: Path, ref: BlobRef, waiting_for: Sequence[str]
    ) -> None:
        """See `Desk.keep_checkpoint`."""
        self._wait(self._desk.keep_checkpoint(run, name, path, ref, waiting_for))

    def spare(self, run: str, ids: Sequence[str], header: bytes) -> None:
        """See `Desk.spare`."""
        self._wait(self._desk.spare(run, ids, header))

    def report(self, line: dict[str, Any]) -> None:
        """See `Desk.report`."""
        self._loop.call_soon_threadsafe(self._desk.report, line)

    def wait_for_devices(self, need: int, *, timeout_s: float) -> int:
        """See `Desk.wait_for_devices`."""
        return self._wait(self._desk.wait_for_devices(need, timeout_s=timeout_s))

    def _wait(self, call: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(call, self._loop).result()


class SocketLine:
    """A line to a gateway in another process.

    Args:
        path: the gateway's socket.

    Raises:
        GatewayUnavailable: nobody listens there.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._socket = _dial(path)
        self._file = self._socket.makefile("rb")
        self._lock = threading.Lock()
        self._waiting: dict[int, Future[Any]] = {}
        self._last = 0
        self._problem: GatewayUnavailable | None = None
        self._listener = threading.Thread(target=self._listen, name="line", daemon=True)
        self._listener.start()

    def close(self) -> None:
        """Hang up."""
        with suppress(OSError):  # the gateway was faster
            self._socket.shutdown(socket.SHUT_RDWR)
        self._listener.join(CALL_S)
        self._file.close()
        self._socket.close()

    # ------------------------------------------------------------------------ for the Grid

    def roster(self, run: str, call: int) -> tuple[str, ...]:
        """See `Desk.roster`."""
        return tuple(self._call("roster", {"run": run, "call": call}))

    def ask(
        self,
        run: str,
        phase: str,
        commands: Sequence[Command],
        *,
        timeout_s: float | None,
        spares: int = 0,
    ) -> Sequence[Settlement]:
        """See `Desk.ask`."""
        given = {"run": run, "phase": phase, "timeout_s": timeout_s, "spares": spares}
        answer = self._call("ask", {**given, **commands_to_json(commands)}, wait_s=None)
        return [settlement_from_json(value) for value in answer]

    def push(self, run: str, commands: Sequence[Command]) -> None:
        """See `Desk.push`."""
        self._call("push", {"run": run, **commands_to_json(commands)})

    def pull(self, run: str, call: int, ids: Sequence[str]) -> Sequence[Settlement]:
        """See `Desk.pull`."""
        given = {"run": run, "call": call, "ids": list(ids)}
        return [settlement_from_json(s) for s in self._call("pull", given)]

    def adopt(self, path: Path, ref: BlobRef) -> None:
        """See `Desk.adopt`."""
        self._call("adopt", {"path": str(path), "ref": ref.to_json()}, wait_s=None)

    def locate(self, run: str, keys: Sequence[str]) -> list[Path]:
        """See `Desk.locate`."""
        given = {"run": run, "keys": list(keys)}
        return [Path(path) for path in self._call("locate", given, wait_s=None)]

    def aggregate(self, run: str, key: str) -> BlobRef | None:
        """See `Desk.aggregate`."""
        ref = self._call("aggregate", {"run": run, "key": key})
        return None if ref is None else BlobRef.from_json(ref)

    def keep_aggregate(self, run: str, key: str, path: Path, ref: BlobRef) -> None:
        """See `Desk.keep_aggregate`."""
        given = {"run": run, "key": key, "path": str(path), "ref": ref.to_json()}
        self._call("keep_aggregate", given, wait_s=None)

    def checkpoint(self, run: str, name: str) -> BlobRef | None:
        """See `Desk.checkpoint`."""
        ref = self._call("checkpoint", {"run": run, "name": name})
        return None if ref is None else BlobRef.from_json(ref)

    def keep_checkpoint(
        self, run: str, name: str, path: Path, ref: BlobRef, waiting_for: Sequence[str]
    ) -> None:
        """See `Desk.keep_checkpoint`."""
        given = {"run": run, "name": name, "path": str(path), "ref": ref.to_json()}
        self._call("keep_checkpoint", {**given, "waiting_for": list(waiting_for)}, wait_s=None)

    def spare(self, run: str, ids: Sequence[str], header: bytes) -> None:
        """See `Desk.spare`."""
        given = {"run": run, "ids": list(ids), "header": b64encode(header).decode()}
        self._call("spare", given)

    def report(self, line: dict[str, Any]) -> None:
        """See `Desk.report`."""
        self._call("report", {"line": line})

    # --------------------------------------------------------------------- for the pipeline

    def open_run(self, request: RunRequest) -> RunRecord:
        """See `Desk.open_run`."""
        given = {
            "app": request.app,
            "bundle": request.bundle.to_json(),
            "config": values_to_json(request.config),
            "folder": request.folder,
            "seed": str(request.seed) if request.seed is not None else None,
            "policy": asdict(request.policy),
            "is_private": request.is_private,
            "limit": request.limit,
            "request": request.request,
            "simulated": request.simulated,
            "crew": request.crew,
        }
        return RunRecord.from_json(self._call("open_run", given))

    def resume_run(self, run: str, *, is_lenient: bool) -> RunRecord:
        """See `Desk.resume_run`."""
        return RunRecord.from_json(self._call("resume_run", {"run": run, "is_lenient": is_lenient}))

    def begin(self, run: str, epoch: int) -> RunRecord:
        """See `Desk.begin`; when this line is cut, the run counts as suspended."""
        return RunRecord.from_json(self._call("begin", {"run": run, "epoch": epoch}))

    def is_executed(self, run: str) -> bool:
        """See `Desk.is_executed`."""
        return bool(self._call("is_executed", {"run": run}))

    def suspend_run(self, run: str, epoch: int, *, reason: str, error: str) -> None:
        """See `Desk.suspend_run`."""
        self._call("suspend_run", {"run": run, "epoch": epoch, "reason": reason, "error": error})

    def end_run(self, run: str, *, success: bool, reason: str, result: dict[str, Any]) -> None:
        """See `Desk.end_run`."""
        given = {"run": run, "success": success, "reason": reason, "result": result}
        self._call("end_run", given)

    def run(self, run: str) -> RunRecord:
        """See `Desk.run`."""
        return RunRecord.from_json(self._call("run", {"run": run}))

    def tally(self, run: str) -> Tally:
        """See `Desk.tally`."""
        return Tally(**self._call("tally", {"run": run}))

    def publish(self, run: str, path: Path, ref: BlobRef) -> RunRecord:
        """See `Models.publish`."""
        given = {"run": run, "path": str(path), "ref": ref.to_json()}
        return RunRecord.from_json(self._call("publish", given, wait_s=None))

    def rollback(self, publication: str | None) -> RunRecord:
        """See `Models.rollback`."""
        return RunRecord.from_json(self._call("rollback", {"publication": publication}))

    def publications(self) -> list[RunRecord]:
        """See `Models.publications`."""
        return [RunRecord.from_json(value) for value in self._call("publications", {})]

    def wait_for_devices(self, need: int, *, timeout_s: float) -> int:
        """See `Desk.wait_for_devices`."""
        given = {"need": need, "timeout_s": timeout_s}
        return int(self._call("wait_for_devices", given, wait_s=timeout_s + CALL_S))

    def devices(self, limit: int | None = None) -> list[dict[str, Any]]:
        """See `Desk.devices`; as JSON."""
        return list(self._call("devices", {"limit": limit}))

    def watch(self) -> Iterator[dict[str, Any]]:
        """Return the events from now on, until the gateway ends; a line of their own."""
        connection = _dial(self._path)
        connection.sendall(frame({"n": 0, "call": "watch", "with": {}}))
        file = connection.makefile("rb")
        read_frame(file)
        return _lines(connection, file)

    # -------------------------------------------------------------------------------- inside

    def _call(self, call: str, given: dict[str, Any], *, wait_s: float | None = CALL_S) -> Any:  # noqa: ANN401
        future: Future[Any] = Future()
        with self._lock:
            if self._problem is not None:
                raise self._problem
            self._last += 1
            self._waiting[self._last] = future
            request = frame({"n": self._last, "call": call, "with": given})
            try:
                self._socket.sendall(request)
            except OSError as error:
                raise GatewayUnavailable("the gateway hung up") from error
        try:
            return future.result(wait_s)
        except TimeoutError as error:
            raise GatewayUnavailable(f"the gateway did not answer {call} in {wait_s} s") from error

    def _listen(self) -> None:
        try:
            while (answer := read_frame(self._file)) is not None:
                with self._lock:
                    future = self._waiting.pop(answer["n"])
                if "error" in answer:
                    future.set_exception(error_from_json(answer["error"]))
                else:
                    future.set_result(answer["value"])
        except (OSError, ValueError, WindflowerError):
            pass  # whatever broke the line, those who wait are told below
        with self._lock:
            self._problem = GatewayUnavailable("the gateway went away")
            waiting, self._waiting = self._waiting, {}
        for future in waiting.values():
            future.set_exception(self._problem)


def _dial(path: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(str(path))
    except OSError as error:
        connection.close()
        raise GatewayUnavailable(
            f"no gateway answers at {path}: {error.strerror}; windflower serve starts one"
        ) from error
    return connection


def _lines(connection: socket.socket, file: Any) -> Iterator[dict[str, Any]]:  # noqa: ANN401
    with connection, file:
        while (line := read_frame(file)) is not None:
            yield line
