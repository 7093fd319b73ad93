"""What a Flower app sends arrives bit for bit, in a message and in a file."""

import io
import math
import random
import struct
import tracemalloc
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from vectors import make
from vectors.values import BOUNDED

from windflower.errors import LocalProtocolError, MalformedMessage
from windflower.wire.content import Content, blob_ref, finish, pack_inline, read_pack_header
from windflower.wire.limits import INLINE_PACK_BYTES, INLINE_VALUES_BYTES, PACK_HEADER_BYTES
from windflower.wire.npy import check_npy, parse_npy_header
from windflower.wire.strict_json import dumps, loads

with warnings.catch_warnings():
    # Here warnings are errors, and flwr imports typer, which uses names that click deprecates.
    warnings.simplefilter("ignore", DeprecationWarning)
    from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict

    from windflower.flower.records import from_content, to_content, to_packing, write_pack

Way = Callable[[RecordDict, Path], RecordDict]
AnyArray = np.ndarray[Any, Any]

FILES: Final = settings(BOUNDED, suppress_health_check=[HealthCheck.function_scoped_fixture])


def _inline(records: RecordDict, _folder: Path) -> RecordDict:
    content = pack_inline(to_packing(records))
    return from_content(Content.from_json(loads(dumps(content.to_json()).encode())), None)


def _by_file(records: RecordDict, folder: Path) -> RecordDict:
    packing = to_packing(records)
    if not packing.header:
        return _inline(records, folder)
    path = folder / "pack"
    content = finish(packing, write_pack(packing, path))
    return from_content(Content.from_json(loads(dumps(content.to_json()).encode())), path)


def _as_sent(records: RecordDict, folder: Path) -> RecordDict:
    path = folder / "pack"
    path.unlink(missing_ok=True)
    content = to_content(records, path)
    assert path.exists() == (content.pack is not None and content.inline is None)
    return from_content(content, path if path.exists() else None)


WAYS: Final[tuple[Way, ...]] = (_inline, _by_file, _as_sent)
every_way = pytest.mark.parametrize("way", WAYS)

pytestmark = pytest.mark.filterwarnings("ignore:Stored array in format 3.0:UserWarning")


def _bits(value: object) -> object:
    """A value in a form that tells types, signs and NaNs apart."""
    if isinstance(value, list):
        return [_bits(item) for item in value]
    if isinstance(value, float) and math.isnan(value):
        return "float", "nan"  # one NaN for all: Flower's metrics have no use for its payload
    if isinstance(value, float):
        return "float", struct.pack(">d", value)
    return type(value).__name__, value


def _plain(records: RecordDict) -> list[object]:
    return [
        [
            name,
            type(record).__name__,
            [(k, a.dtype, a.shape, a.stype, a.data) for k, a in record.items()]
            if isinstance(record, ArrayRecord)
            else [(k, _bits(value)) for k, value in record.items()],
        ]
        for name, record in records.items()
    ]


# ----------------------------------------------------------------------------------- arrays

POINT: Final = np.dtype([("x", "<f4"), ("y", ">i2"), ("label", "<U3")])
NESTED: Final = np.dtype(
    [("é", "<i4"), (("a title", "name"), "S3"), ("日本", [("in", "<f8", (2, 3))])]
)
PLAIN: Final = (
    "?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "g", "c8", "c16", "G",
    ">i2", ">u8", ">f2", ">f4", ">f8", ">c16", "S5", "U3", ">U2", "V7", "M8[ns]", "m8[25s]", "M8",
)  # fmt: skip


def _array(dtype: Any, shape: tuple[int, ...]) -> AnyArray:  # noqa: ANN401 - numpy takes any
    """Return an array of arbitrary bits, NaN payloads among them."""
    count, size = math.prod(shape), np.dtype(dtype).itemsize
    raw = np.random.default_rng(7).bytes(count * size)
    kind = np.dtype(dtype).kind
    if kind == "U" or np.dtype(dtype).names is not None:
        return np.zeros(shape, dtype)
    if kind == "b":
        raw = bytes(byte & 1 for byte in raw)
    return np.frombuffer(raw, dtype, count).reshape(shape)


