"""Sees when a device is first sent a command, beside the device."""

import threading
import time

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from processes import DEADLINE_S

from windflower.wire.messages import Envelope
from windflower.wire.messages.vocabulary import CONTROLS
from windflower.wire.topics import Topics


class CommandWatch:
    """Listens to what a device is told, from its making on.

    Args:
        port: where the broker listens.
        device: whose topic it is.
    """

    def __init__(self, port: int, device: str) -> None:
        self._topic = Topics().command(device)
        self._is_listening = threading.Event()
        self._was_sent = threading.Event()
        self._sent_at = 0.0
        self._client = paho.Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
        self._client.on_subscribe = lambda *_: self._is_listening.set()
        self._client.on_message = lambda _client, _data, message: self._received(
            bytes(message.payload)
        )
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        self._client.subscribe(self._topic, qos=1)
        assert self._is_listening.wait(DEADLINE_S), "the broker does not let the test listen"

    def first_command(self, *, deadline_s: float) -> float:
        """Return when the first command was seen, on the monotonic clock."""
        assert self._was_sent.wait(deadline_s), f"no command on {self._topic} in {deadline_s} s"
        return self._sent_at

    def close(self) -> None:
        """Listen no more."""
        self._client.disconnect()
        self._client.loop_stop()

    def _received(self, message: bytes) -> None:
        is_command = Envelope.from_bytes(message).method not in CONTROLS
        if is_command and not self._was_sent.is_set():
            self._sent_at = time.monotonic()
            self._was_sent.set()
