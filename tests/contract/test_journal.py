"""Every journal keeps what it is given, and gives back the same after a restart."""

from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest
from cloud import Cloud
from samples import RUN, RUN_RECORD, TERMS, command, failed, reply

from windflower.adapters.aws.journal import TableJournal
from windflower.adapters.local.journal import open_journal
from windflower.adapters.memory.journal import MemoryJournal
from windflower.core.gateway_effects import (
    RecordCommands,
    RecordMissing,
    RecordReply,
    RecordTerms,
)
from windflower.core.ledger import (
    AggregateRecord,
    CheckpointRecord,
    DropRecord,
    EpochRecord,
    ForgetRecord,
    PhaseRecord,
    PullRecord,
    RosterRecord,
    SpareRecord,
    Tally,
)
from windflower.core.policy import Terms
from windflower.core.retention import Holding, PastRun
from windflower.core.roster import Presence
from windflower.ports import Journal
from windflower.wire.blobs import BlobRef
from windflower.wire.content import Content
from windflower.wire.messages import Failure

Reopen = Callable[[], Journal]


@pytest.fixture(params=["memory", "local", "aws"])
def reopen(request: pytest.FixtureRequest, tmp_path: Path) -> Reopen:
    if request.param == "local":
        return lambda: open_journal(tmp_path / "journal.db")
    if request.param == "aws":
        cloud: Cloud = request.getfixturevalue("tables")
        disks = count()  # a task's disk is gone with it
        return lambda: TableJournal(
            cloud.log(), open_journal(tmp_path / f"{next(disks)}" / "journal.db")
        )
    journal = MemoryJournal()
    return lambda: journal


async def test_an_empty_journal_remembers_nothing(reopen: Reopen) -> None:
    journal = reopen()
    memory = await journal.recall()
    await journal.close()

    assert ((), (), (), (), 0, 0) == (
        memory.runs,
        memory.open,
        memory.settled,
        memory.presences,
        memory.last_number,
        memory.last_epoch,
    )


async def test_open_and_settled_exchanges_come_back(reopen: Reopen) -> None:
    asked = [command(number) for number in range(4)]
    journal = reopen()
    await journal.record([RUN_RECORD, RecordCommands(tuple(asked), "b1", TERMS)], at=7.0)
    await journal.record([RecordReply(reply(asked[0], number=3))], at=8.0)
    await journal.record([RecordReply(failed(asked[1]))], at=8.0)
    await journal.record([RecordMissing(asked[2], Failure(5, "d1 is offline"))], at=9.0)
    await journal.close()
    again = reopen()
    memory = await again.recall()
    settled = await again.settlements([c.id for c in asked])
    await again.close()

    assert (RUN_RECORD,) == memory.runs
    assert 4 == memory.last_number
    assert [asked[3]] == [exchange.command for exchange in memory.open]
    assert [("b1", TERMS, 7.0)] == [(e.batch, e.terms, e.asked_at) for e in memory.open]
    assert [True, False, False] == [s.is_good for s in settled]
    assert {"b1"} == {s.batch for s in settled}
    assert [reply(asked[0], number=3), failed(asked[1]), None] == [s.reply for s in settled]
    assert Failure(5, "d1 is offline") == settled[2].failure
    assert {s.id for s in settled} == {s.id for s in memory.settled}


async def test_the_first_settlement_stays(reopen: Reopen) -> None:
    asked = command()
    journal = reopen()
    await journal.record([RUN_RECORD, RecordCommands((asked,), "b1", TERMS)], at=1.0)
    await journal.record([RecordReply(reply(asked, number=1))], at=2.0)
    await journal.record([RecordReply(reply(asked, number=2))], at=3.0)
    await journal.record([RecordMissing(asked, Failure(4, "late"))], at=4.0)
    settled = await journal.settlements([asked.id])
    await journal.close()

    assert [reply(asked, number=1)] == [s.reply for s in settled]


