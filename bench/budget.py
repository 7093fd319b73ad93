"""What a run holds, and how long executing it again takes, with and without a tight budget.

    bench/budget.py --n 10 --mb 5 --rounds 20 --gb 0.3

Two runs of the no-op app with one seed: one may keep every update, the other `--gb`. Both are then
executed once more on their journals by `windflower verify`, as a resumed run would be. Prints one
JSON line.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

APP = Path(__file__).parent / "app"
COMMAND = (sys.executable, "-m", "windflower.cli.main")


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=10)
    parser.add_argument("--mb", type=float, default=5.0)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--gb", type=float, default=0.3)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="wfb-") as name:
        roomy = measure(given, Path(name) / "roomy", gb=1000.0)
        tight = measure(given, Path(name) / "tight", gb=given.gb)
    same = roomy["hash"] == tight["hash"] == roomy["again"] == tight["again"]
    shown = {"n": given.n, "mb": given.mb, "rounds": given.rounds, "gb": given.gb}
    print(json.dumps({**shown, "same-bits": same, "roomy": roomy, "tight": tight}))


def measure(given: argparse.Namespace, state: Path, *, gb: float) -> dict[str, Any]:
    """Run the app, then execute it once more."""
    config = f"num-server-rounds={given.rounds} num-nodes={given.n} model-mb={given.mb}"
    config += f" stamp-file='{state.with_suffix('.stamps')}'"
    begun = time.monotonic()
    run = windflower(
        *("run", str(APP), "--state", str(state), "--devices", str(given.n), "--seed", "1"),
        *("--strict", "-c", config),
        WINDFLOWER_RESUME_GB=str(gb),
    )
    ran_s, begun = time.monotonic() - begun, time.monotonic()
    verdict = windflower("verify", run["run-id"], "--state", str(state))
    files = [path for path in (state / "blobs").rglob("*") if path.is_file()]
    return {
        "run_s": round(ran_s, 2),
        "again_s": round(time.monotonic() - begun, 2),
        "blobs_MB": round(sum(path.stat().st_size for path in files) / 1e6),
        "recalled": verdict["recalled-aggregates"],
        "hash": run["model-hash"],
        "again": verdict["recomputed-hash"],
    }


def windflower(*arguments: str, **environment: str) -> dict[str, Any]:
    """Call a command and return the JSON that it ends with."""
    quiet = {"FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1"}
    done = subprocess.run(
        [*COMMAND, *arguments, "--format", "json"],
        env={**os.environ, **quiet, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        check=True,
    )
    return dict(json.loads(done.stdout.splitlines()[-1]))


if __name__ == "__main__":
    main()
