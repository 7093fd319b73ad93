"""Makes the wire's test vectors: `PYTHONPATH=src python tests/vectors/make.py` writes the file.

Whoever writes a device in another language reads `wire-1.json` beside this program, and needs
nothing of ours. What each part of the file holds stands in the file itself, under "about".
"""

import hashlib
import json
import struct
from base64 import b64decode, b64encode
from collections.abc import Callable
from dataclasses import replace
from math import inf, nan
from pathlib import Path
from typing import Any, Final

from windflower.core.identity import command_id, device_seed, node_of, run_integer
from windflower.errors import MalformedMessage
from windflower.wire.blobs import BlobRef, Grant
from windflower.wire.content import (
    ArrayEntry,
    Arrays,
    Content,
    Packing,
    Record,
    blob_ref,
    finish,
    pack_inline,
    pack_records,
    read_pack_header,
)
from windflower.wire.limits import INLINE_VALUES_BYTES
from windflower.wire.messages import (
    METHODS,
    VERSION,
    Command,
    Control,
    Envelope,
    Failure,
    Heartbeat,
    Reply,
    seal,
)
from windflower.wire.npy import check_npy
from windflower.wire.sealing import Signer
from windflower.wire.strict_json import dumps, loads
from windflower.wire.topics import Topics
from windflower.wire.values import Packed, Scalar, Value, Values, fill

FILE: Final = Path(__file__).with_name("wire-1.json")

ABOUT: Final = {
    "keys": "the private seed that signed everything here, and its public key",
    "messages": "exact bytes (as text; all are ASCII), the topic they travel on, what they mean",
    "contents": "what a content's digest is made over, and the digest",
    "packs": "exact bytes in base64, their digest, and the arrays and values that they hold",
    "values": "a value as the wire writes it, and as bits: big-endian binary64, or hex for bytes",
    "identifiers": "the bytes that are hashed (base64), and the id, seed or number that follows",
    "topics": "a topic under a prefix, and what it names",
    "refusals": "bytes that a reader must refuse, and why. 'opened' is an envelope whose seal is "
    "checked against the key above; 'npy' is one array of stype numpy.ndarray whose entry says "
    "shape [1]; 'topic' is read without a prefix; [before, x, n, after] is x written n times",
    "means": "every field with its default filled in; floats of records are binary64 in hex, bytes "
    "are hex, ints are decimal text",
}

SEED: Final = bytes(range(32))
SIGNER: Final = Signer(SEED)
DEVICE: Final = "pi-07"
RUN: Final = "r3-lively-otter"
IDS: Final = tuple(hashlib.sha256(b"vector %d" % n).hexdigest()[:32] for n in range(4))
BOOT: Final = "0f1e2d3c4b5a6978"


# ---------------------------------------------------------------------------------- parts


