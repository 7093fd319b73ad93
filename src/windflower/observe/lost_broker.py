"""Since when a gateway has no broker, by what it wrote down."""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from windflower.core.events import BrokerConnected, BrokerLost


@dataclass(frozen=True, slots=True)
class LostBroker:
    """A broker that does not answer its gateway.

    Attributes:
        since: when it was lost, Unix seconds.
        reason: why, as of the latest try.
    """

    since: float
    reason: str

    def __str__(self) -> str:
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.since))
        return f"is lost since {since}: {self.reason}"


def lost_broker(events: Iterable[dict[str, Any]]) -> LostBroker | None:
    """Return what is known of a broker that is lost; None where it is not.

    Args:
        events: the latest of a gateway, in their order.
    """
    lost: LostBroker | None = None
    for event in events:
        if event["event"] == BrokerLost.kind():
            lost = LostBroker(lost.since if lost else event["at"], event["reason"])
        elif event["event"] == BrokerConnected.kind():
            lost = None
    return lost
