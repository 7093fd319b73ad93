"""Times a train round of a no-op app over a real broker, everything durable and verified.

    bench/round.py --n 10 --mb 0.1 [--layers 8] [--rounds 12]

The devices are a crew in one process (`windflower agent --crew N`), with two warm workers: their
own cost is on the same cores as the gateway's. Runs in a network namespace of its own where it may,
so that loopback's byte counter is only ours. Prints one JSON line; the first round (bundle,
imports) is reported apart.
"""

import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROLES = {
    "mosquitto": "mosquitto",
    "cli.main serve": "gateway",
    "windflower.agent": "devices",
    "flower.nursery": "workers",
    "flower.run_process": "run",
    "cli.main run": "command",
}
TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


class Sampler(threading.Thread):
    """Adds up processor time and memory of our processes, by role."""

    def __init__(self, root: int) -> None:
        super().__init__(daemon=True)
        self._root = root
        self._seen: dict[int, tuple[str, float]] = {}
        self.peak: dict[str, int] = {}
        self.peak_total = 0
        self.most_processes = 0
        self._stop = threading.Event()

    def run(self) -> None:
        """Look ten times a second until told to stop."""
        while not self._stop.wait(0.1):
            self.look()

    def stop(self) -> None:
        """Stop looking."""
        self._stop.set()

    def look(self) -> dict[str, float]:
        """Return the processor seconds so far, by role."""
        memory: dict[str, int] = {}
        pids = list(tree(self._root))
        for pid in pids:
            with suppress(OSError, IndexError, ValueError):
                role = role_of(pid)
                stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                seconds = (int(stat[11]) + int(stat[12])) / TICKS
                self._seen[pid] = (role, seconds)
                memory[role] = memory.get(role, 0) + int(stat[21]) * PAGE
        for role, size in memory.items():
            self.peak[role] = max(self.peak.get(role, 0), size)
        self.peak_total = max(self.peak_total, sum(memory.values()))
        self.most_processes = max(self.most_processes, len(pids))
        total: dict[str, float] = {}
        for role, seconds in self._seen.values():
            total[role] = total.get(role, 0.0) + seconds
        return total


def tree(pid: int) -> Any:  # noqa: ANN401 - a generator of ints
    """Yield the processes below one, directly or not."""
    with suppress(OSError):
        for child in map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()):
            yield child
            yield from tree(child)


def role_of(pid: int) -> str:
    """Return what a process is, by its command line."""
    command = Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    return next((role for part, role in ROLES.items() if part in command), "other")


def loopback_bytes() -> int:
    """Return what crossed loopback so far."""
    for line in Path("/proc/net/dev").read_text().splitlines():
        if line.strip().startswith("lo:"):
            return int(line.split(":")[1].split()[8])
    return 0


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=10)
    parser.add_argument("--mb", type=float, default=0.1)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--limit", type=float, default=300)
    given = parser.parse_args()
    enter_network_namespace()
    with tempfile.TemporaryDirectory(prefix="wfb-") as name:
        print(json.dumps(measure(given, Path(name))), flush=True)


def enter_network_namespace() -> None:
    """Execute this program again inside a network namespace, if we may make one."""
    if os.environ.get("BENCH_NAMESPACE") or os.geteuid() != 0 or not shutil.which("unshare"):
        return
    environment = {**os.environ, "BENCH_NAMESPACE": "1"}
    command = ["unshare", "-n", "sh", "-c", 'ip link set lo up; exec "$@"', "sh", sys.executable]
    os.execvpe("unshare", [*command, *sys.argv], environment)  # noqa: S606, S607


