"""The test vectors are what the code makes, mean what they say, and refuse what they must."""

import hashlib
import json
import struct
from base64 import b64decode
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from vectors import make

from windflower.errors import MalformedMessage
from windflower.wire.content import Content
from windflower.wire.messages import Envelope, Heartbeat, Reply
from windflower.wire.strict_json import loads
from windflower.wire.topics import Topics

FROZEN = "1909e69f7f3b4ded6905158969004191ff02c83eabb92ca3f9df8e2b72415569"

VECTORS: dict[str, Any] = json.loads(make.FILE.read_text(encoding="utf-8"))
TOLD = [m for m in VECTORS["messages"] if m["kind"] in ("command", "control")]


def _named(vectors: list[Any]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("vector", vectors, ids=lambda v: v.get("name", v.get("topic")))


def test_the_file_is_what_the_program_makes() -> None:
    assert make.text() == make.FILE.read_text(encoding="utf-8"), "run tests/vectors/make.py"


def test_version_1_is_frozen() -> None:
    """Devices in the field read and write these bytes. Another wire is another version."""
    assert FROZEN == hashlib.sha256(make.FILE.read_bytes()).hexdigest()


@_named(VECTORS["messages"])
def test_a_message_means_what_the_file_says(vector: dict[str, Any]) -> None:
    data = vector["bytes"].encode("ascii")
    key = VECTORS["keys"]["public_key"]
    if vector["kind"] == "heartbeat":
        assert vector["means"] == make.meaning(Heartbeat.from_bytes(data))
    elif vector["kind"] == "reply":
        assert vector["means"] == make.meaning(Reply.from_bytes(data))
    else:
        envelope = Envelope.from_bytes(data)
        assert vector["means"] == make.meaning(envelope.open(pinned_key=key))
        assert vector["grants"] == [grant.to_json() for grant in envelope.grants]


@_named(VECTORS["messages"])
def test_a_message_travels_on_the_topic_that_the_file_says(vector: dict[str, Any]) -> None:
    kind, device = Topics().read(vector["topic"])

    assert vector["means"]["client"] == device
    assert vector["kind"].replace("control", "command") == kind


@_named(TOLD)
def test_a_sealed_message_can_be_checked_without_our_code(vector: dict[str, Any]) -> None:
    envelope = json.loads(vector["bytes"])
    key = Ed25519PublicKey.from_public_bytes(b64decode(VECTORS["keys"]["public_key"]))

    signed = "windflower wire 1\n" + envelope["body"]
    for grant in envelope.get("grants", []):
        signed += f"\n{grant['method']} {grant['key']} {grant['url']}"

    key.verify(b64decode(envelope["sig"]), signed.encode("utf-8"))
    assert (vector["body"], vector["signature"]) == (envelope["body"], envelope["sig"])


@_named(VECTORS["contents"])
def test_a_contents_digest_is_over_what_the_file_says(vector: dict[str, Any]) -> None:
    assert vector["digest"] == hashlib.sha256(vector["digest over"].encode()).hexdigest()
    assert vector["digest"] == Content.from_json(loads(vector["content"].encode())).digest


@_named(VECTORS["packs"])
def test_a_pack_holds_what_the_file_says(vector: dict[str, Any]) -> None:
    pack = b64decode(vector["bytes"])

    assert vector["means"] == make.pack_meaning(pack)
    assert (vector["digest"], vector["size"]) == (hashlib.sha256(pack).hexdigest(), len(pack))


@pytest.mark.parametrize("vector", VECTORS["values"], ids=lambda v: str(v["wire"][1]))
def test_a_value_has_the_bits_that_the_file_says(vector: dict[str, Any]) -> None:
    value = {"records": [["r", {"kind": "configs", "items": [["v", *vector["wire"]]]}]]}
    record = Content.from_json(value).records[0][1]
    assert record is not None
    read = record.items[0][1]
    assert not isinstance(read, tuple)

    assert vector["type"] == type(read).__name__
    if isinstance(read, float):
        assert bytes.fromhex(vector["bits"]) == struct.pack(">d", read)
    elif isinstance(read, bytes):
        assert bytes.fromhex(vector["bits"]) == read
    else:
        assert vector["bits"] == str(read)


@pytest.mark.parametrize("name", VECTORS["identifiers"])
def test_an_id_follows_from_the_hash_of_the_bytes_that_the_file_says(name: str) -> None:
    for vector in VECTORS["identifiers"][name]:
        digest = hashlib.sha256(b64decode(vector["hashed"])).hexdigest()
        number = int(digest, 16) >> 193

        assert vector["is"] in (digest[:32], digest[:16], str(number))


def test_ids_and_topics_are_what_the_program_makes_of_the_same_input() -> None:
    made = make.document()

    assert made["identifiers"] == VECTORS["identifiers"]
    assert made["topics"] == VECTORS["topics"]


@_named(VECTORS["topics"])
def test_a_topic_names_what_the_file_says(vector: dict[str, Any]) -> None:
    read = Topics(vector["prefix"]).read(vector["topic"])

    assert (vector["kind"], vector["device"]) == read


@pytest.mark.parametrize(
    "vector", VECTORS["refusals"], ids=lambda v: f"{v['decoder']}: {v['reason']}"
)
def test_what_must_be_refused_is_refused(vector: dict[str, Any]) -> None:
    with pytest.raises(MalformedMessage):
        make.DECODERS[vector["decoder"]](make.bytes_of(vector))


def test_each_reader_is_given_something_to_refuse() -> None:
    assert set(make.DECODERS) == {vector["decoder"] for vector in VECTORS["refusals"]}
