"""A Greengrass nucleus as a component sees it: event-stream RPC on a unix socket, MQTT behind it.

What it lets the component do stands in the recipe. It keeps nothing while it has no way upstream,
as a real one would: then it says so.
"""

import asyncio
import base64
import json
import socket
import struct
from binascii import crc32
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from cloud import REGION

from windflower.adapters.aws.template import Stack, Template
from windflower.adapters.local.broker_address import BrokerAddress
from windflower.adapters.local.mqtt import Arrival, Connection
from windflower.errors import BrokerUnavailable

Headers = Mapping[str, int | str]
MESSAGE, ERROR, CONNECT, CONNECT_ACK = 0, 1, 4, 5
ACCEPTED, TERMINATE = 1, 2
STACK: Final = Template.load().resolve({"ComponentKey": "component/agent.zip"}, region=REGION)
TOKEN: Final = "of-this-component"  # noqa: S105 - nobody else's
_INT32, _STRING = 4, 7
_NAMES: Final = "aws.greengrass#"


class Refusal(Exception):  # noqa: N818 - what the component is told
    """An error shape of the nucleus."""

    def __init__(self, shape: str, message: str) -> None:
        super().__init__(message)
        self.shape = shape


class Nucleus:
    """A nucleus that listens from the moment it is made, and serves until it is stopped.

    Args:
        path: where its socket is.
        upstream: IoT Core, as this core reaches it.
        thing: the core's name.
        stack: whose recipe says what the component may do.

    Attributes:
        is_mute: whether it answers nothing any more.
    """

    def __init__(
        self, path: Path, upstream: BrokerAddress, thing: str, *, stack: Stack = STACK
    ) -> None:
        self._path = path
        self._access = access_control(stack)
        self._upstream = upstream
        self._thing = thing
        self.is_mute = False
        self._served: set[asyncio.Task[None]] = set()
        path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(path))
        listener.listen()
        self._task = asyncio.create_task(self._serve(listener))

    @property
    def environment(self) -> dict[str, str]:
        """What it tells the processes that it starts."""
        variable = "AWS_GG_NUCLEUS_DOMAIN_SOCKET_FILEPATH_FOR_COMPONENT"
        return {variable: str(self._path), "SVCUID": TOKEN}

    async def stop(self) -> None:
        """End, as a nucleus that is restarted."""
        for task in (self._task, *self._served):
            task.cancel()
        await asyncio.gather(self._task, *self._served, return_exceptions=True)

    async def _serve(self, listener: socket.socket) -> None:
        async with await asyncio.start_unix_server(self._accept, sock=listener) as server:
            await server.serve_forever()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        component = _Component(self, reader, writer)
        task = asyncio.create_task(component.serve())
        self._served.add(task)
        task.add_done_callback(self._served.discard)

    def check(self, operation: str, topic: str) -> None:
        """Raise what the nucleus says of an operation that the recipe does not allow."""
        allowed = self._access.get(_NAMES + operation, [])
        if not any(matches(resource, topic) for resource in allowed):
            raise Refusal("UnauthorizedError", f"not authorized for {operation} on {topic}")

    async def connected(self, topic: str, component: "_Component", stream: int) -> Connection:
        """Connect upstream as the core, with one subscription."""

        def received(arrival: Arrival) -> None:
            arrival.done()
            component.hand_on(stream, arrival)

        connection = Connection(
            *(self._upstream, self._thing),
            filters=(topic,),
            on_message=received,
            on_change=lambda _: None,
        )
        await connection.open(must_answer=True)
        return connection