async def test_commands_that_are_recorded_again_stay_as_they_were(reopen: Reopen) -> None:
    asked = command()
    journal = reopen()
    await journal.record([RUN_RECORD, RecordCommands((asked,), "b1", TERMS)], at=1.0)
    await journal.record([RecordCommands((replace(asked, epoch=9),), "b1", TERMS)], at=2.0)
    memory = await journal.recall()
    await journal.close()

    assert [(1, 1.0)] == [(exchange.command.epoch, exchange.asked_at) for exchange in memory.open]


async def test_a_batch_is_waited_for_on_new_terms(reopen: Reopen) -> None:
    journal, terms = reopen(), Terms(500.0, waits_for_offline=False, quorum=2, minimum=1)
    await journal.record([RUN_RECORD, RecordCommands((command(),), "b1", TERMS)], at=1.0)
    await journal.record([RecordTerms("b1", terms)], at=2.0)
    memory = await reopen().recall()

    assert [terms] == [exchange.terms for exchange in memory.open]


async def test_how_the_exchanges_of_a_run_ended_is_counted(reopen: Reopen) -> None:
    asked = [command(number) for number in range(4)]
    journal = reopen()
    await journal.record([RUN_RECORD, RecordCommands(tuple(asked), "b1", TERMS)], at=1.0)
    await journal.record([RecordReply(reply(asked[0])), RecordReply(failed(asked[1]))], at=2.0)
    await journal.record([RecordMissing(asked[2], Failure(5, "d1 is offline"))], at=3.0)

    assert Tally(ok=1, failed=1, late=1) == await journal.tally(RUN)
    assert Tally() == await journal.tally("another")


async def test_what_a_run_asked_and_was_told_comes_back_in_order(reopen: Reopen) -> None:
    first, second = command(1), command(2)
    journal = reopen()
    await journal.record([RUN_RECORD, RosterRecord(RUN, 0, ("d2", "d1"))], at=1.0)
    await journal.record([RecordCommands((second,), "b1", TERMS)], at=2.0)
    await journal.record([PhaseRecord(RUN, "p1", (second.id,), 1)], at=3.0)
    await journal.record([RosterRecord(RUN, 1, ("d3", "d1"))], at=4.0)
    await journal.record([RecordCommands((first,), "b2", TERMS)], at=5.0)
    history = await reopen().history(RUN)

    assert (second, first) == history.commands
    assert (PhaseRecord(RUN, "p1", (second.id,), 1),) == history.phases
    assert ("d2", "d1", "d3") == history.devices


async def test_runs_that_ended_are_not_taken_up(reopen: Reopen) -> None:
    asked = command()
    ended = replace(RUN_RECORD, state="done", result={"model-hash": "ab", "rounds": 3})
    journal = reopen()
    await journal.record([RUN_RECORD, RecordCommands((asked,), "b1", TERMS)], at=1.0)
    await journal.record([ended], at=2.0)
    memory = await journal.recall()
    await journal.close()

    assert (ended,) == memory.runs
    assert ((), ()) == (memory.open, memory.settled)


async def test_what_the_app_was_told_is_told_again(reopen: Reopen) -> None:
    journal = reopen()
    await journal.record([PhaseRecord(RUN, "p1", ("a", "b"), 1)], at=1.0)
    await journal.record([PhaseRecord(RUN, "p1", ("c",), 2)], at=2.0)
    await journal.record([RosterRecord(RUN, 0, ("d1", "d2")), PullRecord(RUN, 0, ("a",))], at=3.0)
    await journal.close()
    again = reopen()

    assert PhaseRecord(RUN, "p1", ("a", "b"), 1) == await again.phase(RUN, "p1")
    assert await again.phase(RUN, "p2") is None
    assert RosterRecord(RUN, 0, ("d1", "d2")) == await again.roster(RUN, 0)
    assert await again.roster(RUN, 1) is None
    assert PullRecord(RUN, 0, ("a",)) == await again.pull(RUN, 0)
    assert await again.pull(RUN, 1) is None
    await again.close()


