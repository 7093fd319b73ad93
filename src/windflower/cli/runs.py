"""`windflower runs`, `report`, `verify`: what the journal holds of runs, gateway or not."""

import asyncio
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from windflower.adapters.aws.costs import TrafficPrice
from windflower.adapters.local.event_file import kept_events
from windflower.adapters.local.journal import SqliteJournal, read_journal
from windflower.cli.patience import patience, reading
from windflower.cli.run import say
from windflower.core.ledger import RunRecord, Settlement, Tally
from windflower.errors import ConfigError
from windflower.observe.report import FLEET, gather, to_csv, to_html
from windflower.pipeline.gateways import gateway_for
from windflower.pipeline.verification import recorded_run, recorded_runs, verify


async def show_runs(state: Path, *, is_json: bool) -> dict[str, Any]:
    """List runs, the latest first."""
    runs = await recorded_runs(state)
    if not is_json:
        sys.stdout.write("".join(f"{_line(run)}\n" for run in runs) or "No run yet.\n")
    return {"success": True, "runs": [_fields(run) for run in runs]}


async def show_run(state: Path, run: str, *, is_json: bool) -> dict[str, Any]:
    """Show what a run asked, who answered, and what it came to."""
    record = await recorded_run(state, run)
    journal = read_journal(state / "journal.db")
    phases, devices = await _phases(journal, record.run)
    await journal.close()
    log = state / "events.jsonl"
    with reading(log) as passed:
        measured = list(_measured(kept_events(log, "round-measured", passed=passed), record.run))
    if not is_json:
        sys.stdout.write("\n".join(_told(record, phases, devices, measured)) + "\n")
    return {
        "success": True,
        **_fields(record),
        "phases": phases,
        "by-device": devices,
        "measured": measured,
    }


async def write_report(
    state: Path, run: str, folder: Path | None, *, is_json: bool
) -> dict[str, Any]:
    """Show a run, and write its report: one HTML file, and one table.

    Args:
        state: the gateway's state folder.
        run: which run.
        folder: where the two files go; None is the run's own folder.
        is_json: whether nothing is to be said for people.

    Raises:
        ConfigError: there is no such run.
    """
    shown = await show_run(state, run, is_json=is_json)
    record = await recorded_run(state, run)
    log = state / "events.jsonl"
    with reading(log) as passed:
        events = kept_events(log, record.run, *FLEET, passed=passed)
        told = gather(_head(record), events, TrafficPrice())
    into = folder or state / "runs" / record.run
    into.mkdir(parents=True, exist_ok=True)
    html, table = (into / f"windflower-{record.run}.{kind}" for kind in ("html", "csv"))
    html.write_text(to_html(told))
    table.write_text(to_csv(told))
    if not is_json:
        sys.stdout.write(f"\n{html}\n{table}\n")
    return {**shown, "html": str(html), "csv": str(table)}


def _head(run: RunRecord) -> dict[str, Any]:
    """Return what a report says of a run before anything else."""
    policy = {name: value for name, value in asdict(run.policy).items() if value}
    return {
        "run": run.run,
        "app": run.app,
        "state": run.state,
        "began": _moment(run.created_at),
        "ended": _moment(run.ended_at) if run.ended_at else "not yet",
        "why": str(run.result.get("reason", "")) or "it goes on",
        "seed": "secret" if run.is_private else str(run.seed),
        "waits for": ", ".join(f"{k} {v}" for k, v in policy.items()) or "all",
        "model": str(run.result.get("model-hash", "none")),
    }


def _moment(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))


async def end_run(state: Path, run: str, *, is_json: bool) -> dict[str, Any]:
    """End an open run for good."""
    async with gateway_for(state, None, say) as gateway:
        record = await asyncio.to_thread(gateway.line.run, run)
        if record.state != "open":
            raise ConfigError(f"run {run} is over already", key="run")
        reason = "a person ended it"
        line = gateway.line
        await asyncio.to_thread(line.end_run, run, success=False, reason=reason, result={})
    if not is_json:
        sys.stdout.write(f"Run {run} is over. Its devices forget it when they are heard next.\n")
    return {"success": True, "run-id": run}


async def show_verdict(state: Path, run: str, *, is_json: bool) -> dict[str, Any]:
    """Recompute a run's final arrays and compare."""
    with patience(f"executing run {run} once more") as waiting:
        verdict = await verify(state, run, waiting.is_at)
    if not is_json:
        lines = [f"recorded    {verdict.recorded}", f"recomputed  {verdict.recomputed or '-'}"]
        lines.append(
            "equal, bit for bit" if verdict.is_equal else f"NOT equal. {verdict.reason}".rstrip()
        )
        if verdict.recalled:
            lines.append(
                f"{verdict.recalled} aggregates were taken as they were kept: their updates had to"
                " go while the run was open (resume_gb)"
            )
        sys.stdout.write("\n".join(lines) + "\n")
    answer: dict[str, Any] = {
        "success": verdict.is_equal,
        "run-id": run,
        "model-hash": verdict.recorded,
        "recomputed-hash": verdict.recomputed,
        "recalled-aggregates": verdict.recalled,
    }
    if not verdict.is_equal:
        answer["error-type"] = verdict.error or "RunDiverged"
        answer["error-message"] = verdict.reason or "other bits came out"
    return answer