ARRAYS: Final[dict[str, AnyArray]] = {
    **{f"{dtype} of shape {s}": _array(dtype, s) for dtype in PLAIN for s in ((), (3,), (2, 0, 4))},
    "no dimension is too many": np.zeros((1,) * 64, np.float32),
    "Fortran's order": np.asfortranarray(_array("f4", (5, 3))),
    "every other element": _array("f8", (10, 10))[::2, 1::3],
    "turned": _array("i4", (4, 6)).T,
    "backwards": _array("u2", (9,))[::-1],
    "broadcast": np.broadcast_to(np.float32(1.5), (4, 4)),
    "read only": np.frombuffer(bytes(range(16)), np.uint32),
    "texts": np.array(["", "ä", "🌬", "long enough"]),
    "byte texts": np.array([b"", b"a\0b", b"xyz"]),
    "a structure": np.array([(1.5, -2, "abc"), (math.nan, 3, "ü")], POINT),
    "a structure of structures": np.zeros((2, 2), NESTED),
    "signals in NaN": np.array([0x7FA00001, 0xFFC12345, 0x7F800001, 0x80000000], "<u4").view("<f4"),
    "float8 in disguise": np.arange(5, dtype="u1").view("V1"),
    "odd names": np.zeros(2, [("it's", "i4"), ('"q"', "i4"), ("a\\b#\n\x1f", "i4")]),
    "many names": np.zeros(1, [(f"日本語{n}", "u1") for n in range(500)]),
}


@every_way
@pytest.mark.parametrize("case", ARRAYS)
def test_an_array_arrives_bit_for_bit(case: str, way: Way, tmp_path: Path) -> None:
    sent = ARRAYS[case]
    records = RecordDict({"arrays": ArrayRecord({"w": Array(sent)})})

    arrived = way(records, tmp_path)
    received = arrived.array_records["arrays"]["w"].numpy()

    assert _plain(records) == _plain(arrived)
    assert (sent.dtype.newbyteorder("="), sent.shape) == (
        received.dtype.newbyteorder("="),
        received.shape,
    )
    assert sent.dtype.str == received.dtype.str
    assert sent.tobytes() == received.tobytes()


@every_way
def test_an_array_with_gaps_between_its_fields_arrives(way: Way, tmp_path: Path) -> None:
    # What stands in the gaps is whatever numpy finds there when it saves: Flower's bytes differ
    # each time that they are made, and travel as they were made.
    sent = np.array([(1, 0.5), (2, math.inf)], np.dtype([("a", "i1"), ("b", "<f8")], align=True))
    records = RecordDict({"arrays": ArrayRecord({"w": Array(sent)})})

    arrived = way(records, tmp_path)

    assert _plain(records) == _plain(arrived)
    assert sent.tolist() == arrived.array_records["arrays"]["w"].numpy().tolist()
    assert sent.dtype.itemsize == arrived.array_records["arrays"]["w"].numpy().dtype.itemsize


@FILES
@given(
    npst.arrays(
        dtype=npst.scalar_dtypes() | npst.array_dtypes(),
        shape=npst.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4),
    )
)
def test_any_array_arrives_bit_for_bit(tmp_path: Path, sent: AnyArray) -> None:
    try:
        records = RecordDict({"arrays": ArrayRecord([sent])})
        records.array_records["arrays"]["0"].numpy()
    except (TypeError, ValueError):
        return  # what numpy cannot save and load again, Flower cannot carry either
    for way in (_inline, _by_file):
        assert _plain(records) == _plain(way(records, tmp_path))


def test_objects_cannot_be_carried_by_flower_itself() -> None:
    with pytest.raises(ValueError, match="allow_pickle"):
        Array(np.array([{}], dtype=object))


@every_way
def test_bytes_of_another_framework_arrive_untouched(way: Way, tmp_path: Path) -> None:
    theirs = Array(dtype="bfloat16", shape=(2, 3), stype="safetensors", data=b"\x93NUMPY not")
    records = RecordDict({"arrays": ArrayRecord({"w": theirs, "none": _with_data(theirs, b"")})})

    assert _plain(records) == _plain(way(records, tmp_path))


def _with_data(array: Array, data: bytes) -> Array:
    """Return an array that differs in its bytes alone."""
    return Array(dtype=array.dtype, shape=array.shape, stype=array.stype, data=data)


@every_way
def test_many_records_keep_their_order_and_their_names(way: Way, tmp_path: Path) -> None:
    records = RecordDict(
        {
            "z": ArrayRecord({"ü": Array(np.arange(3)), "": Array(np.zeros(()))}),
            "a": MetricRecord({"loss": 0.5}),
            "": ArrayRecord(),
            "m ☃": ConfigRecord(),
            "🌬" * 20: ArrayRecord([np.ones(2, ">f2"), np.array([], np.int8)]),
            "b\n\0": ConfigRecord({"x": [1]}),
        }
    )

    assert _plain(records) == _plain(way(records, tmp_path))


