"""Whatever the bytes, every reader refuses them with one error, or reads what can be written.

A seeded mutator over the test vectors; a failure names the case, which is the same everywhere.
"""

import json
import random
import time
import tracemalloc
from base64 import b64encode
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from vectors import make
from vectors.values import BOUNDED

from windflower.errors import MalformedMessage
from windflower.wire.blobs import BlobRef, Grant
from windflower.wire.content import (
    Arrays,
    Content,
    finish,
    pack_header_bytes,
    pack_records,
    read_pack_header,
)
from windflower.wire.limits import MESSAGE_BYTES, PACK_HEADER_BYTES
from windflower.wire.messages import METHODS, Command, Control, Envelope, Heartbeat, Reply, seal
from windflower.wire.npy import check_npy, parse_npy_header
from windflower.wire.strict_json import dumps, loads
from windflower.wire.topics import Topics
from windflower.wire.values import fill

CASES: Final = 5_000
"""For each reader; eleven of them."""

TOPICS: Final = Topics("site-4")
MESSAGES: Final = make.document()["messages"]


# -------------------------------------------------------------------------------- readers
#
# Each reads bytes and returns what it read in a form that can be compared, after it was written
# and read once more: what was accepted can be kept and passed on.


def _heartbeat(data: bytes) -> tuple[object, object]:
    read = Heartbeat.from_bytes(data)
    return read, Heartbeat.from_bytes(read.to_bytes())


def _envelope(data: bytes) -> tuple[object, object]:
    read = Envelope.from_bytes(data)
    return read, Envelope.from_bytes(read.to_bytes())


def _opened(data: bytes) -> tuple[object, object]:
    """Sign whatever stands in the envelope, so that the body behind the seal is read."""
    read = Envelope.from_bytes(data)
    if not read.body.isascii():
        raise MalformedMessage("our signer writes ASCII")
    signature = make.SIGNER.sign(read.signed)
    signed = replace(read, signature=signature, key=make.SIGNER.public_key)
    opened = signed.open(pinned_key=make.SIGNER.public_key)
    return opened, seal(opened, make.SIGNER).open(pinned_key=make.SIGNER.public_key)


def _command(data: bytes) -> tuple[object, object]:
    read = Command.from_body(data.decode("utf-8", "surrogateescape"))
    return read, Command.from_body(read.to_body())


def _control(data: bytes) -> tuple[object, object]:
    read = Control.from_body(data.decode("utf-8", "surrogateescape"))
    return read, Control.from_body(read.to_body())


def _reply(data: bytes) -> tuple[object, object]:
    read = Reply.from_bytes(data)
    return read, Reply.from_bytes(read.to_bytes())


def _named_reply(data: bytes) -> tuple[object, object]:
    """Name the content's digest anew, so that it is not the digest that refuses everything."""
    value = loads(data)
    if not isinstance(value, dict):
        raise MalformedMessage("not an object")
    value["digest"] = Content.from_json(value.get("content")).digest
    return _reply(dumps(value).encode())


def _content(data: bytes) -> tuple[object, object]:
    read = Content.from_json(loads(data))
    return read, Content.from_json(loads(dumps(read.to_json()).encode()))


def _pack(data: bytes) -> tuple[object, object]:
    read = read_pack_header(data, pack_bytes=len(data))
    for record in read.values():
        if isinstance(record, Arrays):
            assert all(0 <= e.offset <= len(data) - e.size_bytes for e in record.entries)
    pieces = [
        data[e.offset : e.offset + e.size_bytes]
        for record in read.values()
        if isinstance(record, Arrays)
        for e in record.entries
    ]
    filled = {
        name: record
        if isinstance(record, Arrays)
        else fill(record, lambda at, n: data[at : at + n])
        for name, record in read.items()
    }
    again = b"".join(pack_records(filled.items(), pieces, inline_values_bytes=0).chunks())
    return read, read_pack_header(again, pack_bytes=len(again)) if again else {}


def _npy(data: bytes) -> tuple[object, object]:
    header = parse_npy_header(data)
    try:
        check_npy(data, shape=header.shape, size_bytes=len(data))
    except MalformedMessage:
        assert header.total_bytes != len(data)
    return None, None


def _topic(data: bytes) -> tuple[object, object]:
    kind, device = TOPICS.read(data.decode("latin-1"))
    spelled = [TOPICS.heartbeat(device), TOPICS.command(device)]
    spelled += [TOPICS.reply(method, device) for method in METHODS]
    return True, data.decode("latin-1") in spelled and bool(kind)


# --------------------------------------------------------------------------------- corpora


def _of(kind: str, field: str = "bytes") -> list[bytes]:
    return [m[field].encode() for m in MESSAGES if m["kind"] == kind]