def _fields(run: RunRecord) -> dict[str, Any]:
    return {
        "run-id": run.run,
        "app": run.app,
        "state": run.state,
        "resumable": run.state == "open" and run.is_resumable,
        "seed": None if run.is_private else str(run.seed),
        "policy": asdict(run.policy),
        "created-at": run.created_at,
        "ended-at": run.ended_at or None,
        **run.result,
    }


def _line(run: RunRecord) -> str:
    begun = time.strftime("%Y-%m-%d %H:%M", time.localtime(run.created_at))
    came_to = str(run.result.get("model-hash", ""))[:12] or str(run.result.get("reason", ""))
    first = came_to.splitlines()[0][:60] if came_to else ""
    if run.state == "open":
        first = f"go on: windflower run --resume {run.run}"
        if not run.is_resumable:
            first = "cannot be begun again: old updates went (resume_gb)"
    return f"{run.run:<16} {run.state:<7} {begun}  {run.app:<20} {first}"


async def _phases(
    journal: SqliteJournal, run: str
) -> tuple[list[dict[str, Any]], dict[str, dict[str, int]]]:
    """Return what each phase came to, and each device's share in all of them.

    What stands in no phase that closed comes last, without a number: it was pushed, or its phase
    was open when the run ended. There `late` is whoever has not answered.
    """
    history = await journal.history(run)
    types = {command.id: command.type for command in history.commands}
    asked: list[tuple[int | None, str, Sequence[str]]] = [
        (phase.number, types[phase.ids[0]], phase.ids) for phase in history.phases
    ]
    closed = {id_ for phase in history.phases for id_ in phase.ids}
    others = [id_ for id_ in types if id_ not in closed]
    asked += [
        (None, type_, [id_ for id_ in others if types[id_] == type_])
        for type_ in dict.fromkeys(types[id_] for id_ in others)
    ]
    devices: defaultdict[str, Counter[str]] = defaultdict(Counter)
    phases = []
    for number, type_, ids in asked:
        settlements = await journal.settlements(ids)
        for settlement in settlements:
            devices[settlement.device][_ending(settlement)] += 1
        tally = Tally.of(settlements)
        late = len(ids) - tally.ok - tally.failed
        counts = {"ok": tally.ok, "failed": tally.failed, "late": late}
        phases.append({"phase": number, "type": type_, **counts})
    return phases, {device: dict(counts) for device, counts in sorted(devices.items())}


def _ending(settlement: Settlement) -> str:
    if settlement.is_good:
        return "ok"
    return "failed" if settlement.is_answered else "late"


def _measured(events: Iterable[dict[str, Any]], run: str) -> Iterable[dict[str, Any]]:
    """Return what a strategy made of each round; a run that was resumed measured some again."""
    seen: set[tuple[int, str]] = set()
    for line in events:
        if line["run"] == run and (line["round"], line["stage"]) not in seen:
            seen.add((line["round"], line["stage"]))
            yield {key: line[key] for key in ("round", "stage", "metrics")}


def _number(value: float | None) -> str:
    return "nan" if value is None else f"{value:.4g}"


def _told(
    run: RunRecord,
    phases: list[dict[str, Any]],
    devices: dict[str, dict[str, int]],
    measured: list[dict[str, Any]],
) -> list[str]:
    seed = "its seed is secret" if run.is_private else f"seed {run.seed}"
    lines = [f"Run {run.run} of {run.app}, {run.state}, {seed}"]
    if run.result.get("reason"):
        lines.append(str(run.result["reason"]))
    lines += ["", "phase  what          ok  failed  late"]
    lines += [
        f"{p['phase'] or '-':>5}  {p['type']:<12}{p['ok']:>4}{p['failed']:>8}{p['late']:>6}"
        for p in phases
    ]
    trouble = {d: c for d, c in devices.items() if c.keys() - {"ok"}}
    for device, counts in trouble.items():
        told = ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items()))
        lines.append(f"{device}: {told}")
    if measured:
        lines.append("")
    for line in measured:
        numbers = ", ".join(f"{k} {_number(v)}" for k, v in line["metrics"].items())
        lines.append(f"round {line['round']}, {line['stage']}: {numbers}")
    if run.result.get("model-hash"):
        lines += ["", f"model {run.result['model-hash']}"]
    return lines
