"""A journal's commits as items of a table: appended one after another, by one gateway at a time.

Each item is written on the condition that nobody took its number. Whoever finds it taken by another
has been succeeded, and may write no more: that is the fence against a gateway that was paused.
"""

import json
import lzma
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from botocore.exceptions import ClientError

from windflower.adapters.aws.account import Service
from windflower.core.ledger import Entry, ForgetRecord, RunRecord
from windflower.core.ledger_json import entry_from_json, entry_to_json, run_of
from windflower.core.roster import Presence
from windflower.errors import FleetTaken, StoreUnavailable

PART_BYTES: Final = 390_000
"""An item has at most 400 KB, its names included. Source: DynamoDB's quotas."""

_TAKEN: Final = "ConditionalCheckFailedException"


@dataclass(frozen=True, slots=True)
class Entries:
    """What one `record` keeps.

    Attributes:
        at: when, by the gateway's clock.
        entries: in their order.
    """

    at: float
    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class Commit:
    """What one write kept.

    Attributes:
        first: the number of its first item.
        parts: into how many items it was cut.
        records: what it holds, in order.
    """

    first: int
    parts: int
    records: tuple[Entries, ...]

    @property
    def numbers(self) -> range:
        """The numbers of its items."""
        return range(self.first, self.first + self.parts)

    @property
    def entries(self) -> tuple[Entry, ...]:
        """All that it holds."""
        return tuple(entry for record in self.records for entry in record.entries)


class CommitLog:
    """The commits of one fleet.

    Args:
        service: DynamoDB.
        table: the journal's table.
        fleet: whose commits.
    """

    def __init__(self, service: Service, table: str, fleet: str) -> None:
        self._service = service
        self._table = table
        self._fleet = fleet
        self._writer = secrets.token_hex(8)
        self._next = 0

    async def read(self) -> list[Commit]:
        """Return all that is there, and go on behind it.

        A commit whose last items are missing was never acknowledged: it counts for nothing.
        """
        commits, parts = [], list[bytes]()
        for item in await self._items():
            number, part, of = (int(item[name]["N"]) for name in ("sequence", "part", "parts"))
            parts = [*(parts if part else []), item["data"]["B"]]
            self._next = number + 1
            if part == of - 1 and len(parts) == of:
                commits.append(Commit(number - part, of, _unpacked(b"".join(parts))))
        return commits

    async def append(self, records: Sequence[Entries]) -> Commit:
        """Write a commit; durable on return.

        Raises:
            FleetTaken: another gateway has written meanwhile.
            StoreUnavailable: DynamoDB does not answer.
        """
        data = _packed(records)
        parts = _cut(data, -(-len(data) // PART_BYTES))
        first = self._next
        for part, piece in enumerate(parts):
            await self._put(self._item(first + part, part, len(parts), piece))
            self._next = first + part + 1
        return Commit(first, len(parts), tuple(records))

    async def erase_seeds(self, run: str, commit: Commit) -> None:
        """Write a commit anew without the seed of a run that is over."""
        records = tuple(
            replace(record, entries=tuple(_without_seed(run, entry) for entry in record.entries))
            for record in commit.records
        )
        pieces = _cut(_packed(records), commit.parts)
        for part, piece in enumerate(pieces):
            item = self._item(commit.first + part, part, commit.parts, piece)
            await self._service.call("put_item", TableName=self._table, Item=item)

    async def remove(self, commit: Commit) -> None:
        """Remove a commit that says nothing any more, the last item first."""
        for number in reversed(commit.numbers):
            key = {"fleet": {"S": self._fleet}, "sequence": {"N": str(number)}}
            await self._service.call("delete_item", TableName=self._table, Key=key)

    async def _put(self, item: dict[str, Any]) -> None:
        try:
            await self._service.call(
                "put_item",
                expected=[_TAKEN],
                TableName=self._table,
                Item=item,
                ConditionExpression="attribute_not_exists(#sequence)",
                ExpressionAttributeNames={"#sequence": "sequence"},
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
            )
        except ClientError as error:
            # A write whose answer was lost, and which was tried again, finds itself.
            if error.response.get("Item") != item:
                raise FleetTaken(
                    f"another gateway took over the fleet {self._fleet}: this one has to end"
                ) from error

    def _item(self, number: int, part: int, parts: int, data: bytes) -> dict[str, Any]:
        return {
            "fleet": {"S": self._fleet},
            "sequence": {"N": str(number)},
            "part": {"N": str(part)},
            "parts": {"N": str(parts)},
            "writer": {"S": self._writer},
            "data": {"B": data},
        }

    async def _items(self) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = []
        start: dict[str, Any] = {}
        while True:
            page = await self._service.call(
                "query",
                TableName=self._table,
                ConsistentRead=True,
                KeyConditionExpression="#fleet = :fleet",
                ExpressionAttributeNames={"#fleet": "fleet"},
                ExpressionAttributeValues={":fleet": {"S": self._fleet}},
                **start,
            )
            items += page["Items"]
            if "LastEvaluatedKey" not in page:
                return items
            start = {"ExclusiveStartKey": page["LastEvaluatedKey"]}


def obsolete(commits: Sequence[Commit]) -> list[Commit]:
    """Return the commits of which nothing counts any more; the last one always does.

    What belongs to a forgotten run goes, apart from what it came to; of runs and presences the last
    word counts.
    """
    entries = [entry for commit in commits for entry in commit.entries]
    forgotten = {entry.run for entry in entries if isinstance(entry, ForgetRecord)}
    last = {key: entry for entry in entries if (key := _replaces(entry)) is not None}

    def counts(entry: Entry) -> bool:
        key = _replaces(entry)
        return last[key] is entry if key is not None else run_of(entry) not in forgotten

    return [commit for commit in commits[:-1] if not any(map(counts, commit.entries))]


def _replaces(entry: Entry) -> tuple[str, str] | None:
    """Return what a later entry of the same kind takes the place of, if it does."""
    if isinstance(entry, RunRecord):
        return "run", entry.run
    if isinstance(entry, Presence):
        return "presence", entry.device
    return None


def _without_seed(run: str, entry: Entry) -> Entry:
    return replace(entry, seed=0) if isinstance(entry, RunRecord) and entry.run == run else entry


def _packed(records: Sequence[Entries]) -> bytes:
    """Write records small: the commands of one round differ in little but their device."""
    value = [[record.at, [entry_to_json(entry) for entry in record.entries]] for record in records]
    return lzma.compress(json.dumps(value, separators=(",", ":")).encode(), preset=0)


def _unpacked(data: bytes) -> tuple[Entries, ...]:
    try:
        value = json.loads(lzma.decompress(data))
        return tuple(Entries(at, tuple(map(entry_from_json, entries))) for at, entries in value)
    except (ValueError, TypeError, lzma.LZMAError) as error:
        raise StoreUnavailable(f"the journal's table cannot be read: {error}") from error


def _cut(data: bytes, parts: int) -> list[bytes]:
    size = -(-len(data) // parts)
    return [data[i * size : (i + 1) * size] for i in range(parts)]
