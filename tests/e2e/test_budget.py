"""A real run that may hold little lets go of updates, is killed, goes on, and can be verified."""

import os
import signal
from pathlib import Path

import pytest
from processes import MOSQUITTO, Program, Programs, children_of, events, until

pytestmark = pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed")

LITTLE = {"WINDFLOWER_RESUME_GB": "0.0018"}
"""Twenty-four updates of 80 KB: three rounds, and what is made of each."""


def start_run(programs: Programs, apps: Path, state: Path, **environment: str) -> Program:
    return programs.windflower(
        *("run", str(apps / "strategies"), "--state", str(state), "--format", "json"),
        *("--devices", "5", "--seed", "3", "--strict"),
        *("-c", "strategy='FedAvgM' weights=20000 num-server-rounds=8"),
        name=state.name,
        **environment,
    )


def test_a_run_that_may_hold_little_is_killed_goes_on_and_is_verified(
    programs: Programs, apps: Path, tmp_path: Path
) -> None:
    calm, state = start_run(programs, apps, tmp_path / "calm"), tmp_path / "little"
    assert 0 == calm.wait(), calm.err
    run = start_run(programs, apps, state, **LITTLE)
    until(lambda: events(state, "updates-dropped"), "updates to go")
    processes = [p for p in children_of(run.process.pid) if is_run_process(p)]
    for process in processes:
        os.kill(process, signal.SIGKILL)
    assert 0 == run.wait(), run.err
    verdict = programs.windflower(
        *("verify", run.last["run-id"], "--state", str(state), "--format", "json"), name="verify"
    )
    assert 0 == verdict.wait(), verdict.err

    assert 1 == len(processes) == len(events(state, "run-resumed"))
    assert calm.last["model-hash"] == run.last["model-hash"] == verdict.last["recomputed-hash"]
    assert {"ok": 80, "failed": 0, "late": 0} == run.last["replies"]
    assert {True} == {line["is_resumable"] for line in events(state, "updates-dropped")}
    assert 1 <= verdict.last["recalled-aggregates"]


def is_run_process(process: int) -> bool:
    return b"run_process" in Path(f"/proc/{process}/cmdline").read_bytes()
