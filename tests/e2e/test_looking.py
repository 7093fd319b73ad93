"""What a person sees of runs and devices from the command line, meanwhile and later."""

import signal
from pathlib import Path

import pytest
from processes import MOSQUITTO, Program, Programs, events, until

pytestmark = pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed")


@pytest.fixture
def state(programs: Programs) -> Path:
    """The state folder of a gateway with two devices, one of which fails."""
    folder = programs.folder / "state"
    served = programs.windflower("serve", "--state", str(folder), "--format", "json", name="serve")
    until(lambda: served.out, "the gateway")
    for number in range(2):
        programs.agent(
            *(f"d{number}", served.last["broker"], "--label", f"hall={number}"),
            *("--node-config", f"partition-id={number} num-partitions=2"),
        )
    until(lambda: len(events(folder, "device-heard")) == 2, "the devices")
    return folder


def call(programs: Programs, state: Path, *arguments: str, name: str = "call") -> Program:
    return programs.windflower(*arguments, "--state", str(state), name=name)


def test_a_run_is_followed_and_looked_at_later(
    programs: Programs, apps: Path, state: Path, tmp_path: Path
) -> None:
    pause = tmp_path / "pause"
    pause.touch()
    config = f"num-server-rounds=1 fails-on=1 pause-file='{pause}'"
    run = call(
        programs, state, "run", str(apps / "averaging"), "--limit", "2", "-c", config, name="run"
    )
    until(lambda: events(state, "phase-opened"), "the phase")
    (started,) = events(state, "run-started")
    followed = call(programs, state, "logs", started["run"], "--stream", name="followed")
    until(lambda: "train: asked 2 devices" in followed.out, "the first lines")
    left = call(programs, state, "logs", started["run"], "--stream", name="left")
    until(lambda: "train: asked 2 devices" in left.out, "the first lines")
    left.process.send_signal(signal.SIGINT)
    assert 130 == left.wait()
    pause.unlink()
    assert [0, 0] == [run.wait(), followed.wait()]
    later = call(programs, state, "logs", started["run"], name="later")
    assert 0 == later.wait()
    shown = call(programs, state, "devices", "show", "d1", "--format", "json", name="shown")
    assert 0 == shown.wait(), shown.err
    people = call(programs, state, "devices", "show", "d1", name="people")
    assert 0 == people.wait()
    listed = [call(programs, state, *words, name="ls") for words in (["runs"], ["runs", "ls"])]
    assert [0, 0] == [program.wait() for program in listed]

    assert set(followed.out.splitlines()) == set(later.out.splitlines())
    assert "d1 failed: " in later.out
    device = shown.last
    assert ({"hall": "1"}, True) == (device["labels"], device["online"])
    assert {"ok": 1, "failed": 1} == device["answers"]
    assert "ValueError: device 1 was told to fail" in device["failures"][0]["reason"]
    assert "label  hall = 1" in people.out
    assert "told   1 failed, 1 ok" in people.out
    assert "ValueError: device 1 was told to fail" in people.out
    assert listed[0].out == listed[1].out
    assert started["run"] in listed[0].out


def test_who_is_not_there_is_said(programs: Programs, state: Path) -> None:
    for words, said in {
        ("devices", "show", "d7"): "no device d7 was heard",
        ("logs", "9-none"): "there is no run 9-none",
        ("runs", "show", "9-none"): "there is no run 9-none",
        ("runs", "stop", "9-none"): "there is no run 9-none",
    }.items():
        program = call(programs, state, *words, name=f"refused-{words[0]}-{words[1]}")
        assert 78 == program.wait()
        assert said in program.err
        assert 1 == len(program.err.splitlines())
