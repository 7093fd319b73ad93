"""`windflower demo`: ten people's watches learn together, on one machine, over a real broker."""

import asyncio
import contextlib
import logging
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.live import Live

from windflower.adapters.local.event_file import EventFile
from windflower.adapters.local.files import make_private
from windflower.cli.run import answer
from windflower.errors import AppError, ConfigError
from windflower.flower.app_folder import AppFolder
from windflower.observe.progress import Progress
from windflower.pipeline.chaos import KINDS, Chaos, counted
from windflower.pipeline.job import JobRequest, JobResult, run_job
from windflower.pipeline.simulated import Show, node_config, prepare

_EXAMPLE: Final = "01-smartwatch"

_WITHOUT_END: Final = 100_000
_PAUSE_S: Final = 1.0
_DEADLINE_S: Final = 15.0
_AWAY_S: Final = 20.0
"""What a demo that stays shows: a device that is lost for longer than a phase waits for it."""


async def show_demo(
    *,
    rounds: int,
    devices: int,
    seed: int,
    place: str,
    state: Path,
    has_chaos: bool,
    stays: bool,
    is_json: bool,
) -> dict[str, Any]:
    """Run the example and show how it goes; return the answer for scripts.

    Raises:
        ConfigError: what was asked does not go together.
    """
    if stays and (place != "local" or has_chaos):
        raise ConfigError("--stay goes with neither --place nor --chaos", key="stay")
    if place == "memory":
        return await _demo_in_memory(rounds, devices, seed, state, is_json=is_json)
    request = _request(rounds, devices, seed, state)
    make_private(state)
    if place == "aws-offline":
        return await _demo_behind_aws(request, rounds, is_json=is_json)
    if has_chaos:
        return await _demo_with_chaos(request, rounds, is_json=is_json)
    if stays:
        return await _demo_that_stays(request, is_json=is_json)
    result = await _watched(request, rounds, is_json=is_json)
    return _told(result, rounds, is_json=is_json)


def _request(rounds: int, devices: int, seed: int, state: Path) -> JobRequest:
    return JobRequest(
        app=example(_EXAMPLE),
        state=state,
        overrides=[f"num-server-rounds={rounds}", f"min-nodes={devices}"],
        seed=seed,
        policy={"is_strict": True},
        devices=devices,
        need=devices,
        interval_s=2.0,
        name="watch",
    )


async def _demo_behind_aws(request: JobRequest, rounds: int, *, is_json: bool) -> dict[str, Any]:
    """Run the demo through AWS as it is played on this machine; it begins empty each time."""
    try:
        from windflower.pipeline.behind_aws import behind_aws  # noqa: PLC0415 - an extra's packages
    except ImportError as error:
        raise ConfigError(
            f"the place aws-offline needs more packages ({error.name}):"
            " pip install 'windflower[aws-offline]'",
            key="place",
        ) from error

    if not is_json:
        sys.stderr.write("Starting what plays AWS: S3, DynamoDB, IoT Core.\n")
    async with behind_aws(request) as (job, failing):
        running = asyncio.create_task(_watched(job, rounds, is_json=is_json))
        either: list[asyncio.Future[Any]] = [running, failing]
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if failing.done():
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            failing.result()
        return _told(await running, rounds, is_json=is_json)


