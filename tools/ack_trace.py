"""Shows how one exchange went, from the events of both sides: `python tools/ack_trace.py STATE`.

STATE is the state folder of a run with simulated devices on this machine, whose clocks are one.
"""

import json
import sys
from pathlib import Path
from typing import Any

STEPS = {
    "command-sent": ("gateway", "publishes the command"),
    "command-accepted": ("device", "has stored it"),
    "work-started": ("device", "calls the app"),
    "work-ended": ("device", "has stored the reply"),
    "reply-accepted": ("gateway", "has journaled the reply, and acknowledges it"),
}


def events(path: Path) -> list[dict[str, Any]]:
    """Return a log's events."""
    lines = path.read_text().splitlines()
    return [json.loads(line) for line in lines if line.startswith("{")]


def trace(state: Path, method: str = "fit") -> list[tuple[int, str, str]]:
    """Return the steps of the last exchange of a method: milliseconds, who, what."""
    gateway = events(state / "events.jsonl")
    sent = [e for e in gateway if e["event"] == "command-sent" and e["method"] == method][-1]
    device = events(state / "simulated" / sent["device"] / "agent.log")
    found = [e for e in [*gateway, *device] if e.get("command") == sent["command"]]
    steps = sorted((e["at"], *STEPS[e["event"]]) for e in found if e["event"] in STEPS)
    return [(round((at - sent["at"]) * 1000), who, what) for at, who, what in steps]


def main() -> int:
    """Print a trace."""
    for milliseconds, who, what in trace(Path(sys.argv[1])):
        sys.stdout.write(f"{milliseconds:>6} ms  {who:<8} {what}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
