"""Data stays on the device: what stands in a device's folder is found nowhere else."""

import base64
import os
import re
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from processes import MOSQUITTO, Programs, until

SECRET = re.compile(rb"[0-9a-f]{48}")

pytestmark = pytest.mark.skipif(
    MOSQUITTO is None or not shutil.which("tcpdump") or os.geteuid() != 0,
    reason="needs mosquitto and tcpdump, and the right to capture traffic",
)


def forms(marker: str) -> list[bytes]:
    """Return how a marker could look on its way: plain, in base64 at any offset, as hex."""
    raw = marker.encode()
    coded = [base64.b64encode(b"x" * shift + raw)[4:-4] for shift in range(3)]
    return [raw, raw.hex().encode(), *(c[4:-4] for c in coded)]


def test_a_marker_in_each_devices_folder_is_found_nowhere_else(
    programs: Programs, tmp_path: Path
) -> None:
    example = Path(__file__).parents[2] / "examples" / "01-smartwatch"
    data = tmp_path / "data"
    prepare = ["python", str(example / "prepare.py"), "--out", str(data), "--devices", "3"]
    subprocess.run(prepare, check=True, capture_output=True)
    markers = [plant(data / f"{i:02}" / "recordings.npz") for i in range(3)]
    _, broker = programs.mosquitto()
    capture = tmp_path / "traffic.pcap"
    tcpdump = programs.start("tcpdump", "-i", "lo", "-U", "-w", str(capture), name="tcpdump")
    until(lambda: "listening on" in tcpdump.err, "the capture")
    for i in range(3):
        config = f"partition-id={i} num-partitions=3 data-dir='{data / f'{i:02}'}'"
        programs.agent(f"watch-{i}", broker, "--node-config", config)
    state = tmp_path / "state"
    run = programs.windflower(
        *("run", str(example), "--broker", broker, "--limit", "3", "--state", str(state)),
        *("-c", "num-server-rounds=2 min-nodes=3"),
        name="run",
    )
    assert 0 == run.wait(), run.err
    tcpdump.end()

    looked_at = list(everything_but(data, tmp_path))
    assert 10 <= len(looked_at)
    assert capture in looked_at
    # The capture is of this run: the model's arrays are in it, inline.
    assert b"num-examples" in capture.read_bytes()
    for path in looked_at:
        content = path.read_bytes()
        found = [m for m in markers for form in forms(m) if form in content]
        assert [] == found, path


def plant(recordings: Path) -> str:
    """Put a marker beside the recordings, where the app reads."""
    marker = secrets.token_hex(24)
    with np.load(recordings, allow_pickle=False) as archive:
        arrays = dict(archive)
    arrays["marker"] = np.frombuffer(marker.encode(), dtype=np.uint8)
    np.savez(recordings, **arrays)
    (recordings.parent / "marker.txt").write_text(marker)
    return marker


def everything_but(data: Path, folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and data not in path.parents:
            yield path
