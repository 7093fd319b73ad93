"""Events as sentences, for terminals and logs that people read."""

import time
from typing import Any


def sentence(line: dict[str, Any]) -> str:  # noqa: C901, PLR0911, PLR0912 - one line a kind of event
    """Return what an event means to a person, in one line; empty where it means nothing."""
    match line["event"]:
        case "gateway-starting":
            return f"starting a gateway on {line['state']}"
        case "gateway-ready":
            return f"broker {line['broker']}" + (f", page {line['page']}" if "page" in line else "")
        case "waiting-for-devices":
            return f"waiting for {_devices(line['need'])}, at most {line['timeout-s']:.0f} s"
        case "run-started":
            seed = f"seed {line['seed']}" if "seed" in line else "seed secret"
            return f"run {line['run']} of {line['app']}, {seed}"
        case "run-resumed":
            return f"run {line['run']} goes on: {line['phases']} phases are told again"
        case "run-suspended":
            return f"run {line['run']} is suspended: {line['reason']}"
        case "room-foreseen":
            return _foreseen(line)
        case "room-needed":
            phase, budget, free = (
                line[f"{what}_bytes"] / 2**30 for what in ("phase", "budget", "free")
            )
            return (
                f"the answers of a phase may take {phase:.2g} GiB; {budget:.3g} GiB are kept for"
                f" resuming, {free:.3g} GiB are free"
            )
        case "updates-dropped":
            what = f"{line['updates']} old updates, {line['size_bytes'] / 2**30:.2g} GiB, are gone"
            if line["is_resumable"]:
                return f"{what}: what was made of them is kept"
            return f"{what}: run {line['run']} goes on, and cannot be begun again (resume_gb)"
        case "run-process-lost":
            return f"the process of run {line['run']} is gone: it begins again"
        case "run-given-up":
            return f"run {line['run']} is over: you stopped it"
        case "waiting-for-gateway":
            return (
                f"the gateway of {line['state']} was killed: waiting at most"
                f" {line['timeout-s']:.0f} s for it to come back"
            )
        case "gateway-lost":
            return "the gateway is gone"
        case "phase-opened":
            return f"{line['type']}: asked {_devices(line['devices'])}"
        case "phase-closed":
            return _closed(line)
        case "round-measured":
            numbers = ", ".join(f"{k} {_number(v)}" for k, v in line["metrics"].items())
            return f"round {line['round']}, {line['stage']}: {numbers}" if numbers else ""
        case "model-published":
            return f"the model of run {line['of']} is published as {line['run']}"
        case "not-published":
            return f"nothing is published: {line['reason']}"
        case "model-taken":
            return f"{line['device']} uses the model {line['model'][:12]}"
        case "device-unfit" if line["is_left_out"]:
            return f"{line['device']} is left out: {line['reason']}"
        case "device-unfit":
            return f"{line['device']}: {line['reason']}"
        case "reply-failed":
            return _failed(line["device"], line["reason"])
        case "reply-accepted" if line.get("not_finite"):
            names = ", ".join(line["not_finite"])
            return (
                f"{line['device']} sent {names} as NaN or infinite: look at its data, or let it"
                " learn more slowly"
            )
        case "reply-missing":
            return _missing(line["reason"])
        case "device-lost":
            return f"{line['device']} is lost: silent for {line['silent_s']:.0f} s"
        case "device-heard":
            return f"{line['device']} is {'back' if line['again'] else 'here'}"
        case "hook-failed":
            return f"the hook {line['hook']} failed: {line['reason']}"
        case "sink-failed":
            return f"the sink {line['sink']} failed and is tried again: {line['reason']}"
        case "broker-lost":
            return f"the broker is lost: {line['reason']}"
        case _:
            return ""


def clock(at: float) -> str:
    """Return the time of day, by the clock of whoever reads it."""
    return time.strftime("%H:%M:%S", time.localtime(at))


def _devices(count: int) -> str:
    return f"{count} device{'s' * (count != 1)}"


def _closed(line: dict[str, Any]) -> str:
    counts = f"{line['ok']} ok, {line['failed']} failed, {line['late']} late"
    again = " since it was opened again" if line.get("again") else ""
    return f"{line['type']}: {counts}, {line['seconds']:.2f} s{again}"


def _failed(device: str, reason: str) -> str:
    """Return what happened in the first line, and below it where."""
    *trace, last = reason.removeprefix(f"{device}: ").splitlines() or [""]
    if not trace:
        return f"{device} failed: {last}"
    where = "" if trace[0].startswith("Traceback") else f"{trace[0]} "
    below = "\n".join(f"    {text}" for text in trace[bool(where) :])
    return f"{device} failed: {where}{last}\n{below}".rstrip()


def _missing(reason: str) -> str:
    if not reason.endswith("did not answer in time"):
        return reason
    return f"{reason}: give it longer (the app's timeout, --deadline), or see what it waits for"


def _number(value: float | None) -> str:
    return "nan" if value is None else f"{value:.4g}"


def _foreseen(line: dict[str, Any]) -> str:
    budget, free = line["budget_bytes"], line["free_bytes"]
    earlier = line.get("earlier_bytes")
    said = f"may keep {_gib(budget)} on disk to be resumable, {_gib(free)} are free"
    if earlier is not None:
        said += f"; run {line['earlier']} of this app kept {_gib(earlier)}"
    if free < (budget if earlier is None else min(earlier, budget)):
        said += ": make room, or set resume_gb lower"
    return said


def _gib(size_bytes: int) -> str:
    return (
        f"{size_bytes / 2**30:.3g} GiB" if size_bytes >= 2**28 else f"{size_bytes / 2**20:.3g} MiB"
    )
