"""A device may do the same at AWS and at a site's Mosquitto: what the protocol asks of it."""

import queue
import ssl
from pathlib import Path

import paho.mqtt.client as mqtt
import pytest
from aws.device_matrix import OTHER, IotDevice, asked_of
from certificates import Authority
from paho.mqtt.enums import CallbackAPIVersion
from processes import MOSQUITTO, Programs, free_port, listens, until

from windflower.adapters.aws.template import Template
from windflower.wire.topics import TABLE

SITE = Path(__file__).parents[2] / "deploy" / "site"
DEVICE = "pi-07"
DEADLINE_S = 20.0


def topics_of(client: str) -> list[str]:
    return [topic.pattern.replace("{client}", client) for topic in TABLE]


def of_the_protocol(deed: str) -> set[str]:
    """The topics on which the device may do something, by the one table of topics."""
    publisher = "device" if deed == "publish" else "gateway"
    return {one.pattern.replace("{client}", DEVICE) for one in TABLE if one.publisher == publisher}


@pytest.mark.parametrize("region", ["eu-west-1", "ap-southeast-2"])
def test_iot_core_allows_what_the_protocol_asks_and_nothing_else(region: str) -> None:
    device = IotDevice(Template.load().resolve(region=region), DEVICE)
    asked = list(asked_of(DEVICE))
    allowed = {str(one) for one in asked if device.may(one)}

    assert {str(one) for one in asked if one.is_allowed} == allowed
    assert of_the_protocol("publish") == {
        one.topic for one in asked if one.deed == "publish" and device.may(one)
    }
    assert of_the_protocol("receive") == {
        one.topic for one in asked if one.deed == "receive" and device.may(one)
    }


class Certified:
    """A client that connects with a certificate and does one thing at a time."""

    def __init__(self, authority: Authority, name: str, port: int, *, client: str = "") -> None:
        certificate, key = authority.give(name)
        self._client = mqtt.Client(
            CallbackAPIVersion.VERSION2, client_id=client or name, protocol=mqtt.MQTTv5
        )
        context = ssl.create_default_context(cafile=str(authority.file))
        context.load_cert_chain(certificate, key)
        self._client.tls_set_context(context)
        self._done: queue.Queue[bool] = queue.Queue()
        self._arrived: queue.Queue[str] = queue.Queue()
        self._client.on_connect = lambda *_: self._done.put(item=True)
        self._client.on_subscribe = lambda *_: self._done.put(item=True)
        self._client.on_publish = lambda _c, _u, _m, reason, _p: self._done.put(
            not reason.is_failure
        )
        self._client.on_message = lambda _c, _u, message: self._arrived.put(message.topic)
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        self._done.get(timeout=DEADLINE_S)

    def subscribe(self, topics: str) -> None:
        """Subscribe, and wait until that is so."""
        self._client.subscribe(topics, qos=1)
        self._done.get(timeout=DEADLINE_S)

    def publish(self, topic: str) -> bool:
        """Return whether the broker took a message."""
        self._client.publish(topic, b"{}", qos=1)
        return self._done.get(timeout=DEADLINE_S)

    def received_until(self, last: str) -> set[str]:
        """Return the topics of all that arrived, up to a message on `last`."""
        found: set[str] = set()
        while last not in found:
            found.add(self._arrived.get(timeout=DEADLINE_S))
        return found

    def close(self) -> None:
        """Disconnect."""
        self._client.disconnect()
        self._client.loop_stop()


@pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed")
def test_a_sites_mosquitto_allows_the_same_with_certificates(
    programs: Programs, tmp_path: Path
) -> None:
    authority = Authority(tmp_path)
    authority.give("a site's broker", file="server")
    port = free_port()
    configuration = (
        (SITE / "mosquitto.conf").read_text().replace("listener 8883", f"listener {port} 127.0.0.1")
    )
    (tmp_path / "mosquitto.conf").write_text(f"{configuration}user root\n")
    (tmp_path / "acl").write_text((SITE / "acl").read_text())
    (tmp_path / "acl").chmod(0o600)
    assert MOSQUITTO is not None
    programs.start(
        "sh", "-c", f"cd {tmp_path} && exec {MOSQUITTO} -c mosquitto.conf", name="mosquitto"
    )
    until(lambda: listens(port), "mosquitto")

    gateway = Certified(authority, "gateway", port)
    device = Certified(authority, DEVICE, port)
    other = Certified(authority, OTHER, port)
    impostor = Certified(authority, "pi-09", port, client=DEVICE)  # takes nobody's place
    gateway.subscribe("#")
    device.subscribe("#")
    everything = [*topics_of(DEVICE), *topics_of(OTHER)]
    taken = {one for one in everything if device.publish(one)}
    others_taken = {one for one in everything if other.publish(one)}
    commands = {one for one in everything if gateway.publish(one)}

    assert of_the_protocol("publish") == taken

    own_command = f"commands/client/{DEVICE}/update"
    heard = device.received_until(own_command)
    gateway_heard = gateway.received_until(f"query/client/{OTHER}/sent")
    impostor_took = {one for one in everything if impostor.publish(one)}
    for one in (gateway, device, other, impostor):
        one.close()

    assert of_the_protocol("receive") == heard
    assert taken | others_taken == gateway_heard
    assert {own_command, f"commands/client/{OTHER}/update"} == commands
    assert set() == impostor_took
