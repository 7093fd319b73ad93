"""What a fleet costs on AWS, from what it does and from a dated list of prices.

Metering as AWS describes it: messages in units of 5 KB; a command at QoS 1 is one in, one out and
the device's PUBACK; what travels by Basic Ingest costs its rule and its action and no message;
DynamoDB writes in units of 1 KB, consistent reads of 4 KB; data into AWS is free.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Final

Bill = dict[str, float]
"""How much of each item, or what it costs."""

GB: Final = 1e9
DAY_S: Final = 86_400
LOOKS: Final = 4
"""So often a reply's row is seen by a look before it is removed, at most."""

LOOK_S: Final = 2.0
"""Seconds between two looks at an empty table."""

REPLY_KB: Final = 2
"""A row with a reply: its envelope in base64, metrics, no arrays."""

JOURNAL_KB: Final = 3
"""What the journal keeps of a command and its reply."""

TASK_VCPUS: Final = 1
TASK_MEMORY_GB: Final = 4
"""Of the template's task."""


@dataclass(frozen=True, slots=True)
class Prices:
    """A list of prices.

    Attributes:
        date: of which day.
        region: of which region.
        note: where they are from.
        dollars: by item, of one.
    """

    date: str
    region: str
    note: str
    dollars: dict[str, float]

    @classmethod
    def load(cls) -> "Prices":
        """Return the list that came with this release."""
        text = files("windflower.adapters.aws").joinpath("prices.json").read_text()
        listed = json.loads(text)
        dollars = {item: price / 1e6 for item, price in listed["per_million"].items()}
        return cls(listed["date"], listed["region"], listed["note"], dollars | listed["each"])

    def of(self, bill: Bill) -> Bill:
        """Return dollars by item; raises KeyError for an item that has no price."""
        return {item: self.dollars[item] * count for item, count in bill.items()}


def round_bill(devices: int, model_bytes: int, *, seconds: float = 120.0) -> Bill:
    """Return what one round takes: train and evaluate, each device asked for both.

    Args:
        devices: how many take part.
        model_bytes: of the model, and of an update.
        seconds: how long the round lasts; the task is paid for, and the tables are looked at.
    """
    asked = 2 * devices
    hours = seconds / 3600
    return {
        "message": asked * 3 + asked * 2,  # commands at QoS 1, acknowledgements at QoS 0
        "rule": asked,
        "action": asked,
        "write_unit": asked * (2 * REPLY_KB + JOURNAL_KB),  # a row comes, and goes
        "read_unit": math.ceil(asked * REPLY_KB / 4) * LOOKS + seconds / LOOK_S,
        # The new model goes up once and down once a device; an update up, its size asked, and down.
        "s3_put": 1 + devices,
        "s3_get": devices + 2 * devices,
        "egress_gb": devices * model_bytes / GB,
        "vcpu_hour": hours * TASK_VCPUS,
        "memory_gb_hour": hours * TASK_MEMORY_GB,
    }


def traffic_bill(traffic: Mapping[str, int], *, seconds: float) -> Bill:
    """Return what a phase took, or would take on AWS, by what passed while it was open.

    Args:
        traffic: as `Traffic` counts it.
        seconds: how long it was open.
    """
    hours = seconds / 3600
    replies, beats = traffic["replies"], traffic["heartbeats"]
    return {
        # Each unit comes in and goes out; a command at QoS 1 is acknowledged too.
        "message": 2 * traffic["sent_units"] + traffic["commands"],
        "rule": replies + beats,
        "action": replies + beats,
        "write_unit": replies * (2 * REPLY_KB + JOURNAL_KB) + beats,
        "read_unit": math.ceil(replies * REPLY_KB / 4) * LOOKS + seconds / LOOK_S,
        "s3_put": traffic["uploads"],
        "s3_get": traffic["downloads"] + 2 * traffic["uploads"],
        "egress_gb": traffic["download_bytes"] / GB,
        "vcpu_hour": hours * TASK_VCPUS,
        "memory_gb_hour": hours * TASK_MEMORY_GB,
    }


class TrafficPrice:
    """What traffic costs at the list of prices that came with this release.

    Attributes:
        source: whose prices these are, and of which day.
    """

    def __init__(self) -> None:
        self._prices = Prices.load()
        self.source = f"AWS list prices in {self._prices.region} of {self._prices.date}"

    def __call__(self, traffic: Mapping[str, int], seconds: float) -> float:
        """Return dollars for what passed in so many seconds."""
        return sum(self._prices.of(traffic_bill(traffic, seconds=seconds)).values())


def idle_day_bill(devices: int, *, interval_s: float) -> Bill:
    """Return what a day takes in which nothing runs: devices that are connected and beat."""
    beats = math.ceil(DAY_S / interval_s) * devices
    return {
        "rule": beats,
        "action": beats,
        "write_unit": beats,
        "connection_minute": devices * DAY_S / 60,
    }
