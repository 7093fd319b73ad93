"""Packets are cut out of a stream wherever the network cut it."""

import socket

import paho.mqtt.client as paho
import pytest
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from chaos.packets import (
    Kind,
    NotMqttError,
    Publish,
    Splitter,
    client_id,
    puback,
    variable_integer,
)

PUBLISHES = st.builds(
    lambda topic, packet_id, retained, again, rest: Publish(
        topic, int(packet_id is not None), packet_id, retained, again, rest
    ),
    st.text(min_size=1, max_size=40).filter(lambda text: "\0" not in text),
    st.none() | st.integers(1, 0xFFFF),
    st.booleans(),
    st.booleans(),
    st.binary(max_size=400) | st.integers(0, 40_000).map(bytes),
)
OTHERS = st.builds(
    lambda kind, flags, body: bytes([kind << 4 | flags]) + variable_integer(len(body)) + body,
    st.sampled_from([kind for kind in Kind if kind is not Kind.PUBLISH]),
    st.integers(0, 15),
    st.binary(max_size=200),
)
STREAMS = st.lists(PUBLISHES.map(Publish.write) | OTHERS, max_size=12)


@given(STREAMS, st.data())
def test_any_cut_of_a_stream_gives_the_same_packets(
    packets: list[bytes], data: st.DataObject
) -> None:
    stream = b"".join(packets)
    places = data.draw(st.lists(st.integers(0, len(stream)), max_size=20).map(sorted))
    splitter = Splitter()
    found = [
        packet.raw
        for begin, end in zip([0, *places], [*places, len(stream)], strict=True)
        for packet in splitter.feed(stream[begin:end])
    ]

    assert packets == found


def test_a_stream_that_comes_byte_by_byte_gives_the_same_packets() -> None:
    publish = Publish("a/b", 1, 7, is_retained=True, is_again=False, rest=bytes(20_000)).write()
    packets = [publish, puback(7), bytes([Kind.PINGREQ << 4, 0]), publish]
    splitter = Splitter()
    found = [packet.raw for byte in b"".join(packets) for packet in splitter.feed(bytes([byte]))]

    assert packets == found


@given(PUBLISHES)
def test_what_a_publish_says_is_read_back(publish: Publish) -> None:
    (packet,) = Splitter().feed(publish.write())

    assert Kind.PUBLISH is packet.kind
    assert publish == Publish.read(packet)


@given(PUBLISHES)
def test_a_copy_without_id_says_the_same_at_qos_0(publish: Publish) -> None:
    (packet,) = Splitter().feed(publish.without_id())
    copy = Publish.read(packet)

    assert (0, None, False) == (copy.qos, copy.packet_id, copy.is_again)
    assert (publish.topic, publish.rest) == (copy.topic, copy.rest)
    assert publish.is_retained == copy.is_retained


@given(st.integers(0, 0xFFF_FFFF))
def test_every_length_is_written_as_the_specification_says(value: int) -> None:
    written = variable_integer(value)
    sizes = [size for size in range(1, 5) if value < 1 << 7 * size]

    assert sizes[0] == len(written)
    assert value == sum((byte & 0x7F) << 7 * place for place, byte in enumerate(written))


@pytest.mark.parametrize("stream", [b"\x30\xff\xff\xff\xff\x01", b"\x00\x00", b"\xd0\x00\x0f"])
def test_what_is_no_mqtt_is_refused(stream: bytes) -> None:
    with pytest.raises(NotMqttError):
        Splitter().feed(stream)


def test_a_topic_alias_is_refused() -> None:
    (packet,) = Splitter().feed(bytes([0x30, 6, 0, 0, 3, 0x23, 0, 1]))

    with pytest.raises(NotMqttError, match="alias"):
        Publish.read(packet)


def connect_of(protocol: MQTTProtocolVersion, properties: Properties | None) -> bytes:
    """Return what a real client sends first."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = paho.Client(CallbackAPIVersion.VERSION2, client_id="Gerät 7", protocol=protocol)
        client.username_pw_set("user", "password")
        client.will_set("will", b"gone", qos=1)
        client.connect("127.0.0.1", listener.getsockname()[1], properties=properties)
        connection, _ = listener.accept()
        with connection:
            sent = connection.recv(4096)
        client.loop_write()
        client._sock_close()
    return sent


@pytest.mark.parametrize("receive_maximum", [None, 1000])
def test_who_connects_is_read_from_what_a_real_client_sends(receive_maximum: int | None) -> None:
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    if receive_maximum is not None:
        properties.ReceiveMaximum = receive_maximum
        properties.UserProperty = ("some", "thing" * 40)
    (packet,) = Splitter().feed(connect_of(MQTTProtocolVersion.MQTTv5, properties))

    assert "Gerät 7" == client_id(packet)


def test_an_older_version_of_mqtt_is_refused() -> None:
    (packet,) = Splitter().feed(connect_of(MQTTProtocolVersion.MQTTv311, None))

    with pytest.raises(NotMqttError, match="version 4"):
        client_id(packet)
