"""Each fault, between two real clients and a real broker."""

import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
from processes import MOSQUITTO, Programs, free_port, until

from chaos.faults import Fate, Fault, Faults, Weather
from chaos.mqtt_client import MqttClient
from chaos.packets import puback
from chaos.relay import Acknowledgements
from chaos.running import RunningRelay

pytestmark = pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed")
SEED = 11
WAYS = ["up", "down"]
NUMBERS = [b"%d" % number for number in range(60)]


def weather_of(way: str, faults: Faults) -> Weather:
    return Weather(up=faults) if way == "up" else Weather(down=faults)


@pytest.fixture
def broker(programs: Programs) -> Iterator[str]:
    """A broker that is sure at the end that it heard nothing but MQTT."""
    program, url = programs.mosquitto("allow_anonymous true", "log_type all")
    yield url
    said = program.err.lower()
    assert [] == [word for word in ("protocol error", "malformed", "invalid") if word in said]


@pytest.fixture
def relay(broker: str) -> Iterator[RunningRelay]:
    with RunningRelay(broker, seed=SEED) as running:
        yield running
    assert [] == running.problems


@pytest.fixture
def alice(relay: RunningRelay) -> Iterator[MqttClient]:
    with MqttClient(relay.url, "alice", "to/alice") as client:
        yield client


@pytest.fixture
def bob(relay: RunningRelay) -> Iterator[MqttClient]:
    with MqttClient(relay.url, "bob", "to/bob") as client:
        yield client


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_in_calm_weather_everything_passes_in_its_order(
    relay: RunningRelay, alice: MqttClient, bob: MqttClient, qos: int
) -> None:
    ids = alice.publish("to/bob", NUMBERS, qos=qos)
    until(lambda: len(bob.received) == len(NUMBERS), "all messages")
    until(lambda: alice.is_acknowledged(ids), "all acknowledgements")

    assert NUMBERS == bob.received
    assert {} == relay.counts


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("qos", [0, 1])
def test_what_is_lost_is_acknowledged_and_the_session_goes_on(
    relay: RunningRelay, alice: MqttClient, bob: MqttClient, way: str, qos: int
) -> None:
    relay.weather = weather_of(way, Faults(loss=1.0))
    ids = alice.publish("to/bob", NUMBERS, qos=qos)
    until(lambda: alice.is_acknowledged(ids), "all acknowledgements")
    until(lambda: relay.counts[Fault.LOSS] == len(NUMBERS), "all losses")
    relay.weather = Weather()
    alice.publish("to/bob", [b"last"])
    until(lambda: bob.received, "a message after the storm")

    # A broker whose messages stay unacknowledged stops after twenty: it did not.
    assert [b"last"] == bob.received
    assert (0, 0) == (alice.departures, bob.departures)


def heard_in_a_storm(broker: str, way: str) -> list[bytes]:
    with (
        RunningRelay(broker, seed=SEED) as relay,
        MqttClient(relay.url, "bob", "to/bob") as bob,
        MqttClient(relay.url, "alice", "to/alice") as alice,
    ):
        relay.weather = weather_of(way, Faults(loss=0.3))
        ids = alice.publish("to/bob", NUMBERS)
        until(lambda: alice.is_acknowledged(ids), "all acknowledgements")
        until(
            lambda: len(bob.received) + relay.counts[Fault.LOSS] == len(NUMBERS), "what is not lost"
        )
        return bob.received


@pytest.mark.parametrize("way", WAYS)
def test_the_same_seed_loses_the_same_messages(broker: str, way: str) -> None:
    heard = [heard_in_a_storm(broker, way) for _ in range(2)]

    assert heard[0] == heard[1]
    assert 20 < len(heard[0]) < 60


@pytest.mark.parametrize("way", WAYS)
def test_what_is_doubled_arrives_twice_and_is_acknowledged_once(
    relay: RunningRelay, alice: MqttClient, bob: MqttClient, way: str
) -> None:
    relay.weather = weather_of(way, Faults(duplication=1.0))
    ids = alice.publish("to/bob", NUMBERS)
    until(lambda: len(bob.received) == 2 * len(NUMBERS), "every message twice")
    until(lambda: alice.is_acknowledged(ids), "all acknowledgements")

    assert sorted(NUMBERS * 2) == sorted(bob.received)
    assert {Fault.DUPLICATION: len(NUMBERS)} == relay.counts


@pytest.mark.parametrize("way", WAYS)
def test_what_is_delayed_keeps_its_order(
    relay: RunningRelay, alice: MqttClient, bob: MqttClient, way: str
) -> None:
    relay.weather = weather_of(way, Faults(delay=1.0, delay_s=0.01))
    alice.publish("to/bob", NUMBERS)
    until(lambda: len(bob.received) == len(NUMBERS), "all messages")

    assert NUMBERS == bob.received
    assert {Fault.DELAY: len(NUMBERS)} == relay.counts


@pytest.mark.parametrize("way", WAYS)
def test_what_is_held_back_is_overtaken(
    relay: RunningRelay, alice: MqttClient, bob: MqttClient, way: str
) -> None:
    relay.weather = weather_of(way, Faults(reordering=0.2, reordering_s=0.2))
    ids = alice.publish("to/bob", NUMBERS)
    until(lambda: len(bob.received) == len(NUMBERS), "all messages")
    until(lambda: alice.is_acknowledged(ids), "all acknowledgements")

    assert sorted(NUMBERS) == sorted(bob.received)
    assert NUMBERS != bob.received
    assert 0 < relay.counts[Fault.REORDERING]
    assert {Fault.REORDERING, Fault.DELAY} >= set(relay.counts)


