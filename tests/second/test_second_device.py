"""The second implementation takes part in runs beside real agents, over a real broker."""

import json
from pathlib import Path
from typing import Any

import pytest
from chaos.mqtt_client import MqttClient
from processes import MOSQUITTO, Program, Programs, until
from second.minimal import DEVICE_FILE, NODE

DEVICE = "second-01"

pytestmark = [
    pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed"),
    pytest.mark.skipif(NODE is None, reason="node is not installed"),
]


@pytest.fixture
def gateway(programs: Programs, tmp_path: Path) -> dict[str, Any]:
    state = str(tmp_path / "state")
    served = programs.windflower("serve", "--state", state, "--format", "json", name="serve")
    until(lambda: served.out, "the gateway")
    return served.last


def second(programs: Programs, gateway: dict[str, Any]) -> Program:
    host, port = gateway["broker"].removeprefix("mqtt://").split(":")
    assert NODE is not None
    return programs.start(
        *(NODE, str(DEVICE_FILE), host, port, DEVICE),
        *(str(programs.folder / "second.json"), "0.5", gateway["key"]),
        name="second",
    )


def run(programs: Programs, apps: Path, config: str, name: str = "run") -> Program:
    state = str(programs.folder / "state")
    return programs.windflower(
        *("run", str(apps / "addition"), "--state", state, "--format", "json"),
        *("--limit", "3", "--wait-devices", "30", "--seed", "1", "--strict"),
        *("-c", config + " min-nodes=3"),
        name=name,
    )


def works(device: Program) -> list[str]:
    return [line for line in device.out.splitlines() if line.startswith("works on")]


@pytest.mark.parametrize("numbers", [100, 100_000], ids=["inline", "above the inline limit"])
def test_it_takes_part_beside_two_agents_and_the_model_is_what_they_alone_make(
    programs: Programs, gateway: dict[str, Any], apps: Path, numbers: int
) -> None:
    for name in ("pi-01", "pi-02"):
        programs.agent(name, gateway["broker"], "--gateway-key", gateway["key"])
    device = second(programs, gateway)
    together = run(programs, apps, f"numbers={numbers}")
    assert 0 == together.wait(), together.err
    assert 0 == device.end()
    programs.agent("pi-03", gateway["broker"], "--gateway-key", gateway["key"])
    alone = run(programs, apps, f"numbers={numbers}", "alone")
    assert 0 == alone.wait(), alone.err

    assert {"ok": 12, "failed": 0, "late": 0} == together.last["replies"]
    assert 4 == len(works(device))
    assert alone.last["model-hash"] == together.last["model-hash"]


def test_killed_in_the_middle_and_told_twice_it_works_once_on_each_command(
    programs: Programs, gateway: dict[str, Any], apps: Path, tmp_path: Path
) -> None:
    pause = tmp_path / "pause"
    pause.touch()
    for name in ("pi-01", "pi-02"):  # they hold the round open, so that it is the middle
        programs.agent(name, gateway["broker"], "--gateway-key", gateway["key"])
    device = second(programs, gateway)
    topic = f"commands/client/{DEVICE}/update"
    with MqttClient(gateway["broker"], "listener", topic) as listener:
        started = run(programs, apps, f"numbers=100000 pause-file='{pause}'")
        until(lambda: "\nanswered" in device.out, "the second device's first answer")
        device.kill()
        again = second(programs, gateway)
        until(lambda: again.out.count("connected") == 2, "the device that was started again")
        (command,) = [m for m in listener.received if json.loads(m)["method"] == "fit"][:1]
        twice = listener.publish(topic, [command, command])
        until(lambda: listener.is_acknowledged(twice), "the broker")
        pause.unlink()
        assert 0 == started.wait(), started.err

    assert {"ok": 12, "failed": 0, "late": 0} == started.last["replies"]
    ids = [line.split()[2] for line in works(again)]
    assert len(set(ids)) == len(ids) == 4
