"""Keeps finished runs as text: `PYTHONPATH=src python tests/golden/make.py NAME` writes a folder.

Once written, a folder stays as it is: every later release must read it and come to the same bits.
"""

import json
import sqlite3
import subprocess
import sys
import tempfile
from base64 import b64encode
from pathlib import Path

HERE = Path(__file__).parent
APPS = HERE.parents[0] / "apps"
RUNS = {
    "message-api": ("strategies", "strategy='FedAdam'"),
    "legacy": ("legacy", "num-server-rounds=2"),
    "push-pull": ("mixing", "num-server-rounds=2"),
}


def dump(database: Path) -> list[str]:
    """Return a database as SQL, its format's number included."""
    with sqlite3.connect(database) as connection:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        return [f"PRAGMA user_version={version};", *connection.iterdump()]


def keep(name: str, folder: Path) -> None:
    """Run an app and keep what its gateway kept."""
    app, config = RUNS[name]
    with tempfile.TemporaryDirectory() as state:
        command = [sys.executable, "-m", "windflower.cli.main", "run", str(APPS / app)]
        command += ["--state", state, "--devices", "4", "--seed", "11", "--strict"]
        command += ["-c", config, "--format", "json"]
        done = subprocess.run(command, capture_output=True, check=True)
        answer = json.loads(done.stdout.splitlines()[-1])
        blobs = Path(state) / "blobs"
        files = [path for path in sorted(blobs.glob("??/*")) if path.is_file()]
        kept = {
            "run": answer["run-id"],
            "model-hash": answer["model-hash"],
            "journal": dump(Path(state) / "journal.db"),
            "small": dump(blobs / "small.db"),
            "files": {
                str(path.relative_to(blobs)): b64encode(path.read_bytes()).decode()
                for path in files
            },
        }
    folder.mkdir(exist_ok=True)
    text = json.dumps(kept, indent=1).replace(state, "/state").replace(str(APPS), "/apps")
    (folder / f"{name}.json").write_text(text + "\n")


if __name__ == "__main__":
    for run in RUNS:
        keep(run, HERE / sys.argv[1])