async def test_the_last_presence_of_a_device_counts(reopen: Reopen) -> None:
    first = Presence("d1", 1.0, "boot", 60.0, 151.0, True, {"site": "a"}, model="0" * 64)
    journal = reopen()
    await journal.record([first, replace(first, device="d2")], at=1.0)
    await journal.record([replace(first, heard_at=5.0, is_online=False)], at=5.0)
    memory = await journal.recall()
    await journal.close()

    assert {"d1": 5.0, "d2": 1.0} == {p.device: p.heard_at for p in memory.presences}
    assert {"d1": False, "d2": True} == {p.device: p.is_online for p in memory.presences}
    assert {"site": "a"} == memory.presences[0].labels
    assert {"0" * 64} == {p.model for p in memory.presences}


async def test_the_highest_epoch_comes_back(reopen: Reopen) -> None:
    journal = reopen()
    await journal.record([EpochRecord(3), EpochRecord(2)], at=1.0)
    memory = await reopen().recall()

    assert 3 == memory.last_epoch


async def test_a_finished_run_is_forgotten_but_for_what_it_came_to(reopen: Reopen) -> None:
    asked, other = command(1), command(2, run="2-b", run_number=2)
    ended = replace(RUN_RECORD, state="done", ended_at=5.0, result={"model-hash": "ab"})
    going_on = replace(RUN_RECORD, run="2-b", number=5)
    journal = reopen()
    await journal.record([ended, RecordCommands((asked,), "b1", TERMS)], at=1.0)
    await journal.record([RecordReply(reply(asked)), RosterRecord(RUN, 0, ("d1",))], at=2.0)
    await journal.record([going_on, RecordCommands((other,), "b2", TERMS)], at=3.0)
    past = await journal.past()
    await journal.record([ForgetRecord(RUN)], at=9.0)
    memory = await reopen().recall()

    assert [PastRun(RUN, 5.0, 0)] == list(past)
    assert [] == list(await journal.past())
    assert [(True, {"model-hash": "ab"}), (False, {})] == [
        (run.is_forgotten, run.result) for run in memory.runs
    ]
    assert () == (await journal.history(RUN)).commands
    assert [] == list(await journal.settlements([asked.id]))
    assert await journal.roster(RUN, 0) is None
    assert [other] == [exchange.command for exchange in memory.open]
    assert {"2-b": 3.0} == await journal.silent_since()


async def test_what_runs_rest_on_is_alive_until_they_are_forgotten(reopen: Reopen) -> None:
    pack = BlobRef("1" * 64, 100)
    asked = replace(command(1), content=Content((("a", None),), pack), bundle=RUN_RECORD.bundle)
    answer = replace(reply(asked), content=Content((("a", None),), BlobRef("2" * 64, 70_000)))
    late = replace(asked, id="f" * 32)
    journal = reopen()
    await journal.record([RUN_RECORD, RecordCommands((asked, late), "b1", TERMS)], at=1.0)
    before = await journal.live_keys()
    await journal.record([RecordReply(answer)], at=2.0)
    size = [past.size_bytes for past in await journal.past()]
    await journal.record([replace(RUN_RECORD, state="done")], at=3.0)
    sizes = [past.size_bytes for past in await journal.past()]
    during = await journal.live_keys()
    await journal.record([ForgetRecord(RUN)], at=4.0)

    bundle = RUN_RECORD.bundle.key
    assert {bundle, pack.key, asked.reply_key, late.reply_key} == before
    assert {bundle, asked.reply_key} == during
    assert ([], [70_000]) == (size, sizes)
    assert frozenset() == await journal.live_keys()


