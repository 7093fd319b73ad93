"""A broker is lost since its first failure, for the latest reason, until it is back."""

from windflower.core.events import BrokerConnected, BrokerLost
from windflower.observe.lost_broker import LostBroker, lost_broker

CONNECTED = {"event": BrokerConnected.kind(), "at": 5.0}


def lost(at: float, reason: str) -> dict[str, object]:
    return {"event": BrokerLost.kind(), "at": at, "reason": reason}


def test_it_is_lost_since_the_first_failure_and_for_the_latest_reason() -> None:
    events = [CONNECTED, lost(6.0, "it broke"), lost(7.0, "refused"), {"event": "x", "at": 8.0}]

    assert LostBroker(6.0, "refused") == lost_broker(events)


def test_it_is_there_once_it_is_back_or_nothing_is_said() -> None:
    assert lost_broker([lost(4.0, "it broke"), CONNECTED]) is None
    assert lost_broker([]) is None
