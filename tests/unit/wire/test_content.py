import hashlib

import pytest
from vectors import make

from windflower.errors import LocalProtocolError, MalformedMessage
from windflower.wire.blobs import BlobRef
from windflower.wire.content import (
    ArrayEntry,
    Arrays,
    Content,
    Packing,
    finish,
    merge,
    pack_inline,
    pack_records,
    read_pack_header,
)
from windflower.wire.limits import (
    DTYPE_CHARS,
    INLINE_PACK_BYTES,
    INLINE_VALUES_BYTES,
    NAME_CHARS,
    PACK_HEADER_BYTES,
    RECORDS,
)
from windflower.wire.strict_json import dumps
from windflower.wire.values import Value, Values

REF = BlobRef("0" * 64, 64)


def _config(*items: tuple[str, Value]) -> Values:
    return Values("configs", items)


def _packing(size: int) -> Packing:
    entry = ArrayEntry("w", "u1", (size,), "raw", size)
    return pack_records([("arrays", Arrays((entry,)))], [bytes(size)])


def _pack(packing: Packing) -> bytes:
    return b"".join(packing.chunks())


# ----------------------------------------------------------------------------------- packing


def test_a_pack_of_exactly_the_limit_goes_inline() -> None:
    room = INLINE_PACK_BYTES - len(_packing(1 << 15).header)

    assert INLINE_PACK_BYTES == len(pack_inline(_packing(room)).inline or b"")
    with pytest.raises(LocalProtocolError, match="does not fit"):
        pack_inline(_packing(room + 1))


def test_a_message_without_records_has_no_pack() -> None:
    packing = pack_records([], [])

    assert (b"", b"", 0) == (packing.header, _pack(packing), packing.size_bytes)
    assert Content() == pack_inline(packing)


def test_an_array_record_without_arrays_is_a_pack_all_the_same() -> None:
    content = pack_inline(pack_records([("arrays", Arrays(()))], []))

    assert (("arrays", None),) == content.records
    assert content.inline is not None


def test_data_that_does_not_fit_its_description_is_our_own_mistake() -> None:
    arrays = Arrays((ArrayEntry("w", "u1", (2,), "raw", 2),))
    for data in ([], [b"a"], [b"ab", b""]):
        with pytest.raises(LocalProtocolError):
            pack_records([("arrays", arrays)], data)


def test_as_many_records_as_the_limit_can_be_sent() -> None:
    def records(count: int) -> list[tuple[str, Values]]:
        return [(format(n, "x"), _config()) for n in range(count)]

    # So many names take more than values may: the records go into the pack.
    with pytest.raises(LocalProtocolError, match="names alone"):
        pack_records(records(RECORDS), [])
    with pytest.raises(LocalProtocolError, match="at most"):
        pack_records(records(RECORDS + 1), [])
    assert 1000 == len(pack_inline(pack_records(records(1000), [])).records)


def test_values_of_exactly_the_limit_stay_in_the_message() -> None:
    def packing(size: int) -> Packing:
        return pack_records([("config", _config(("x", '"' * size)))], [])

    def inline_bytes(packing: Packing) -> int:
        return len(dumps(dumps(Content(packing.inline).to_json()["records"])))

    base = inline_bytes(packing(0))
    room = (INLINE_VALUES_BYTES - base) // 4

    assert INLINE_VALUES_BYTES - 4 < inline_bytes(packing(room)) <= INLINE_VALUES_BYTES
    assert not packing(room).header
    assert packing(room + 1).header


def test_a_smaller_limit_moves_smaller_values_into_the_pack() -> None:
    records = [("config", _config(("x", 1)))]

    assert not pack_records(records, []).header
    assert pack_records(records, [], inline_values_bytes=20).header


