"""A paho client with what it received, for tests of what lies between it and its broker."""

from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from processes import until


class MqttClient:
    """Connects, subscribes to one topic at QoS 1, and comes back when it is cut off.

    Args:
        url: the broker, mqtt://HOST:PORT.
        name: its client id.
        topic: what it listens to.
        keepalive_s: how long it puts up with silence.
    """

    def __init__(self, url: str, name: str, topic: str, *, keepalive_s: int = 60) -> None:
        self.received: list[bytes] = []
        self.arrivals = 0
        self.departures = 0
        self._acknowledged: set[int] = set()
        self._topic = topic
        self._address = urlsplit(url)
        self._keepalive_s = keepalive_s
        self._paho = paho.Client(
            CallbackAPIVersion.VERSION2, client_id=name, protocol=MQTTProtocolVersion.MQTTv5
        )
        self._paho.reconnect_delay_set(min_delay=1, max_delay=1)
        self._paho.on_connect = self._connected
        self._paho.on_subscribe = self._arrived
        self._paho.on_disconnect = self._left
        self._paho.on_message = self._heard
        self._paho.on_publish = lambda _c, _d, mid, _r, _p: self._acknowledged.add(mid)

    def __enter__(self) -> Self:
        assert self._address.hostname is not None
        assert self._address.port is not None
        self._paho.connect_async(self._address.hostname, self._address.port, self._keepalive_s)
        self._paho.loop_start()
        until(lambda: self.arrivals, "the subscription")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._paho.disconnect()
        self._paho.loop_stop()

    @property
    def is_connected(self) -> bool:
        """Whether its connection looks open."""
        return self._paho.is_connected()

    def publish(self, topic: str, payloads: list[bytes], *, qos: int = 1) -> list[int]:
        """Publish each; returns their packet ids."""
        return [self._paho.publish(topic, payload, qos=qos).mid for payload in payloads]

    def is_acknowledged(self, packet_ids: list[int]) -> bool:
        """Return whether the broker, or whoever speaks for it, acknowledged all of them."""
        return self._acknowledged.issuperset(packet_ids)

    def _connected(self, *_: object) -> None:
        self._paho.subscribe(self._topic, qos=1)

    def _heard(self, _client: paho.Client, _data: object, message: paho.MQTTMessage) -> None:
        self.received.append(bytes(message.payload))

    def _arrived(self, *_: object) -> None:
        self.arrivals += 1

    def _left(self, *_: object) -> None:
        self.departures += 1
