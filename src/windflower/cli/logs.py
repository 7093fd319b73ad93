"""`windflower logs`: what happened in a run, one line an event."""

import json
import sys
import time
from collections.abc import AsyncIterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from windflower.adapters.local.event_file import kept_events
from windflower.cli.patience import reading, reminding
from windflower.compose import StateFolder
from windflower.observe.sentences import sentence
from windflower.observe.silence import Silence
from windflower.pipeline.following import Lines, followed
from windflower.pipeline.verification import recorded_run

Event = dict[str, Any]


async def show_logs(state: Path, run: str, *, is_followed: bool, is_json: bool) -> dict[str, Any]:
    """Write a run's events, and go on with those to come until it is over.

    Raises:
        ConfigError: there is no such run.
        GatewayUnavailable: it is to be followed, and no gateway runs.
    """
    record = await recorded_run(state, run)
    coming = StateFolder(state).line().watch() if is_followed and record.state == "open" else None
    count, silence = 0, Silence()
    log = state / "events.jsonl"
    with reading(log) as passed:
        for event in kept_events(log, run, passed=passed):
            if event.get("run") == run:
                silence.take(event)
                count += _write(event, is_json=is_json)
    if coming is not None:
        async with nullcontext() if is_json else reminding(silence):
            async for event in _until_over(followed(coming), run):
                silence.take(event)
                count += _write(event, is_json=is_json)
    return {"success": True, "run-id": run, "lines": count}


async def _until_over(coming: Lines, run: str) -> AsyncIterator[Event]:
    while (event := await coming.get()) is not None:
        if event.get("run") in (run, None):
            yield event
        if event["event"] in ("run-ended", "run-suspended") and event.get("run") == run:
            return


def _write(event: Event, *, is_json: bool) -> int:
    """Write an event if it means something to whoever reads; return how many lines that were."""
    if is_json:
        sys.stderr.write(json.dumps(event) + "\n")
        return 1
    text = sentence(event)
    if not text:
        return 0
    at = time.strftime("%H:%M:%S", time.localtime(event["at"]))
    sys.stdout.write(f"{at}  {text}\n")
    sys.stdout.flush()
    return 1