async def _demo_that_stays(request: JobRequest, *, is_json: bool) -> dict[str, Any]:
    """Go on with rounds until somebody stops it; return how many there were."""
    assert request.devices is not None  # noqa: S101 - the demo says so
    staying = replace(
        request,
        overrides=[
            f"num-server-rounds={_WITHOUT_END}",
            f"min-nodes={request.devices}",
            f"round-pause-s={_PAUSE_S}",
        ],
        policy={"wait_for_offline": True, "deadline_s": _DEADLINE_S},
        away_s=_AWAY_S,
    )
    progress = Progress(None)
    pids = _Pids(request.devices)

    def around(show: Show) -> Show:
        def taken(line: dict[str, Any]) -> None:
            if line["event"] == "gateway-ready" and not line["ours"]:
                raise ConfigError(
                    f"a gateway runs on {request.state} already: end it, or give another --state",
                    key="state",
                )
            progress.take(line)
            pids.take(line)
            show(line)

        return taken

    try:
        await _watched(staying, None, is_json=is_json, around=around)
    except asyncio.CancelledError:  # Ctrl-C is how it ends
        if not is_json:
            sys.stderr.write(f"\nStopped after {progress.round} rounds.\n")
    return {"success": True, "rounds": progress.round}


class _Pids:
    """Says once all devices run how to lose one, and again when that one has another pid."""

    def __init__(self, devices: int) -> None:
        self._left = devices
        self._named = ""

    def take(self, line: dict[str, Any]) -> None:
        if line["event"] != "process-started" or line["kind"] != "device":
            return
        self._left -= 1
        if self._left == 0:
            self._named = line["name"]
            sys.stderr.write(
                f"To lose {line['name']}: kill -9 {line['pid']}. It is started again after"
                f" {_AWAY_S:.0f} s. Ctrl-C ends all.\n"
            )
        elif line["name"] == self._named:
            sys.stderr.write(f"To lose {line['name']} once more: kill -9 {line['pid']}.\n")


