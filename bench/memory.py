"""Measures what a device's processes keep in memory: the agent alone, and with its warm worker.

    bench/memory.py

A real agent against a real broker answers two rounds of a small app; resident memory (RSS) and what
is not shared with others (USS) are read from /proc. Prints one JSON line.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def memory_mb(pid: int) -> dict[str, float]:
    """Return a process's resident and private memory."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    kilobytes = {line.split(":")[0]: int(line.split()[1]) for line in rollup[1:]}
    private = kilobytes["Private_Clean"] + kilobytes["Private_Dirty"]
    return {"rss": round(kilobytes["Rss"] / 1024, 1), "uss": round(private / 1024, 1)}


def children(pid: int) -> list[int]:
    """Return the processes that a process started."""
    return [int(c) for c in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def main() -> None:
    """Start a gateway and two agents, run the app, and look."""
    environment = {**os.environ, "FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1"}
    with tempfile.TemporaryDirectory(prefix="wfm-") as name:
        folder = Path(name)
        state = str(folder / "state")
        quiet = subprocess.DEVNULL
        command = [sys.executable, "-m", "windflower.cli.main"]
        gateway = subprocess.Popen(
            [*command, "serve", "--state", state], env=environment, stdout=quiet, stderr=quiet
        )
        card = folder / "state" / "gateway.json"
        while not card.exists():
            time.sleep(0.05)
        broker = json.loads(card.read_text())["broker"]
        agents = [
            subprocess.Popen(
                [
                    *(*command, "agent", "--broker", broker, "--device-id", f"d{i}"),
                    *("--state", str(folder / f"d{i}")),
                    *("--node-config", f"partition-id={i} num-partitions=2"),
                ],
                env=environment,
                stdout=quiet,
                stderr=quiet,
            )
            for i in range(2)
        ]
        time.sleep(2)
        result = {"agent_idle_MB": memory_mb(agents[0].pid)}
        app = str(ROOT / "tests" / "apps" / "averaging")
        run = [*command, "run", app, "--state", state, "--limit", "2"]
        subprocess.run(run, env=environment, check=True, stdout=quiet, stderr=quiet)
        (worker,) = children(agents[0].pid)
        result["agent_after_work_MB"] = memory_mb(agents[0].pid)
        result["worker_warm_MB"] = memory_mb(worker)
        result["gateway_MB"] = memory_mb(gateway.pid)
        for process in (*agents, gateway):
            process.terminate()
            process.wait()
    print(json.dumps(result))


if __name__ == "__main__":
    main()
