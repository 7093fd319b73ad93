"""A second implementation, written from docs/wire.md alone, passes the vectors of a device."""

import json
from base64 import b64decode, b64encode
from collections.abc import Callable
from typing import Any

import pytest
from second.minimal import DEVICE_FILE, Minimal, Refused
from vectors import make

VECTORS: dict[str, Any] = json.loads(make.FILE.read_text(encoding="utf-8"))
KEY = VECTORS["keys"]["public_key"]
SKIPPED = ("train_len", "dict", "loss", "accuracy")  # section 6: for rules of the original sample
ONE_NUMBER = ["w", "float32", [1], "numpy.ndarray"]
PACKS = {vector["digest"]: vector["bytes"] for vector in VECTORS["packs"]}
READERS: dict[str, Callable[[Minimal, bytes], Any]] = {
    "envelope": lambda minimal, data: minimal("opened", data=data, key=None),
    "opened": lambda minimal, data: minimal("opened", data=data, key=KEY),
    "pack": lambda minimal, data: minimal("unpack", data=data),
    "npy": lambda minimal, data: minimal("plus_one", data=data, item=[*ONE_NUMBER, len(data)]),
}
REFUSALS = [vector for vector in VECTORS["refusals"] if vector["decoder"] in READERS]
JSON_RULES = ("twice", "NaN", "larger than any", "forty", "surrogate", "16", "128 KiB", "mark")


def of_kind(*kinds: str) -> list[Any]:
    return [vector for vector in VECTORS["messages"] if vector["kind"] in kinds]


def value(type_: str, item: Any) -> dict[str, Any]:  # noqa: ANN401 - whatever the wire carries
    """Say what a value of the wire means, as the vectors do."""
    kind = type_.removesuffix("s") if isinstance(item, list) else type_
    bits: Callable[[Any], object] = {
        "float": lambda x: make._bits(float.fromhex(x)),
        "bytes": lambda x: b64decode(x).hex(),
    }.get(kind, lambda x: x)
    listed = isinstance(item, list)
    return {
        "type": kind,
        "list": [bits(x) for x in item] if listed else None,
        "value": None if listed else bits(item),
    }


def values(record: dict[str, Any]) -> dict[str, Any]:
    items = [{"name": name, **value(kind, item)} for name, kind, item in record["items"]]
    return {"kind": record["kind"], "items": items}


def content(said: dict[str, Any], digest: str) -> dict[str, Any]:
    return {
        "digest": digest,
        "records": [[name, values(r) if r else "in the pack"] for name, r in said["records"]],
        "pack": said.get("pack"),
        "inline": said.get("inline"),
    }


def test_the_minimal_device_is_one_short_file_and_needs_nothing_but_node() -> None:
    lines = DEVICE_FILE.read_text(encoding="utf-8").splitlines()
    imports = [line for line in lines if line.startswith("import ")]

    assert len(lines) <= 200
    assert max(map(len, lines)) <= 120
    assert all(' from "node:' in line for line in imports)
    assert {"README.md", DEVICE_FILE.name} == {file.name for file in DEVICE_FILE.parent.iterdir()}


@pytest.mark.parametrize("vector", of_kind("command"), ids=lambda v: v["name"])
def test_a_command_means_what_the_file_says(minimal: Minimal, vector: dict[str, Any]) -> None:
    read = minimal("opened", data=vector["bytes"].encode(), key=KEY)
    body = read["body"]
    config = {"kind": "configs", "items": []}
    if "config" in body:
        config = body["config"]["records"][0][1]
    blobs = [
        body.get("bundle"),
        None if "inline" in body["content"] else body["content"].get("pack"),
    ]
    said = {
        **{key: item for key, item in body.items() if key != "v"},
        "group": body.get("group", ""),
        "bundle": body.get("bundle"),
        "seed": body.get("seed"),
        "content": content(body["content"], read["digest"]),
        "config": values(config),
        "blobs to hold": [f"blobs/{blob['digest']}" for blob in blobs if blob],
        "reply key": read["reply_key"],
    }

    assert vector["means"] == said
    assert (KEY, vector["grants"]) == (read["key"], read["grants"])


