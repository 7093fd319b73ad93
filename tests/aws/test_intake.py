"""What the tables hold is handed over once, and goes only when it was journaled."""

import asyncio
import base64
import time
from dataclasses import dataclass
from typing import Any

import pytest
from cloud import Cloud

from windflower.adapters.aws.intake import PresenceIntake, ReplyIntake
from windflower.ports import Delivery

LATER = int(time.time()) + 86_400


async def put(cloud: Cloud, table: str, **columns: Any) -> None:  # noqa: ANN401
    item = {
        name: {"N": str(value)} if isinstance(value, int) else {"S": value}
        for name, value in columns.items()
    }
    await cloud.tables().call("put_item", TableName=table, Item=item)


async def reply(cloud: Cloud, client: str, body: bytes, *, ttl: int = LATER) -> None:
    path = base64.b64encode(body).decode()
    await put(cloud, cloud.names.responses, client=client, type="fit#1", path=path, ttl=ttl)


async def beat(cloud: Cloud, client: str, body: bytes, *, time_ms: int) -> None:
    path = base64.b64encode(body).decode()
    await put(cloud, cloud.names.presences, client=client, time=time_ms, path=path)


async def rows(cloud: Cloud) -> set[str]:
    answer = await cloud.tables().call("scan", TableName=cloud.names.responses)
    return {item["client"]["S"] for item in answer["Items"]}


async def taken(intake: Any) -> list[Delivery]:  # noqa: ANN401 - either
    async with asyncio.timeout(20):
        return list(await intake.take())


async def test_a_reply_stays_until_it_is_done_and_comes_again_to_a_successor(
    tables: Cloud,
) -> None:
    intake = ReplyIntake(tables.tables(), tables.names.responses)
    await reply(tables, "d1", b"one")
    first = await taken(intake)
    again = await taken(ReplyIntake(tables.tables(), tables.names.responses))
    await reply(tables, "d2", b"two", ttl=LATER + 1)
    second = await taken(intake)
    before = await rows(tables)
    for delivery in (*first, *second):
        await delivery.done()
    await intake.close()

    assert [("d1", b"one")] == [(d.device, d.body) for d in first]
    assert [("d1", b"one")] == [(d.device, d.body) for d in again]
    assert [("d2", b"two")] == [(d.device, d.body) for d in second]
    assert ({"d1", "d2"}, set()) == (before, await rows(tables))


async def test_a_reply_that_was_written_anew_is_not_removed_with_the_old_one(
    tables: Cloud,
) -> None:
    intake = ReplyIntake(tables.tables(), tables.names.responses)
    await reply(tables, "d1", b"old")
    (old,) = await taken(intake)
    await reply(tables, "d1", b"new", ttl=LATER + 5)
    await old.done()
    (new,) = await taken(intake)
    await intake.close()

    assert (b"old", b"new") == (old.body, new.body)
    assert {"d1"} == await rows(tables)


async def test_a_reply_whose_time_is_over_goes_unread(tables: Cloud) -> None:
    intake = ReplyIntake(tables.tables(), tables.names.responses)
    await reply(tables, "d1", b"stale", ttl=int(time.time()) - 1)
    await reply(tables, "d2", b"fresh")
    fresh = await taken(intake)
    await intake.close()

    assert [b"fresh"] == [d.body for d in fresh]
    assert {"d2"} == await rows(tables)


async def test_a_row_that_holds_no_message_is_handed_over_to_be_refused(tables: Cloud) -> None:
    intake = ReplyIntake(tables.tables(), tables.names.responses)
    await put(tables, tables.names.responses, client="d1", type="fit#1", path="?", ttl=LATER)
    (delivery,) = await taken(intake)
    await delivery.done()
    await intake.close()

    assert b"" == delivery.body
    assert set() == await rows(tables)


async def test_only_news_of_a_fleet_is_handed_over(tables: Cloud) -> None:
    now = int(time.time() * 1000)
    await beat(tables, "d1", b"long ago", time_ms=now - 5000)
    intake = PresenceIntake(tables.tables(), tables.names.presences)
    kept = await taken(intake)
    await beat(tables, "d2", b"first", time_ms=now + 10_000)
    (first,) = await taken(intake)
    await first.done()
    await beat(tables, "d1", b"alive", time_ms=now + 9000)  # a little out of order
    (second,) = await taken(intake)

    assert [("d1", b"long ago", True)] == [(d.device, d.body, d.is_kept) for d in kept]
    assert ("d2", b"first", False) == (first.device, first.body, first.is_kept)
    assert ("d1", b"alive", False) == (second.device, second.body, second.is_kept)


@dataclass
class FakeScan:
    """DynamoDB as far as a scan needs it, with pages and a price."""

    units: float
    pages: int = 3

    async def call(self, operation: str, **scan: Any) -> Any:  # noqa: ANN401
        assert operation == "scan"
        page = int(scan.get("ExclusiveStartKey", {}).get("client", {}).get("S", "0"))
        item = {"client": {"S": f"d{page}"}, "time": {"N": "1"}, "path": {"S": "eA=="}}
        last = {"LastEvaluatedKey": {"client": {"S": str(page + 1)}}}
        return {
            "Items": [item],
            "ConsumedCapacity": {"CapacityUnits": self.units},
            **(last if page + 1 < self.pages else {}),
        }


@pytest.mark.parametrize(("units", "pause_s"), [(0.5, 1.0), (50.0, 3.0), (9000.0, 30.0)])
async def test_a_large_fleet_is_looked_at_less_often(
    units: float, pause_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) > 1:
            raise asyncio.CancelledError

    intake = PresenceIntake(FakeScan(units), "fleet")  # type: ignore[arg-type]
    monkeypatch.setattr("asyncio.sleep", sleep)
    found = await intake.take()
    with pytest.raises(asyncio.CancelledError):
        await intake.take()

    assert ["d0", "d1", "d2"] == [d.device for d in found]
    assert pause_s == pytest.approx(slept[1], abs=0.1)