class _Component:
    """One connection of a component."""

    def __init__(
        self, nucleus: Nucleus, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._nucleus = nucleus
        self._reader = reader
        self._writer = writer
        self._connection: Connection | None = None

    async def serve(self) -> None:
        """Answer until it goes."""
        try:
            with suppress(asyncio.IncompleteReadError, ConnectionError):
                if await self._is_let_in():
                    while True:
                        await self._answer(*await read_frame(self._reader))
        finally:
            self._writer.close()
            if self._connection is not None:
                await self._connection.close()

    def hand_on(self, stream: int, arrival: Arrival) -> None:
        """Say that a message arrived."""
        payload = base64.b64encode(arrival.payload).decode()
        message = {"message": {"topicName": arrival.topic, "payload": payload}}
        self._say(stream, "IoTCoreMessage", message)

    async def _is_let_in(self) -> bool:
        headers, payload = await read_frame(self._reader)
        assert (CONNECT, "0.1.0") == (headers[":message-type"], headers[":version"])
        is_known = bool(json.loads(payload) == {"authToken": TOKEN})
        flags = ACCEPTED if is_known else 0
        self._write({":message-type": CONNECT_ACK, ":message-flags": flags, ":stream-id": 0})
        if not is_known:
            await self._reader.read()  # it hangs up: had we, it might not see why
        return is_known

    async def _answer(self, headers: Headers, payload: bytes) -> None:
        if "operation" not in headers or self._nucleus.is_mute:
            return  # the component ends a stream
        stream = int(headers[":stream-id"])
        operation = str(headers["operation"]).removeprefix(_NAMES)
        given = json.loads(payload)
        try:
            if operation == "SubscribeToIoTCore":
                await self._subscribe(stream, given)
                self._say(stream, "SubscribeToIoTCoreResponse", {})
            else:
                self._publish(given)
                self._say(stream, "PublishToIoTCoreResponse", {}, flags=TERMINATE)
        except Refusal as refusal:
            told = {"message": str(refusal)}
            self._say(stream, refusal.shape, told, kind=ERROR, flags=TERMINATE)

    async def _subscribe(self, stream: int, given: Mapping[str, Any]) -> None:
        assert "1" == given["qos"]
        self._nucleus.check("SubscribeToIoTCore", given["topicName"])
        self._connection = await self._nucleus.connected(given["topicName"], self, stream)

    def _publish(self, given: Mapping[str, Any]) -> None:
        self._nucleus.check("PublishToIoTCore", given["topicName"])
        assert self._connection is not None, "nothing is said before the subscription"
        payload = base64.b64decode(given["payload"])
        try:
            self._connection.publish(given["topicName"], payload, qos=int(given["qos"]))
        except BrokerUnavailable as error:
            raise Refusal("ServiceError", str(error)) from error

    def _say(
        self, stream: int, shape: str, body: object, *, kind: int = MESSAGE, flags: int = 0
    ) -> None:
        headers: Headers = {
            ":message-type": kind,
            ":message-flags": flags,
            ":stream-id": stream,
            ":content-type": "application/json",
            "service-model-type": _NAMES + shape,
        }
        self._write(headers, json.dumps(body).encode())

    def _write(self, headers: Headers, payload: bytes = b"") -> None:
        if not self._writer.is_closing():
            self._writer.write(frame(headers, payload))


def access_control(stack: Stack) -> dict[str, list[str]]:
    """Return the topics that a stack's recipe allows, by operation."""
    recipe = json.loads(stack.properties("GreengrassComponent")["InlineRecipe"])
    access = recipe["ComponentConfiguration"]["DefaultConfiguration"]["accessControl"]
    return {
        operation: policy["resources"]
        for policy in access["aws.greengrass.ipc.mqttproxy"].values()
        for operation in policy["operations"]
    }


def matches(resource: str, topic: str) -> bool:
    """Return whether a topic is one that a resource with MQTT's wildcard `+` names."""
    parts, words = resource.split("/"), topic.split("/")
    return len(parts) == len(words) and all(
        part in ("+", word) for part, word in zip(parts, words, strict=True)
    )


# -------------------------------------------------------------------------------- the framing


def frame(headers: Headers, payload: bytes = b"") -> bytes:
    """Return a message of the event-stream encoding."""
    coded = b"".join(_header(name, value) for name, value in headers.items())
    prelude = struct.pack(">II", 16 + len(coded) + len(payload), len(coded))
    message = prelude + struct.pack(">I", crc32(prelude)) + coded + payload
    return message + struct.pack(">I", crc32(message))


async def read_frame(reader: asyncio.StreamReader) -> tuple[dict[str, int | str], bytes]:
    """Read a message; its headers and its payload."""
    start = await reader.readexactly(12)
    size, headers_size, checksum = struct.unpack(">III", start)
    assert crc32(start[:8]) == checksum
    rest = await reader.readexactly(size - 12)
    assert (crc32(start + rest[:-4]),) == struct.unpack(">I", rest[-4:])
    return _headers(rest[:headers_size]), rest[headers_size:-4]


def _header(name: str, value: int | str) -> bytes:
    head = struct.pack(">B", len(name)) + name.encode()
    if isinstance(value, int):
        return head + struct.pack(">Bi", _INT32, value)
    return head + struct.pack(">BH", _STRING, len(value)) + value.encode()


def _headers(data: bytes) -> dict[str, int | str]:
    found: dict[str, int | str] = {}
    while data:
        end = 1 + data[0]
        name, kind, data = data[1:end].decode(), data[end], data[end + 1 :]
        if kind == _INT32:
            (found[name],), data = struct.unpack(">i", data[:4]), data[4:]
        else:
            assert kind == _STRING, kind
            size = 2 + int.from_bytes(data[:2], "big")
            found[name], data = data[2:size].decode(), data[size:]
    return found
