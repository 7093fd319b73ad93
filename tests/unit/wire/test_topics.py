import pytest

from windflower.errors import MalformedMessage
from windflower.wire.messages import METHODS
from windflower.wire.topics import REPLY_FAMILY, TABLE, Topics


def test_the_topics_are_the_original_samples() -> None:
    topics = Topics()

    assert "flower/clients/pi-07" == topics.heartbeat("pi-07")
    assert "commands/client/pi-07/update" == topics.command("pi-07")
    assert [
        "parameters/client/pi-07/sent",
        "set/client/pi-07/sent",
        "fit/client/pi-07/sent",
        "evaluate/client/pi-07/sent",
        "query/client/pi-07/sent",
    ] == [topics.reply(method, "pi-07") for method in METHODS]


def test_every_method_has_its_topic() -> None:
    assert set(METHODS) == set(REPLY_FAMILY)


def test_a_gateway_subscribes_to_all_that_devices_publish() -> None:
    assert (
        "x/flower/clients/+",
        "x/parameters/client/+/sent",
        "x/set/client/+/sent",
        "x/fit/client/+/sent",
        "x/evaluate/client/+/sent",
        "x/query/client/+/sent",
    ) == Topics("x").from_devices()


def test_only_the_gateway_publishes_commands() -> None:
    assert {"command"} == {topic.kind for topic in TABLE if topic.publisher == "gateway"}


@pytest.mark.parametrize(("given", "used"), [("", ""), ("a", "a/"), ("a/", "a/"), ("/", "/")])
def test_a_prefix_ends_with_a_slash_whether_it_was_written_or_not(given: str, used: str) -> None:
    assert f"{used}flower/clients/d" == Topics(given).heartbeat("d")


def test_a_topic_that_overlaps_with_itself_is_refused() -> None:
    for topic in ("commands/client/update", "fit/client/sent", "flower/clients"):
        with pytest.raises(MalformedMessage):
            Topics().read(topic)
