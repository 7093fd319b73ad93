"""Strategies for every value that the wire can carry, shared by the tests of wire and records."""

import re
from typing import Final

from hypothesis import settings
from hypothesis import strategies as st

from windflower.wire.blobs import BLOB_BYTES, BlobRef, Grant
from windflower.wire.content import (
    ArrayEntry,
    Arrays,
    Content,
    Record,
    finish,
    pack_inline,
    pack_records,
)
from windflower.wire.identifiers import GATEWAY
from windflower.wire.messages import (
    CAUSES,
    CONTROLS,
    METHODS,
    STAGES,
    Command,
    Control,
    Failure,
    Heartbeat,
    Reply,
    TaskProgress,
)
from windflower.wire.values import Value, Values

BOUNDED: Final = settings(max_examples=100, derandomize=True, database=None, deadline=None)
"""Every run tries the same examples: a red test is red for everybody."""

COUNTS: Final = st.integers(0, 1 << 53)

names = st.text(max_size=12)
devices = st.from_regex(re.compile(r"[a-zA-Z0-9][a-zA-Z0-9:_-]{0,127}"), fullmatch=True).filter(
    lambda text: text != GATEWAY
)
commands = st.text("0123456789abcdef", min_size=32, max_size=32)
seeds = st.text("0123456789abcdef", min_size=16, max_size=16)
digests = st.text("0123456789abcdef", min_size=64, max_size=64)
seconds = st.floats(0, 1e9)
blobs = st.builds(BlobRef, digests, st.integers(0, BLOB_BYTES))

_scalars = (
    st.booleans(),
    st.integers(-(1 << 256) + 1, (1 << 256) - 1),
    st.floats(),
    st.text(max_size=12),
    st.binary(max_size=12),
)
values: st.SearchStrategy[Value] = st.one_of(
    *_scalars, *(st.lists(kind, max_size=4).map(tuple) for kind in _scalars)
)
items = st.lists(st.tuples(names, values), max_size=4, unique_by=lambda item: item[0]).map(tuple)
value_records = st.builds(Values, st.sampled_from(("metrics", "configs")), items)
configs = st.builds(Values, st.just("configs"), items)


@st.composite
def array_records(draw: st.DrawFn) -> tuple[Arrays, tuple[bytes, ...]]:
    """Draw an array record and the bytes of its arrays, which stay what they are."""
    data = draw(st.lists(st.binary(max_size=200), max_size=3))
    keys = draw(st.lists(names, min_size=len(data), max_size=len(data), unique=True))
    entries = tuple(
        ArrayEntry(
            name,
            draw(names),
            tuple(draw(st.lists(st.integers(0, 1 << 40), max_size=3))),
            draw(names),
            len(piece),
        )
        for name, piece in zip(keys, data, strict=True)
    )
    return Arrays(entries), tuple(data)


@st.composite
def packable(draw: st.DrawFn) -> tuple[list[tuple[str, Record]], tuple[bytes, ...]]:
    """Draw a message's records, and the bytes of all their arrays."""
    data: list[bytes] = []
    records: list[tuple[str, Record]] = []
    for name in draw(st.lists(names, max_size=4, unique=True)):
        if draw(st.booleans()):
            record, pieces = draw(array_records())
            data += pieces
            records.append((name, record))
        else:
            records.append((name, draw(value_records)))
    return records, tuple(data)


@st.composite
def contents(draw: st.DrawFn) -> Content:
    """Draw a content: without a pack, with one inline, or with one elsewhere."""
    packing = pack_records(*draw(packable()))
    if packing.header and draw(st.booleans()):
        return finish(packing, draw(blobs))
    return pack_inline(packing)


PRINTABLE = st.characters(min_codepoint=32, max_codepoint=126)

heartbeats = st.builds(
    Heartbeat,
    client=devices,
    time=st.floats(-1e15, 1e15),
    boot=st.text(max_size=64),
    cause=st.sampled_from(CAUSES),
    interval_s=st.floats(0.01, 1e9),
    running=st.none() | commands,
    queued=st.lists(commands, max_size=3).map(tuple),
    outbox=st.lists(commands, max_size=3).map(tuple),
    need=st.lists(commands, max_size=3).map(tuple),
    speaks=st.lists(st.integers(1, 255), min_size=1, max_size=16).map(tuple),
    labels=st.dictionaries(st.text(max_size=64), st.text(max_size=64), max_size=4),
    progress=st.lists(
        st.builds(TaskProgress, commands, st.sampled_from(STAGES), seconds, seconds), max_size=8
    ).map(tuple),
    model=st.none() | st.binary(min_size=32, max_size=32).map(bytes.hex),
    agent=st.none() | st.text(PRINTABLE, min_size=1, max_size=64),
)
orders = st.builds(
    Command,
    id=commands,
    client=devices,
    method=st.sampled_from(METHODS),
    type=st.text(max_size=256),
    group=st.text(max_size=100),
    run=devices,
    number=COUNTS,
    epoch=COUNTS,
    floor=COUNTS,
    ttl_s=seconds,
    created_at=st.floats(0, 1e15),
    content=contents(),
    bundle=st.none() | blobs,
    config=configs,
    seed=st.none() | seeds,
)
controls = st.builds(
    Control,
    client=devices,
    method=st.sampled_from(CONTROLS),
    ids=st.lists(commands, max_size=4).map(tuple),
    boot=st.none() | st.text(max_size=64),
)
grants = st.builds(
    Grant,
    method=st.sampled_from(("GET", "PUT")),
    key=st.text([chr(c) for c in range(33, 127)], min_size=1, max_size=512),
    url=st.sampled_from(("http://192.0.2.1:8777/get/a?n=1&e=2&s=3", "https://[2001:db8::1]/")),
    size_bytes=st.integers(0, BLOB_BYTES),
    ttl_s=seconds,
)
failures = st.builds(Failure, st.integers(), st.text())
_answered = st.builds(
    Reply,
    client=devices,
    id=commands,
    method=st.sampled_from(METHODS),
    run=devices,
    epoch=COUNTS,
    content=contents(),
    worked_s=seconds,
)
_failed = st.builds(
    Reply,
    client=devices,
    id=commands,
    method=st.sampled_from(METHODS),
    run=devices,
    epoch=COUNTS,
    failure=failures,
    worked_s=seconds,
)
replies = _answered | _failed