@every_way
def test_no_records_at_all_arrive(way: Way, tmp_path: Path) -> None:
    assert [] == _plain(way(RecordDict(), tmp_path))


def test_a_pack_of_exactly_the_limit_is_inline_and_one_byte_more_is_a_file(tmp_path: Path) -> None:
    def records(size: int) -> RecordDict:
        array = Array(dtype="u1", shape=(size,), stype="raw", data=bytes(size))
        return RecordDict({"arrays": ArrayRecord({"w": array})})

    room = INLINE_PACK_BYTES - to_packing(records(40_000)).size_bytes + 40_000
    room -= room % 64

    fits = to_content(records(room), tmp_path / "pack")
    is_file = (tmp_path / "pack").exists()
    larger = to_content(records(room + 1), tmp_path / "pack")

    assert fits.inline is not None
    assert INLINE_PACK_BYTES == len(fits.inline)
    assert not is_file
    assert larger.inline is None
    assert larger.pack == blob_ref((tmp_path / "pack").read_bytes())


def test_the_same_records_have_the_same_digest_whichever_way_they_travel(tmp_path: Path) -> None:
    packing = to_packing(RecordDict({"a": ArrayRecord([np.arange(9.0)])}))

    assert (
        pack_inline(packing).digest == finish(packing, write_pack(packing, tmp_path / "p")).digest
    )


def test_an_array_that_arrived_can_be_sent_on_untouched(tmp_path: Path) -> None:
    records = RecordDict({"a": ArrayRecord([np.arange(9.0)]), "m": MetricRecord({"x": 1})})

    arrived = _by_file(records, tmp_path)

    assert to_content(records, tmp_path / "one") == to_content(arrived, tmp_path / "two")


def test_arrays_are_read_when_they_are_asked_for_and_not_before(tmp_path: Path) -> None:
    arrays = ArrayRecord({str(n): Array(np.zeros(1 << 20, "u1")) for n in range(16)})
    packing = to_packing(RecordDict({"arrays": arrays}))
    content = finish(packing, write_pack(packing, tmp_path / "pack"))
    tracemalloc.start()

    arrived = from_content(content, tmp_path / "pack")
    for array in arrived.array_records["arrays"].values():
        array.numpy()
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak_bytes < 4 << 20


# ----------------------------------------------------------------------------------- values

FLOATS: Final = (0.0, -0.0, 0.1, 1e300, 5e-324, -2.2250738585072014e-308, math.inf, -math.inf)
CONFIGS: Final[dict[str, Any]] = {
    "a bool": True,
    "bools": [True, False, True],
    "an int": 0,
    "ints": [0, -1, 1 << 62],
    "Flower's largest": (1 << 64) - 1,
    "Flower's smallest": -(1 << 63),
    "larger than Flower sends": [(1 << 256) - 1, -(1 << 256) + 1],
    "a float": 0.1,
    "floats": list(FLOATS),
    "not a number": math.nan,
    "not numbers": [math.nan, -math.nan, math.inf],
    "a text": 'ä "quoted" \\ \n\0 🌬 \u2028 \x7f',
    "texts": ["", "x", "日本"],
    "bytes": bytes(range(256)),
    "many bytes": [b"", b"\0", b"abc"],
    "nothing": [],
    "": 1,
    "name with 🌬 and \n": 2,
}


@every_way
@pytest.mark.parametrize("name", CONFIGS)
def test_a_config_value_arrives_as_it_is(name: str, way: Way, tmp_path: Path) -> None:
    records = RecordDict({"config": ConfigRecord({name: CONFIGS[name]})})

    assert _plain(records) == _plain(way(records, tmp_path))


@every_way
def test_a_record_of_every_kind_of_value_keeps_its_order(way: Way, tmp_path: Path) -> None:
    metrics = {k: v for k, v in CONFIGS.items() if k in ("an int", "ints", "floats", "nothing")}
    records = RecordDict({"config": ConfigRecord(dict(CONFIGS)), "m": MetricRecord(metrics)})

    assert _plain(records) == _plain(way(records, tmp_path))


scalars = (
    st.booleans(),
    st.integers(-(1 << 63), (1 << 64) - 1),
    st.floats(),
    st.text(max_size=20),
    st.binary(max_size=20),
)
config = st.dictionaries(
    st.text(max_size=20),
    st.one_of(*scalars, *(st.lists(kind, max_size=5) for kind in scalars)),
    max_size=6,
)