@pytest.mark.parametrize("vector", of_kind("control"), ids=lambda v: v["name"])
def test_a_control_means_what_the_file_says(minimal: Minimal, vector: dict[str, Any]) -> None:
    body = minimal("opened", data=vector["bytes"].encode(), key=KEY)["body"]
    said = {key: body[key] for key in ("client", "method", "epoch", "floor")}
    ids = body.get("acks", body.get("ids", []))

    assert vector["means"] == {**said, "ids": ids, "boot": body.get("boot")}


@pytest.mark.parametrize("vector", of_kind("heartbeat"), ids=lambda v: v["name"])
def test_a_heartbeat_is_written_to_the_byte(minimal: Minimal, vector: dict[str, Any]) -> None:
    told = {key: value for key, value in vector["means"].items() if key != "speaks"}

    assert vector["bytes"] == minimal("heartbeat", **told)


@pytest.mark.parametrize("vector", of_kind("reply"), ids=lambda v: v["name"])
def test_a_reply_is_written_to_the_byte(minimal: Minimal, vector: dict[str, Any]) -> None:
    expected = {k: v for k, v in json.loads(vector["bytes"]).items() if k not in SKIPPED}
    told = expected.get("content", {"records": []})
    uploaded = PACKS.get(told["pack"]["digest"]) if "path" in expected else None
    written = minimal(
        "reply",
        command={key: expected[key] for key in ("client", "id", "method", "run", "epoch")},
        worked_s=expected["worked_s"],
        records=told["records"],
        held=uploaded or told.get("inline"),
        error=expected.get("error"),
        most=0 if uploaded else 65536,  # the vector's pack is below the limit, and not inline
    )

    assert json.dumps(expected, separators=(",", ":")) == written["reply"]
    assert uploaded == written.get("pack")


@pytest.mark.parametrize("vector", VECTORS["contents"], ids=lambda v: v["name"])
def test_a_content_has_the_digest_that_the_file_says(
    minimal: Minimal, vector: dict[str, Any]
) -> None:
    read = minimal("content", data=vector["content"].encode())

    assert {"right": True, "digest": vector["digest"]} == read


@pytest.mark.parametrize("vector", VECTORS["packs"], ids=lambda v: v["name"])
def test_a_pack_holds_what_the_file_says_and_is_written_to_the_byte(
    minimal: Minimal, vector: dict[str, Any]
) -> None:
    read = minimal("unpack", data=b64decode(vector["bytes"]))
    for (name, record, pieces), (expected_name, expected) in zip(
        read["records"], vector["means"], strict=True
    ):
        assert expected_name == name
        if record["kind"] == "arrays":
            assert [x["bytes"] for x in expected] == pieces
            assert [
                [x[k] for k in ("name", "dtype", "shape", "stype", "size")] for x in expected
            ] == (record["items"])
        else:
            rest = iter(pieces)
            items = [
                [n, "bytes", next(rest)] if kind == "packed"
                else [n, "bytess", [next(rest) for _ in v]] if kind == "packeds"
                else [n, kind, v]
                for n, kind, v in record["items"]
            ]  # fmt: skip
            assert expected == values({"kind": record["kind"], "items": items})

    assert vector["bytes"] == read["packed"]
    assert {"digest": vector["digest"], "size": vector["size"]} == read["blob"]


@pytest.mark.parametrize("vector", VECTORS["values"], ids=lambda v: str(v["wire"][1]))
def test_a_value_has_the_bits_that_the_file_says(minimal: Minimal, vector: dict[str, Any]) -> None:
    record = {"kind": "configs", "items": [["v", *vector["wire"]]]}

    told = json.dumps({"records": [["r", record]]}).encode()
    assert minimal("content", data=told)["right"]
    assert vector["bits"] == values(record)["items"][0]["value"]


