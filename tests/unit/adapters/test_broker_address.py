"""A broker's address is written as it is read."""

import pytest

from windflower.adapters.local.mqtt import BrokerAddress


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("mqtt://broker:1883", "mqtt://broker:1883"),
        ("mqtts://a%40b:c%3Ad%2F@broker:8884", "mqtts://a%40b@broker:8884"),
        ("mqtt://[2001:db8::1]:1883", "mqtt://[2001:db8::1]:1883"),
        ("mqtt://user@[::1]:1883", "mqtt://user@[::1]:1883"),
    ],
)
def test_an_address_is_read_as_it_was_written(url: str, shown: str) -> None:
    address = BrokerAddress.parse(url)

    assert url == address.url
    assert address == BrokerAddress.parse(address.url)
    assert shown == str(address)