def npy(descr: str, shape: tuple[int, ...], elements: bytes, *, fortran: bool = False) -> bytes:
    """Return an array as numpy.save writes it, without numpy."""
    header = f"{{'descr': {descr!r}, 'fortran_order': {fortran}, 'shape': {shape!r}, }}".encode()
    header += b" " * (-(10 + len(header) + 1) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + elements


def packing_of(
    *records: tuple[str, Values | dict[str, tuple[str, tuple[int, ...], bytes]]],
    inline_values_bytes: int = INLINE_VALUES_BYTES,
) -> Packing:
    """Pack value records, and array records given as {name: (dtype, shape, npy bytes)}."""
    named: list[tuple[str, Record]] = []
    data: list[bytes] = []
    for name, record in records:
        if isinstance(record, Values):
            named.append((name, record))
            continue
        entries = [
            ArrayEntry(key, dtype, shape, "numpy.ndarray", len(raw))
            for key, (dtype, shape, raw) in record.items()
        ]
        data += [raw for _, _, raw in record.values()]
        named.append((name, Arrays(tuple(entries))))
    return pack_records(named, data, inline_values_bytes=inline_values_bytes)


WEIGHTS: Final = npy("<f4", (2, 3), struct.pack("<6f", 0.5, -1.25, 3.0, -0.0, inf, 1e-45))
BIAS: Final = npy("<f8", (), struct.pack("<d", 0.1))
EMPTY: Final = npy("<i8", (0, 4), b"")
FLAGS: Final = npy("|b1", (3,), b"\x01\x00\x01")
TURNED: Final = npy("<i2", (2, 2), struct.pack("<4h", 1, 3, 2, 4), fortran=True)
SWAPPED: Final = npy(">f4", (1,), struct.pack(">f", 1.5))

MODEL: Final = packing_of(
    ("arrays", {"fc.weight": ("float32", (2, 3), WEIGHTS), "fc.bias": ("float64", (), BIAS)}),
)
MANY: Final = packing_of(
    ("first", {"empty": ("int64", (0, 4), EMPTY), "flags": ("bool", (3,), FLAGS)}),
    ("no arrays", {}),
    (
        "zweite ☃",
        {"turned": ("int16", (2, 2), TURNED), "big-endian": (">f4", (1,), SWAPPED)},
    ),
)
VALUES: Final = Values(
    "configs",
    (
        ("lr", 0.1),
        ("round", 3),
        ("is-last", False),
        ("name", 'ä "quoted" \\ 🌬\n'),
        ("key", b"\x00\xff"),
        ("large", (1 << 64) - 1),
        ("negative", -(1 << 63)),
        ("odd", (nan, inf, -inf, 0.0, -0.0, 5e-324, 1.7976931348623157e308)),
        ("ints", (1, -2)),
        ("texts", ("", "é")),
        ("bytes", (b"", b"abc")),
        ("bools", (True, False)),
        ("nothing", ()),
    ),
)
LARGE: Final = packing_of(
    ("config", Values("configs", (("text", "windflower " * 2000),))),
    ("arrays", {"fc.bias": ("float64", (), BIAS)}),
)
MASKED: Final = packing_of(
    ("config", Values("configs", (("key", b"\x00\xff"), ("masked", (b"a" * 65, b"", b"b"))))),
    ("arrays", {"fc.bias": ("float64", (), BIAS)}),
    ("more", Values("configs", (("n", 2), ("rest", b"c")))),
    inline_values_bytes=0,
)
METRICS: Final = Values("metrics", (("num-examples", 40), ("loss", 0.25), ("accuracy", 0.875)))
BUNDLE: Final = blob_ref(b"a zipped Flower app")
BLOB: Final = blob_ref(b"".join(MODEL.chunks()))

HEARTBEATS: Final = {
    "the first of a device": Heartbeat(DEVICE, 1766000000.25, BOOT, "connect", 60.0),
    "a busy device": Heartbeat(
        DEVICE,
        1766000060.5,
        BOOT,
        "need",
        60.0,
        running=IDS[0],
        queued=(IDS[1],),
        outbox=(IDS[2], IDS[3]),
        need=(IDS[1],),
        labels={"site": "Zürich 🏔", "arch": "armv7"},
    ),
    "a last will": Heartbeat(DEVICE, 1766000000.0, BOOT, "gone", 60.0),
}
GRANTS: Final = (
    Grant(
        "GET",
        BUNDLE.key,
        f"https://blobs.example/get/{BUNDLE.key}?n={BUNDLE.size_bytes}&e=1766003601&s=00ff",
        BUNDLE.size_bytes,
        3600.0,
    ),
    Grant(
        "PUT",
        f"out/{RUN}/{DEVICE}/{IDS[1]}",
        f"https://blobs.example/put/out/{RUN}/{DEVICE}/{IDS[1]}?n=4294967296&e=1766003601&s=ff00",
        4 << 30,
        3600.0,
    ),
)
QUERY: Final = Command(
    id=IDS[0],
    client=DEVICE,
    method="query",
    type="query",
    group="",
    run=RUN,
    number=3,
    epoch=1,
    floor=2,
    ttl_s=30.0,
    created_at=1766000000.5,
    content=pack_inline(packing_of(("config", VALUES))),
)
COMMANDS: Final = {
    "values only": QUERY,
    "an inline pack": replace(
        QUERY, id=IDS[2], method="evaluate", type="evaluate", content=pack_inline(MODEL), epoch=2
    ),
    "everything": replace(
        QUERY,
        id=IDS[1],
        method="fit",
        type="train.warm_up",
        group="round 1, Gruppe ü",
        content=finish(MODEL, BLOB),
        bundle=BUNDLE,
        config=Values("configs", (("local-epochs", 2), ("optimizer", "sgd"))),
        seed="00c0ffee00c0ffee",
    ),
}
CONTROLS: Final = {
    "an ack": Control(DEVICE, "ack", (IDS[2], IDS[3]), epoch=4, floor=2),
    "an ack that only tells the floor": Control(DEVICE, "ack", epoch=4, floor=3),
    "a cancel": Control(DEVICE, "cancel", (IDS[0],), epoch=4, floor=2),
    "a grant": Control(DEVICE, "grant", (IDS[1],), epoch=4, floor=2),
    "a rollcall": Control(DEVICE, "rollcall"),
    "a rollcall that ends a rival": Control(
        DEVICE, "rollcall", boot="8796a5b4c3d2e1f0", epoch=4, floor=2
    ),
}
REPLIES: Final = {
    "metrics": Reply(
        DEVICE,
        IDS[0],
        "evaluate",
        RUN,
        1,
        pack_inline(packing_of(("metrics", METRICS))),
        worked_s=1.5,
    ),
    "an inline pack": Reply(
        DEVICE,
        IDS[1],
        "fit",
        RUN,
        1,
        pack_inline(
            packing_of(
                ("arrays", {"fc.bias": ("float64", (), BIAS)}),
                ("metrics", METRICS),
            )
        ),
        worked_s=20.25,
    ),
    "a pack that was uploaded": Reply(DEVICE, IDS[1], "fit", RUN, 1, finish(MODEL, BLOB)),
    "nothing": Reply(DEVICE, IDS[3], "query", RUN, 2),
    "a failure": Reply(
        DEVICE,
        IDS[2],
        "fit",
        RUN,
        1,
        failure=Failure(2, 'Traceback ...\nValueError: "ß" is no number 🌬'),
        worked_s=0.125,
    ),
}
PACKS: Final = {"a model": MODEL, "several records": MANY, "large values": LARGE, "bytes": MASKED}
IDENTITIES: Final = (
    (RUN, DEVICE, "train", "1", "0" * 64, 1),
    (RUN, DEVICE, "train", "1", "0" * 64, 2),
    ("ab", "c", "train", "", "0" * 64, 1),
    ("a", "bc", "train", "", "0" * 64, 1),
    (RUN, DEVICE, "train.warm_up", "Gruppe ü", "f" * 64, 12),
)


# --------------------------------------------------------------------------------- meaning


def _bits(value: Scalar) -> object:
    if isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        return str(value)
    assert not isinstance(value, Packed)
    return (value if isinstance(value, bytes) else struct.pack(">d", value)).hex()


def _type(value: Value) -> str:
    if isinstance(value, tuple):
        return type(value[0]).__name__ if value else "empty"
    return type(value).__name__


def _values(record: Values) -> object:
    return {
        "kind": record.kind,
        "items": [
            {
                "name": name,
                "type": _type(value),
                "list": [_bits(item) for item in value] if isinstance(value, tuple) else None,
                "value": None if isinstance(value, tuple) else _bits(value),
            }
            for name, value in record.items
        ],
    }


def _blob(ref: BlobRef | None) -> object:
    return {"digest": ref.digest, "size": ref.size_bytes} if ref else None


def _content(content: Content) -> object:
    return {
        "digest": content.digest,
        "records": [
            [name, _values(record) if record is not None else "in the pack"]
            for name, record in content.records
        ],
        "pack": _blob(content.pack),
        "inline": b64encode(content.inline).decode() if content.inline is not None else None,
    }


def meaning(message: Heartbeat | Command | Control | Reply) -> dict[str, Any]:
    """Say in plain JSON what a message means, with every default filled in."""
    match message:
        case Heartbeat():
            return {
                "client": message.client,
                "time": message.time,
                "boot": message.boot,
                "state": message.cause,
                "interval_s": message.interval_s,
                "running": message.running,
                "queued": list(message.queued),
                "outbox": list(message.outbox),
                "need": list(message.need),
                "floor": message.floor,
                "speaks": list(message.speaks),
                "labels": message.labels,
            }
        case Command():
            return {
                "id": message.id,
                "client": message.client,
                "method": message.method,
                "type": message.type,
                "group": message.group,
                "run": message.run,
                "number": message.number,
                "epoch": message.epoch,
                "floor": message.floor,
                "ttl_s": message.ttl_s,
                "created_at": message.created_at,
                "content": _content(message.content),
                "bundle": _blob(message.bundle),
                "config": _values(message.config),
                "seed": message.seed,
                "blobs to hold": [ref.key for ref in message.blobs],
                "reply key": message.reply_key,
            }
        case Control():
            return {
                "client": message.client,
                "method": message.method,
                "ids": list(message.ids),
                "boot": message.boot,
                "epoch": message.epoch,
                "floor": message.floor,
            }
        case Reply():
            failure = message.failure
            return {
                "client": message.client,
                "id": message.id,
                "method": message.method,
                "run": message.run,
                "epoch": message.epoch,
                "content": _content(message.content) if failure is None else None,
                "error": {"code": failure.code, "reason": failure.reason} if failure else None,
                "path": message.path,
                "worked_s": message.worked_s,
            }


def pack_meaning(pack: bytes) -> list[object]:
    """Say in plain JSON what a pack holds."""

    def bytes_at(offset: int, size: int) -> bytes:
        return pack[offset : offset + size]

    return [
        [
            name,
            _values(fill(record, bytes_at))
            if isinstance(record, Values)
            else [
                {
                    "name": entry.name,
                    "dtype": entry.dtype,
                    "shape": list(entry.shape),
                    "stype": entry.stype,
                    "size": entry.size_bytes,
                    "offset": entry.offset,
                    "bytes": b64encode(pack[entry.offset :][: entry.size_bytes]).decode(),
                }
                for entry in record.entries
            ],
        ]
        for name, record in read_pack_header(pack, pack_bytes=len(pack)).items()
    ]


def _grants(grants: tuple[Grant, ...]) -> list[object]:
    return [grant.to_json() for grant in grants]


# -------------------------------------------------------------------------------- sections


def _messages() -> list[object]:
    topics = Topics()
    told: list[tuple[str, str, Command | Control, tuple[Grant, ...]]] = [
        *(("command", n, c, GRANTS if c.bundle else ()) for n, c in COMMANDS.items()),
        *(("control", n, c, GRANTS if c.method == "grant" else ()) for n, c in CONTROLS.items()),
    ]
    return [
        *(
            {
                "kind": "heartbeat",
                "name": name,
                "topic": topics.heartbeat(beat.client),
                "bytes": beat.to_bytes().decode(),
                "means": meaning(beat),
            }
            for name, beat in HEARTBEATS.items()
        ),
        *(
            {
                "kind": kind,
                "name": name,
                "topic": topics.command(message.client),
                "bytes": seal(message, SIGNER, grants).to_bytes().decode(),
                "body": message.to_body(),
                "signature": seal(message, SIGNER, grants).signature,
                "grants": _grants(grants),
                "means": meaning(message),
            }
            for kind, name, message, grants in told
        ),
        *(
            {
                "kind": "reply",
                "name": name,
                "topic": topics.reply(reply.method, reply.client),
                "bytes": reply.to_bytes().decode(),
                "means": meaning(reply),
            }
            for name, reply in REPLIES.items()
        ),
    ]


def _contents() -> list[object]:
    contents = {
        "nothing": Content(),
        "values": QUERY.content,
        "a pack, inline": pack_inline(MODEL),
        "the same pack, elsewhere": finish(MODEL, BLOB),
    }
    return [
        {
            "name": name,
            "content": dumps(content.to_json()),
            "digest over": dumps(
                [content.to_json()["records"], content.pack.to_json() if content.pack else None]
            ),
            "digest": content.digest,
        }
        for name, content in contents.items()
    ]


def _packs() -> list[object]:
    wholes = {name: b"".join(packing.chunks()) for name, packing in PACKS.items()}
    return [
        {
            "name": name,
            "bytes": b64encode(pack).decode(),
            "digest": hashlib.sha256(pack).hexdigest(),
            "size": len(pack),
            "means": pack_meaning(pack),
        }
        for name, pack in wholes.items()
    ]


def _value_texts() -> list[object]:
    floats = (0.0, -0.0, 1.0, -2.5, 0.1, 1e300, 5e-324, 2.2250738585072014e-308, nan, inf, -inf)
    scalars: list[Scalar] = [*floats, 0, 7, -7, 1 << 63, b"", b"\x00\xff", b"abcd"]
    return [
        {"type": type(value).__name__, "bits": _bits(value), "wire": wire}
        for value in scalars
        for wire in [_wire_form(value)]
    ]


def _wire_form(value: Scalar) -> object:
    content = Content((("r", Values("configs", (("v", value),))),)).to_json()
    records: Any = content["records"]
    return records[0][1]["items"][0][1:]


def _hashed(*parts: str) -> str:
    joined = b"".join(b"%d:%s" % (len(p), p) for p in (part.encode() for part in parts))
    return b64encode(b"windflower 1\n" + joined).decode()


def _identifiers() -> dict[str, object]:
    return {
        "command_id": [
            {
                "run": run,
                "device": device,
                "message_type": kind,
                "group": group,
                "content_digest": digest,
                "occurrence": occurrence,
                "hashed": _hashed("command", run, device, kind, group, digest, str(occurrence)),
                "is": command_id(
                    run=run,
                    device=device,
                    message_type=kind,
                    group=group,
                    content_digest=digest,
                    occurrence=occurrence,
                ),
            }
            for run, device, kind, group, digest, occurrence in IDENTITIES
        ],
        "device_seed": [
            {
                "run_seed": str(run_seed),
                "device": device,
                "message_type": kind,
                "occurrence": occurrence,
                "hashed": _hashed("seed", str(run_seed), device, kind, str(occurrence)),
                "is": device_seed(
                    run_seed=run_seed, device=device, message_type=kind, occurrence=occurrence
                ),
            }
            for run_seed, device, kind, occurrence in (
                (0, DEVICE, "train", 1),
                ((1 << 64) - 1, DEVICE, "train", 2),
                (42, "greengrass:core_1", "evaluate", 1),
            )
        ],
        "node_of": [
            {"device": device, "hashed": _hashed("node", device), "is": str(node_of(device))}
            for device in (DEVICE, "greengrass:core_1", "0")
        ],
        "run_integer": [
            {"run": run, "hashed": _hashed("run", run), "is": str(run_integer(run))}
            for run in (RUN, "r4-quiet-heron")
        ],
    }


def _topics() -> list[object]:
    found: list[object] = []
    for prefix in ("", "site-4/", "plant/line 2"):
        topics = Topics(prefix)
        lines = [
            ("heartbeat", None, topics.heartbeat(DEVICE)),
            ("command", None, topics.command(DEVICE)),
            *(("reply", method, topics.reply(method, DEVICE)) for method in METHODS),
        ]
        found += [
            {"prefix": prefix, "kind": kind, "method": method, "device": DEVICE, "topic": topic}
            for kind, method, topic in lines
        ]
    return found


# -------------------------------------------------------------------------------- refusals


def _changed(message: bytes, **changes: object) -> str:
    """Return a JSON message with other values; `None` takes a key away."""
    value = {**loads(message), **changes}
    return json.dumps({k: v for k, v in value.items() if v is not None}, separators=(",", ":"))


def _sealed(body: str, *, client: str = "", method: str = "") -> str:
    said = loads(body.encode())
    sealed = Envelope(
        client or said["client"],
        method or said["method"],
        body,
        SIGNER.sign(body),
        SIGNER.public_key,
    )
    return sealed.to_bytes().decode()


def _heartbeat_refusals() -> list[tuple[str, str]]:
    beat = HEARTBEATS["the first of a device"].to_bytes()
    text = beat.decode()
    return [
        ("", "no JSON at all"),
        ("null", "not an object"),
        ("[]", "not an object"),
        (text[:-1], "cut"),
        (text + "{}", "more than one value"),
        ("\ufeff" + text, "a byte order mark"),
        (text.replace('"v":1', '"v":2'), "another version"),
        (text.replace('"v":1', '"v":1.0'), "a version that is no whole number"),
        (text.replace('"v":1', '"v":true'), "a version that is a bool"),
        (text.replace('"v":1,', ""), "no version"),
        (text.replace('"v":1', '"v":1,"v":1'), "a key stands twice"),
        (_changed(beat, extra=1), "an unknown key"),
        (_changed(beat, client="gateway"), "the reserved id"),
        (_changed(beat, client="../etc"), "an id with a slash"),
        (_changed(beat, client="a" * 129), "an id of 129 characters"),
        (_changed(beat, client="Zürich"), "an id beyond ASCII"),
        (_changed(beat, client="pi-07\n"), "an id with a line break"),
        (_changed(beat, state="asleep"), "an unknown state"),
        (_changed(beat, interval_s=0), "an interval of nothing"),
        (_changed(beat, interval_s="60"), "a number in quotes"),
        (text.replace("1766000000.25", "NaN"), "NaN is not JSON"),
        (text.replace("1766000000.25", "1e999"), "a number larger than any"),
        (text.replace("1766000000.25", "1" * 40), "a number of forty digits"),
        (_changed(beat, running=IDS[0].upper()), "a command's id in upper case"),
        (_changed(beat, outbox=[IDS[0]] * 257), "more than 256 ids"),
        (_changed(beat, queued=IDS[0]), "an id where a list should be"),
        (_changed(beat, speaks=[]), "a device that speaks no version"),
        (_changed(beat, labels={"a": 1}), "a label that is no text"),
        (text.replace('"boot":"', '"boot":"\\ud83d'), "half of a surrogate pair"),
        (_changed(beat, progress=_nested(17)), "nested deeper than 16"),
        (text[:-1] + " " * 131_072 + "}", "more than 128 KiB"),
    ]


def _nested(depth: int) -> object:
    value: object = []
    for _ in range(depth - 1):
        value = [value]
    return value


def _envelope_refusals() -> list[tuple[str, str]]:
    plain = seal(QUERY, SIGNER, GRANTS).to_bytes()
    grant = GRANTS[0].to_json()
    return [
        (_changed(plain, v=2), "another version"),
        (_changed(plain, body=None), "no body"),
        (_changed(plain, body={"v": 1}), "a body that is no text"),
        (_changed(plain, sig=None), "no signature"),
        (_changed(plain, client="gateway"), "the reserved id"),
        (_changed(plain, grants=[{**grant, "method": "POST"}]), "a grant for another method"),
        (_changed(plain, grants=[{**grant, "url": "file:///etc/passwd"}]), "a url of no web"),
        (_changed(plain, grants=[{**grant, "url": "http://[/"}]), "a url without a host"),
        (_changed(plain, grants=[{**grant, "size": -1}]), "a size below nothing"),
        (_changed(plain, grants=[{**grant, "key": ""}]), "a key of nothing"),
        (_changed(plain, grants=[{**grant, "key": "a\nb"}]), "a key of two lines"),
        (_changed(plain, grants=[{**grant, "note": ""}]), "an unknown key in a grant"),
        (_changed(plain, ttl_s=1), "an unknown key"),
    ]


def _opened_refusals() -> list[tuple[str, str]]:
    body = QUERY.to_body()
    raw = body.encode()
    plain = seal(QUERY, SIGNER).to_bytes()
    granted = seal(QUERY, SIGNER, GRANTS).to_bytes()
    turned = [grant.to_json() for grant in reversed(GRANTS)]
    elsewhere = [{**grant.to_json(), "url": "https://elsewhere.example/x"} for grant in GRANTS]
    foreign = seal(QUERY, Signer(SEED[::-1])).to_bytes()
    item = {"kind": "configs", "items": [["x", "int", "1"]]}
    empty: dict[str, object] = {"records": []}

    def with_value(*value: object) -> str:
        changed = {"records": [["r", {**item, "items": [["x", *value]]}]]}
        return _sealed(_changed(raw, content=changed))

    return [
        (_changed(plain, body=body.replace('"epoch":1', '"epoch":2')), "a body that was changed"),
        (_changed(plain, sig=SIGNER.sign(body + " ")), "a signature of another body"),
        (_changed(plain, grants=[GRANTS[0].to_json()]), "a grant that was not signed"),
        (_changed(granted, grants=None), "a grant that was taken away"),
        (_changed(granted, grants=turned), "grants in another order"),
        (_changed(granted, grants=elsewhere), "a grant for another place"),
        (_changed(plain, sig="AAAA"), "a signature that is too short"),
        (foreign.decode(), "signed with another key"),
        (_sealed(body, client="pi-08"), "an envelope for another device than its body"),
        (_sealed(body, method="fit"), "an envelope of another method than its body"),
        (_sealed(_changed(raw, v=2)), "a body of another version"),
        (_sealed(_changed(raw, id="0" * 31)), "an id of 31 digits"),
        (_sealed(_changed(raw, seed="00")), "a seed of two digits"),
        (_sealed(_changed(raw, epoch=-1)), "an epoch below nothing"),
        (_sealed(_changed(raw, number=1 << 54)), "a number above 2^53"),
        (_sealed(_changed(raw, method="train")), "an unknown method"),
        (_sealed(_changed(raw, group=None, note="")), "an unknown key in a body"),
        (_sealed(_changed(raw, bundle={"digest": "0" * 64})), "a blob without its size"),
        (_sealed(_changed(raw, config=empty)), "a configuration without its record"),
        (with_value("int", 1), "an int that is a JSON number"),
        (with_value("int", "01"), "an int with a leading zero"),
        (with_value("int", "-0"), "an int that is minus nothing"),
        (with_value("int", "1" * 81), "an int of 81 digits"),
        (with_value("float", "1.5"), "a float in decimal"),
        (with_value("float", "0x1.8p0"), "a float not in its one form"),
        (with_value("float", "NaN"), "a NaN in capitals"),
        (with_value("bytes", "QQ"), "base64 without its padding"),
        (with_value("bytes", "QR=="), "base64 with bits left over"),
        (with_value("bool", "true"), "a bool in quotes"),
        (with_value("ints", ["1", 2]), "a list that mixes types"),
        (with_value("emptys", [1]), "an empty list that is none"),
        (with_value("array", "1"), "an unknown type"),
        (
            _sealed(_changed(raw, content={"records": [["r", item], ["r", item]]})),
            "a record's name stands twice",
        ),
        (with_value("packed", 1), "bytes that would stand in a pack"),
        (_sealed(_changed(raw, content={"records": [["r", None]]})), "a pack that is not there"),
        (
            _sealed(_changed(raw, content={"records": [], "pack": BLOB.to_json()})),
            "a pack in which no record is",
        ),
        (
            _sealed(
                _changed(
                    raw,
                    content={"records": [["r", None]], "pack": BLOB.to_json(), "inline": "QQ=="},
                )
            ),
            "an inline pack of another digest",
        ),
        (
            _sealed(_changed(CONTROLS["an ack"].to_body().encode(), acks=None, ids=[IDS[0]])),
            "an ack whose ids are not called acks",
        ),
    ]


def _reply_refusals() -> list[tuple[str, str]]:
    plain = REPLIES["metrics"].to_bytes()
    uploaded = REPLIES["a pack that was uploaded"].to_bytes()
    failure = REPLIES["a failure"].to_bytes()
    return [
        (_changed(plain, digest="0" * 64), "a digest of something else"),
        (_changed(plain, content=None), "neither content nor error"),
        (_changed(plain, error={"code": 1, "reason": ""}), "both content and error"),
        (_changed(uploaded, path=None), "a pack elsewhere, and no path"),
        (_changed(uploaded, path="out/r3/pi-08/0"), "another device's path"),
        (_changed(plain, path=REPLIES["a pack that was uploaded"].path), "a path without a pack"),
        (_changed(failure, error={"code": -1, "reason": ""}), "a code below nothing"),
        (_changed(failure, error={"code": 1, "reason": "a" * 12_001}), "a reason that is too long"),
        (_changed(failure, error={"code": 1}), "an error without a reason"),
        (_changed(plain, worked_s=-1), "work that took less than no time"),
        (_changed(plain, run="a/b"), "a run with a slash"),
    ]


def _pack_refusals() -> list[tuple[bytes, str]]:
    pack = b"".join(MODEL.chunks())
    header = dumps({"records": [["r", {"kind": "configs", "items": []}]]}).encode()

    def with_header(header: bytes, *, length: int | None = None, more: bytes = b"") -> bytes:
        size = len(header) if length is None else length
        start = b"WFPACK1\n" + size.to_bytes(8, "little") + header
        return start + bytes(-len(start) % 64) + more

    entry = ["w", "float32", [1], "numpy.ndarray", 64]

    def with_entry(*entries: object) -> bytes:
        arrays = {"kind": "arrays", "items": list(entries)}
        return with_header(dumps({"records": [["r", arrays]]}).encode(), more=bytes(64))

    def with_value(kind: str, value: object) -> bytes:
        values = {"kind": "configs", "items": [["x", kind, value]]}
        return with_header(dumps({"records": [["r", values]]}).encode(), more=bytes(64))

    return [
        (b"", "nothing"),
        (b"WFPACK1\n", "no length"),
        (b"WFPACK2\n" + pack[8:], "another version"),
        (pack[:40], "cut within the header"),
        (pack[:-64], "cut within the arrays"),
        (pack + bytes(64), "more than is described"),
        (with_header(header, length=1 << 40), "a header of a tebibyte"),
        (with_header(header, length=len(header) + 64), "a header longer than the pack"),
        (with_header(b'{"records":[]'), "a header that is no JSON"),
        (with_header(b"{}"), "a header without records"),
        (with_header(b'{"records":[["r",null]]}'), "a record that is nothing"),
        (
            with_header(dumps({"records": [["r", {"kind": "arrays"}]]}).encode()),
            "an array record without items",
        ),
        (with_entry(["w", "float32", [1], "numpy.ndarray", 1 << 41]), "an array of two tebibytes"),
        (with_entry(["w", "float32", [-1], "numpy.ndarray", 64]), "a length below nothing"),
        (with_entry(["w", "float32", [1] * 65, "numpy.ndarray", 64]), "65 dimensions"),
        (with_entry(entry, entry), "an array's name stands twice"),
        (with_entry(entry[:4]), "an array without its size"),
        (with_value("bytes", "QUE="), "bytes that do not stand behind the header"),
        (with_value("packed", 65), "bytes that reach beyond the pack"),
        (with_value("packed", -1), "bytes of a size below nothing"),
        (with_value("packeds", 64), "a list of bytes that is none"),
    ]


def _npy_refusals() -> list[tuple[bytes, str]]:
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1,), }"

    def with_header(text: bytes, *, version: bytes = b"\x01\x00") -> bytes:
        return b"\x93NUMPY" + version + struct.pack("<H", len(text)) + text + bytes(4)

    return [
        (b"", "nothing"),
        (b"\x80\x04K\x01.", "a pickle"),
        (with_header(header, version=b"\x04\x00"), "an unknown version"),
        (with_header(header, version=b"\x01\x01"), "an unknown minor version"),
        (with_header(header)[:30], "a header that is cut"),
        (with_header(header.replace(b"<f4", b"|O")), "objects, which are pickles"),
        (with_header(header.replace(b"<f4", b"<f5")), "a dtype that is none"),
        (with_header(header.replace(b"(1,)", b"(1099511627776,)")), "a shape of 4 TiB"),
        (with_header(header.replace(b"(1,)", b"[1]")), "a shape that is no tuple"),
        (with_header(header.replace(b"(1,)", b"(-1,)")), "a length below nothing"),
        (with_header(header.replace(b"False", b"0")), "an order that is no bool"),
        (with_header(header.replace(b"(1,)", b"f(1)")), "a call"),
        (with_header(header.replace(b", }", b", 'x': 1}")), "an unknown key"),
        (with_header(header) + b"\0", "more bytes than the shape needs"),
    ]