@pytest.mark.parametrize("vector", REFUSALS, ids=lambda v: f"{v['decoder']}: {v['reason']}")
def test_what_must_be_refused_is_refused(minimal: Minimal, vector: dict[str, Any]) -> None:
    read = READERS[vector["decoder"]]
    with pytest.raises(Refused):
        read(minimal, make.bytes_of(vector))


@pytest.mark.parametrize(
    "vector",
    [
        v for v in VECTORS["refusals"]
        if v["decoder"] == "heartbeat" and any(rule in v["reason"] for rule in JSON_RULES)
    ],
    ids=lambda v: v["reason"],
)  # fmt: skip
def test_json_that_breaks_a_rule_of_all_messages_is_refused(
    minimal: Minimal, vector: dict[str, Any]
) -> None:
    with pytest.raises(Refused):
        minimal("loads", data=make.bytes_of(vector))


def test_an_array_that_a_refusal_spoils_is_read_while_it_is_whole(minimal: Minimal) -> None:
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1,), }"
    whole = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header
    one, two = bytes.fromhex("0000803f"), bytes.fromhex("00000040")
    item = [*ONE_NUMBER, len(whole) + 4]

    assert b64encode(whole + two).decode() == minimal("plus_one", data=whole + one, item=item)


def item(kind: str, value: object, *more: object) -> bytes:
    record = {"kind": "configs", "items": [["v", kind, value, *more]]}
    return json.dumps({"records": [["r", record]]}).encode()


@pytest.mark.parametrize(
    "said",
    [
        item("float", "0x1.0000000000000p+1024"),
        item("float", "0x1.0000000000000p-1023"),
        item("float", "0x1.0000000000000p-0"),
        item("float", "0x0.0000000000000p-1022"),
        item("float", "-nan"),
        item("int", str(1 << 256)),
        item("int", "1", "2"),
        item("constructor", "1"),
        item("str", 1.5),
        item("bytess", ["AA==", "AA=A"]),
        b'{"records":[["r",null,null]]}',
        b'{"records":[],"constructor":1}',
        b'{"records":[],"__proto__":1}',
    ],
    ids=bytes.decode,
)
def test_a_content_that_no_vector_shows_is_wrong_too(minimal: Minimal, said: bytes) -> None:
    try:
        right = minimal("content", data=said)["right"]
    except Refused:
        right = False

    assert not right


@pytest.mark.parametrize(
    "said",
    [
        *(b'{"a":"\xff"}', b'{"a":"\xed\xa0\xbd"}', b'{"a":1,"\\u0061":2}', b"{1:2}", b'{"a":01}'),
        *(b'["a" 1]', b"[1,]", b'["\\ud83d"]', b'"12', b'{"\\ud83d":1}', b"-1e999", b"[1\xc2\xa0]"),
        *(
            b"\x0b1",
            b"+1",
            b"123456789012345678901",
            b'"\t"',
            b'"\\x"',
            b"",
            b'{"a":{"b":1,"b":1}}',
        ),
    ],
    ids=repr,
)
def test_json_that_no_vector_shows_is_refused_too(minimal: Minimal, said: bytes) -> None:
    with pytest.raises(Refused):
        minimal("loads", data=said)


@pytest.mark.parametrize(
    "said",
    [
        *(
            b'{"toJSON":1,"__proto__":{"a":1},"constructor":null}',
            b'[-0.0,1e5,0.5,-12,true,"\\u0000/"]',
        ),
        *(b' [ 12345678901234567890 , "\\ud83d\\ude00", {} , [ ] ] ', b"9007199254740993"),
    ],
    ids=repr,
)
def test_json_is_written_as_it_was_read(minimal: Minimal, said: bytes) -> None:
    assert json.loads(said) == minimal("loads", data=said)
