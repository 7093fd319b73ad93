"""Noise for privacy comes from secrets of the operating system, which go with their run."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from processes import MOSQUITTO, Program, Programs, until

pytestmark = pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed")


def rows(database: Path, query: str) -> list[Any]:
    if not database.exists():
        return []
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        try:
            return [row[0] for row in connection.execute(query)]
        except sqlite3.OperationalError:  # it is just being made
            return []


def start_run(programs: Programs, apps: Path, name: str, *arguments: str) -> Program:
    return programs.windflower(
        *("run", str(apps / "noisy"), "--state", str(programs.folder / "state")),
        *("--devices", "3", "--format", "json", *arguments),
        name=name,
    )


def everything_kept(folder: Path) -> bytes:
    return b"\n".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


def test_two_runs_draw_other_noise_and_nothing_that_is_kept_reveals_it(
    programs: Programs, apps: Path, tmp_path: Path
) -> None:
    state = tmp_path / "state"
    served = programs.windflower("serve", "--state", str(state), "--format", "json", name="serve")
    until(lambda: served.out, "the gateway")
    crew = programs.windflower(
        *("agent", "--broker", served.last["broker"], "--gateway-key", served.last["key"]),
        *("--device-id", "crew", "--crew", "3", "--interval", "0.5"),
        *("--state", str(tmp_path / "crew-state")),
        name="crew",
    )
    both = "strategy='DPServerFixed' num-server-rounds=3"
    first = start_run(programs, apps, "first", "--devices", "0", "--limit", "3", "-c", both)
    device = tmp_path / "crew-state" / "device.db"
    secrets = until(lambda: rows(device, "SELECT secret FROM secrets"), "secrets of the devices")
    records = until(
        lambda: rows(state / "journal.db", "SELECT record FROM runs WHERE state = 'open'"), "a run"
    )
    seed = json.loads(records[0])["seed"]
    assert 0 == first.wait(), first.err
    second = start_run(programs, apps, "second", "--devices", "0", "--limit", "3", "-c", both)
    assert 0 == second.wait(), second.err
    until(lambda: not rows(device, "SELECT secret FROM secrets"), "the devices to forget")
    kept = everything_kept(tmp_path)

    assert first.last["model-hash"] != second.last["model-hash"]
    assert 2**200 < int(seed)
    assert seed.encode() not in kept
    assert [] == [secret for secret in secrets if secret.encode() in kept]
    assert crew.process.poll() is None
    refused = programs.windflower("verify", first.last["run-id"], "--state", str(state), name="v")
    assert 78 == refused.wait()
    assert "its seed was deleted" in refused.err


def test_a_seed_is_refused_where_noise_protects_somebody(programs: Programs, apps: Path) -> None:
    run = start_run(programs, apps, "run", "--seed", "3")

    assert 78 == run.wait()
    assert "draws noise for privacy (LocalDpMod)" in run.err
