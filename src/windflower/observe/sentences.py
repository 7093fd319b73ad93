"""Events as sentences, for terminals and logs that people read."""

import time
from collections.abc import Callable
from typing import Any, Final

Line = dict[str, Any]


def sentence(line: Line) -> str:
    """Return what an event means to a person; empty where it means nothing.

    The first line says it. What stands below it, such as a traceback, says where.
    """
    say = _SENTENCES.get(line["event"])
    return "" if say is None else say(line)


def clock(at: float) -> str:
    """Return the time of day, by the clock of whoever reads it."""
    return time.strftime("%H:%M:%S", time.localtime(at))


def _devices(count: int) -> str:
    return f"{count} device{'s' * (count != 1)}"


def _opened(line: Line) -> str:
    spares = f", {line['spares']} of them to spare" if line.get("spares") else ""
    return f"{line['type']}: asked {_devices(line['devices'])}{spares}"


def _closed(line: Line) -> str:
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


def _foreseen(line: Line) -> str:
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


def _needed(line: Line) -> str:
    phase, budget, free = (line[f"{what}_bytes"] / 2**30 for what in ("phase", "budget", "free"))
    return (
        f"the answers of a phase may take {phase:.2g} GiB; {budget:.3g} GiB are kept for"
        f" resuming, {free:.3g} GiB are free"
    )


def _dropped(line: Line) -> str:
    what = f"{line['updates']} old updates, {line['size_bytes'] / 2**30:.2g} GiB, are gone"
    if line["is_resumable"]:
        return f"{what}: what was made of them is kept"
    return f"{what}: run {line['run']} goes on, and cannot be begun again (resume_gb)"


def _started(line: Line) -> str:
    seed = f"seed {line['seed']}" if "seed" in line else "seed secret"
    return f"run {line['run']} of {line['app']}, {seed}"


def _ended(line: Line) -> str:
    how = "is done" if line["success"] else "failed"
    return f"run {line['run']} {how} after {line['seconds']:.1f} s: {line['reason']}"


def _measured(line: Line) -> str:
    numbers = ", ".join(f"{k} {_number(v)}" for k, v in line["metrics"].items())
    return f"round {line['round']}, {line['stage']}: {numbers}" if numbers else ""


def _accepted(line: Line) -> str:
    if not line.get("not_finite"):
        return ""
    return (
        f"{line['device']} sent {', '.join(line['not_finite'])} as NaN or infinite: look at its"
        " data, or let it learn more slowly"
    )


def _unfit(line: Line) -> str:
    left_out = " is left out" if line["is_left_out"] else ""
    return f"{line['device']}{left_out}: {line['reason']}"


_SENTENCES: Final[dict[str, Callable[[Line], str]]] = {
    # a command, and the gateway that it uses
    "gateway-starting": lambda e: f"starting a gateway on {e['state']}",
    "gateway-ready": lambda e: (
        f"broker {e['broker']}" + (f", page {e['page']}" if "page" in e else "")
    ),
    "gateway-lost": lambda e: (
        f"the gateway is gone: waiting at most {e['timeout-s']:.0f} s for it to come back"
        if "timeout-s" in e
        else "the gateway is gone, and is started again"
    ),
    "waiting-for-gateway": lambda e: (
        f"the gateway of {e['state']} was killed: waiting at most {e['timeout-s']:.0f} s for it to"
        " come back"
    ),
    "waiting-for-devices": lambda e: (
        f"waiting for {_devices(e['need'])}, at most {e['timeout-s']:.0f} s"
    ),
    "run-process-lost": lambda e: f"the process of run {e['run']} is gone: it begins again",
    "run-given-up": lambda e: f"run {e['run']} is over: you stopped it",
    "not-published": lambda e: f"nothing is published: {e['reason']}",
    # the fleet
    "broker-lost": lambda e: f"the broker is lost: {e['reason']}",
    "broker-started": lambda _: "our own broker had died, and was started again",
    "broker-connected": lambda e: "the broker is back" if e["again"] else "",
    "device-heard": lambda e: f"{e['device']} is {'back' if e['again'] else 'here'}",
    "device-lost": lambda e: f"{e['device']} is lost: silent for {e['silent_s']:.0f} s",
    "device-unfit": _unfit,
    "model-published": lambda e: f"the model of run {e['of']} is published as {e['run']}",
    "model-taken": lambda e: f"{e['device']} uses the model {e['model'][:12]}",
    "hook-failed": lambda e: f"the hook {e['hook']} failed: {e['reason']}",
    "sink-failed": lambda e: f"the sink {e['sink']} failed and is tried again: {e['reason']}",
    # a run
    "run-started": _started,
    "run-resumed": lambda e: f"run {e['run']} goes on: {e['phases']} phases are told again",
    "run-suspended": lambda e: f"run {e['run']} is suspended: {e['reason']}",
    "run-left-open": lambda e: (
        f"run {e['run']} is open, and nobody executes it: windflower run --resume {e['run']}"
    ),
    "run-ended": _ended,
    "room-foreseen": _foreseen,
    "room-needed": _needed,
    "updates-dropped": _dropped,
    "phase-opened": _opened,
    "phase-closed": _closed,
    "round-measured": _measured,
    # what devices answered
    "reply-accepted": _accepted,
    "reply-failed": lambda e: _failed(e["device"], e["reason"]),
    "reply-missing": lambda e: _missing(e["reason"]),
    "reply-late": lambda e: f"{e['device']} answered too late: nothing waits for it any more",
}