def test_a_header_that_no_reader_would_take_is_not_written() -> None:
    text = "a" * (PACK_HEADER_BYTES // 4)
    records = [(str(n), _config(("x", text))) for n in range(4)]

    with pytest.raises(LocalProtocolError, match="describe a pack"):
        pack_records(records, [])


@pytest.mark.parametrize(
    ("records", "data"),
    [
        ([("a" * (NAME_CHARS + 1), _config())], []),
        ([("r", _config(("a" * (NAME_CHARS + 1), 1)))], []),
        ([("r", _config(("x", 1), ("x", 2)))], []),
        ([("r", _config(("x", "\ud800")))], []),
        ([("r", _config(("x", 1 << 256)))], []),
        ([("r", _config(("x", (1, "a"))))], []),
        ([("r", Values("other", ()))], []),
        ([("r", Arrays((ArrayEntry("w", "d" * (DTYPE_CHARS + 1), (), "raw", 0),)))], [b""]),
        ([("r", Arrays((ArrayEntry("w", "u1", (), "s" * 65, 0),)))], [b""]),
        ([("r", Arrays((ArrayEntry("w", "u1", (1,) * 65, "raw", 0),)))], [b""]),
        ([("r", Arrays((ArrayEntry("w", "u1", (-1,), "raw", 0),)))], [b""]),
        ([("r", Arrays((ArrayEntry("w", "", (), "", 0),) * 2))], [b"", b""]),
    ],
)  # fmt: skip
def test_what_no_reader_would_take_is_not_written(
    records: list[tuple[str, Values | Arrays]], data: list[bytes]
) -> None:
    with pytest.raises(LocalProtocolError):
        pack_records(records, data)


# --------------------------------------------------------------------------------- unpacking


def test_the_bytes_of_a_pack_are_as_the_page_draws_them() -> None:
    pack = _pack(_packing(3))
    header = b'{"records":[["arrays",{"kind":"arrays","items":[["w","u1",[3],"raw",3]]}]]}'

    assert b"WFPACK1\n" + len(header).to_bytes(8, "little") + header == pack[: 16 + len(header)]
    assert bytes(128 - 16 - len(header)) == pack[16 + len(header) : 128]
    assert bytes(64) == pack[128:]


def test_a_reader_is_told_where_each_array_starts() -> None:
    records = read_pack_header(_pack(make.MANY), pack_bytes=make.MANY.size_bytes)
    places = [
        (name, entry.name, entry.offset)
        for name, record in records.items()
        if isinstance(record, Arrays)
        for entry in record.entries
    ]

    assert [
        ("first", "empty", 384),
        ("first", "flags", 512),
        ("zweite ☃", "turned", 704),
        ("zweite ☃", "big-endian", 896),
    ] == places


def test_merging_gives_the_apps_order() -> None:
    config = _config(("x", 1))
    arrays = Arrays(())
    content = finish(pack_records([("b", arrays), ("a", config)], []), REF)

    assert [("b", arrays), ("a", config)] == merge(content, {"b": arrays})


def test_merging_wants_every_packed_record_and_no_other() -> None:
    content = Content((("b", None),), REF)

    with pytest.raises(MalformedMessage, match="missing"):
        merge(content, {})
    with pytest.raises(MalformedMessage, match="does not name"):
        merge(content, {"b": Arrays(()), "c": Arrays(())})


# ----------------------------------------------------------------------------------- content


def test_the_digest_is_the_same_whichever_way_the_pack_travels() -> None:
    inline = pack_inline(make.MODEL)

    assert inline.digest == finish(make.MODEL, inline.pack).digest


def test_the_digest_of_nothing_is_that_of_its_json() -> None:
    assert hashlib.sha256(b"[[],null]").hexdigest() == Content().digest


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"records": {}},
        {"records": [["r"]]},
        {"records": [["r", None, 1]]},
        {"records": [[1, {"kind": "configs", "items": []}]]},
        {"records": [["r", {"kind": "arrays", "items": []}]]},
        {"records": [["r", {"kind": "configs"}]]},
        {"records": [["r", {"kind": "configs", "items": [], "x": 1}]]},
        {"records": [["r", {"kind": "configs", "items": [["x", "int"]]}]]},
        {"records": [["r", {"kind": "configs", "items": [["x", ["int"], "1"]]}]]},
        {"records": [["r", {"kind": "configs", "items": [["x", "int", "1"]] * 2}]]},
        {"records": [["r", {"kind": "configs", "items": [["x", "str", "\ud800"]]}]]},
        {"records": [["r", {"kind": "configs", "items": [["x", "int", "٣"]]}]]},
        {"records": [["r", {"kind": "configs", "items": [["x", "int", str(1 << 256)]]}]]},
        {"records": [["r", {"kind": "configs", "items": [["x", "float", "0x1p99999"]]}]]},
        {"records": [["r", {"kind": "configs", "items": [["x", "float", "0x" + "1" * 70]]}]]},
        {"records": [["r", {"kind": "configs", "items": [["x", "bytes", "Q Q="]]}]]},
        {"records": [["r", {"kind": "configs", "items": [["x", "empty", []]]}]]},
        {"records": [[str(n), None] for n in range(RECORDS + 1)], "pack": REF.to_json()},
        {"records": [], "inline": ""},
        {"records": [], "note": 1},
    ],
)
def test_anything_else_is_no_content(value: object) -> None:
    with pytest.raises(MalformedMessage):
        Content.from_json(value)


def test_an_inline_pack_beyond_the_limit_is_refused() -> None:
    packing = _packing(INLINE_PACK_BYTES)
    whole = _pack(packing)
    content = finish(packing, BlobRef(hashlib.sha256(whole).hexdigest(), len(whole)), inline=whole)

    with pytest.raises(MalformedMessage, match="too large"):
        Content.from_json(content.to_json())
