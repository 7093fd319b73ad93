"""A gateway that stays, with several runs and many devices."""

import json
import os
import signal
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from processes import MOSQUITTO, Program, Programs, children_of, events, until

SMARTWATCH = Path(__file__).parents[2] / "examples" / "01-smartwatch"

pytestmark = pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed")


@pytest.fixture
def gateway(programs: Programs, tmp_path: Path) -> Program:
    state = str(tmp_path / "state")
    served = programs.windflower("serve", "--state", state, "--format", "json", name="serve")
    until(lambda: served.out, "the gateway")
    return served


def crew(programs: Programs, gateway: Program, count: int, *arguments: str) -> Program:
    card = gateway.last
    state = str(programs.folder / "crew-state")
    return programs.windflower(
        *("agent", "--broker", card["broker"], "--gateway-key", card["key"]),
        *("--device-id", "crew", "--crew", str(count), "--state", state, *arguments),
        name="crew",
    )


def listed(programs: Programs, *arguments: str) -> list[dict[str, Any]]:
    state = str(programs.folder / "state")
    program = programs.windflower(
        "devices", "ls", "--state", state, "--format", "json", *arguments, name="ls"
    )
    assert 0 == program.wait(), program.err
    return list(program.last["devices"])


def test_a_crew_of_a_thousand_devices_starts_in_one_process(
    programs: Programs, gateway: Program, apps: Path, tmp_path: Path
) -> None:
    started = crew(programs, gateway, 1000)
    state = tmp_path / "state"
    until(lambda: len(events(state, "device-heard")) == 1000, "a thousand devices")
    run = programs.windflower(
        *("run", str(apps / "averaging"), "--state", str(state), "--format", "json"),
        *("--limit", "1000", "-c", "num-server-rounds=1 numbers=10 fraction=0.02"),
        name="run",
    )

    assert 0 == run.wait(deadline_s=120), run.err
    assert {"ok": 40, "failed": 0, "late": 0} == run.last["replies"]
    assert started.process.poll() is None
    assert 0 == started.end()


