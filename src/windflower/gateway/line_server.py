"""The gateway's end of the line: calls to the desk over a unix socket."""

import asyncio
import json
from base64 import b64decode
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from windflower.core.policy import RoundPolicy
from windflower.errors import WindflowerError
from windflower.gateway.desk import Desk
from windflower.gateway.feed import Feed
from windflower.gateway.line_json import (
    commands_from_json,
    error_to_json,
    presence_to_json,
    settlement_to_json,
    values_from_json,
)
from windflower.gateway.models import Models
from windflower.gateway.request import RunRequest
from windflower.wire.blobs import BlobRef
from windflower.wire.frames import PREFIX_BYTES, frame, frame_length


@dataclass(slots=True)
class _Caller:
    """Somebody at the other end, what is done for them, and the runs that they execute."""

    hung_up: asyncio.Event = field(default_factory=asyncio.Event)
    calls: set[asyncio.Task[None]] = field(default_factory=set)
    runs: list[tuple[str, int]] = field(default_factory=list)


class LineServer:
    """Answers calls on a unix socket.

    Args:
        desk: who answers.
        models: answers what is about published models.
        feed: what watchers are shown.
        path: the socket; its folder must exist.
    """

    def __init__(self, desk: Desk, models: Models, feed: Feed, path: Path) -> None:
        self._desk = desk
        self._models = models
        self._feed = feed
        self._path = path
        self._server: asyncio.Server | None = None
        self._calls: set[asyncio.Task[None]] = set()
        self._callers: dict[asyncio.StreamWriter, _Caller] = {}
        self._answers: dict[str, Callable[[dict[str, Any]], Awaitable[Any]]] = {
            "open_run": self._open_run,
            "resume_run": self._resume_run,
            "suspend_run": self._suspend_run,
            "end_run": self._end_run,
            "wait_for_devices": self._wait_for_devices,
            "devices": self._devices,
            "roster": self._roster,
            "ask": self._ask,
            "push": self._push,
            "pull": self._pull,
            "adopt": self._adopt,
            "locate": self._locate,
            "aggregate": self._aggregate,
            "keep_aggregate": self._keep_aggregate,
            "checkpoint": self._checkpoint,
            "keep_checkpoint": self._keep_checkpoint,
            "spare": self._spare,
            "report": self._report,
            "tally": self._tally,
            "is_executed": self._is_executed,
            "run": self._run,
            "publish": self._publish,
            "rollback": self._rollback,
            "publications": self._publications,
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
        # Hung up on, not cancelled: asyncio's streams (3.11) complain about a cancelled caller.
        callers = dict(self._callers)
        for writer in callers:
            writer.close()
        for caller in callers.values():
            await caller.hung_up.wait()
        self._path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        caller = self._callers[writer] = _Caller()
        try:
            while True:
                prefix = await reader.readexactly(PREFIX_BYTES)
                call = json.loads(await reader.readexactly(frame_length(prefix)))
                answer = self._watch if call["call"] == "watch" else self._answer
                task = asyncio.create_task(answer(call, writer))
                for calls in (self._calls, caller.calls):
                    calls.add(task)
                    task.add_done_callback(calls.discard)
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()
            self._leave(caller)
            self._callers.pop(writer, None)
            caller.hung_up.set()

    def _leave(self, caller: "_Caller") -> None:
        """End what was done for a caller: a phase must not be closed once more by its successor."""
        for call in caller.calls:
            call.cancel()
        for run, epoch in caller.runs:
            self._desk.suspend_run(run, epoch, reason="its process is gone")

    async def _answer(self, call: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        answer: dict[str, Any] = {"n": call["n"]}
        try:
            if call["call"] == "begin":
                answer["value"] = self._begin(call["with"], writer)
            else:
                answer["value"] = await self._answers[call["call"]](call["with"])
        except WindflowerError as error:
            answer["error"] = error_to_json(error)
        except Exception as error:  # noqa: BLE001 - whoever called must not wait for ever
            reason = f"the gateway could not do {call['call']}: {type(error).__name__}: {error}"
            answer["error"] = error_to_json(WindflowerError(reason))
        writer.write(frame(answer))

    def _begin(self, given: dict[str, Any], writer: asyncio.StreamWriter) -> Any:  # noqa: ANN401
        record = self._desk.begin(given["run"], given["epoch"])
        self._part_with(record.run)
        self._callers[writer].runs.append((record.run, record.epoch))
        return record.to_json()

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
            folder=given["folder"],
            bundle=BlobRef.from_json(given["bundle"]),
            config=values_from_json(given["config"]),
            seed=int(given["seed"]) if given["seed"] is not None else None,
            policy=RoundPolicy(**given["policy"]),
            is_private=given["is_private"],
            limit=given["limit"],
            request=given["request"],
            simulated=given["simulated"],
            crew=given["crew"],
        )
        return (await self._desk.open_run(request)).to_json()

    def _part_with(self, run: str) -> None:
        """Hang up on whoever executed a run until now: it has one process."""
        for writer, caller in self._callers.items():
            if any(run == executed for executed, _ in caller.runs):
                writer.close()
                for call in caller.calls:
                    call.cancel()

    async def _resume_run(self, given: dict[str, Any]) -> Any:  # noqa: ANN401 - JSON is any
        self._part_with(given["run"])
        return (await self._desk.resume_run(given["run"], is_lenient=given["is_lenient"])).to_json()

    async def _suspend_run(self, given: dict[str, Any]) -> None:
        self._desk.suspend_run(
            given["run"], given["epoch"], reason=given["reason"], error=given["error"]
        )

    async def _end_run(self, given: dict[str, Any]) -> None:
        await self._desk.end_run(
            given["run"], success=given["success"], reason=given["reason"], result=given["result"]
        )

    async def _run(self, given: dict[str, Any]) -> Any:  # noqa: ANN401 - JSON is any
        return self._desk.run(given["run"]).to_json()

    async def _publish(self, given: dict[str, Any]) -> Any:  # noqa: ANN401 - JSON is any
        ref = BlobRef.from_json(given["ref"])
        return (await self._models.publish(given["run"], Path(given["path"]), ref)).to_json()

    async def _rollback(self, given: dict[str, Any]) -> Any:  # noqa: ANN401 - JSON is any
        return (await self._models.rollback(given["publication"])).to_json()

    async def _publications(self, given: dict[str, Any]) -> list[Any]:
        del given
        return [record.to_json() for record in self._models.publications()]

    async def _is_executed(self, given: dict[str, Any]) -> bool:
        return self._desk.is_executed(given["run"])

    async def _tally(self, given: dict[str, Any]) -> dict[str, int]:
        return asdict(await self._desk.tally(given["run"]))

    async def _wait_for_devices(self, given: dict[str, Any]) -> int:
        return await self._desk.wait_for_devices(given["need"], timeout_s=given["timeout_s"])

    async def _devices(self, given: dict[str, Any]) -> list[dict[str, Any]]:
        return [presence_to_json(p) for p in self._desk.devices(given["limit"])]

    async def _roster(self, given: dict[str, Any]) -> Sequence[str]:
        return await self._desk.roster(given["run"], given["call"])

    async def _ask(self, given: dict[str, Any]) -> list[dict[str, Any]]:
        settlements = await self._desk.ask(
            given["run"],
            given["phase"],
            commands_from_json(given),
            timeout_s=given["timeout_s"],
            spares=given["spares"],
        )
        return [settlement_to_json(s) for s in settlements]

    async def _push(self, given: dict[str, Any]) -> None:
        await self._desk.push(given["run"], commands_from_json(given))

    async def _pull(self, given: dict[str, Any]) -> list[dict[str, Any]]:
        settlements = await self._desk.pull(given["run"], given["call"], given["ids"])
        return [settlement_to_json(s) for s in settlements]

    async def _adopt(self, given: dict[str, Any]) -> None:
        await self._desk.adopt(Path(given["path"]), BlobRef.from_json(given["ref"]))

    async def _locate(self, given: dict[str, Any]) -> list[str]:
        return [str(path) for path in await self._desk.locate(given["run"], given["keys"])]

    async def _aggregate(self, given: dict[str, Any]) -> Any:  # noqa: ANN401 - JSON is any
        ref = await self._desk.aggregate(given["run"], given["key"])
        return None if ref is None else ref.to_json()

    async def _keep_aggregate(self, given: dict[str, Any]) -> None:
        ref = BlobRef.from_json(given["ref"])
        await self._desk.keep_aggregate(given["run"], given["key"], Path(given["path"]), ref)

    async def _checkpoint(self, given: dict[str, Any]) -> Any:  # noqa: ANN401 - JSON is any
        ref = await self._desk.checkpoint(given["run"], given["name"])
        return None if ref is None else ref.to_json()

    async def _keep_checkpoint(self, given: dict[str, Any]) -> None:
        await self._desk.keep_checkpoint(
            *(given["run"], given["name"], Path(given["path"])),
            *(BlobRef.from_json(given["ref"]), given["waiting_for"]),
        )

    async def _spare(self, given: dict[str, Any]) -> None:
        await self._desk.spare(given["run"], given["ids"], b64decode(given["header"]))

    async def _report(self, given: dict[str, Any]) -> None:
        self._desk.report(given["line"])
