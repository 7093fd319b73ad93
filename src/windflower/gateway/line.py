"""The line between a run's process and its gateway: calls to the desk over a unix socket.

A run's side blocks, since a ServerApp does; any of its threads may call. Bulk passes as files.
"""

import asyncio
import json
import socket
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

from windflower import errors
from windflower.core.roster import Presence
from windflower.errors import GatewayUnavailable, WindflowerError
from windflower.gateway.desk import Desk, RunRequest
from windflower.gateway.feed import Feed
from windflower.ports import RunRecord, Settlement
from windflower.wire.blobs import BlobRef
from windflower.wire.content import Content, Values
from windflower.wire.frames import PREFIX_BYTES, frame, frame_length, read_frame
from windflower.wire.messages import NO_CONFIG, NOTHING, Command, Failure, Reply

T = TypeVar("T")

CALL_S: Final = 30.0
"""A gateway that does not answer a simple call for so long has gone."""


class RunLine(Protocol):
    """What a run's Grid needs; blocking, and safe to call from any thread."""

    def roster(self, run: str, call: int) -> tuple[str, ...]:
        """See `Desk.roster`."""
        ...

    def ask(
        self, run: str, phase: str, commands: Sequence[Command], *, timeout_s: float | None
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

    def locate(self, keys: Sequence[str]) -> list[Path]:
        """See `Desk.locate`."""
        ...

    def report(self, line: dict[str, Any]) -> None:
        """See `Desk.report`."""
        ...

    def wait_for_devices(self, need: int, *, timeout_s: float) -> int:
        """See `Desk.wait_for_devices`."""
        ...


class LoopLine:
    """A line to a desk in the same process, whose event loop runs in another thread."""

    def __init__(self, desk: Desk, loop: asyncio.AbstractEventLoop) -> None:
        self._desk = desk
        self._loop = loop

    def roster(self, run: str, call: int) -> tuple[str, ...]:
        """See `Desk.roster`."""
        return self._wait(self._desk.roster(run, call))

    def ask(
        self, run: str, phase: str, commands: Sequence[Command], *, timeout_s: float | None
    ) -> Sequence[Settlement]:
        """See `Desk.ask`."""
        return self._wait(self._desk.ask(run, phase, commands, timeout_s=timeout_s))

    def push(self, run: str, commands: Sequence[Command]) -> None:
        """See `Desk.push`."""
        self._wait(self._desk.push(run, commands))

    def pull(self, run: str, call: int, ids: Sequence[str]) -> Sequence[Settlement]:
        """See `Desk.pull`."""
        return self._wait(self._desk.pull(run, call, ids))

    def adopt(self, path: Path, ref: BlobRef) -> None:
        """See `Desk.adopt`."""
        self._wait(self._desk.adopt(path, ref))

    def locate(self, keys: Sequence[str]) -> list[Path]:
        """See `Desk.locate`."""
        return self._wait(self._desk.locate(keys))

    def report(self, line: dict[str, Any]) -> None:
        """See `Desk.report`."""
        self._loop.call_soon_threadsafe(self._desk.report, line)

    def wait_for_devices(self, need: int, *, timeout_s: float) -> int:
        """See `Desk.wait_for_devices`."""
        return self._wait(self._desk.wait_for_devices(need, timeout_s=timeout_s))

    def _wait(self, call: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(call, self._loop).result()


# ------------------------------------------------------------------------- the gateway's end


class LineServer:
    """Answers calls on a unix socket.

    Args:
        desk: who answers.
        feed: what watchers are shown.
        path: the socket; its folder must exist.
    """

    def __init__(self, desk: Desk, feed: Feed, path: Path) -> None:
        self._desk = desk
        self._feed = feed
        self._path = path
        self._server: asyncio.Server | None = None
        self._calls: set[asyncio.Task[None]] = set()
        self._answers: dict[str, Callable[[dict[str, Any]], Awaitable[Any]]] = {
            "open_run": self._open_run,
            "end_run": self._end_run,
            "wait_for_devices": self._wait_for_devices,
            "devices": self._devices,
            "roster": self._roster,
            "ask": self._ask,
            "push": self._push,
            "pull": self._pull,
            "adopt": self._adopt,
            "locate": self._locate,
            "report": self._report,
            "run": self._run,
        }

    async def start(self) -> None:
        """Listen; only this user can connect."""
        self._path.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(self._serve, path=str(self._path))
        self._path.chmod(0o600)

    async def stop(self) -> None:
        """Stop listening and drop all callers."""
        if self._server is not None:
            self._server.close()
        for call in list(self._calls):
            call.cancel()
        await asyncio.gather(*self._calls, return_exceptions=True)
        self._path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                prefix = await reader.readexactly(PREFIX_BYTES)
                call = json.loads(await reader.readexactly(frame_length(prefix)))
                answer = self._watch if call["call"] == "watch" else self._answer
                task = asyncio.create_task(answer(call, writer))
                self._calls.add(task)
                task.add_done_callback(self._calls.discard)
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()

    async def _answer(self, call: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        answer: dict[str, Any] = {"n": call["n"]}
        try:
            answer["value"] = await self._answers[call["call"]](call["with"])
        except WindflowerError as error:
            answer["error"] = _error_json(error)
        writer.write(frame(answer))

    async def _watch(self, call: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        with self._feed.watch() as watch:
            writer.write(frame({"n": call["n"], "value": None}))
            async for line in watch:
                writer.write(frame(line))
                try:
                    await writer.drain()
                except ConnectionError:
                    return

    async def _open_run(self, given: dict[str, Any]) -> Any:  # noqa: ANN401 - JSON is any
        request = RunRequest(
            app=given["app"],
            bundle=BlobRef.from_json(given["bundle"]),
            config=_values(given["config"]),
            seed=int(given["seed"]) if given["seed"] is not None else None,
            is_strict=given["is_strict"],
            devices=given["devices"],
            resume=given["resume"],
        )
        return _run_json(await self._desk.open_run(request))

    async def _end_run(self, given: dict[str, Any]) -> None:
        await self._desk.end_run(
            given["run"], success=given["success"], reason=given["reason"], result=given["result"]
        )

    async def _run(self, given: dict[str, Any]) -> Any:  # noqa: ANN401 - JSON is any
        return _run_json(self._desk.run(given["run"]))

    async def _wait_for_devices(self, given: dict[str, Any]) -> int:
        return await self._desk.wait_for_devices(given["need"], timeout_s=given["timeout_s"])

    async def _devices(self, given: dict[str, Any]) -> list[dict[str, Any]]:
        return [_presence_json(p) for p in self._desk.devices(given["limit"])]

    async def _roster(self, given: dict[str, Any]) -> Sequence[str]:
        return await self._desk.roster(given["run"], given["call"])

    async def _ask(self, given: dict[str, Any]) -> list[dict[str, Any]]:
        settlements = await self._desk.ask(
            given["run"],
            given["phase"],
            _commands(given),
            timeout_s=given["timeout_s"],
        )
        return [_settlement_json(s) for s in settlements]

    async def _push(self, given: dict[str, Any]) -> None:
        await self._desk.push(given["run"], _commands(given))

    async def _pull(self, given: dict[str, Any]) -> list[dict[str, Any]]:
        settlements = await self._desk.pull(given["run"], given["call"], given["ids"])
        return [_settlement_json(s) for s in settlements]

    async def _adopt(self, given: dict[str, Any]) -> None:
        await self._desk.adopt(Path(given["path"]), BlobRef.from_json(given["ref"]))

    async def _locate(self, given: dict[str, Any]) -> list[str]:
        return [str(path) for path in await self._desk.locate(given["keys"])]

    async def _report(self, given: dict[str, Any]) -> None:
        self._desk.report(given["line"])


# ----------------------------------------------------------------------------- the run's end


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
        threading.Thread(target=self._listen, name="line", daemon=True).start()

    def close(self) -> None:
        """Hang up."""
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    # ------------------------------------------------------------------------ for the Grid

    def roster(self, run: str, call: int) -> tuple[str, ...]:
        """See `Desk.roster`."""
        return tuple(self._call("roster", {"run": run, "call": call}))

    def ask(
        self, run: str, phase: str, commands: Sequence[Command], *, timeout_s: float | None
    ) -> Sequence[Settlement]:
        """See `Desk.ask`."""
        given = {"run": run, "phase": phase, "timeout_s": timeout_s, **_commands_json(commands)}
        return [_settlement(s) for s in self._call("ask", given, wait_s=None)]

    def push(self, run: str, commands: Sequence[Command]) -> None:
        """See `Desk.push`."""
        self._call("push", {"run": run, **_commands_json(commands)})

    def pull(self, run: str, call: int, ids: Sequence[str]) -> Sequence[Settlement]:
        """See `Desk.pull`."""
        given = {"run": run, "call": call, "ids": list(ids)}
        return [_settlement(s) for s in self._call("pull", given)]

    def adopt(self, path: Path, ref: BlobRef) -> None:
        """See `Desk.adopt`."""
        self._call("adopt", {"path": str(path), "ref": ref.to_json()}, wait_s=None)

    def locate(self, keys: Sequence[str]) -> list[Path]:
        """See `Desk.locate`."""
        return [Path(path) for path in self._call("locate", {"keys": list(keys)}, wait_s=None)]

    def report(self, line: dict[str, Any]) -> None:
        """See `Desk.report`."""
        self._call("report", {"line": line})

    # --------------------------------------------------------------------- for the pipeline

    def open_run(self, request: RunRequest) -> RunRecord:
        """See `Desk.open_run`."""
        given = {
            "app": request.app,
            "bundle": request.bundle.to_json(),
            "config": _values_json(request.config),
            "seed": str(request.seed) if request.seed is not None else None,
            "is_strict": request.is_strict,
            "devices": request.devices,
            "resume": request.resume,
        }
        return _run_record(self._call("open_run", given))

    def end_run(self, run: str, *, success: bool, reason: str, result: dict[str, Any]) -> None:
        """See `Desk.end_run`."""
        given = {"run": run, "success": success, "reason": reason, "result": result}
        self._call("end_run", given)

    def run(self, run: str) -> RunRecord:
        """See `Desk.run`."""
        return _run_record(self._call("run", {"run": run}))

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
                    future.set_exception(_error(answer["error"]))
                else:
                    future.set_result(answer["value"])
        except (OSError, ValueError, WindflowerError):
            pass  # whatever broke the line, those who wait are told below
        with self._lock:
            self._problem = GatewayUnavailable("the gateway went away; start it again and resume")
            waiting, self._waiting = self._waiting, {}
        for future in waiting.values():
            future.set_exception(self._problem)


def _dial(path: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(str(path))
    except OSError as error:
        connection.close()
        raise GatewayUnavailable(f"no gateway answers at {path}: {error.strerror}") from error
    return connection


def _lines(connection: socket.socket, file: Any) -> Iterator[dict[str, Any]]:  # noqa: ANN401
    with connection, file:
        while (line := read_frame(file)) is not None:
            yield line


# -------------------------------------------------------------------------------------- JSON


def _commands_json(commands: Sequence[Command]) -> dict[str, Any]:
    """A content that a thousand commands share crosses the line once."""
    contents: dict[int, int] = {}
    bodies = []
    shared: list[Any] = []
    for command in commands:
        if id(command.content) not in contents:
            contents[id(command.content)] = len(shared)
            shared.append(command.content.to_json())
        shell = replace(command, content=NOTHING)
        bodies.append([contents[id(command.content)], shell.to_body()])
    return {"contents": shared, "commands": bodies}


def _commands(given: dict[str, Any]) -> list[Command]:
    contents = [Content.from_json(value) for value in given["contents"]]
    return [
        replace(Command.from_body(body), content=contents[index])
        for index, body in given["commands"]
    ]


def _settlement_json(settlement: Settlement) -> dict[str, Any]:
    reply, failure = settlement.reply, settlement.failure
    return {
        "id": settlement.id,
        "run": settlement.run,
        "device": settlement.device,
        "method": settlement.method,
        "reply": reply.to_bytes().decode() if reply is not None else None,
        "failure": [failure.code, failure.reason] if failure is not None else None,
    }


def _settlement(value: dict[str, Any]) -> Settlement:
    reply, failure = value["reply"], value["failure"]
    return Settlement(
        value["id"],
        value["run"],
        value["device"],
        value["method"],
        Reply.from_bytes(reply.encode()) if reply is not None else None,
        Failure(failure[0], failure[1]) if failure is not None else None,
    )


def _presence_json(presence: Presence) -> dict[str, Any]:
    return {
        "device": presence.device,
        "heard-at": presence.heard_at,
        "online": presence.is_online,
        "interval-s": presence.interval_s,
        "labels": presence.labels,
    }


def _run_json(record: RunRecord) -> dict[str, Any]:
    return {
        "run": record.run,
        "number": record.number,
        "epoch": record.epoch,
        "app": record.app,
        "bundle": record.bundle.to_json(),
        "config": _values_json(record.config),
        "seed": str(record.seed),
        "is_strict": record.is_strict,
        "state": record.state,
        "created_at": record.created_at,
        "result": record.result,
    }


def _run_record(value: dict[str, Any]) -> RunRecord:
    return RunRecord(
        **{
            **value,
            "bundle": BlobRef.from_json(value["bundle"]),
            "config": _values(value["config"]),
            "seed": int(value["seed"]),
        }
    )


def _values_json(values: Values) -> Any:  # noqa: ANN401 - JSON is any
    return Content((("config", values),)).to_json()


def _values(value: Any) -> Values:  # noqa: ANN401 - JSON is any
    return Content.from_json(value).records[0][1] or NO_CONFIG


def _error_json(error: WindflowerError) -> dict[str, Any]:
    numbers = {k: v for k, v in vars(error).items() if isinstance(v, int | str)}
    return {"type": type(error).__name__, "message": str(error), "more": numbers}


def _error(value: dict[str, Any]) -> WindflowerError:
    kind = getattr(errors, value["type"], WindflowerError)
    try:
        error: WindflowerError = kind(value["message"], **value["more"])
    except TypeError:
        error = WindflowerError(value["message"])
    return error