def _topic_refusals() -> list[tuple[str, str]]:
    return [
        ("", "nothing"),
        ("flower/clients/", "no device"),
        ("flower/clients/gateway", "the reserved id"),
        ("flower/clients/a/b", "a level too many"),
        ("flower/clients/+", "a wildcard"),
        ("flower/clients/#", "a wildcard"),
        ("flower/clients/zürich", "an id beyond ASCII"),
        ("/flower/clients/pi-07", "a level too many"),
        ("commands/client/pi-07", "a level too few"),
        ("commands/client//update", "no device"),
        ("train/client/pi-07/sent", "an unknown method"),
        ("site-4/flower/clients/pi-07", "a prefix that was not agreed on"),
    ]


def _refusals() -> list[object]:
    texts: dict[str, list[tuple[str, str]]] = {
        "heartbeat": _heartbeat_refusals(),
        "envelope": _envelope_refusals(),
        "opened": _opened_refusals(),
        "reply": _reply_refusals(),
        "topic": _topic_refusals(),
    }
    raws = {
        "heartbeat": [(b"\xff\xfe{}", "not UTF-8")],
        "pack": _pack_refusals(),
        "npy": _npy_refusals(),
    }
    return [
        *(
            {"decoder": decoder, "text": _short(text), "reason": reason}
            for decoder, refusals in texts.items()
            for text, reason in refusals
        ),
        *(
            {"decoder": decoder, "base64": b64encode(raw).decode(), "reason": reason}
            for decoder, refusals in raws.items()
            for raw, reason in refusals
        ),
    ]


