import pytest

from windflower.errors import MalformedMessage
from windflower.wire.identifiers import (
    GATEWAY,
    check_command,
    check_device,
    check_digest,
    check_identifier,
)


@pytest.mark.parametrize("device", ["0", "Z", "pi-07", "arn:thing_1", "a" * 128, "gateway1"])
def test_a_device_may_carry_what_an_aws_thing_may(device: str) -> None:
    assert device == check_device(device)


@pytest.mark.parametrize(
    "device",
    ["", "-a", "_a", ":a", "a" * 129, "a b", "a/b", "a.b", "a+", "#", "ü", "a\n", "a\0", 1, None],
)
def test_a_device_may_carry_nothing_else(device: object) -> None:
    with pytest.raises(MalformedMessage):
        check_device(device)


def test_the_gateways_name_is_reserved_for_devices_only() -> None:
    with pytest.raises(MalformedMessage, match="reserved"):
        check_device(GATEWAY)

    assert GATEWAY == check_identifier(GATEWAY, what="run")


@pytest.mark.parametrize("text", ["", "0" * 31, "0" * 33, "A" * 32, "g" * 32, "0" * 31 + "٣", 0])
def test_a_commands_id_is_32_lower_case_hex_digits(text: object) -> None:
    with pytest.raises(MalformedMessage):
        check_command(text)

    assert "0f" * 16 == check_command("0f" * 16)


@pytest.mark.parametrize("text", ["", "0" * 63, "0" * 65, "A" * 64, "0" * 64 + "\n", b"0" * 64])
def test_a_digest_is_64_lower_case_hex_digits(text: object) -> None:
    with pytest.raises(MalformedMessage):
        check_digest(text)

    assert "0f" * 32 == check_digest("0f" * 32)
