"""What a person does by hand: a broker, some devices, a run, a pulled plug."""

import json
from pathlib import Path

import pytest
from processes import MOSQUITTO, Program, Programs, alive, children_of, events, until

pytestmark = pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed")


def run_arguments(app: Path, broker: str, state: Path) -> list[str]:
    common = ["--broker", broker, "--state", str(state), "--format", "json"]
    return ["run", str(app), "--seed", "5", "--strict", "--limit", "3", *common]


def start_device(programs: Programs, broker: str, number: int) -> Program:
    config = f"partition-id={number} num-partitions=3"
    return programs.agent(f"hand-{number}", broker, "--node-config", config)


def test_three_agents_started_by_hand_take_part_in_a_run(
    programs: Programs, apps: Path, tmp_path: Path
) -> None:
    _, broker = programs.mosquitto()
    for number in range(3):
        start_device(programs, broker, number)
    hashes = []
    for attempt in range(2):
        run = programs.windflower(
            *run_arguments(apps / "averaging", broker, tmp_path / "state"), name=f"run-{attempt}"
        )
        assert 0 == run.wait(), run.err
        hashes.append(run.last["model-hash"])
        assert {"ok": 12, "failed": 0, "late": 0} == run.last["replies"]
        assert 3 == run.last["devices"]
        assert "external" == run.last["broker"]

    assert 1 == len(set(hashes))


def test_an_agent_that_was_killed_takes_part_again_and_the_model_is_the_same(
    programs: Programs, apps: Path, tmp_path: Path
) -> None:
    _, broker = programs.mosquitto()
    devices = [start_device(programs, broker, number) for number in range(3)]
    state, pause = tmp_path / "state", tmp_path / "pause"
    arguments = [*run_arguments(apps / "averaging", broker, state), "-c", f"pause-file='{pause}'"]
    undisturbed = programs.windflower(*arguments, name="undisturbed")
    assert 0 == undisturbed.wait(), undisturbed.err

    pause.touch()
    before = len(events(state))
    disturbed = programs.windflower(*arguments, name="disturbed")
    until(lambda: devices[1].err.count("work-started") > 4, "the work to begin")
    devices[1].kill()
    again = start_device(programs, broker, 1)
    until(lambda: "work-started" in again.err, "the work to begin again")
    pause.unlink()

    assert 0 == disturbed.wait(), disturbed.err
    assert undisturbed.last["model-hash"] == disturbed.last["model-hash"]
    accepted = [e["device"] for e in events(state)[before:] if e["event"] == "reply-accepted"]
    assert 4 == accepted.count("hand-1")


def test_a_broker_that_was_killed_and_started_again_changes_nothing(
    programs: Programs, apps: Path, tmp_path: Path
) -> None:
    mosquitto, broker = programs.mosquitto()
    for number in range(3):
        start_device(programs, broker, number)
    state, pause = tmp_path / "state", tmp_path / "pause"
    arguments = [*run_arguments(apps / "averaging", broker, state), "-c", f"pause-file='{pause}'"]
    undisturbed = programs.windflower(*arguments, name="undisturbed")
    assert 0 == undisturbed.wait(), undisturbed.err

    pause.touch()
    before = len(events(state))
    disturbed = programs.windflower(*arguments, name="disturbed")
    until(lambda: kinds(state, before).count("command-sent") == 3, "the commands")
    mosquitto.kill()
    until(lambda: "broker-lost" in kinds(state, before), "the gateway to notice")
    pause.unlink()  # the devices answer while nobody hears them
    programs.mosquitto(port=int(broker.rpartition(":")[2]))

    assert 0 == disturbed.wait(), disturbed.err
    assert undisturbed.last["model-hash"] == disturbed.last["model-hash"]
    assert {"ok": 12, "failed": 0, "late": 0} == disturbed.last["replies"]


def kinds(state: Path, before: int) -> list[str]:
    return [event["event"] for event in events(state)[before:]]


def test_the_app_prints_to_stdout_and_with_json_to_stderr(
    programs: Programs, apps: Path, tmp_path: Path
) -> None:
    common = ["--devices", "2", "--state", str(tmp_path / "state")]
    config = ["-c", 'num-server-rounds=1 text="two words"']
    plain = programs.windflower("run", str(apps / "averaging"), *common, *config, name="plain")
    assert 0 == plain.wait(), plain.err
    as_json = programs.windflower(
        "run", str(apps / "averaging"), *common, *config, "--format", "json", name="json"
    )
    assert 0 == as_json.wait(), as_json.err

    assert "text: two words\n" == plain.out
    assert "text: two words" in as_json.err
    assert [as_json.last] == [json.loads(line) for line in as_json.out.splitlines()]


def test_what_a_run_may_keep_is_said_before_its_app_begins(
    programs: Programs, apps: Path, tmp_path: Path
) -> None:
    state = str(tmp_path / "state")
    for attempt in ("first", "second"):
        run = programs.windflower(
            *("run", str(apps / "averaging"), "--devices", "2", "--state", state), name=attempt
        )
        assert 0 == run.wait(), run.err
        before, _, _ = run.err.partition("train: asked")
        assert "may keep 20 GiB on disk to be resumable" in before
        assert ("of this app kept" in before) == (attempt == "second")


@pytest.mark.parametrize("number", [2, 15])
def test_ctrl_c_and_sigterm_end_every_child(
    programs: Programs, apps: Path, tmp_path: Path, number: int
) -> None:
    pause = tmp_path / "pause"
    pause.touch()
    state = tmp_path / "state"
    run = programs.windflower(
        *("run", str(apps / "averaging"), "--devices", "2", "--state", str(state)),
        *("-c", f"pause-file='{pause}'"),
        name="run",
    )
    until(lambda: len(events(state, "command-sent")) >= 2, "the first commands")
    family = list(children_of(run.process.pid))
    run.process.send_signal(number)

    assert 130 == run.wait(deadline_s=30)
    assert 5 <= len(family)  # gateway, broker, nursery, agents, the run
    until(lambda: not [p for p in family if alive(p)], "every child to end", deadline_s=15)


def test_an_app_of_the_old_kind_goes_on_when_the_device_that_it_waits_for_is_there(
    programs: Programs, apps: Path
) -> None:
    """It waits for four clients; the fourth comes when the app waits already."""
    _, broker = programs.mosquitto()
    state = str(programs.folder / "state")
    served = programs.windflower(
        "serve", "--broker", broker, "--state", state, "--format", "json", name="serve"
    )
    until(lambda: served.out, "the gateway")
    for number in range(3):
        programs.agent(f"d{number}", broker)
    until(lambda: len(events(Path(state), "device-heard")) == 3, "three devices")
    run = programs.windflower(
        *("run", str(apps / "legacy"), "--state", state, "--limit", "9", "--wait-devices", "0"),
        *("-c", "num-server-rounds=1", "--format", "json"),
        name="too-few",
    )
    assert 75 == run.wait()
    patient = programs.windflower(
        *("run", str(apps / "legacy"), "--state", state, "--wait-devices", "30"),
        *("-c", "num-server-rounds=1", "--format", "json"),
        name="patient",
    )
    until(lambda: "get_parameters" in patient.err, "the app to begin")
    programs.agent("d3", broker)

    assert 0 == patient.wait(), patient.err
    assert 1 == patient.last["rounds"]