def _short(text: str) -> object:
    """Write a long run of one character as [text, character, times, text]."""
    for character, times in ((" ", 131_072), ("a", 12_001)):
        if character * times in text:
            before, _, after = text.partition(character * times)
            return [before, character, times, after]
    return text


def bytes_of(refusal: dict[str, Any]) -> bytes:
    """Return the bytes of one refusal as the file holds it."""
    if "base64" in refusal:
        return b64decode(refusal["base64"])
    text = refusal["text"]
    if isinstance(text, list):
        before, character, times, after = text
        text = before + character * times + after
    return str(text).encode()


def _open(data: bytes) -> object:
    return Envelope.from_bytes(data).open(pinned_key=SIGNER.public_key)


DECODERS: Final[dict[str, Callable[[bytes], object]]] = {
    "heartbeat": Heartbeat.from_bytes,
    "envelope": Envelope.from_bytes,
    "opened": _open,
    "reply": Reply.from_bytes,
    "pack": lambda data: read_pack_header(data, pack_bytes=len(data)),
    "npy": lambda data: check_npy(data, shape=(1,), size_bytes=len(data)),
    "topic": lambda data: Topics().read(data.decode()),
}


def is_refused(decoder: str, data: bytes) -> bool:
    """Return whether our own reader refuses these bytes."""
    try:
        DECODERS[decoder](data)
    except MalformedMessage:
        return True
    return False


# -------------------------------------------------------------------------------- the file


def document() -> dict[str, Any]:
    """Return everything that the file holds."""
    return {
        "wire": VERSION,
        "about": ABOUT,
        "keys": {"seed": SEED.hex(), "public_key": SIGNER.public_key},
        "messages": _messages(),
        "contents": _contents(),
        "packs": _packs(),
        "values": _value_texts(),
        "identifiers": _identifiers(),
        "topics": _topics(),
        "refusals": _refusals(),
    }


def text() -> str:
    """Return the file."""
    return json.dumps(document(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
