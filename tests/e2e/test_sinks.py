"""A run's measurements are in files when its gateway has ended; a sink that fails is said."""

import csv
from pathlib import Path

import pytest
from processes import MOSQUITTO, Programs, events, until

pytestmark = pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed")


def test_a_sink_that_fails_is_said_once_and_holds_nothing_up(
    programs: Programs, apps: Path, tmp_path: Path
) -> None:
    state, table = programs.folder / "state", tmp_path / "measured.csv"
    served = programs.windflower(
        *("serve", "--state", str(state), "--format", "json"),
        name="serve",
        WINDFLOWER_SINKS=f"csv:{table} tensorboard:{tmp_path / 'board'} jsonl:/dev/full",
    )
    until(lambda: served.out, "the gateway")
    run = programs.windflower(
        *("run", str(apps / "averaging"), "--state", str(state), "--devices", "2"),
        *("-c", "num-server-rounds=2", "--format", "json"),
        name="run",
    )
    assert 0 == run.wait(), run.err
    served.end()
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    measured = [
        (e["stage"], name, str(e["round"]), str(value))
        for e in events(state, "round-measured")
        for name, value in e["metrics"].items()
    ]

    assert measured
    assert measured == [
        (row["stage"], row["name"], row["step"], row["value"])
        for row in rows
        if not row["name"].startswith("replies-")
    ]
    asked = sum(2 for _ in events(state, "phase-closed"))
    assert asked == sum(float(r["value"]) for r in rows if r["name"].startswith("replies-"))
    assert [run.last["run-id"]] == [folder.name for folder in (tmp_path / "board").iterdir()]
    (failed,) = events(state, "sink-failed")
    assert ("jsonl:/dev/full", True) == (failed["sink"], "No space left" in failed["reason"])