PACKS: Final = [b"".join(packing.chunks()) for packing in make.PACKS.values()]
READERS: Final[dict[str, tuple[Callable[[bytes], tuple[object, object]], list[bytes]]]] = {
    "heartbeat": (_heartbeat, _of("heartbeat")),
    "envelope": (_envelope, _of("command") + _of("control")),
    "opened": (_opened, _of("command") + _of("control")),
    "command": (_command, _of("command", "body")),
    "control": (_control, _of("control", "body")),
    "reply": (_reply, _of("reply")),
    "named reply": (_named_reply, _of("reply")),
    "content": (
        _content,
        [dumps(c.content.to_json()).encode() for c in make.COMMANDS.values()]
        + [dumps(r.content.to_json()).encode() for r in make.REPLIES.values()],
    ),
    "pack": (_pack, PACKS),
    "npy": (_npy, [make.WEIGHTS, make.BIAS, make.EMPTY, make.FLAGS, make.TURNED, make.SWAPPED]),
    "topic": (
        _topic,
        [TOPICS.heartbeat("pi-07").encode()]
        + [TOPICS.command("a:b_c-d").encode()]
        + [TOPICS.reply(method, "0").encode() for method in METHODS],
    ),
}


# ----------------------------------------------------------------------------- the mutator

HOSTILE: Final[tuple[Any, ...]] = (
    None, True, False, 0, -1, 1, 1.5, -0.0, 1e308, 1 << 53, 1 << 63, 10**19, "", "a", "gateway",
    "\ud800", "\U0001f32c", "a" * 5000, "nan", "0x1p0", "QQ==", [], [[]], {}, {"kind": "arrays"},
    [None], ["x", "int", "1"], ["x", "bytess", ["QQ=="]], {"digest": "0" * 64, "size": 0},
)  # fmt: skip
TOKENS: Final = (
    b"NaN", b"Infinity", b"-Infinity", b"1e999", b"-1e999", b"9" * 30, b"-" + b"9" * 5000, b"0x10",
    b"[" * 2000, b'{"a":' * 2000, b"\xff", b"\0", b"\xed\xa0\x80", b"\\ud800", b"\xef\xbb\xbf",
    b'"v":1,"v":1,', b"1.0", b"1e0", b"01", b"+1", b" ", b"\n", b"'", b"//", b"null", b"true",
    b"'<f4'", b"'|O'", b"(1,)", b"(1099511627776,)", b"(True,)", b"-", b"L", b"(((", b"\\",
)  # fmt: skip


def _mangled(data: bytes, others: list[bytes], chance: random.Random) -> bytes:
    for _ in range(chance.choice((1, 1, 1, 2, 3, 8))):
        data = chance.choice(MANGLERS)(data, others, chance)
    return data


def _flip(data: bytes, _others: list[bytes], chance: random.Random) -> bytes:
    if not data:
        return b"\0"
    at = chance.randrange(len(data))
    return data[:at] + bytes((data[at] ^ 1 << chance.randrange(8),)) + data[at + 1 :]


def _cut(data: bytes, _others: list[bytes], chance: random.Random) -> bytes:
    first, last = sorted(chance.randint(0, len(data)) for _ in range(2))
    return chance.choice((data[:first], data[first:], data[:first] + data[last:]))


def _repeat(data: bytes, _others: list[bytes], chance: random.Random) -> bytes:
    first, last = sorted(chance.randint(0, len(data)) for _ in range(2))
    return data[:last] + data[first:last] * chance.randint(1, 3) + data[last:]


def _splice(data: bytes, others: list[bytes], chance: random.Random) -> bytes:
    other = chance.choice(others)
    return data[: chance.randint(0, len(data))] + other[chance.randint(0, len(other)) :]


def _insert(data: bytes, _others: list[bytes], chance: random.Random) -> bytes:
    at = chance.randint(0, len(data))
    over = chance.choice((0, 0, 1, 4))
    return data[:at] + chance.choice(TOKENS) + data[at + over :]


def _lie(data: bytes, _others: list[bytes], chance: random.Random) -> bytes:
    """Change a length where packs and arrays have theirs, or any number."""
    at, width = chance.choice(((8, 8), (8, 2), (chance.randint(0, len(data)), 1)))
    claimed = chance.choice((0, 1, len(data), len(data) * 2, 1 << 43, (1 << 64) - 1))
    return data[:at] + claimed.to_bytes(8, "little")[:width] + data[at + width :]


