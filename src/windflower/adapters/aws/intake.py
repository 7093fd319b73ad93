"""What devices say, from the tables into which topic rules write it.

A table wakes nobody, so both are looked at again and again. The replies' table holds only what
nobody has taken yet: to scan it costs what is in it, and half a read unit when there is nothing.
"""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from botocore.exceptions import ClientError

from windflower.adapters.aws.account import Service
from windflower.adapters.aws.in_flight import InFlight
from windflower.adapters.aws.rows import Row
from windflower.core.backoff import wait_s
from windflower.errors import TransportError
from windflower.ports import Delivery

SOON_S: Final = 0.2
LATER_S: Final = 2.0
"""A look at an empty table each two seconds is 43,200 read units a day: a cent in three days."""

HEARD_S: Final = 1.0
"""Heartbeats are looked at so often at most: nobody waits for one as a run does for a reply."""

READ_UNITS_A_SECOND: Final = 50.0
"""What looking at a large fleet may cost on average: half a dollar a day at most."""

RARELY_S: Final = 30.0
"""Every device is looked at at least this often, at whatever price."""

REMOVALS: Final = 32
OVERLAP_MS: Final = 60_000
"""Rules are evaluated in many places: rows may become visible out of order, but not so late."""

_Key = tuple[str, str]
_GONE: Final = "ConditionalCheckFailedException"


class Looking:
    """Pages of a table, and the patience of whoever reads them.

    Args:
        service: DynamoDB.
        table: the table's name.
    """

    def __init__(self, service: Service, table: str) -> None:
        self._service = service
        self._table = table
        self._failures = 0
        self._looked_at = -math.inf
        self.read_units = 0.0

    async def rows(self, *, pause_s: float, **scan: Any) -> list[Row]:  # noqa: ANN401 - a scan's parameters
        """Return what a scan finds, begun so long after the last one at the earliest.

        Waits for as long as DynamoDB does not answer.
        """
        await asyncio.sleep(max(self._looked_at + pause_s - time.monotonic(), 0))
        self._looked_at = time.monotonic()
        while True:
            try:
                found = [Row.read(item) async for item in self._items(scan)]
            except TransportError:
                self._failures += 1
                await asyncio.sleep(wait_s(self._failures))
            else:
                self._failures = 0
                return found

    async def _items(self, scan: dict[str, Any]) -> AsyncIterator[Any]:
        self.read_units = 0.0
        start: dict[str, Any] = {}
        while True:
            page = await self._service.call(
                "scan", TableName=self._table, ReturnConsumedCapacity="TOTAL", **scan, **start
            )
            self.read_units += page.get("ConsumedCapacity", {}).get("CapacityUnits", 0.0)
            for item in page["Items"]:
                yield item
            if "LastEvaluatedKey" not in page:
                return
            start = {"ExclusiveStartKey": page["LastEvaluatedKey"]}


class ReplyIntake:
    """Replies, each a row until it is journaled.

    Args:
        service: DynamoDB.
        table: the replies' table.
    """

    def __init__(self, service: Service, table: str) -> None:
        self._service = service
        self._table = table
        self._looking = Looking(service, table)
        self._taken: dict[_Key, int] = {}
        self._let_go: list[tuple[_Key, int]] = []
        self._removals = InFlight(REMOVALS)
        self._pause_s = SOON_S

    async def take(self) -> Sequence[Delivery]:
        """Look until there are replies, and return all that are there, oldest first."""
        while True:
            # Consistent: what was removed before this look is not seen by it.
            removed, self._let_go = self._let_go, []
            rows = await self._looking.rows(pause_s=self._pause_s, ConsistentRead=True)
            now = time.time()
            fresh = [row for row in rows if self._taken.get((row.client, row.type)) != row.ttl]
            for row in fresh:
                self._taken[row.client, row.type] = row.ttl
                if 0 < row.ttl <= now:  # DynamoDB itself takes its time, up to days
                    await self._removals.start(self._remove(row))
            for key, ttl in removed:
                if self._taken.get(key) == ttl:
                    del self._taken[key]
            there = [row for row in fresh if not 0 < row.ttl <= now]
            if there:
                self._pause_s = SOON_S
                return [self._delivery(row) for row in sorted(there, key=lambda row: row.ttl)]
            self._pause_s = min(self._pause_s * 1.5, LATER_S)

    async def close(self) -> None:
        """Remove what was done with, and look no more."""
        await self._removals.settle()

    def _delivery(self, row: Row) -> Delivery:
        async def done() -> None:
            await self._removals.start(self._remove(row))

        return Delivery(row.client, row.body, done)

    async def _remove(self, row: Row) -> None:
        """Remove a row, unless it was written anew meanwhile: then that comes as another."""
        try:
            await self._service.call(
                "delete_item",
                expected=[_GONE],
                TableName=self._table,
                Key={"client": {"S": row.client}, "type": {"S": row.type}},
                ConditionExpression="#ttl = :ttl",
                ExpressionAttributeNames={"#ttl": "ttl"},
                ExpressionAttributeValues={":ttl": {"N": str(row.ttl)}},
            )
        except (TransportError, ClientError):
            pass  # it comes once more, which changes nothing
        finally:
            # Not forgotten yet: a look that is under way may have read it before it went.
            self._let_go.append(((row.client, row.type), row.ttl))


@dataclass(slots=True)
class _Heard:
    """How far a fleet was heard: by device, and in all, Unix milliseconds."""

    by_device: dict[str, int]
    last_ms: int = 0


class PresenceIntake:
    """The last heartbeat of each device, when it is another than before.

    Args:
        service: DynamoDB.
        table: the heartbeats' table.
    """

    def __init__(self, service: Service, table: str) -> None:
        self._looking = Looking(service, table)
        self._heard = _Heard({})
        self._opened_ms = time.time() * 1000

    async def take(self) -> Sequence[Delivery]:
        """Look until devices were heard, and return what they said last, oldest first."""
        while True:
            since = max(self._heard.last_ms - OVERLAP_MS, 0)
            pause_s = self._looking.read_units / READ_UNITS_A_SECOND
            rows = await self._looking.rows(
                pause_s=min(max(pause_s, HEARD_S), RARELY_S),
                FilterExpression="#time > :since",
                ExpressionAttributeNames={"#time": "time"},
                ExpressionAttributeValues={":since": {"N": str(since)}},
            )
            news = [r for r in rows if r.time_ms > self._heard.by_device.get(r.client, 0)]
            if news:
                return [self._delivery(row) for row in sorted(news, key=lambda row: row.time_ms)]

    def _delivery(self, row: Row) -> Delivery:
        self._heard.by_device[row.client] = row.time_ms
        self._heard.last_ms = max(self._heard.last_ms, row.time_ms)
        # What was said before this gateway looked names a device; that it lives, it has to say.
        return Delivery(row.client, row.body, _nothing, is_kept=row.time_ms <= self._opened_ms)


async def _nothing() -> None:
    """Remove nothing: a row is what is known of a device."""
