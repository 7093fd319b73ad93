"""A journal in a table: fenced, cut into items, rid of seeds and of what nothing rests on."""

import asyncio
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cloud import Cloud
from samples import RUN, RUN_RECORD, TERMS, command, reply

from windflower.adapters.aws.commit_log import Entries
from windflower.adapters.aws.journal import TableJournal
from windflower.adapters.memory.journal import MemoryJournal
from windflower.core.gateway_effects import RecordCommands, RecordReply
from windflower.core.ledger import EpochRecord, ForgetRecord, SpareRecord
from windflower.errors import FleetTaken, StoreUnavailable


def journal(cloud: Cloud) -> TableJournal:
    return TableJournal(cloud.log(), MemoryJournal())


async def items(cloud: Cloud) -> list[dict[str, Any]]:
    answer = await cloud.tables().call("scan", TableName=cloud.names.journal)
    return list(answer["Items"])


async def test_a_gateway_that_was_succeeded_writes_no_more(tables: Cloud) -> None:
    paused, successor = journal(tables), journal(tables)
    await paused.record([RUN_RECORD, EpochRecord(1)], at=1.0)
    memory = await successor.recall()
    await successor.record([EpochRecord(memory.last_epoch + 1)], at=2.0)
    with pytest.raises(FleetTaken):
        await paused.record([EpochRecord(7)], at=3.0)
    with pytest.raises(FleetTaken):
        await paused.record([EpochRecord(8)], at=4.0)

    assert (1, 2) == (memory.last_epoch, (await journal(tables).recall()).last_epoch)


async def test_a_write_whose_answer_was_lost_finds_itself(tables: Cloud) -> None:
    log = tables.log()
    await log.append([Entries(1.0, (EpochRecord(1),))])
    (item,) = await items(tables)
    await log._put(item)
    commits = await tables.log().read()

    assert [(EpochRecord(1),)] == [commit.entries for commit in commits]


async def test_what_is_recorded_at_once_shares_a_write(tables: Cloud) -> None:
    shared = journal(tables)
    await asyncio.gather(*(shared.record([EpochRecord(n)], at=float(n)) for n in range(1, 40)))
    memory = await journal(tables).recall()

    assert 39 == memory.last_epoch
    assert len(await items(tables)) < 5


async def test_a_large_commit_is_cut_and_counts_only_when_it_is_whole(tables: Cloud) -> None:
    header = os.urandom(900_000)  # nothing makes it smaller
    spare = SpareRecord(RUN, (command(1).id,), header)
    log = tables.log()
    first = await log.append([Entries(1.0, (EpochRecord(1),))])
    commit = await log.append([Entries(2.0, (spare,))])
    whole = await tables.log().read()
    last = {"fleet": {"S": tables.names.fleet}, "sequence": {"N": str(commit.numbers[-1])}}
    await tables.tables().call("delete_item", TableName=tables.names.journal, Key=last)
    successor = tables.log()
    torn = await successor.read()
    behind = await successor.append([Entries(3.0, (EpochRecord(2),))])

    assert [first, commit] == whole
    assert commit.parts > 2
    assert [first] == torn
    assert [first, behind] == await tables.log().read()


async def test_the_seed_of_a_private_run_stands_nowhere_after_its_end(tables: Cloud) -> None:
    private = replace(RUN_RECORD, is_private=True)
    await journal(tables).record([private, EpochRecord(1)], at=1.0)
    successor = journal(tables)
    await successor.record([replace(private, epoch=2), EpochRecord(2)], at=2.0)
    before = await tables.log().read()
    await successor.record([replace(private, seed=0, state="done")], at=3.0)
    after = await tables.log().read()

    def seeds(commits: list[Any]) -> list[int]:
        return [e.seed for c in commits for e in c.entries if hasattr(e, "seed")]

    assert [RUN_RECORD.seed, RUN_RECORD.seed] == seeds(before)
    assert [0, 0, 0] == seeds(after)
    assert [c.numbers for c in before] == [c.numbers for c in after[:2]]


async def test_what_a_forgotten_run_rested_on_goes_when_the_next_gateway_begins(
    tables: Cloud,
) -> None:
    first, asked = journal(tables), command()
    await first.record([RUN_RECORD], at=1.0)
    await first.record([RecordCommands((asked,), "b1", TERMS)], at=2.0)
    await first.record([RecordReply(reply(asked))], at=3.0)
    await first.record([replace(RUN_RECORD, state="done")], at=4.0)
    await first.record([ForgetRecord(RUN), EpochRecord(5)], at=5.0)
    await journal(tables).record([EpochRecord(6)], at=6.0)
    left = await tables.log().read()
    memory = await journal(tables).recall()

    assert [4.0, 5.0, 6.0] == [record.at for commit in left for record in commit.records]
    assert [True] == [run.is_forgotten for run in memory.runs]
    assert 6 == memory.last_epoch


async def test_a_table_that_another_release_wrote_is_said_so(tables: Cloud) -> None:
    log = tables.log()
    commit = await log.append([Entries(1.0, (EpochRecord(1),))])
    (item,) = await items(tables)
    item["data"] = {"B": b"something else"}
    await tables.tables().call("put_item", TableName=tables.names.journal, Item=item)

    assert commit.parts == 1
    with pytest.raises(StoreUnavailable):
        await journal(tables).recall()


async def test_two_fleets_do_not_see_each_other(tables: Cloud, tmp_path: Path) -> None:
    del tmp_path
    await journal(tables).record([EpochRecord(3)], at=1.0)
    tables.names = replace(tables.names, fleet="another")

    assert 0 == (await journal(tables).recall()).last_epoch
