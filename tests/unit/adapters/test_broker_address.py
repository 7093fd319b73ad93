"""A broker's address is written as it is read."""

import pytest

from windflower.adapters.local.broker_address import BrokerAddress
from windflower.errors import ConfigError


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("mqtt://broker:1883", "mqtt://broker:1883"),
        ("mqtts://a%40b:c%3Ad%2F@broker:8884", "mqtts://a%40b@broker:8884"),
        ("mqtt://[2001:db8::1]:1883", "mqtt://[2001:db8::1]:1883"),
        ("mqtt://user@[::1]:1883", "mqtt://user@[::1]:1883"),
        ("mqtt://u:p@broker:1883/site%204/hall", "mqtt://u@broker:1883/site%204/hall"),
    ],
)
def test_an_address_is_read_as_it_was_written(url: str, shown: str) -> None:
    address = BrokerAddress.parse(url)

    assert url == address.url
    assert address == BrokerAddress.parse(address.url)
    assert shown == str(address)


def test_what_follows_the_host_is_put_before_topics() -> None:
    address = BrokerAddress.parse("mqtt://broker/site%204/hall/")

    assert "site 4/hall/flower/clients/d1" == address.topics.heartbeat("d1")
    assert "flower/clients/d1" == BrokerAddress.parse("mqtt://broker/").topics.heartbeat("d1")


@pytest.mark.parametrize("url", ["mqtt://broker/a%2Bb", "mqtt://broker/a?b", "mqtt://broker/#a"])
def test_what_no_topic_can_begin_with_is_refused(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        BrokerAddress.parse(url)

    assert "broker" == caught.value.key


@pytest.mark.parametrize(
    "url",
    [
        "mqtt://bob:12/34secret@host", "mqtt://bob:secret#2@host", "mqtt://bob:secret?@host",
        "mqtt://bob:[secret@host", "http://bob:secret@host", "mqtt://bob:secret@host:many",
    ],
)  # fmt: skip
def test_an_address_that_cannot_be_read_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        BrokerAddress.parse(url)

    assert "secret" not in str(caught.value)
    assert "12" not in str(caught.value)