def measure(given: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Start a gateway, a crew and the run; time its rounds by the app's own stamps."""
    state, stamps = folder / "state", folder / "stamps.jsonl"
    environment = {**os.environ, "FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1"}
    children: list[subprocess.Popen[bytes]] = []
    begun = time.time()

    def start(*arguments: str) -> subprocess.Popen[bytes]:
        log = (folder / "log").open("ab")
        command = [sys.executable, "-m", *arguments]
        child = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        children.append(child)
        return child

    sampler = Sampler(os.getpid())
    sampler.start()
    try:
        start("windflower.cli.main", "serve", "--state", str(state))
        card = json.loads(wait_for(state / "gateway.json"))
        environment |= {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        start("windflower.flower.nursery", str(folder / "nursery.sock"))
        wait_for(folder / "nursery.sock", read=False)
        start(
            *("windflower.agent", "--broker", card["broker"], "--device-id", "crew"),
            *("--crew", str(given.n), "--state", str(folder / "crew"), "--interval", "30"),
            *("--nursery", str(folder / "nursery.sock"), "--gateway-key", card["key"]),
        )
        config = f"num-server-rounds={given.rounds} num-nodes={given.n} model-mb={given.mb}"
        config += f" layers={given.layers} stamp-file='{stamps}'"
        run = start(
            *("windflower.cli.main", "run", str(HERE / "app"), "--state", str(state)),
            *("--devices", "0", "--limit", str(given.n), "-c", config, "--strict"),
        )
        marks = follow(stamps, sampler, run, begun + given.limit)
        return report(given, marks, sampler, time.time() - begun, folder)
    finally:
        sampler.stop()
        for child in reversed(children):
            child.send_signal(signal.SIGTERM)
        for child in children:
            with suppress(subprocess.TimeoutExpired):
                child.wait(10)
            child.kill()


def wait_for(path: Path, *, read: bool = True) -> str:
    """Wait until a file is there."""
    for _ in range(600):
        if path.exists():
            return path.read_text() if read else ""
        time.sleep(0.05)
    raise TimeoutError(f"{path.name} did not appear within 30 s")


def follow(
    stamps: Path, sampler: Sampler, run: subprocess.Popen[bytes], limit: float
) -> list[dict[str, Any]]:
    """Read the app's stamps as they come, with what was spent by then."""
    marks: list[dict[str, Any]] = []
    while time.time() < limit:
        lines = stamps.read_text().splitlines() if stamps.exists() else []
        for line in lines[len(marks) :]:
            mark = json.loads(line)
            if mark["ev"] in ("start", "done"):
                mark |= {"bytes": loopback_bytes(), "cpu": sampler.look()}
            marks.append(mark)
        if (marks and marks[-1]["ev"] == "done") or run.poll() is not None:
            return marks
        time.sleep(0.01)
    return marks


def report(
    given: argparse.Namespace,
    marks: list[dict[str, Any]],
    sampler: Sampler,
    wall: float,
    folder: Path,
) -> dict[str, Any]:
    """Make the line, with the keys of Flower's counterpart."""
    result: dict[str, Any] = {
        "peer": "windflower",
        "mode": "crew",
        "n": given.n,
        "mb": given.mb,
        "layers": given.layers,
        "load": os.getloadavg()[0],
    }
    at = {(mark["ev"], mark["round"]): mark for mark in marks}
    rounds = [k for k in range(2, given.rounds + 1) if ("end", k) in at]
    if not rounds:
        log = (folder / "log").read_text().splitlines()[-5:]
        return {**result, "error": "no round was finished", "log": log}

    def median(first: str, last: str) -> float:
        spans = [at[last, k]["t"] - at[first, k]["t"] for k in rounds]
        return round(float(statistics.median(spans)), 4)

    spent = [mark for mark in marks if "bytes" in mark]
    counted = spent[1:]  # from the start of the second round
    sent = (counted[-1]["bytes"] - counted[0]["bytes"]) / (len(counted) - 1)
    cpu = {
        role: round((seconds - counted[0]["cpu"].get(role, 0.0)) / (len(counted) - 1), 3)
        for role, seconds in counted[-1]["cpu"].items()
    }
    return {
        **result,
        "rounds_timed": len(rounds),
        "first_round_s": round(at["end", 1]["t"] - at["start", 1]["t"], 3),
        "round_s": median("start", "end"),
        "all_rounds_s": [round(at["end", k]["t"] - at["start", k]["t"], 3) for k in rounds],
        "configure_s": median("start", "configured"),
        "send_recv_s": median("configured", "replies"),
        "aggregate_s": median("replies", "end"),
        "replies": at["replies", rounds[-1]]["n"],
        "errors": sum(mark.get("errors", 0) for mark in marks),
        "lo_MB_per_round": round(sent / 1e6, 2),
        "lo_bytes_over_model": round(sent / (given.mb * 1e6), 2),
        "cpu_s_per_round": {role: value for role, value in cpu.items() if value > 0},
        "peak_rss_MB": {role: round(size / 1e6) for role, size in sampler.peak.items()},
        "peak_rss_total_MB": round(sampler.peak_total / 1e6),
        "max_procs": sampler.most_processes,
        "wall_total_s": round(wall, 1),
    }


if __name__ == "__main__":
    main()