async def _demo_with_chaos(request: JobRequest, rounds: int, *, is_json: bool) -> dict[str, Any]:
    """Run the demo while everything is killed, then once more in peace, and compare."""
    assert request.devices is not None  # noqa: S101 - the demo says so
    events = EventFile(request.state / "events.jsonl")
    chaos: list[Chaos] = []

    def around(show: Show) -> Show:
        strikes, seed = max(len(KINDS), rounds * 2 // 3), request.seed or 0
        progress = rounds * (4 * (request.devices or 0) + 4)
        chaos.append(Chaos(show, events, seed=seed, strikes=strikes, progress=progress))
        return chaos[0].take

    disturbed = await _watched(request, rounds, is_json=is_json, around=around)
    events.close()
    if not is_json:
        sys.stderr.write("\nNow the same once more, and nobody is killed.\n")
    peaceful = replace(request, state=request.state / "undisturbed")
    undisturbed = await _watched(peaceful, rounds, is_json=is_json)
    fields = _told(disturbed, rounds, is_json=is_json)
    fields["undisturbed-hash"] = undisturbed.result.get("model-hash")
    fields["kills"] = counted(chaos[0].kills)
    is_equal = fields["model-hash"] == fields["undisturbed-hash"]
    fields["success"] = fields["success"] and is_equal
    if not is_json:
        sys.stdout.write(_comparison(fields) + "\n")
    return fields


def _comparison(fields: dict[str, Any]) -> str:
    kills = ", ".join(f"{kind} {count} x" for kind, count in fields["kills"].items())
    verdict = "equal, bit for bit" if fields["success"] else "DIFFERENT"
    return (
        f"Killed: {kills}. What happened stands in events.jsonl.\n"
        f"  with all that     {fields['model-hash']}\n"
        f"  in peace          {fields['undisturbed-hash']}\n"
        f"  {verdict}"
    )


async def _watched(
    request: JobRequest,
    rounds: int | None,
    *,
    is_json: bool,
    around: Callable[[Show], Show] = lambda show: show,
) -> JobResult:
    """Run the demo's job while a person watches; `around` hears of everything first."""
    make_private(request.state)
    with (request.state / "demo.log").open("wb") as log:
        if is_json:
            return await run_job(request, around(lambda _: None), output=log, log=log)
        return await _with_progress(request, rounds, log, around)


def _told(result: JobResult, rounds: int, *, is_json: bool) -> dict[str, Any]:
    """Say what the demo came to; it succeeded only if every round closed."""
    fields = demo_answer(result)
    fields["success"] = result.success and fields["rounds"] == rounds
    if not is_json:
        sys.stdout.write(_last_lines(fields, result) + "\n")
    return fields


def example(name: str) -> Path:
    """Return the folder of an example: in the wheel, or in the checkout."""
    package = Path(__file__).parents[1]
    for folder in (package / "examples" / name, package.parents[1] / "examples" / name):
        if (folder / "pyproject.toml").is_file():
            return folder
    raise AppError(f"this installation lacks the example {name}")


async def _demo_in_memory(
    rounds: int, devices: int, seed: int, state: Path, *, is_json: bool
) -> dict[str, Any]:
    """Run the demo in this process, without a broker."""
    from windflower.pipeline.in_memory import MemoryRequest, run_in_memory  # noqa: PLC0415

    begun = time.monotonic()
    app = AppFolder.read(example(_EXAMPLE))
    data = await prepare(app, state / "simulated", devices)
    request = MemoryRequest(
        app=app,
        node_configs=dict(node_config(n, devices, data, name="watch") for n in range(devices)),
        config={"num-server-rounds": rounds, "min-nodes": devices},
        seed=seed,
    )
    # Flower's own report of each round is what the lines below say, at greater length.
    logging.getLogger("flwr").setLevel(logging.WARNING)
    with (state / "demo.log").open("w") as log, contextlib.redirect_stdout(log):
        memory = await run_in_memory(request)
    result = JobResult(
        run=memory.run.run,
        success=True,
        reason="the ServerApp ended",
        error=None,
        result=memory.summary,
        replies=memory.replies,
        seconds=round(time.monotonic() - begun, 2),
        devices=devices,
        broker="memory",
    )
    return _told(result, rounds, is_json=is_json)


def demo_answer(result: JobResult) -> dict[str, Any]:
    """Return what the demo came to, as it is printed with --format json."""
    fields = answer(result)
    metrics = fields.pop("metrics").get("evaluate", {})
    numbers = {
        "accuracy": metrics.get("accuracy"),
        "accuracy-new-wearer": metrics.get("accuracy-new-wearer"),
        "loss": metrics.get("loss"),
    }
    head = {key: fields.pop(key) for key in ("success", "run-id", "rounds")}
    return {**head, **numbers, **fields}


async def _with_progress(
    request: JobRequest,
    rounds: int | None,
    log: Any,  # noqa: ANN401 - an open file
    around: Callable[[Show], Show],
) -> JobResult:
    console = Console(stderr=True)
    progress = Progress(rounds)
    if not console.is_terminal:
        return await run_job(request, around(progress.say_plainly), output=log, log=log)
    with Live(progress.text(), console=console, refresh_per_second=8) as live:

        def show(line: dict[str, Any]) -> None:
            progress.take(line)
            live.update(progress.text())

        return await run_job(request, around(show), output=log, log=log)


def _last_lines(fields: dict[str, Any], result: JobResult) -> str:
    if not fields["success"]:
        return f"The demo failed after {fields['rounds']} rounds: {result.reason}"
    replies = fields["replies"]
    counts = (
        f"{fields['devices']} devices, {fields['rounds']} rounds in {fields['seconds']} s"
        f" over {fields['broker']}:"
        f" {replies['ok']} replies ok, {replies['failed']} failed, {replies['late']} late."
    )
    lines = [counts]
    if fields["accuracy"] is not None:
        lines.append(f"On the people who trained, each on recordings kept apart: "
                     f"{fields['accuracy']:.1%} right.")  # fmt: skip
    if fields["accuracy-new-wearer"] is not None:
        lines.append(f"On a new wearer, whose watch never trained: "
                     f"{fields['accuracy-new-wearer']:.1%} right.")  # fmt: skip
    lines.append(f"Model {fields['model-hash'][:16]}: the same seed gives the same, bit for bit.")
    return "\n".join(lines)
