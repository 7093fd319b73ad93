"""A fleet from Python: the same words as the command line, in a script or a notebook."""

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from processes import MOSQUITTO, Programs

import windflower
from windflower.errors import AppError, ConfigError, RunFailed

pytestmark = pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed")


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[windflower.Fleet]:
    with windflower.open_fleet(tmp_path / "state") as opened:
        yield opened


def test_a_run_from_begin_to_end(
    fleet: windflower.Fleet, programs: Programs, apps: Path, tmp_path: Path
) -> None:
    run = fleet.run(
        apps / "averaging",
        devices=3,
        seed=5,
        config={"num-server-rounds": 2, "text": "a 'b' \"c\""},
    )
    kinds = [event["event"] for event in run.events()]
    result = run.result()
    again = programs.windflower(
        *("run", str(apps / "averaging"), "--state", str(tmp_path / "other"), "--devices", "3"),
        *("--seed", "5", "--format", "json"),
        name="again",
    )
    assert 0 == again.wait(), again.err

    assert {"run-started", "phase-closed", "reply-accepted", "run-ended"} <= set(kinds)
    assert [] == list(run.events())
    assert (2, {"ok": 12, "failed": 0, "late": 0}) == (result.rounds, result.replies)
    assert {"weights", "bias"} == set(result.arrays)
    assert np.float32 == result.arrays["weights"].dtype
    assert again.last["model-hash"] == result.model_hash
    assert 12.0 <= result.metrics["train"]["rounds-seen"] * 6
    assert {"device-00", "device-01", "device-02"} == {d.device for d in fleet.devices()}


def test_two_runs_at_once_and_one_is_stopped(fleet: windflower.Fleet, apps: Path) -> None:
    pause = {"pause-file": str(apps / "averaging" / "pyproject.toml")}  # which is there for good
    held = fleet.run(apps / "averaging", devices=2, config=pause)
    next(event for event in held.events() if event["event"] == "phase-opened")
    with pytest.raises(TimeoutError):
        held.result(timeout_s=0.01)
    held.stop()

    with pytest.raises(RunFailed, match="stopped"):
        held.result()


def test_what_goes_wrong_is_an_exception_of_ours(fleet: windflower.Fleet, tmp_path: Path) -> None:
    with pytest.raises(AppError, match="no Flower app"):
        fleet.run(tmp_path).result()
    with pytest.raises(ConfigError, match="quorum takes"):
        fleet.run(tmp_path, quorum="many")
    with pytest.raises(ConfigError, match="there is no run"):
        fleet.publish("9-none")


async def test_a_notebook_has_a_loop_of_its_own(tmp_path: Path, apps: Path) -> None:
    assert asyncio.get_running_loop() is not None
    fleet = windflower.open_fleet(tmp_path / "state")
    result = fleet.run(apps / "averaging", devices=2, config={"num-server-rounds": 1}).result()
    fleet.close()
    fleet.close()
    with pytest.raises(ConfigError, match="closed"):
        fleet.run(apps / "averaging")

    assert 1 == result.rounds


def test_importing_us_imports_nearly_nothing(programs: Programs) -> None:
    code = "import sys, windflower; print(sorted(m for m in sys.modules if 'windflower' in m))"
    imported = programs.start(sys.executable, "-c", code, name="import")

    assert 0 == imported.wait()
    assert "['windflower']" == imported.out.strip()
