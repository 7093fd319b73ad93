"""The page that specifies the wire shows messages that are read, and numbers that are ours."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from windflower.wire import blobs, limits
from windflower.wire.blobs import Grant
from windflower.wire.content import Content, read_pack_header
from windflower.wire.messages import (
    CAUSES,
    CONTROLS,
    METHODS,
    RESERVED,
    Command,
    Envelope,
    Heartbeat,
    Reply,
)
from windflower.wire.strict_json import dumps
from windflower.wire.topics import TABLE

PAGE = (Path(__file__).parents[3] / "docs" / "wire.md").read_text(encoding="utf-8")
EXAMPLES: list[Any] = [
    json.loads(block)
    for block in re.findall(r"^```json\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
]


def _rows(first: str) -> list[list[str]]:
    """Return the cells of the table whose headings begin with `first`."""
    table = PAGE.split(f"\n| {first} |", 1)[1].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in row.strip("|").split(" | ")] for row in table]


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_an_example_is_read(number: int) -> None:
    example = EXAMPLES[number]
    data = dumps(example).encode()
    keys = set(example)
    if "state" in keys:
        Heartbeat.from_bytes(data)
    elif "body" in keys:
        envelope = Envelope.from_bytes(data)
        envelope.open(pinned_key=envelope.key)
    elif "ttl_s" in keys and "id" in keys:
        Command.from_body(data.decode())
    elif "digest" in keys:
        Reply.from_bytes(data)
    elif "url" in keys:
        Grant.from_json(example)
    elif "fc.weight" in data.decode():
        prefix = b"WFPACK1\n" + len(data).to_bytes(8, "little") + data
        size = -(-len(prefix) // 64) * 64 + 192 + 192
        read_pack_header(prefix, pack_bytes=size)
    else:
        Content.from_json(example)


def test_the_page_has_an_example_of_everything() -> None:
    assert 8 == len(EXAMPLES)


def test_the_limits_are_those_of_the_code() -> None:
    rows = _rows("limit")
    named = {cells[2].strip("`"): cells[1].split(" ")[0] for cells in rows}
    ours = {name: value for name, value in vars(limits).items() if name.isupper()}

    assert set(ours) | {"BLOB_BYTES"} == set(named)
    assert {name: str(value) for name, value in ours.items()} | {"BLOB_BYTES": "2^40"} == named
    assert 2**40 == blobs.BLOB_BYTES


def test_the_topics_are_those_of_the_code() -> None:
    rows = _rows("topic")

    assert [(topic.pattern, topic.publisher) for topic in TABLE] == [
        (cells[0].strip("`"), cells[1]) for cells in rows
    ]


def test_the_words_of_the_wire_are_those_of_the_code() -> None:
    assert set(CAUSES) == {cells[0].strip("`") for cells in _rows("`state` | when")}
    assert set(CONTROLS) == {cells[0].strip("`") for cells in _rows("`method` | the device")}
    for word in (*METHODS, *RESERVED):
        assert f"`{word}`" in PAGE