@pytest.mark.parametrize("way", WAYS)
def test_a_connection_that_is_cut_comes_back(
    relay: RunningRelay, alice: MqttClient, bob: MqttClient, way: str
) -> None:
    cut, whole = (alice, bob) if way == "up" else (bob, alice)
    relay.weather = weather_of(way, Faults(cut=1.0))
    alice.publish("to/bob", [b"1"])
    until(lambda: cut.departures, "the cut")
    relay.weather = Weather()
    until(lambda: cut.arrivals > 1, "it to come back")
    alice.publish("to/bob", [b"2"])
    until(lambda: b"2" in bob.received, "a message on the new connection")

    assert 0 == whole.departures
    assert cut.departures == relay.counts[Fault.CUT]


def test_some_cuts_are_resets_and_some_are_not() -> None:
    random = Random(SEED)
    fates = [Fate.draw(Faults(cut=1.0), random).cut for _ in range(20)]

    assert {"RST", "FIN"} == set(fates)


@pytest.mark.parametrize("way", WAYS)
def test_a_half_open_connection_looks_open_until_it_ends(
    relay: RunningRelay, alice: MqttClient, bob: MqttClient, way: str
) -> None:
    cut = alice if way == "up" else bob
    relay.weather = weather_of(way, Faults(half_open=1.0, half_open_s=600))
    alice.publish("to/bob", [b"1"])
    until(lambda: relay.counts[Fault.HALF_OPEN], "the half-open connection")
    relay.weather = Weather()
    whole, topic = (bob, "to/alice") if way == "up" else (alice, "to/bob")
    ids = whole.publish(topic, [b"2"])
    until(lambda: whole.is_acknowledged(ids), "the broker to have sent it on")

    assert cut.is_connected
    relay.cut_all()
    until(lambda: cut.arrivals > 1, "it to come back")
    assert [] == cut.received


def test_a_half_open_connection_ends_by_itself(relay: RunningRelay, alice: MqttClient) -> None:
    relay.half_open_all(0.2)
    until(lambda: alice.departures, "the end")
    until(lambda: alice.arrivals > 1, "it to come back")

    assert {Fault.HALF_OPEN: 1} == relay.counts


def test_clients_are_turned_away_while_there_is_no_broker(programs: Programs) -> None:
    program, url = programs.mosquitto()
    with RunningRelay(url, seed=SEED) as relay, MqttClient(relay.url, "a", "to/a") as a:
        program.kill()
        until(lambda: a.departures, "the end")
        programs.mosquitto(port=int(url.rpartition(":")[2]))
        until(lambda: a.arrivals > 1, "it to come back")
        a.publish("to/a", [b"1"])
        until(lambda: a.received, "a message from itself")


def test_in_all_weathers_at_once_every_session_goes_on(
    relay: RunningRelay, alice: MqttClient, bob: MqttClient
) -> None:
    storm = Faults(loss=0.2, duplication=0.2, delay=0.2, delay_s=0.01, reordering=0.2)
    relay.weather = Weather.both_ways(storm)
    ids = alice.publish("to/bob", NUMBERS * 20)
    others = bob.publish("to/alice", NUMBERS * 20)
    until(lambda: alice.is_acknowledged(ids), "all acknowledgements")
    until(lambda: bob.is_acknowledged(others), "all acknowledgements of the other")
    relay.weather = Weather()
    alice.publish("to/bob", [b"last"])
    bob.publish("to/alice", [b"last"])
    until(lambda: b"last" in bob.received and b"last" in alice.received, "the last messages")

    assert (0, 0) == (alice.departures, bob.departures)
    assert {Fault.LOSS, Fault.DUPLICATION, Fault.DELAY, Fault.REORDERING} == set(relay.counts)


def test_the_relay_is_a_program_too(programs: Programs, broker: str) -> None:
    port = free_port()
    program = programs.start(
        *(sys.executable, "-m", "chaos", "--listen", str(port), "--to", broker),
        *("--seed", "3", "--loss", "1.0", "--ways", "up"),
        name="relay",
        PYTHONPATH=str(Path(__file__).parents[1]),
    )
    until(lambda: program.out, "the relay")
    with MqttClient(f"mqtt://127.0.0.1:{port}", "alice", "to/alice") as alice:
        ids = alice.publish("to/alice", NUMBERS)
        until(lambda: alice.is_acknowledged(ids), "all acknowledgements")

    assert 0 == program.end()
    assert program.out.splitlines()[-1].startswith("of 60 messages: 60 lost, 0 duplicated")


def test_a_sender_is_told_in_the_order_in_which_it_sent() -> None:
    owed = Acknowledgements()
    for packet_id in (1, 2, 3):
        owed.expect(packet_id)

    assert b"" == owed.settle(2, puback(2))
    assert b"" == owed.settle(3, puback(3))
    assert puback(1) + puback(2) + puback(3) == owed.settle(1, puback(1))
    assert puback(9) == owed.settle(9, puback(9))  # not ours to judge


def test_what_is_switched_on_does_not_change_what_befalls_later_messages() -> None:
    calm, stormy = Random(SEED), Random(SEED)
    for _ in range(9):
        Fate.draw(Faults(), calm)
        Fate.draw(Faults(loss=1.0, cut=1.0), stormy)
    storm = Faults(loss=0.5, duplication=0.5, reordering=0.5, delay=0.5)

    assert Fate.draw(storm, calm) == Fate.draw(storm, stormy)
