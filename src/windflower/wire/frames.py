"""Length-prefixed JSON between processes of one machine, which trust each other."""

import json
from typing import Any, Final, Protocol

from windflower.errors import MalformedMessage

PREFIX_BYTES: Final = 8
FRAME_BYTES: Final = 1 << 31


class ByteReader(Protocol):
    """A blocking file of bytes."""

    def read(self, size: int, /) -> bytes:
        """Return exactly `size` bytes, or fewer at the end."""
        ...


def frame(value: object) -> bytes:
    """Return the bytes of one frame."""
    body = json.dumps(value, separators=(",", ":")).encode()
    return len(body).to_bytes(PREFIX_BYTES, "little") + body


def frame_length(prefix: bytes) -> int:
    """Return how many bytes follow a frame's prefix; raises MalformedMessage."""
    length = int.from_bytes(prefix, "little")
    if len(prefix) != PREFIX_BYTES or length > FRAME_BYTES:
        raise MalformedMessage("not a frame")
    return length


def read_frame(file: ByteReader) -> Any | None:  # noqa: ANN401 - JSON is any
    """Return the next frame of a blocking file, None at its end; raises MalformedMessage."""
    prefix = file.read(PREFIX_BYTES)
    if not prefix:
        return None
    length = frame_length(prefix)
    body = file.read(length)
    if len(body) != length:
        raise MalformedMessage("a frame was cut")
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise MalformedMessage("a frame is not JSON") from error
