"""What is written down for people holds nothing by which a stranger could act or read data."""

import json
from pathlib import Path

import pytest
from processes import MOSQUITTO, Programs

pytestmark = pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed")

SECRET = ("&s=", "?n=", "/get/", "/put/", "Signature=", '"inline"', '"sig"')
"""Of a URL that lets its reader fetch or store, of arrays within a message, of a seal."""

LINE_BYTES = 4_000


def test_no_event_and_no_log_holds_a_signed_url_or_a_payload(
    programs: Programs, apps: Path, tmp_path: Path
) -> None:
    state = tmp_path / "state"
    run = programs.windflower(
        *("run", str(apps / "averaging"), "--state", str(state), "--devices", "3"),
        *("-c", "num-server-rounds=2 numbers=50000 fails-on=1", "--format", "json"),
        name="run",
    )
    assert 0 == run.wait(), run.err
    written = [*state.rglob("*.jsonl"), *state.rglob("*.log")]
    kinds = [
        json.loads(line)["event"]
        for file in written
        for line in file.read_text().splitlines()
        if line.startswith('{"')
    ]
    told = run.out + run.err + "".join(file.read_text() for file in written)

    assert {"fetch-started", "upload-started", "command-progressed", "reply-accepted"} <= {*kinds}
    assert [] == [mark for mark in SECRET if mark in told]
    assert LINE_BYTES > max(len(line) for file in written for line in file.read_text().splitlines())
