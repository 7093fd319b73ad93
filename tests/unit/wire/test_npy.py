import math

import pytest
from vectors.make import npy

from windflower.errors import MalformedMessage
from windflower.wire.limits import ARRAY_DIMENSIONS
from windflower.wire.npy import check_npy, parse_npy_header


def _header(text: str, *, version: int = 1) -> bytes:
    raw = text.encode("utf-8" if version == 3 else "latin-1")
    width = 2 if version == 1 else 4
    return b"\x93NUMPY" + bytes((version, 0)) + len(raw).to_bytes(width, "little") + raw


def _described(descr: str, shape: str = "()", *, version: int = 1) -> bytes:
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}"
    return _header(text, version=version)


@pytest.mark.parametrize(
    ("descr", "item_bytes"),
    [
        ("'|b1'", 1),
        ("'?'", 1),
        ("'|i1'", 1),
        ("'<u8'", 8),
        ("'<f2'", 2),
        ("'>f4'", 4),
        ("'<f16'", 16),
        ("'<c8'", 8),
        ("'>c32'", 32),
        ("'|S0'", 0),
        ("'|S7'", 7),
        ("'<U3'", 12),
        ("'|V5'", 5),
        ("'<M8'", 8),
        ("'<M8[ns]'", 8),
        ("'>m8[25s]'", 8),
        ("[]", 0),
        ("[('a', '<i4'), ('', '|V4'), ('b', '<f8', (2, 3))]", 56),
        ("[(('title', 'a'), '<i4')]", 4),
        ("[('a', [('b', '<i2'), ('c', '|S1')], (4,))]", 12),
        ("[('é', '<i4')]", 4),
    ],
)
def test_an_elements_size_follows_from_its_description(descr: str, item_bytes: int) -> None:
    assert item_bytes == parse_npy_header(_described(descr)).item_bytes


@pytest.mark.parametrize(
    "descr",
    [
        "'|O'",
        "'<f3'",
        "'<f12'",
        "'<i16'",
        "'<i'",
        "'?4'",
        "'<b2'",
        "'S'",
        "'<U1000000000'",
        "'|S9999999999'",
        "'<U999999999'",
        "'M4[ns]'",
        "'M8[]'",
        "'M8[0s]'",
        "'M8[x]'",
        "'V4[ns]'",
        "'<i4,<f4'",
        "'float32'",
        "''",
        "('<i4', (2,))",
        "[['a', '<i4']]",
        "[('a',)]",
        "[('a', '<i4', (1,), 1)]",
        "[('a', '<i4', 3)]",
        "[('a', '|O')]",
        "[('a', '<i4'), ('a', '<i4')]",
        "[(('a', 'b'), '<i4'), ('a', '<i4')]",
        "[('', '<i4')]",
        "[(1, '<i4')]",
        "[(('a', 'b', 'c'), '<i4')]",
        "[('a', '|V999999999', (9,))]",
        "4",
        "None",
        "{}",
        "b'<f4'",
    ],
)
def test_a_description_that_numpy_would_not_write_is_refused(descr: str) -> None:
    with pytest.raises(MalformedMessage):
        parse_npy_header(_described(descr))


def test_names_are_latin_1_up_to_version_2_and_utf_8_from_version_3() -> None:
    parse_npy_header(_described("[('é', '<i4')]", version=2))
    parse_npy_header(_described("[('日本', '<i4')]", version=3))
    with pytest.raises(MalformedMessage):
        parse_npy_header(_described("[('é', '<i4')]").replace(b"NUMPY\x01", b"NUMPY\x03"))


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ("()", ()),
        ("(0,)", (0,)),
        ("(3, 4)", (3, 4)),
        (f"({'1, ' * ARRAY_DIMENSIONS})", (1,) * ARRAY_DIMENSIONS),
        ("(0, 1099511627776)", (0, 1 << 40)),
    ],
)
def test_a_shape_is_read(shape: str, expected: tuple[int, ...]) -> None:
    assert expected == parse_npy_header(_described("'<f4'", shape)).shape


@pytest.mark.parametrize(
    "shape",
    [
        f"({'1, ' * (ARRAY_DIMENSIONS + 1)})",
        "[1]",
        "1",
        "(1.0,)",
        "(True,)",
        "(-1,)",
        "('1',)",
        f"({1 << 48},)",
        f"({1 << 40}, {1 << 40})",
        f"(0, {1 << 40}, {1 << 40})",
        f"({1 << 47}, {1 << 14})",
        "None",
    ],
)
def test_a_shape_that_numpy_would_not_take_is_refused(shape: str) -> None:
    with pytest.raises(MalformedMessage):
        parse_npy_header(_described("'<f4'", shape))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[]",
        "{'descr': '<f4', 'fortran_order': False}",
        "{'descr': '<f4', 'fortran_order': 0, 'shape': ()}",
        "{'descr': '<f4', 'fortran_order': None, 'shape': ()}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (), 'x': 1}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': ()} + {}",
        "__import__('os').system('true')",
        "{'descr': '<f4', 'fortran_order': False, 'shape': tuple()}",
        "{'descr': '<\\f4', 'fortran_order': False, 'shape': ()}",
        "{[]: 1}",
        "\0",
    ],
)
def test_a_header_that_numpy_would_not_write_is_refused(text: str) -> None:
    with pytest.raises(MalformedMessage):
        parse_npy_header(_header(text))


def test_a_header_has_at_most_as_many_characters_as_numpy_reads() -> None:
    text = "{'descr': '<f4', 'fortran_order': False, 'shape': (), }"

    assert 10 + 10_000 == parse_npy_header(_header(text.ljust(10_000))).header_bytes
    with pytest.raises(MalformedMessage):
        parse_npy_header(_header(text.ljust(10_001)))


def test_a_header_that_is_cut_anywhere_is_refused() -> None:
    whole = npy("<f4", (2,), b"")
    for length in range(len(whole)):
        with pytest.raises(MalformedMessage):
            parse_npy_header(whole[:length])


def test_an_array_must_be_what_its_message_says() -> None:
    array = npy("<f4", (2, 3), bytes(24))

    check_npy(array, shape=(2, 3), size_bytes=len(array))
    check_npy(array, shape=None, size_bytes=len(array))
    for shape in ((3, 2), (6,), (), (2, 3, 1)):
        with pytest.raises(MalformedMessage):
            check_npy(array, shape=shape, size_bytes=len(array))
    for size in (0, len(array) - 1, len(array) + 1):
        with pytest.raises(MalformedMessage):
            check_npy(array, shape=(2, 3), size_bytes=size)


def test_the_total_is_header_and_elements() -> None:
    header = parse_npy_header(npy("<f8", (5, 7), b""))

    assert header.header_bytes + 8 * math.prod((5, 7)) == header.total_bytes
    assert 0 == header.header_bytes % 64
