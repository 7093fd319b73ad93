"""Every journal keeps what it is given, and gives back the same after a restart."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from samples import RUN, command, failed, reply

from windflower.adapters.local.journal import SqliteJournal
from windflower.adapters.memory.journal import MemoryJournal
from windflower.core.gateway_effects import RecordCommands, RecordMissing, RecordReply
from windflower.core.roster import Presence
from windflower.ports import EpochRecord, Journal, PhaseRecord, PullRecord, RosterRecord, RunRecord
from windflower.wire.blobs import BlobRef
from windflower.wire.content import Values
from windflower.wire.messages import Failure

Reopen = Callable[[], Journal]

RUN_RECORD = RunRecord(
    run=RUN,
    number=4,
    epoch=1,
    app="app",
    bundle=BlobRef("0" * 64, 10),
    config=Values("configs", (("rounds", 3), ("name", "x"), ("rate", 0.1))),
    seed=2**62 + 1,
    is_strict=True,
    state="open",
    created_at=1.5,
)


@pytest.fixture(params=["memory", "local"])
def reopen(request: pytest.FixtureRequest, tmp_path: Path) -> Reopen:
    if request.param == "local":
        return lambda: SqliteJournal(tmp_path / "journal.db")
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
    await journal.record([RUN_RECORD, RecordCommands(tuple(asked), 99.0, True)], at=7.0)
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
    assert [(99.0, True, 7.0)] == [
        (e.deadline, e.waits_for_offline, e.asked_at) for e in memory.open
    ]
    assert [reply(asked[0], number=3), failed(asked[1]), None] == [s.reply for s in settled]
    assert Failure(5, "d1 is offline") == settled[2].failure
    assert {s.id for s in settled} == {s.id for s in memory.settled}


async def test_the_first_settlement_stays(reopen: Reopen) -> None:
    asked = command()
    journal = reopen()
    await journal.record([RUN_RECORD, RecordCommands((asked,), 99.0, False)], at=1.0)
    await journal.record([RecordReply(reply(asked, number=1))], at=2.0)
    await journal.record([RecordReply(reply(asked, number=2))], at=3.0)
    await journal.record([RecordMissing(asked, Failure(4, "late"))], at=4.0)
    settled = await journal.settlements([asked.id])
    await journal.close()

    assert [reply(asked, number=1)] == [s.reply for s in settled]


async def test_commands_that_are_recorded_again_stay_as_they_were(reopen: Reopen) -> None:
    asked = command()
    journal = reopen()
    await journal.record([RUN_RECORD, RecordCommands((asked,), 10.0, False)], at=1.0)
    await journal.record([RecordCommands((asked,), 20.0, True)], at=2.0)
    memory = await journal.recall()
    await journal.close()

    assert [10.0] == [exchange.deadline for exchange in memory.open]


async def test_runs_that_ended_are_not_taken_up(reopen: Reopen) -> None:
    asked = command()
    ended = replace(RUN_RECORD, state="done", result={"model-hash": "ab", "rounds": 3})
    journal = reopen()
    await journal.record([RUN_RECORD, RecordCommands((asked,), 10.0, False)], at=1.0)
    await journal.record([ended], at=2.0)
    memory = await journal.recall()
    await journal.close()

    assert (ended,) == memory.runs
    assert ((), ()) == (memory.open, memory.settled)


async def test_what_the_app_was_told_is_told_again(reopen: Reopen) -> None:
    journal = reopen()
    await journal.record([PhaseRecord(RUN, "p1", ("a", "b"))], at=1.0)
    await journal.record([PhaseRecord(RUN, "p1", ("c",))], at=2.0)
    await journal.record([RosterRecord(RUN, 0, ("d1", "d2")), PullRecord(RUN, 0, ("a",))], at=3.0)
    await journal.close()
    again = reopen()

    assert PhaseRecord(RUN, "p1", ("a", "b")) == await again.phase(RUN, "p1")
    assert await again.phase(RUN, "p2") is None
    assert RosterRecord(RUN, 0, ("d1", "d2")) == await again.roster(RUN, 0)
    assert await again.roster(RUN, 1) is None
    assert PullRecord(RUN, 0, ("a",)) == await again.pull(RUN, 0)
    assert await again.pull(RUN, 1) is None
    await again.close()


async def test_the_last_presence_of_a_device_counts(reopen: Reopen) -> None:
    first = Presence("d1", 1.0, "boot", 60.0, 151.0, True, {"site": "a"})
    journal = reopen()
    await journal.record([first, replace(first, device="d2")], at=1.0)
    await journal.record([replace(first, heard_at=5.0, is_online=False)], at=5.0)
    memory = await journal.recall()
    await journal.close()

    assert {"d1": 5.0, "d2": 1.0} == {p.device: p.heard_at for p in memory.presences}
    assert {"d1": False, "d2": True} == {p.device: p.is_online for p in memory.presences}
    assert {"site": "a"} == memory.presences[0].labels


async def test_the_highest_epoch_comes_back(reopen: Reopen) -> None:
    journal = reopen()
    await journal.record([EpochRecord(3), EpochRecord(2)], at=1.0)
    memory = await reopen().recall()

    assert 3 == memory.last_epoch
