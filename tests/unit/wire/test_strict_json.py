import math

import pytest

from windflower.errors import MalformedMessage
from windflower.wire.limits import JSON_DEPTH, MESSAGE_BYTES
from windflower.wire.strict_json import (
    Fields,
    array,
    dumps,
    integer,
    is_unicode,
    loads,
    number,
    present,
    text,
    without_nan,
)


def test_the_one_form_has_no_spaces_keeps_the_order_and_is_ascii() -> None:
    value: object = {"b": [1, True, None], "a": 'ü "\\/\b\f\n\r\t\x00\x7f🌬'}

    written = dumps(value)

    assert r'{"b":[1,true,null],"a":"\u00fc \"\\/\b\f\n\r\t\u0000\u007f\ud83c\udf2c"}' == written
    assert value == loads(written.encode())


def test_a_nan_is_never_written() -> None:
    with pytest.raises(ValueError, match="JSON"):
        dumps(float("nan"))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b" ",
        b"{",
        b"{}{}",
        b"nul",
        b"'a'",
        b"[1,]",
        b"NaN",
        b"[Infinity]",
        b"-Infinity",
        b"1e999",
        b"-1e999",
        b"1" * 21,
        b"-" + b"1" * 21,
        b'{"a":1,"a":1}',
        b'{"a":{"b":1,"b":2}}',
        b"\xff",
        b'"\xed\xa0\x80"',
        b"\xef\xbb\xbf{}",
        b'"\n"',
        b"\x00",
    ],
)
def test_what_is_not_plain_json_is_refused(data: bytes) -> None:
    with pytest.raises(MalformedMessage):
        loads(data)


def test_a_message_of_exactly_the_limit_is_read() -> None:
    data = b"0".rjust(MESSAGE_BYTES)

    assert 0 == loads(data)
    with pytest.raises(MalformedMessage):
        loads(b" " + data)


def test_json_of_exactly_the_depth_is_read() -> None:
    def nested(depth: int) -> bytes:
        return b"[" * depth + b"]" * depth

    loads(nested(JSON_DEPTH + 1))
    with pytest.raises(MalformedMessage, match="deeper"):
        loads(nested(JSON_DEPTH + 2))


def test_a_whole_number_of_twenty_characters_is_read() -> None:
    assert 10**20 - 1 == loads(b"9" * 20)
    assert 1 - 10**19 == loads(b"-" + b"9" * 19)


def test_every_mistake_names_its_field() -> None:
    fields = Fields({"a": 1, "b": 2, "c" * 99: 3}, what="thing")

    assert 1 == fields.take("a", integer(1, 1))
    assert 5 == fields.take_or("x", integer(1, 1), 5)
    with pytest.raises(MalformedMessage, match=r"^thing\.b: not a text of at most 1 characters$"):
        fields.take("b", text(1))
    with pytest.raises(MalformedMessage, match=r"^thing lacks 'x'$"):
        fields.take("x", integer(1, 1))
    with pytest.raises(MalformedMessage, match=r"^thing has unknown keys \['c{32}'\]$"):
        fields.done()
    with pytest.raises(MalformedMessage, match=r"^thing is not an object$"):
        Fields([], what="thing")


@pytest.mark.parametrize("value", ["", "ab", "🌬" * 2])
def test_a_text_has_at_most_so_many_characters(value: str) -> None:
    assert value == text(2)(value)


@pytest.mark.parametrize("value", ["abc", b"a", 1, None, "\ud800", "a\udfff"])
def test_anything_else_is_no_text(value: object) -> None:
    with pytest.raises(MalformedMessage):
        text(2)(value)


def test_half_of_a_surrogate_pair_is_no_unicode() -> None:
    assert is_unicode("")
    assert is_unicode("🌬 ü")
    assert not is_unicode("\ud83c")


@pytest.mark.parametrize("value", [0, 5])
def test_both_ends_of_a_range_of_integers_are_in_it(value: int) -> None:
    assert value == integer(0, 5)(value)


@pytest.mark.parametrize("value", [-1, 6, 1.0, True, "1", None])
def test_anything_else_is_no_integer_of_the_range(value: object) -> None:
    with pytest.raises(MalformedMessage):
        integer(0, 5)(value)


@pytest.mark.parametrize("value", [0, 0.5, 5])
def test_a_number_may_be_whole_and_becomes_a_float(value: float) -> None:
    read = number(0, 5)(value)

    assert (float, value) == (type(read), read)


@pytest.mark.parametrize("value", [-0.1, 5.1, 10**400, True, "1", None, float("nan")])
def test_anything_else_is_no_number_of_the_range(value: object) -> None:
    with pytest.raises(MalformedMessage):
        number(0, 5)(value)


def test_a_list_has_at_most_so_many_checked_items() -> None:
    check = array(integer(0, 1), at_most=2)

    assert (0, 1) == check([0, 1])
    assert () == check([])
    wrong: tuple[object, ...] = ([0, 0, 0], [2], (0,), {}, None)
    for value in wrong:
        with pytest.raises(MalformedMessage):
            check(value)


def test_what_says_nothing_is_left_out_and_zeros_are_not() -> None:
    said: dict[str, object] = {
        "none": None,
        "tuple": (),
        "list": [],
        "object": {},
        "zero": 0,
        "no": False,
        "e": "",
    }

    assert {"zero": 0, "no": False, "e": ""} == present(said)


def test_numbers_that_json_does_not_have_become_null() -> None:
    value = {"a": [math.nan, 1.5, (math.inf, "nan")], "b": {"c": -math.inf}, "d": 2}

    assert {"a": [None, 1.5, [None, "nan"]], "b": {"c": None}, "d": 2} == without_nan(value)