@FILES
@given(config)
def test_any_configuration_arrives_as_it_is(tmp_path: Path, given: dict[str, Any]) -> None:
    records = RecordDict({"config": ConfigRecord(given), "a": ArrayRecord([np.zeros(2)])})
    for way in WAYS:
        assert _plain(records) == _plain(way(records, tmp_path))


@every_way
@pytest.mark.parametrize("value", ["a" * 20_000, bytes(20_000), ["x" * 300] * 80, [0.1] * 2000])
def test_values_too_large_for_a_message_move_into_the_pack(
    value: Any,  # noqa: ANN401 - any of Flower's
    way: Way,
    tmp_path: Path,
) -> None:
    records = RecordDict({"large": ConfigRecord({"x": value}), "small": MetricRecord({"y": 1})})

    content = pack_inline(to_packing(records))

    assert (("large", None), ("small", None)) == content.records
    assert _plain(records) == _plain(way(records, tmp_path))


def test_masked_updates_of_any_size_arrive(tmp_path: Path) -> None:
    """SecAgg+ sends updates as values of bytes; a header of that size would be refused."""
    masked = [bytes(PACK_HEADER_BYTES // 2), b"", bytes([7]) * (PACK_HEADER_BYTES // 2 + 1)]
    records = RecordDict({"masked": ConfigRecord({"w": masked, "n": 3})})

    content = to_content(records, tmp_path / "pack")

    arrived = from_content(content, tmp_path / "pack").config_records["masked"]
    assert (masked, 3) == (arrived["w"], arrived["n"])


def test_values_of_exactly_the_limit_stay_in_the_message() -> None:
    def records(size: int) -> RecordDict:
        return RecordDict({"large": ConfigRecord({"x": "a" * size})})

    def size(records: RecordDict) -> int:
        return len(dumps(dumps(pack_inline(to_packing(records)).to_json()["records"])))

    room = INLINE_VALUES_BYTES - size(records(0))

    assert INLINE_VALUES_BYTES == size(records(room))
    assert not to_packing(records(room)).header
    assert to_packing(records(room + 1)).header


class _Color(int):
    def __str__(self) -> str:
        return "a color"


@pytest.mark.parametrize(
    ("sent", "arrives"),
    [
        (np.float64(0.1), 0.1),
        ([0.5, np.float64(0.1)], [0.5, 0.1]),
        ([1, True], [1, 1]),
        (_Color(3), 3),
        (np.str_("text"), "text"),
    ],
)
def test_a_value_of_a_kind_of_number_arrives_as_the_number(
    sent: Any,  # noqa: ANN401 - what Flower accepts for a number
    arrives: object,
    tmp_path: Path,
) -> None:
    arrived = _inline(RecordDict({"c": ConfigRecord({"x": sent})}), tmp_path)

    assert _bits(arrives) == _bits(arrived.config_records["c"]["x"])


# ------------------------------------------------------------------- what cannot be carried


@pytest.mark.parametrize(
    "records",
    [
        # Flower takes a lone surrogate into a record, and fails when it sends it.
        RecordDict({"c": ConfigRecord({"x": "\ud800"})}),
        RecordDict({"c": ConfigRecord({"x": ["a", "\udfff"]})}),
        RecordDict({"c": ConfigRecord({"\ud800": 1})}),
        RecordDict({"\ud800": ConfigRecord()}),
        RecordDict({"a": ArrayRecord({"\ud800": Array(np.zeros(1))})}),
        RecordDict({"c": ConfigRecord({"x": 1 << 256})}),
        RecordDict({"c": ConfigRecord({"x": [10**5000]})}),
        RecordDict({"c": ConfigRecord({"x" * 4097: 1})}),
        RecordDict({"x" * 4097: ConfigRecord()}),
        RecordDict({f"{n:04096}": ArrayRecord() for n in range(5)}),
        RecordDict({"a": ArrayRecord({"x" * 4097: Array(np.zeros(1))})}),
        RecordDict({"a": ArrayRecord({"w": Array("u1", (1,), "s" * 65, b"")})}),
        RecordDict({"a": ArrayRecord({"w": Array("u1", (-1,), "raw", b"")})}),
        RecordDict({"a": ArrayRecord({"w": Array("u1", (1,) * 65, "raw", b"")})}),
        RecordDict({str(n): ConfigRecord() for n in range(4097)}),
    ],
)
def test_what_no_device_would_read_is_refused_where_it_is_sent(
    records: RecordDict, tmp_path: Path
) -> None:
    with pytest.raises(LocalProtocolError):
        to_content(records, tmp_path / "pack")


@pytest.mark.parametrize(
    "items",
    [
        [["x", "bool", True]],
        [["x", "str", "a"]],
        [["x", "bytes", ""]],
        [["x", "strs", ["a"]]],
    ],
)
def test_metrics_that_flower_refuses_are_refused(items: list[object]) -> None:
    value = {"records": [["m", {"kind": "metrics", "items": items}]]}
    content = Content.from_json(value)

    with pytest.raises(MalformedMessage, match="Flower refuses"):
        from_content(content, None)


def test_a_pack_that_is_missing_cut_empty_or_too_long_is_refused(tmp_path: Path) -> None:
    packing = to_packing(RecordDict({"arrays": ArrayRecord([np.arange(99.0)])}))
    path = tmp_path / "pack"
    content = finish(packing, write_pack(packing, path))
    whole = path.read_bytes()

    for changed in (b"", whole[:10], whole[:-1], whole + b"\0", bytes(len(whole))):
        path.write_bytes(changed)
        with pytest.raises(MalformedMessage):
            from_content(content, path)
    with pytest.raises(MalformedMessage, match="missing"):
        from_content(content, None)


def test_an_array_that_claims_8_tebibytes_never_reaches_numpy() -> None:
    claims = make.npy("<f8", (1 << 40,), b"")
    packing = make.packing_of(("arrays", {"w": ("float64", (1 << 40,), claims)}))
    tracemalloc.start()

    with pytest.raises(MalformedMessage, match="claims"):
        from_content(pack_inline(packing), None)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak_bytes < 1 << 20


def test_a_record_that_its_pack_does_not_hold_is_refused() -> None:
    content = pack_inline(make.MODEL)
    for records in ((("other", None),), (("arrays", None), ("more", None))):
        with pytest.raises(MalformedMessage):
            from_content(replace(content, records=records), None)


# ------------------------------------------------------------- numpy agrees with our reader


def _changed(data: bytes, chance: random.Random) -> bytes:
    """Change what a header says, and keep its length so that more than the length is tried."""
    for _ in range(chance.choice((1, 1, 2, 4))):
        at = chance.randrange(len(data))
        new = chance.choice(
            (b"'", b"(", b",", b"0", b"9", b"<", b">", b"|", b"f", b"b", b"V", b"M8", b"U", b"S0",
             b"[ns]", b"True", b"()", b"1,", b"''", bytes((chance.randrange(256),)))
        )  # fmt: skip
        data = data[:at] + new + data[at + chance.choice((len(new), len(new), 0)) :]
    return data


def test_numpy_loads_every_array_that_our_reader_lets_pass() -> None:
    saved = [_saved(array) for array in _small()]
    passed = 0
    for case in range(12_000):
        chance = random.Random(case)
        data = _changed(chance.choice(saved), chance)
        try:
            header = parse_npy_header(data)
        except MalformedMessage:
            continue
        # The bytes that the header asks for are there: what else could numpy object to?
        if header.total_bytes > 1 << 20:
            continue
        data = data[: header.header_bytes].ljust(header.total_bytes, b"\0")
        check_npy(data, shape=header.shape, size_bytes=len(data))
        passed += 1
        try:
            loaded = np.load(io.BytesIO(data), allow_pickle=False)
        except Exception as error:
            raise AssertionError((case, data[:128])) from error
        assert header.shape == loaded.shape, case
    assert passed > 500


def _small() -> list[AnyArray]:
    return [array for array in ARRAYS.values() if array.nbytes < 100 and array.ndim < 5]


def _saved(array: AnyArray) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return file.getvalue()


def test_mangled_packs_are_refused_with_one_error_or_give_arrays_that_numpy_loads() -> None:
    packs = [b"".join(packing.chunks()) for packing in make.PACKS.values()]
    read = 0
    for case in range(6_000):
        chance = random.Random(case)
        pack = _changed(chance.choice(packs), chance)
        try:
            names = list(read_pack_header(pack, pack_bytes=len(pack)))
            content = Content(tuple((name, None) for name in names), blob_ref(pack), pack)
            records = from_content(content, None)
        except MalformedMessage:
            continue
        read += 1
        for record in records.array_records.values():
            for array in record.values():
                if array.stype == "numpy.ndarray":
                    assert array.shape == array.numpy().shape, case
    assert read > 100
