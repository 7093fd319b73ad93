"""Whatever is written can be read, and says the same."""

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st
from vectors.values import (
    BOUNDED,
    blobs,
    contents,
    controls,
    grants,
    heartbeats,
    orders,
    packable,
    replies,
)

from windflower.wire.blobs import BlobRef, Grant
from windflower.wire.content import (
    Arrays,
    Content,
    Record,
    merge,
    pack_header_bytes,
    pack_records,
    read_pack_header,
)
from windflower.wire.limits import INLINE_VALUES_BYTES, PACK_ALIGNMENT
from windflower.wire.messages import Command, Control, Envelope, Heartbeat, Reply, seal
from windflower.wire.sealing import Signer
from windflower.wire.strict_json import dumps, loads
from windflower.wire.values import fill

SIGNER = Signer(bytes(range(32)))

# Values are compared by their repr: it tells -0.0 from 0.0, and one NaN equals another.


@BOUNDED
@given(heartbeats)
def test_a_heartbeat_is_read_as_it_was_written(heartbeat: Heartbeat) -> None:
    assert repr(heartbeat) == repr(Heartbeat.from_bytes(heartbeat.to_bytes()))


@BOUNDED
@given(orders)
def test_a_command_is_read_as_it_was_written(command: Command) -> None:
    assert repr(command) == repr(Command.from_body(command.to_body()))


@BOUNDED
@given(controls)
def test_a_control_is_read_as_it_was_written(control: Control) -> None:
    assert control == Control.from_body(control.to_body())


@BOUNDED
@given(orders | controls, st.lists(grants, max_size=3).map(tuple))
def test_a_sealed_message_is_opened_as_it_was_sealed(
    message: Command | Control, beside: tuple[Grant, ...]
) -> None:
    envelope = seal(message, SIGNER, beside)

    read = Envelope.from_bytes(envelope.to_bytes())

    assert envelope == read
    assert repr(message) == repr(read.open(pinned_key=SIGNER.public_key))


@BOUNDED
@given(replies)
def test_a_reply_is_read_as_it_was_written(reply: Reply) -> None:
    assert repr(reply) == repr(Reply.from_bytes(reply.to_bytes()))


@BOUNDED
@given(grants)
def test_a_grant_is_read_as_it_was_written(grant: Grant) -> None:
    assert grant == Grant.from_json(loads(dumps(grant.to_json()).encode()))


@BOUNDED
@given(blobs)
def test_a_blob_ref_is_read_as_it_was_written(ref: BlobRef) -> None:
    assert ref == BlobRef.from_json(loads(dumps(ref.to_json()).encode()))


@BOUNDED
@given(contents())
def test_a_content_is_read_as_it_was_written_and_keeps_its_digest(content: Content) -> None:
    read = Content.from_json(loads(dumps(content.to_json()).encode()))

    assert repr(content) == repr(read)
    assert content.digest == read.digest


@BOUNDED
@given(packable(), st.sampled_from([0, INLINE_VALUES_BYTES]))
def test_a_pack_gives_back_its_records_in_order_and_its_bytes(
    packed: tuple[list[tuple[str, Record]], tuple[bytes, ...]], inline_values_bytes: int
) -> None:
    records, data = packed
    packing = pack_records(records, data, inline_values_bytes=inline_values_bytes)
    pack = b"".join(packing.chunks())

    described = read_pack_header(pack, pack_bytes=len(pack)) if pack else {}
    merged = [
        (name, record if isinstance(record, Arrays) else fill(record, bytes_at(pack)))
        for name, record in merge(Content(packing.inline), described)
    ]
    entries = [e for _, record in merged if isinstance(record, Arrays) for e in record.entries]

    assert len(pack) == packing.size_bytes
    assert [name for name, _ in records] == [name for name, _ in merged]
    assert list(data) == [pack[e.offset : e.offset + e.size_bytes] for e in entries]
    assert all(entry.offset % PACK_ALIGNMENT == 0 for entry in entries)
    assert repr(_without_offsets(records)) == repr(_without_offsets(merged))


@BOUNDED
@given(packable())
def test_a_packs_header_alone_is_enough_to_find_every_array(
    packed: tuple[list[tuple[str, Record]], tuple[bytes, ...]],
) -> None:
    pack = b"".join(pack_records(*packed).chunks())
    if not pack:
        return

    header = pack[: pack_header_bytes(pack[:16])]

    assert repr(read_pack_header(pack, pack_bytes=len(pack))) == repr(
        read_pack_header(header, pack_bytes=len(pack))
    )


def bytes_at(pack: bytes) -> Callable[[int, int], bytes]:
    return lambda offset, size_bytes: pack[offset : offset + size_bytes]


def _without_offsets(records: list[tuple[str, Record]]) -> list[object]:
    return [
        [name, [(e.name, e.dtype, e.shape, e.stype, e.size_bytes) for e in record.entries]]
        if isinstance(record, Arrays)
        else [name, record]
        for name, record in records
    ]
