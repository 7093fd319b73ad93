"""Topics are read as they were spelled, and nothing else is read as one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from vectors.values import BOUNDED, devices

from windflower.errors import LocalProtocolError, MalformedMessage
from windflower.wire.messages import METHODS
from windflower.wire.topics import Topics

PREFIXES = ("", "site-4", "site-4/", "a/b c/ö")
TROUBLE = ("", "+", "#", "a/b", "a\0", "\0", "gateway", "zürich", "-a", ".", "..", "a b", "a" * 129)

prefixes = st.sampled_from(PREFIXES) | st.text(max_size=12).filter(
    lambda text: not (set(text) & set("+#\0") or text.startswith("$"))
)


@BOUNDED
@given(prefixes, devices)
def test_every_topic_is_read_as_it_was_spelled(prefix: str, device: str) -> None:
    topics = Topics(prefix)

    assert ("heartbeat", device) == topics.read(topics.heartbeat(device))
    assert ("command", device) == topics.read(topics.command(device))
    for method in METHODS:
        assert ("reply", device) == topics.read(topics.reply(method, device))


@BOUNDED
@given(prefixes, st.text(max_size=20))
def test_any_other_topic_is_refused(prefix: str, topic: str) -> None:
    with pytest.raises(MalformedMessage):
        Topics(prefix).read(topic)


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("device", TROUBLE)
def test_an_id_that_may_not_travel_is_refused_on_every_topic(prefix: str, device: str) -> None:
    topics = Topics(prefix)
    for topic in (
        topics.heartbeat(device),
        topics.command(device),
        *(topics.reply(method, device) for method in METHODS),
    ):
        with pytest.raises(MalformedMessage):
            topics.read(topic)


@pytest.mark.parametrize("prefix", ["+", "a/#", "a\0b", "$SYS", "$aws/things"])
def test_a_prefix_that_cannot_begin_a_topic_is_our_own_mistake(prefix: str) -> None:
    with pytest.raises(LocalProtocolError):
        Topics(prefix)


@BOUNDED
@given(prefixes, devices)
def test_a_topic_under_another_prefix_is_refused(prefix: str, device: str) -> None:
    topic = Topics("elsewhere").heartbeat(device)
    if prefix.rstrip("/") == "elsewhere":
        return

    with pytest.raises(MalformedMessage):
        Topics(prefix).read(topic)


@BOUNDED
@given(prefixes, devices)
def test_the_gateways_filters_match_all_that_devices_publish_and_no_command(
    prefix: str, device: str
) -> None:
    topics = Topics(prefix)
    published = {topics.heartbeat(device), *(topics.reply(m, device) for m in METHODS)}

    # The device's id may stand in the prefix too; the wildcard stands for the id alone.
    start = len(topics.heartbeat("")) - len("flower/clients/")
    filled = {f[:start] + f[start:].replace("+", device) for f in topics.from_devices()}

    assert published == filled
    assert topics.command(device) not in filled
