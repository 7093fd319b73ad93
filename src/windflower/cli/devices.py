"""`windflower devices`: who is in the fleet."""

import json
import sys
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from windflower.adapters.local.event_file import kept_events, latest_events
from windflower.cli.patience import reading
from windflower.compose import StateFolder
from windflower.errors import ConfigError
from windflower.observe.lost_broker import lost_broker

FAILURES: Final = 5
"""So many of its last failures are shown."""

_UNJUDGED: Final = (
    "Until it is back nobody can be heard, and whoever goes is not said to be offline."
)

_KINDS: Final = {
    "reply-accepted": "ok",
    "reply-failed": "failed",
    "reply-missing": "missing",
    "reply-late": "late",
    "device-lost": "lost",
}


def show_devices(state: Path, *, limit: int | None, is_json: bool) -> None:
    """Print the devices that the running gateway knows, the one that was heard last first."""
    devices = StateFolder(state).line().devices(limit)
    lost = lost_broker(latest_events(state / "events.jsonl"))
    if is_json:
        answer = {"success": True, "devices": devices, "broker-lost": lost and asdict(lost)}
        sys.stdout.write(json.dumps(answer) + "\n")
        return
    if not devices:
        sys.stdout.write("No device was heard yet.\n")
    now = time.time()
    for device in devices:
        heard = f"{now - device['heard-at']:8.1f} s ago" if device["heard-at"] else "     not yet"
        state_word = "online " if device["online"] else "offline"
        sys.stdout.write(f"{state_word}  {heard}  {device['device']}\n")
    if lost is not None:
        sys.stdout.write(f"The broker {lost}. {_UNJUDGED}\n")


def show_device(state: Path, device: str, *, is_json: bool) -> None:
    """Print what is known of one device: presence, labels, model, and how it has answered.

    Raises:
        ConfigError: no device of this name was heard.
    """
    known = {d["device"]: d for d in StateFolder(state).line().devices()}
    if device not in known:
        raise ConfigError(
            f"no device {device} was heard: see `windflower devices ls`", key="device"
        )
    history = _History(device)
    log = state / "events.jsonl"
    with reading(log) as passed:
        for event in kept_events(log, device, passed=passed):
            history.take(event)
    lost = lost_broker(latest_events(log))
    if is_json:
        told = {**known[device], **history.to_json(), "broker-lost": lost and asdict(lost)}
        answer = {"success": True, **told}
        sys.stdout.write(json.dumps(answer) + "\n")
        return
    found = known[device]
    heard = f"{time.time() - found['heard-at']:.1f} s ago" if found["heard-at"] else "not yet"
    state_word = "online" if found["online"] else "offline"
    lines = [
        f"{device} is {state_word}, heard {heard}, every {found['interval-s']:g} s",
        *(f"label  {key} = {value}" for key, value in sorted(found["labels"].items())),
        f"agent  {found['agent'] or 'not said yet'}",
        f"model  {found['model'] or 'none'}",
        *history.lines(),
    ]
    if lost is not None:
        lines.append(f"broker {lost}. {_UNJUDGED}")
    sys.stdout.write("\n".join(lines) + "\n")


class _History:
    """How one device has answered, by what is left of the events."""

    def __init__(self, device: str) -> None:
        self._device = device
        self._counts: Counter[str] = Counter()
        self._failures: list[dict[str, Any]] = []

    def take(self, event: dict[str, Any]) -> None:
        """Take an event."""
        if event.get("device") != self._device:
            return
        kind = _KINDS.get(event["event"])
        if kind is not None:
            self._counts[kind] += 1
        if event["event"] in ("reply-failed", "device-unfit"):
            self._failures = [*self._failures, event][-FAILURES:]

    def to_json(self) -> dict[str, Any]:
        """Return it for scripts."""
        failures = [
            {"at": e["at"], "run-id": e["run"], "reason": e["reason"]} for e in self._failures
        ]
        return {"answers": dict(self._counts), "failures": failures}

    def lines(self) -> list[str]:
        """Return it for people; the last failure in full."""
        told = ", ".join(f"{count} {kind}" for kind, count in sorted(self._counts.items()))
        lines = [f"told   {told or 'nothing yet'}"]
        for event in self._failures:
            at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(event["at"]))
            reason = event["reason"] if event is self._failures[-1] else _first(event["reason"])
            lines.append(f"failed {at} in run {event['run']}: {reason}")
        return lines


def _first(reason: str) -> str:
    return reason.splitlines()[0] if reason else ""