def test_each_device_of_a_crew_has_a_folder_of_its_own(
    programs: Programs, gateway: Program, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    prepare = [str(SMARTWATCH / "prepare.py"), "--out", str(data), "--devices", "3"]
    assert 0 == programs.start(sys.executable, *prepare, name="prepare").wait()
    (data / "01" / "recordings.npz").unlink()
    crew(programs, gateway, 3, "--node-config", f"data-dir='{data}/{{number}}'")
    state = tmp_path / "state"
    until(lambda: len(events(state, "device-heard")) == 3, "three devices")
    run = programs.windflower(
        *("run", str(SMARTWATCH), "--state", str(state), "--format", "json"),
        *("--limit", "3", "-c", "num-server-rounds=1 new-wearer=false"),
        name="run",
    )

    assert 0 == run.wait(), run.err
    failed = {e["device"]: e["reason"] for e in events(state, "reply-failed")}
    assert {"crew-0001"} == set(failed)
    assert f"no recordings.npz in {data}/01" in failed["crew-0001"]


def test_runs_at_the_same_time_never_see_each_others_replies(
    programs: Programs, gateway: Program, apps: Path, tmp_path: Path
) -> None:
    crew(programs, gateway, 4)
    state = tmp_path / "state"

    def run(seed: int, name: str) -> Program:
        return programs.windflower(
            *("run", str(apps / "averaging"), "--state", str(state), "--format", "json"),
            *("--limit", "4", "--seed", str(seed), "--strict", "-c", "num-server-rounds=6"),
            name=name,
        )

    together = [run(1, "first"), run(2, "second")]
    assert [0, 0] == [program.wait() for program in together]
    alone = [run(1, "first-alone"), run(2, "second-alone")]
    assert [0, 0] == [program.wait() for program in alone]

    hashes = [program.last["model-hash"] for program in together]
    assert 2 == len(set(hashes))
    assert hashes == [program.last["model-hash"] for program in alone]
    spans = {
        program.last["run-id"]: [e["at"] for e in events(state) if e.get("run") == id_]
        for program, id_ in ((p, p.last["run-id"]) for p in together)
    }
    (a, b) = spans.values()
    assert max(a[0], b[0]) < min(a[-1], b[-1])  # they did overlap


@pytest.fixture
def held_run(programs: Programs, gateway: Program, apps: Path, tmp_path: Path) -> Program:
    """A run whose two devices work until the file `pause` is gone."""
    pause = tmp_path / "pause"
    pause.touch()
    devices = crew(programs, gateway, 2)
    run = programs.windflower(
        *("run", str(apps / "averaging"), "--state", str(tmp_path / "state"), "--limit", "2"),
        *("-c", f"pause-file='{pause}'", "--seed", "4", "--strict", "--format", "json"),
        name="run",
    )
    until(lambda: devices.err.count("work-started") == 2, "the devices to work")
    return run


def small_run(programs: Programs, apps: Path, name: str) -> Program:
    return programs.windflower(
        *("run", str(apps / "averaging"), "--state", str(programs.folder / "state")),
        *("--limit", "2", "--seed", "4", "--strict", "--format", "json"),
        name=name,
    )


def how_it_ended(state: Path) -> list[tuple[bool, str]]:
    ended = until(lambda: events(state, "run-ended"), "the end of the run")
    return [(event["success"], event["reason"]) for event in ended]


def test_a_run_that_a_person_stops_is_over_for_the_devices_too(
    programs: Programs, held_run: Program, apps: Path, tmp_path: Path
) -> None:
    held_run.process.send_signal(signal.SIGINT)
    assert 130 == held_run.wait()
    assert [(False, "a person stopped it")] == how_it_ended(tmp_path / "state")

    again = small_run(programs, apps, "again")
    assert 0 == again.wait(), again.err


def undisturbed_hash(programs: Programs, apps: Path) -> str:
    run = small_run(programs, apps, "undisturbed")
    assert 0 == run.wait(), run.err
    return str(run.last["model-hash"])


def test_a_run_whose_process_was_killed_is_begun_again_and_ends_with_the_same_bits(
    programs: Programs, held_run: Program, apps: Path, tmp_path: Path
) -> None:
    (process,) = children_of(held_run.process.pid)
    os.kill(process, signal.SIGKILL)
    until(lambda: events(tmp_path / "state", "run-resumed"), "the run to begin again")
    (tmp_path / "pause").unlink()

    assert 0 == held_run.wait(), held_run.err
    assert undisturbed_hash(programs, apps) == held_run.last["model-hash"]
    assert {"ok": 8, "failed": 0, "late": 0} == held_run.last["replies"]


def test_a_gateway_that_was_killed_and_started_again_goes_on_with_its_runs(
    programs: Programs, gateway: Program, held_run: Program, apps: Path, tmp_path: Path
) -> None:
    state = tmp_path / "state"
    gateway.kill()
    (tmp_path / "pause").unlink()  # the devices answer while nobody hears them
    until(lambda: "the gateway is gone" in held_run.err, "the run to notice")
    programs.windflower("serve", "--state", str(state), "--format", "json", name="again")

    assert 0 == held_run.wait(), held_run.err
    assert undisturbed_hash(programs, apps) == held_run.last["model-hash"]
    assert 1 <= len(events(state, "run-resumed"))


def test_a_run_that_was_killed_with_all_that_followed_it_is_resumed_by_hand(
    programs: Programs, held_run: Program, apps: Path, tmp_path: Path
) -> None:
    state = tmp_path / "state"
    (run,) = {e["run"] for e in events(state, "run-started")}
    held_run.kill()
    until(lambda: events(state, "run-suspended"), "the gateway to notice")
    (tmp_path / "pause").unlink()
    resumed = programs.windflower(
        "run", "--resume", run, "--state", str(state), "--format", "json", name="resumed"
    )

    assert 0 == resumed.wait(), resumed.err
    assert run == resumed.last["run-id"]
    assert undisturbed_hash(programs, apps) == resumed.last["model-hash"]


def test_a_run_is_executed_by_one_process_at_a_time(
    programs: Programs, held_run: Program, tmp_path: Path
) -> None:
    state = tmp_path / "state"
    (run,) = {e["run"] for e in events(state, "run-started")}
    second = programs.windflower(
        "run", "--resume", run, "--state", str(state), "--format", "json", name="second"
    )

    assert 75 == held_run.wait(), held_run.err
    assert "resumed by another" in held_run.err
    (tmp_path / "pause").unlink()
    assert 0 == second.wait(), second.err


def has_replies(state: Path, count: int) -> bool:
    return len(events(state, "reply-accepted")) >= count


def test_a_hand_driven_run_that_is_killed_again_and_again_trains_nothing_twice(
    programs: Programs, gateway: Program, apps: Path, tmp_path: Path
) -> None:
    """What it mixed in is told again in the order in which it came, so it asks for the same."""
    state = tmp_path / "state"
    devices = crew(programs, gateway, 4)
    run = programs.windflower(
        *("run", str(apps / "mixing"), "--state", str(state), "--format", "json"),
        *("--limit", "4", "--seed", "3", "-c", "num-server-rounds=6"),
        name="run",
    )
    for replies in (3, 9, 15):
        until(partial(has_replies, state, replies), "replies")
        for process in children_of(run.process.pid):
            os.kill(process, signal.SIGKILL)

    assert 0 == run.wait(), run.err
    assert {"ok": 24, "failed": 0, "late": 0} == run.last["replies"]
    assert 24 == devices.err.count("work-ended")
    assert 1 <= len(events(state, "run-resumed"))
    verdict = programs.windflower("verify", run.last["run-id"], "--state", str(state), name="v")
    assert 0 == verdict.wait(), verdict.out


def test_an_asynchronous_run_that_is_killed_goes_on_from_its_checkpoint_and_is_verified(
    programs: Programs, gateway: Program, apps: Path, tmp_path: Path
) -> None:
    """It is verified from its top: there, it comes to the bits that it had with three deaths."""
    state = tmp_path / "state"
    crew(programs, gateway, 4)
    run = programs.windflower(
        *("run", str(apps / "strategies"), "--state", str(state), "--format", "json"),
        *("--limit", "4", "--seed", "3", "-c", "num-server-rounds=6 strategy='FedBuff'"),
        name="run",
    )
    for replies in (3, 12, 25):
        until(partial(has_replies, state, replies), "replies")
        for process in children_of(run.process.pid):
            os.kill(process, signal.SIGKILL)

    assert 0 == run.wait(), run.err
    assert 1 <= len(events(state, "run-resumed"))
    commands = [event["command"] for event in events(state, "reply-accepted")]
    assert len(set(commands)) == len(commands)
    verdict = programs.windflower("verify", run.last["run-id"], "--state", str(state), name="v")
    assert 0 == verdict.wait(), verdict.out


def test_a_run_that_is_over_cannot_be_resumed(
    programs: Programs, gateway: Program, apps: Path, tmp_path: Path
) -> None:
    crew(programs, gateway, 2)
    done = small_run(programs, apps, "done")
    assert 0 == done.wait(), done.err
    state = str(tmp_path / "state")
    for run, said in ((done.last["run-id"], "is over"), ("9-nobody", "there is no run 9-nobody")):
        again = programs.windflower("run", "--resume", run, "--state", state, name="again")
        assert 78 == again.wait()
        assert said in again.err


def test_a_gateways_own_broker_that_dies_is_started_again_and_nothing_is_lost(
    programs: Programs, gateway: Program, held_run: Program, apps: Path, tmp_path: Path
) -> None:
    os.kill(gateway.last["broker-pid"], signal.SIGKILL)
    until(lambda: events(tmp_path / "state", "broker-lost"), "the gateway to notice")
    (tmp_path / "pause").unlink()  # the devices answer while nobody hears them

    assert 0 == held_run.wait(), held_run.err
    undisturbed = small_run(programs, apps, "undisturbed")
    assert 0 == undisturbed.wait(), undisturbed.err
    assert undisturbed.last["model-hash"] == held_run.last["model-hash"]


def test_devices_are_listed_by_their_last_heartbeat(programs: Programs, gateway: Program) -> None:
    card = gateway.last
    first = programs.agent("first", card["broker"], interval=300)
    until(lambda: [d["device"] for d in listed(programs)] == ["first"], "the first device")
    second = programs.agent("second", card["broker"], interval=300)
    until(lambda: len(listed(programs)) == 2, "the second device")

    assert ["second", "first"] == [d["device"] for d in listed(programs)]
    assert ["second"] == [d["device"] for d in listed(programs, "--limit", "1")]
    assert [True, True] == [d["online"] for d in listed(programs)]
    first.end()
    second.end()


def test_an_agent_is_small(programs: Programs, gateway: Program) -> None:
    agent = programs.agent("small", gateway.last["broker"])
    until(lambda: listed(programs), "the device")
    status = Path(f"/proc/{agent.process.pid}/status").read_text()
    resident_kb = int(status.partition("VmRSS:")[2].split()[0])
    maps = Path(f"/proc/{agent.process.pid}/maps").read_text()

    assert 60_000 > resident_kb
    assert "numpy" not in maps


def test_the_gateways_card_is_json_on_one_line(gateway: Program) -> None:
    card = json.loads(gateway.out)

    assert {"success", "pid", "socket", "broker", "broker-name", "blobs", "key"} <= set(card)
    assert 1 == len(gateway.out.splitlines())


def test_a_run_whose_command_is_ended_by_a_supervisor_goes_on_later(
    programs: Programs, held_run: Program, tmp_path: Path
) -> None:
    assert 130 == held_run.end()
    assert "is suspended" in held_run.err
    (suspended,) = until(lambda: events(tmp_path / "state", "run-suspended"), "the gateway to say")
    (tmp_path / "pause").unlink()
    again = programs.windflower(
        *("run", "--resume", suspended["run"], "--state", str(tmp_path / "state")),
        *("--format", "json"),
        name="again",
    )

    assert 0 == again.wait(), again.err
    assert again.last["success"]


def test_a_run_that_was_left_open_is_ended_by_hand(
    programs: Programs, held_run: Program, tmp_path: Path
) -> None:
    state = str(tmp_path / "state")
    held_run.end()
    (suspended,) = until(lambda: events(tmp_path / "state", "run-suspended"), "the gateway to say")
    for code in (0, 78):
        ended = programs.windflower(
            *("runs", "stop", suspended["run"], "--state", state), name=f"stop-{code}"
        )
        assert code == ended.wait(), ended.err

    assert [(False, "a person ended it")] == how_it_ended(tmp_path / "state")