async def test_updates_go_and_what_they_began_with_stays(reopen: Reopen) -> None:
    pack = BlobRef("2" * 64, 70_000)
    asked = [command(number) for number in range(3)]
    answers = [replace(reply(c), content=Content((("a", None),), pack)) for c in asked]
    made = BlobRef("3" * 64, 500)
    journal = reopen()
    await journal.record([RUN_RECORD, RecordCommands(tuple(asked), "b1", TERMS)], at=1.0)
    await journal.record([RecordReply(answer) for answer in answers], at=2.0)
    await journal.record([AggregateRecord(RUN, "key", made)], at=3.0)
    await journal.record([SpareRecord(RUN, (asked[0].id, asked[1].id), b"header")], at=3.0)
    before = await journal.holdings(RUN)
    await journal.record([DropRecord(RUN, (asked[0].id,))], at=4.0)
    await journal.close()
    again = reopen()
    after = await again.holdings(RUN)
    settled = await again.settlements([c.id for c in asked])
    live = await again.live_keys()
    kept = await again.aggregate(RUN, "key")
    await again.record([replace(RUN_RECORD, state="done")], at=5.0)
    sizes = [past.size_bytes for past in await again.past()]
    await again.record([DropRecord(RUN, ("key",))], at=6.0)
    gone = await again.aggregate(RUN, "key")
    await again.close()

    updates = [
        Holding(c.id, c.reply_key, 70_000, is_spare=number < 2) for number, c in enumerate(asked)
    ]
    aggregate = Holding("key", made.key, 500, is_aggregate=True)
    assert [*updates, aggregate] == list(before)
    assert [*updates[1:], aggregate] == list(after)
    assert [b"header", None, None] == [settlement.header for settlement in settled]
    assert {RUN_RECORD.bundle.key, made.key, asked[1].reply_key, asked[2].reply_key} == live
    assert (made, None) == (kept, gone)
    assert [140_500] == sizes


async def test_a_checkpoint_takes_the_place_of_the_one_before(reopen: Reopen) -> None:
    first = CheckpointRecord(RUN, "fedbuff-1", 1, BlobRef("4" * 64, 100), ("a",), 0)
    second = replace(first, number=2, ref=BlobRef("5" * 64, 200), waiting_for=(), phases=3)
    journal = reopen()
    none = await journal.checkpoint(RUN, "fedbuff-1")
    await journal.record([RUN_RECORD, first], at=1.0)
    await journal.record([second], at=2.0)
    await journal.record([first], at=3.0)  # told again: nothing goes back
    await journal.close()
    again = reopen()

    assert none is None
    assert second == await again.checkpoint(RUN, "fedbuff-1")
    assert await again.checkpoint(RUN, "fedbuff-2") is None
    assert await again.checkpoint("another", "fedbuff-1") is None
    assert {RUN_RECORD.bundle.key, second.ref.key} == await again.live_keys()
    await again.record([replace(RUN_RECORD, state="done")], at=4.0)
    assert [200] == [past.size_bytes for past in await again.past()]
    await again.record([ForgetRecord(RUN)], at=5.0)
    assert await again.checkpoint(RUN, "fedbuff-1") is None
    assert frozenset() == await again.live_keys()


async def test_what_was_used_before_a_checkpoint_is_spare(reopen: Reopen) -> None:
    pack = BlobRef("2" * 64, 70_000)
    used, waited_for, later = (command(number) for number in range(3))
    journal = reopen()
    asked = RecordCommands((used, waited_for), "b1", TERMS)
    kept = CheckpointRecord(RUN, "fedbuff-1", 1, BlobRef("4" * 64, 100), (waited_for.id,), 0)
    await journal.record([RUN_RECORD, asked, kept], at=1.0)
    await journal.record([RecordCommands((later,), "b2", TERMS)], at=2.0)
    answers = [
        replace(reply(c), content=Content((("a", None),), pack)) for c in (used, waited_for, later)
    ]
    await journal.record([RecordReply(answer) for answer in answers], at=3.0)
    await journal.close()
    again = reopen()

    assert [True, False, False] == [held.is_spare for held in await again.holdings(RUN)]
    history = await again.history(RUN)
    assert {used.id, waited_for.id} == history.passed
    assert (used, waited_for, later) == history.commands
