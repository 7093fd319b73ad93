"""`windflower run`: one app, with progress for a person."""

import sys
from contextlib import nullcontext, suppress
from typing import Any

from windflower import errors
from windflower.adapters.local.event_file import EventStream
from windflower.cli.patience import reminding
from windflower.core.events import RunEnded
from windflower.errors import ConfigError, RunDiverged, RunFailed, RunSuspended
from windflower.flower.app_folder import make_policy
from windflower.observe.sentences import sentence
from windflower.observe.silence import Silence
from windflower.pipeline.job import JobRequest, JobResult, run_job


async def show_run(
    request: JobRequest, *, is_json: bool, has_events: bool = False
) -> dict[str, Any]:
    """Run a job and say on standard error how it goes; return the answer for scripts."""
    silence = Silence()
    write = EventStream().write

    def show(line: dict[str, Any]) -> None:
        silence.take(line)
        if has_events:
            write(line)
        elif line["event"] != RunEnded.kind():  # the last line says more of it
            say(line)

    async with nullcontext() if has_events else reminding(silence):
        result = await run_job(request, show, output=sys.stderr if is_json else None)
    if not is_json:
        sys.stderr.write(_last_line(result) + "\n")
    return answer(result)


def given_policy(**flags: Any) -> dict[str, Any]:  # noqa: ANN401 - as typer gives them
    """Return what flags say of the round policy.

    Raises:
        ConfigError: a value that is none of its kind.
    """
    given = {key: value for key, value in flags.items() if value is not None}
    for key in given.keys() & {"quorum", "min_replies"}:
        text = given[key]
        with suppress(ValueError):  # said below
            given[key] = int(text) if text.isdecimal() else float(text)
    checked = {key: value for key, value in given.items() if key != "is_strict"}
    make_policy(checked, source="the command line")
    return given


def check_resume(given: dict[str, Any]) -> None:
    """Refuse flags that a run which goes on cannot heed.

    Raises:
        ConfigError: names the first of those that were given.
    """
    flags = [key for key, value in given.items() if value is not None]
    if flags:
        raise ConfigError(
            f"--resume: the run goes on as it was begun; leave out what says otherwise"
            f" ({flags[0].removeprefix('is_').removesuffix('_s').replace('_', '-')})",
            key="resume",
        )


def answer(result: JobResult) -> dict[str, Any]:
    """Return a result as commands print it with --format json."""
    fields: dict[str, Any] = {
        "success": result.success,
        "run-id": result.run,
        "rounds": result.result.get("rounds", 0),
        "metrics": result.result.get("metrics", {}),
        "devices": result.devices,
        "replies": result.replies,
        "seconds": result.seconds,
        "broker": result.broker,
        "model-hash": result.result.get("model-hash"),
        "model-file": result.result.get("model-file"),
    }
    if not result.success:
        fields["error-message"] = result.reason
        fields["error-type"] = result.error
    return fields


def say(line: dict[str, Any]) -> None:
    """Write what matters to a person, one line an event."""
    text = sentence(line)
    if text:
        sys.stderr.write(f"  {text}\n")
        sys.stderr.flush()


def how_it_failed(result: JobResult) -> str:
    """Say why a run has no result, and what to do where it can go on."""
    kind = getattr(errors, result.error or "", RunFailed)
    if issubclass(kind, RunDiverged):
        return (
            f"Run {result.run} stopped: {result.reason}\n"
            f"Mend the app, then: windflower run --resume {result.run}\n"
            "Where only values in configs differ, --lenient accepts them."
        )
    if issubclass(kind, RunSuspended):
        return (
            f"Run {result.run} is suspended: {result.reason}\n"
            f"Nothing is lost. To go on: windflower run --resume {result.run}"
        )
    return f"Run {result.run} failed: {result.reason}"


def _last_line(result: JobResult) -> str:
    if not result.success:
        return how_it_failed(result)
    counts = result.replies
    replies = f"{counts['ok']} replies ok, {counts['failed']} failed, {counts['late']} late"
    model = result.result.get("model-hash")
    kept = f" The model is {model[:12]}, kept in {result.result['model-file']}." if model else ""
    return f"Run {result.run} ended after {result.seconds} s: {replies}.{kept}"