def _restructure(data: bytes, others: list[bytes], chance: random.Random) -> bytes:
    """Put something else at one place of a JSON value."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return _flip(data, others, chance)
    places = list(_places(value))
    if not places:
        return data
    container, key = chance.choice(places)
    action = chance.randrange(4)
    if action == 0:
        del container[key]
    elif action == 1 and isinstance(container, dict):
        container[chance.choice(("extra", "progress", "v", "pack", "inline", "acks"))] = 1
    elif action == 1:
        container.append(container[key])
    else:
        container[key] = chance.choice(HOSTILE)
    return json.dumps(value).encode()


def _places(value: Any) -> list[tuple[Any, Any]]:  # noqa: ANN401 - JSON is any
    places: list[tuple[Any, Any]] = []
    left = [value] if isinstance(value, dict | list) else []
    while left:
        container = left.pop()
        keys = container if isinstance(container, dict) else range(len(container))
        for key in keys:
            places.append((container, key))
            if isinstance(container[key], dict | list):
                left.append(container[key])
    return places


MANGLERS: Final = (_flip, _cut, _repeat, _splice, _insert, _lie, _restructure, _restructure)


def _outcome(reader: str, data: bytes) -> str | tuple[object, object]:
    """Return why a reader refused, or what it read; anything else that it raises is a bug."""
    try:
        return READERS[reader][0](data)
    except MalformedMessage as refusal:
        return refusal.reason


@pytest.mark.parametrize("reader", READERS)
def test_mangled_bytes_are_refused_with_one_error_or_read(reader: str) -> None:
    _, corpus = READERS[reader]
    accepted = 0
    for case in range(CASES):
        chance = random.Random(f"{reader} {case}")
        data = _mangled(chance.choice(corpus), corpus, chance)
        try:
            outcome = _outcome(reader, data)
        except Exception as error:
            raise AssertionError((reader, case, data[:200])) from error
        if isinstance(outcome, str):
            assert outcome.isprintable(), (reader, case)
            assert len(outcome) < 1000, (reader, case)
        else:
            accepted += 1
            assert repr(outcome[0]) == repr(outcome[1]), (reader, case)
    assert 0 < accepted < CASES


@pytest.mark.parametrize("reader", READERS)
def test_what_the_corpus_holds_is_read(reader: str) -> None:
    read, corpus = READERS[reader]
    for data in corpus:
        if reader == "named reply" and b'"error"' in data:
            continue
        once, twice = read(data)

        assert repr(once) == repr(twice)


# ------------------------------------------------------------------------------ random JSON

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(("v", "id", "client", "method", "records", "kind", "items", "x")),
            inner,
            max_size=6,
        )
    ),
    max_leaves=20,
)


@BOUNDED
@given(anything)
def test_random_json_is_refused_with_one_error(value: object) -> None:
    data = json.dumps(value).encode()
    for name in ("heartbeat", "envelope", "command", "control", "reply", "pack", "npy"):
        with pytest.raises(MalformedMessage):
            READERS[name][0](data)


@BOUNDED
@given(st.binary(max_size=300))
def test_random_bytes_are_refused_with_one_error(data: bytes) -> None:
    for name, (read, _) in READERS.items():
        if name != "npy":
            with pytest.raises(MalformedMessage):
                read(data)
        with pytest.raises(MalformedMessage):
            parse_npy_header(b"\x93NUMPY\x01\x00" + data)
        with pytest.raises(MalformedMessage):
            read_pack_header(b"WFPACK1\n" + data, pack_bytes=8 + len(data))


@BOUNDED
@given(anything)
def test_random_parts_are_refused_with_one_error(value: object) -> None:
    for part in (BlobRef.from_json, Grant.from_json, Content.from_json):
        try:
            part(value)
        except MalformedMessage:
            continue
        assert part == Content.from_json
        assert isinstance(value, dict)


# --------------------------------------------------------------------------- time and memory

BOMBS: Final = {
    "deep lists": b"[" * MESSAGE_BYTES,
    "deep objects": b'{"a":' * (MESSAGE_BYTES // 5),
    "many small lists": b"[" + b"[]," * (MESSAGE_BYTES // 3 - 2) + b"[]]",
    "many keys": b"{" + b",".join(b'"%d":0' % n for n in range(12_000)) + b"}",
    "one key, many times": b"{" + b'"v":1,' * 20_000 + b'"v":1}',
    "a long number": b'{"v":' + b"9" * (MESSAGE_BYTES - 10) + b"}",
    "a long fraction": b'{"v":0.' + b"9" * (MESSAGE_BYTES - 10) + b"}",
    "a long exponent": b'{"v":1e' + b"9" * (MESSAGE_BYTES - 10) + b"}",
    "a long text": b'{"v":"' + b"a" * (MESSAGE_BYTES - 10) + b'"}',
    "many escapes": b'{"v":"' + b"\\u0000" * (MESSAGE_BYTES // 6 - 2) + b'"}',
    "zeros": bytes(MESSAGE_BYTES),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_costs_less_than_a_second_and_little_memory(bomb: str) -> None:
    tracemalloc.start()
    begun = time.process_time()
    for name in ("heartbeat", "envelope", "command", "control", "reply", "pack", "npy"):
        with pytest.raises(MalformedMessage):
            READERS[name][0](BOMBS[bomb])
    took_s = time.process_time() - begun
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert took_s < 1.0 * 7
    assert peak_bytes < 128 * MESSAGE_BYTES


@pytest.mark.parametrize(
    "header",
    [
        "-" * 9000 + "1",
        "(" * 9000,
        "[" * 9000,
        "{1:" * 3000,
        "1+" * 4500 + "1",
        "'a'" * 3000,
        "not " * 2000 + "1",
        "~" * 9990 + "1",
        "lambda:" * 1400 + "1",
        "9" * 9000,
        "0x" + "f" * 9000,
        "1e" + "9" * 9000,
        "{'descr': '<f4', 'fortran_order': False, 'shape': (" + "0," * 4000 + ")}",
        "{'descr': " + "[('a', " * 20 + "'<f4'" + ")]" * 20
        + ", 'fortran_order': False, 'shape': ()}",
    ],
)  # fmt: skip
def test_an_array_header_that_is_a_bomb_is_refused_in_no_time(header: str) -> None:
    raw = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode()
    begun = time.process_time()

    with pytest.raises(MalformedMessage):
        parse_npy_header(raw)

    assert time.process_time() - begun < 0.5


def test_an_array_that_claims_8_tebibytes_allocates_nothing() -> None:
    claims = make.npy("<f8", (1 << 40,), b"")
    packing = make.packing_of(("arrays", {"w": ("float64", (1 << 40,), claims)}))
    pack = b"".join(packing.chunks())
    tracemalloc.start()

    read_pack_header(pack, pack_bytes=len(pack))
    header = parse_npy_header(claims)
    with pytest.raises(MalformedMessage):
        check_npy(claims, shape=(1 << 40,), size_bytes=len(claims))
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert 8 << 40 == header.total_bytes - header.header_bytes
    assert peak_bytes < 100_000


@pytest.mark.parametrize("claimed", [PACK_HEADER_BYTES, PACK_HEADER_BYTES + 1, (1 << 64) - 1])
def test_a_pack_that_claims_a_long_header_allocates_nothing(claimed: int) -> None:
    pack = b"WFPACK1\n" + claimed.to_bytes(8, "little") + b"{}"
    tracemalloc.start()

    with pytest.raises(MalformedMessage):
        read_pack_header(pack, pack_bytes=8 << 40)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak_bytes < 10_000


def test_a_pack_that_describes_8_tebibytes_it_does_not_have_is_refused() -> None:
    entry = ["w", "float64", [1 << 40], "numpy.ndarray", 1 << 40]
    listed = [[f"r{n}", {"kind": "arrays", "items": [entry]}] for n in range(8)]
    header = dumps({"records": listed}).encode()
    pack = b"WFPACK1\n" + len(header).to_bytes(8, "little") + header

    with pytest.raises(MalformedMessage, match="describes"):
        read_pack_header(pack, pack_bytes=len(pack))


def test_a_message_that_is_too_long_is_refused_before_it_is_read() -> None:
    data = b'{"v":1}' + b" " * MESSAGE_BYTES
    for read in (Heartbeat.from_bytes, Envelope.from_bytes, Reply.from_bytes):
        with pytest.raises(MalformedMessage, match="at most"):
            read(data)


def test_a_content_may_name_a_blob_of_a_tebibyte_and_costs_nothing() -> None:
    content = finish(make.MODEL, BlobRef("0" * 64, 1 << 40))

    assert content == Content.from_json(content.to_json())


def test_an_inline_pack_that_is_not_what_it_is_named_is_refused() -> None:
    pack = PACKS[0]
    for at in range(0, len(pack), 7):
        changed = pack[:at] + bytes((pack[at] ^ 1,)) + pack[at + 1 :]
        value = {
            "records": [["arrays", None]],
            "pack": make.BLOB.to_json(),
            "inline": b64encode(changed).decode(),
        }
        with pytest.raises(MalformedMessage, match="inline pack"):
            Content.from_json(value)


def test_the_prefix_of_a_pack_says_how_long_its_header_is() -> None:
    for pack in PACKS:
        assert 16 < pack_header_bytes(pack[:16]) <= len(pack)
        for length in range(16):
            with pytest.raises(MalformedMessage):
                pack_header_bytes(pack[:length])
