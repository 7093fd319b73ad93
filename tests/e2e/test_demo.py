"""The demo: two words, and what a person is told is true."""

import os
import re
import signal
from pathlib import Path

import pytest
from processes import MOSQUITTO, Program, Programs, events, until

KEYS = [
    "success",
    "run-id",
    "rounds",
    "accuracy",
    "accuracy-new-wearer",
    "loss",
    "devices",
    "replies",
    "seconds",
    "broker",
    "model-hash",
    "model-file",
]


def demo(
    programs: Programs, name: str, *arguments: str, deadline_s: float = 60, **environment: str
) -> Program:
    state = str(programs.folder / "state")
    program = programs.windflower(
        "demo", "--state", state, "--format", "json", *arguments, name=name, **environment
    )
    assert 0 == program.wait(deadline_s=deadline_s), program.err
    return program


@pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed")
def test_ten_watches_learn_together_and_the_same_seed_gives_the_same_model(
    programs: Programs,
) -> None:
    first = demo(programs, "first").last
    second = demo(programs, "second").last
    other = demo(programs, "other", "--seed", "2").last

    assert KEYS == list(first)
    assert 0.87 <= first["accuracy"] <= 1
    assert 0.80 <= first["accuracy-new-wearer"] <= 1
    assert (True, 20, 10, "mosquitto") == (
        first["success"],
        first["rounds"],
        first["devices"],
        first["broker"],
    )
    assert {"ok": 10 + 20 * (9 + 10), "failed": 0, "late": 0} == first["replies"]
    assert first["run-id"] != second["run-id"]
    assert first["model-hash"] == second["model-hash"] != other["model-hash"]


@pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed")
def test_everything_is_killed_and_the_model_is_the_same(programs: Programs) -> None:
    disturbed = demo(programs, "chaos", "--chaos", "--rounds", "8", deadline_s=150).last
    state = programs.folder / "state"
    killed = events(state, "killed")

    assert [*KEYS, "undisturbed-hash", "kills"] == list(disturbed)
    assert disturbed["success"]
    assert disturbed["undisturbed-hash"] == disturbed["model-hash"]
    assert Path(disturbed["model-file"]).is_file()
    assert {"device", "broker", "gateway", "run"} == {k for k, n in disturbed["kills"].items() if n}
    assert sum(disturbed["kills"].values()) == len({line["pid"] for line in killed})
    assert {"ok": 10 + 8 * (9 + 10), "failed": 0, "late": 0} == disturbed["replies"]


def test_every_place_comes_to_the_same_bits(programs: Programs) -> None:
    local = demo(programs, "local", "--rounds", "3").last
    memory = demo(programs, "memory", "--rounds", "3", "--place", "memory").last
    # Where there is no mosquitto on PATH, the broker from PyPI serves.
    bare = demo(programs, "iotcore", "--rounds", "3", PATH="")

    assert 1 == len({local["model-hash"], memory["model-hash"], bare.last["model-hash"]})
    assert ("memory", "iotcore") == (memory["broker"], bare.last["broker"])


def test_devices_of_an_earlier_run_are_not_waited_for(programs: Programs, apps: Path) -> None:
    state = str(programs.folder / "state")
    earlier = programs.windflower(
        *("run", str(apps / "averaging"), "--devices", "2", "--state", state),
        *("-c", "num-server-rounds=1"),
        name="earlier",
    )
    assert 0 == earlier.wait(), earlier.err
    answer = demo(programs, "demo", "--rounds", "1").last

    assert {"ok": 29, "failed": 0, "late": 0} == answer["replies"]


def test_the_last_lines_are_for_a_person(programs: Programs) -> None:
    state = str(programs.folder / "state")
    program = programs.windflower("demo", "--rounds", "2", "--state", state, name="demo")
    assert 0 == program.wait(), program.err
    lines = program.out.splitlines()

    assert lines[0].startswith("10 devices, 2 rounds in ")
    assert lines[0].endswith("48 replies ok, 0 failed, 0 late.")
    assert "right." in lines[1]
    assert "a new wearer" in lines[2]
    assert "round 2/2: accuracy" in program.err


def test_what_the_demo_leaves_behind_outlives_it(programs: Programs) -> None:
    answer = demo(programs, "demo", "--rounds", "1").last
    state = programs.folder / "state"
    kinds = {line["event"] for line in events(state)}

    assert Path(answer["model-file"]).is_file()
    assert (state / "journal.db").is_file()
    assert {"gateway-started", "device-heard", "run-started", "run-ended"} <= kinds
    assert {"phase-opened", "command-sent", "reply-accepted", "round-measured"} <= kinds
    assert not (state / "gateway.json").exists()


def test_a_demo_that_stays_wants_a_fleet_of_its_own(programs: Programs, tmp_path: Path) -> None:
    state = str(tmp_path / "state")
    gateway = programs.windflower("serve", "--state", state, "--format", "json", name="serve")
    until(lambda: gateway.out, "the gateway")
    program = programs.windflower("demo", "--stay", "--state", state, name="stay")

    assert 78 == program.wait()
    assert "already: end it, or give another --state" in program.err


def test_a_demo_that_stays_goes_on_until_it_is_stopped(programs: Programs, tmp_path: Path) -> None:
    state = tmp_path / "state"
    program = programs.windflower(
        *("demo", "--stay", "--devices", "3", "--state", str(state)), name="stay"
    )
    until(lambda: "round 2:" in program.err, "two rounds")
    pid = int(program.err.split("kill -9 ")[1].split(".")[0])
    os.kill(pid, signal.SIGKILL)
    until(lambda: "is lost: not heard since" in program.err, "the loss")

    assert 0 == program.end()
    assert "page http://127.0.0.1:" in program.err
    assert re.search(r"Stopped after \d+ rounds", program.err)
