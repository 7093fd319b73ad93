"""Real TCP over a bad link: nothing that was acknowledged is lost, and a run comes out the same."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from processes import MOSQUITTO, Program, Programs, events, until

from chaos.line import Harm, Link
from chaos.mqtt_client import MqttClient
from chaos.tunnel import FAR, NEAR, Tunnel, missing, tunnel

MISSING = "mosquitto is not installed" if MOSQUITTO is None else missing()
pytestmark = pytest.mark.skipif(MISSING is not None, reason=str(MISSING))

SEED = 5
PORT = 1883
BROKER = f"mqtt://{NEAR}:{PORT}"
BAD = Link(loss=0.3, delay_s=0.02, jitter_s=0.02, duplication=0.02, reordering=0.05)
NUMBERS = [b"%d" % number for number in range(200)]
DEVICES = 3


@pytest.fixture
def link() -> Iterator[Tunnel]:
    with tunnel(seed=SEED) as made:
        yield made


@pytest.fixture
def broker(link: Tunnel, programs: Programs) -> Program:
    """A broker at the near end."""
    with link.near.entered():
        program, _ = programs.mosquitto("allow_anonymous true", f"listener {PORT} {NEAR}")
    return program


def current() -> Path:
    """Return which network this thread is in."""
    return Path("/proc/thread-self/ns/net").readlink()


def left() -> list[Path]:
    """Return our namespaces that are there."""
    return list(Path("/run/netns").glob(f"chaos-{os.getpid()}-*"))


def test_a_thread_enters_a_namespace_and_leaves_it(link: Tunnel) -> None:
    outside = current()
    with link.far.entered():
        command = ["ip", "-brief", "address"]
        listing = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        inside = current()

    assert outside == current() != inside
    assert 2 == len(listing.splitlines())  # the loopback device and ours
    assert f"{FAR} peer {NEAR}/32" in listing


def fail_inside() -> None:
    with tunnel(seed=SEED):
        assert 2 == len(left())
        raise ZeroDivisionError


def test_the_namespaces_are_removed_whatever_happens() -> None:
    with pytest.raises(ZeroDivisionError):
        fail_inside()

    assert [] == left()


@pytest.mark.usefixtures("broker")
def test_what_is_published_over_a_bad_link_and_a_cut_arrives(link: Tunnel) -> None:
    with link.near.entered():
        receiver = MqttClient(BROKER, "receiver", "to/receiver")
        receiver.__enter__()
    with link.far.entered():
        sender = MqttClient(BROKER, "sender", "to/sender")
        sender.__enter__()
    try:
        link.set(BAD)
        ids = sender.publish("to/receiver", NUMBERS[:100])
        until(lambda: len(receiver.received) > 10, "some messages")
        link.cut(5)
        ids += sender.publish("to/receiver", NUMBERS[100:])
        until(lambda: sender.is_acknowledged(ids), "all acknowledgements", deadline_s=120)
    finally:
        link.set(Link())
        sender.__exit__(None, None, None)
        receiver.__exit__(None, None, None)

    assert set(NUMBERS) == set(receiver.received)
    assert 0 < link.counts[Harm.LOSS]


def run_arguments(app: Path, state: Path) -> list[str]:
    return [
        *("run", str(app), "--seed", "5", "--strict", "--limit", str(DEVICES)),
        *("--state", str(state), "--format", "json", "--wait-devices", "120"),
        *("-c", f"num-server-rounds=1 numbers=300 min-nodes={DEVICES} timeout-s=600.0"),
    ]


@pytest.mark.slow
@pytest.mark.usefixtures("broker")
def test_a_run_over_a_bad_link_and_a_cut_gives_the_same_model(
    link: Tunnel, programs: Programs, apps: Path, tmp_path: Path
) -> None:
    state = tmp_path / "state"
    with link.near.entered():
        gateway = programs.windflower(
            *("serve", "--state", str(state), "--broker", BROKER, "--blobs", f"{NEAR}:0"),
            *("--format", "json"),
            name="gateway",
        )
        until(lambda: gateway.out, "the gateway")
    with link.far.entered():
        for number in range(DEVICES):
            config = f"partition-id={number} num-partitions={DEVICES}"
            programs.agent(f"far-{number}", BROKER, "--node-config", config)
    arguments = run_arguments(apps / "averaging", state)
    undisturbed = programs.windflower(*arguments, name="undisturbed")
    assert 0 == undisturbed.wait(), undisturbed.err

    before = len(events(state, "command-sent"))
    disturbed = programs.windflower(*arguments, name="disturbed")
    until(lambda: len(events(state, "command-sent")) > before, "the first command")
    link.set(BAD)
    accepted = len(events(state, "reply-accepted"))
    until(lambda: len(events(state, "reply-accepted")) > accepted, "a reply", deadline_s=120)
    link.cut(5)

    assert 0 == disturbed.wait(deadline_s=240), disturbed.err
    assert undisturbed.last["model-hash"] == disturbed.last["model-hash"]
    assert {Harm.LOSS, Harm.CUT} <= set(link.counts)
