import io

import pytest

from windflower.errors import MalformedMessage
from windflower.wire.frames import FRAME_BYTES, PREFIX_BYTES, frame, frame_length, read_frame


def test_frames_are_read_one_after_the_other_until_the_end() -> None:
    file = io.BytesIO(frame({"n": 1}) + frame([None, "ü"]) + frame(0))

    assert [{"n": 1}, [None, "ü"], 0, None] == [read_frame(file) for _ in range(4)]


@pytest.mark.parametrize("prefix", [b"", b"1234567", b"123456789", bytes(7) + b"\x01"])
def test_what_is_no_length_is_refused(prefix: bytes) -> None:
    with pytest.raises(MalformedMessage):
        frame_length(prefix)


def test_a_frame_has_at_most_2_gibibytes() -> None:
    assert FRAME_BYTES == frame_length(FRAME_BYTES.to_bytes(PREFIX_BYTES, "little"))
    with pytest.raises(MalformedMessage):
        frame_length((FRAME_BYTES + 1).to_bytes(PREFIX_BYTES, "little"))


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[" * 100_000])
def test_a_frame_that_is_no_json_is_refused(body: bytes) -> None:
    with pytest.raises(MalformedMessage):
        read_frame(io.BytesIO(len(body).to_bytes(PREFIX_BYTES, "little") + body))


def test_a_frame_that_was_cut_is_refused() -> None:
    for length in range(1, len(frame("text"))):
        with pytest.raises(MalformedMessage):
            read_frame(io.BytesIO(frame("text")[:length]))
