"""Every device store keeps what it is given, and gives back the same after a restart."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from samples import command, failed, reply

from windflower.adapters.local.device_store import DeviceStores
from windflower.adapters.memory.store import MemoryStore
from windflower.core.device_effects import (
    Drop,
    Forget,
    ForgetBelow,
    KeepCommand,
    KeepReply,
    KeepStart,
)
from windflower.core.duty import Kept
from windflower.core.retention import SPARE_BLOBS
from windflower.ports import Store
from windflower.wire.content import blob_ref

Reopen = Callable[[], Store]


@pytest.fixture(params=["memory", "local"])
def reopen(request: pytest.FixtureRequest, tmp_path: Path) -> Reopen:
    if request.param == "local":
        return lambda: DeviceStores(tmp_path / "store").of("d1")
    store = MemoryStore(tmp_path / "store")
    return lambda: store


async def test_commands_come_back_in_the_order_in_which_they_came(reopen: Reopen) -> None:
    asked = [command(number) for number in (3, 1, 2)]
    store = reopen()
    await store.open()
    await store.carry_out([KeepCommand(c) for c in asked], None)
    await store.carry_out([KeepCommand(asked[0])], None)
    kept, floor = await reopen().open()

    assert asked == [row.command for row in kept]
    assert 0 == floor


async def test_a_reply_and_the_apps_state_are_one_commit(reopen: Reopen) -> None:
    asked = command()
    store = reopen()
    await store.open()
    await store.carry_out([KeepCommand(asked)], None)
    assert await store.state(asked.run) is None
    await store.carry_out([KeepReply(reply(asked), 1)], b"state")
    again = reopen()
    kept, _ = await again.open()

    assert [reply(asked)] == [row.reply for row in kept]
    assert b"state" == await again.state(asked.run)


async def test_a_failure_leaves_the_state_as_it_was(reopen: Reopen) -> None:
    first, second = command(1), command(2)
    store = reopen()
    await store.open()
    await store.carry_out([KeepCommand(first), KeepReply(reply(first), 1)], b"before")
    await store.carry_out([KeepCommand(second), KeepReply(failed(second), 1)], b"after")

    assert b"before" == await store.state(first.run)


async def test_what_is_forgotten_is_remembered_as_done(reopen: Reopen) -> None:
    asked = command()
    store = reopen()
    await store.open()
    await store.carry_out([KeepCommand(asked), KeepReply(reply(asked), 1)], None)
    store.update(asked.id).write_bytes(b"update")
    await store.carry_out([Forget((asked.id,))], None)
    kept, _ = await reopen().open()

    assert [(asked.id, True, None)] == [
        (row.command.id, row.is_acknowledged, row.reply) for row in kept
    ]
    assert not store.update(asked.id).exists()


async def test_what_was_cancelled_is_done_for_its_epoch_and_new_for_a_later_one(
    reopen: Reopen,
) -> None:
    asked, again = command(), replace(command(), epoch=3)
    store = reopen()
    await store.open()
    await store.carry_out([KeepCommand(asked), Drop((asked.id,), 2)], None)
    dropped, _ = await reopen().open()
    await store.carry_out([KeepCommand(replace(asked, epoch=2))], None)
    still_dropped, _ = await reopen().open()
    await store.carry_out([KeepCommand(again)], None)
    revived, _ = await reopen().open()

    assert [(True, 2)] == [(row.is_acknowledged, row.cancelled_by) for row in dropped]
    assert dropped == still_dropped
    assert [Kept(again)] == list(revived)


async def test_below_the_floor_nothing_is_left(reopen: Reopen) -> None:
    old, new = command(1, run="1-a", run_number=1), command(2, run="2-b", run_number=2)
    store = reopen()
    await store.open()
    await store.carry_out([KeepCommand(old), KeepReply(reply(old), 1)], b"old")
    store.update(old.id).write_bytes(b"update")
    await store.carry_out([KeepCommand(new), KeepReply(reply(new), 2)], b"new")
    await store.carry_out([ForgetBelow(2)], None)
    again = reopen()
    kept, floor = await again.open()

    assert ([new.id], 2) == ([row.command.id for row in kept], floor)
    assert await again.state(old.run) is None
    assert b"new" == await again.state(new.run)
    assert not store.update(old.id).exists()


async def test_only_work_that_begins_counts_as_a_start(reopen: Reopen) -> None:
    begun, waiting = command(1), command(2)
    store = reopen()
    await store.open()
    await store.carry_out([KeepCommand(begun), KeepCommand(waiting)], None)
    await store.carry_out([KeepStart(begun.id)], None)
    await reopen().open()
    await store.carry_out([KeepStart(begun.id)], None)
    kept, _ = await reopen().open()

    assert [2, 0] == [row.starts for row in kept]


async def test_small_things_are_remembered(reopen: Reopen) -> None:
    store = reopen()
    assert await store.fact("gateway-key") is None
    await store.remember("gateway-key", "k")

    assert "k" == await reopen().fact("gateway-key")


async def test_a_blob_is_there_once_it_was_kept(reopen: Reopen) -> None:
    ref = blob_ref(b"bytes")
    store = reopen()
    await store.open()
    assert store.blob(ref) is None
    landing = store.landing(ref.digest)
    landing.write_bytes(b"bytes")
    await store.keep_blob(landing, ref)
    path = reopen().blob(ref)

    assert path is not None
    assert b"bytes" == path.read_bytes()


async def test_a_restart_removes_what_was_half_done(tmp_path: Path) -> None:
    asked = command()
    stores = DeviceStores(tmp_path / "store")
    store = stores.of("d1")
    await store.open()
    await store.carry_out([KeepCommand(asked), KeepReply(reply(asked), 1)], None)
    store.landing("half").write_bytes(b"half")
    store.update(asked.id).write_bytes(b"whole")
    store.update("f" * 32).write_bytes(b"an update that was never recorded")
    (stores.blobs / ("0" * 64)).write_bytes(b"not what its name says")
    await stores.close()
    again = DeviceStores(tmp_path / "store").of("d1")
    await again.open()

    assert not again.landing("half").exists()
    assert not again.update("f" * 32).exists()
    assert b"whole" == again.update(asked.id).read_bytes()
    assert [] == list((tmp_path / "store" / "blobs").iterdir())


async def test_the_cache_keeps_what_is_needed_and_the_last_few(
    reopen: Reopen, tmp_path: Path
) -> None:
    refs = [blob_ref(b"%d" % number) for number in range(8)]
    store = reopen()
    await store.open()
    for number, ref in enumerate(refs):
        path = store.landing(f"{number}")
        path.write_bytes(b"%d" % number)
        await store.keep_blob(path, ref)
        os.utime(store.blob(ref) or tmp_path, (number, number))
    store.trim(frozenset({refs[0].digest}))

    assert [0, 4, 5, 6, 7] == [n for n, ref in enumerate(refs) if store.blob(ref) is not None]


async def test_what_is_half_here_stays_only_for_a_command_that_still_needs_it(
    reopen: Reopen,
) -> None:
    half, cancelled, whole = (blob_ref(data) for data in (b"half", b"cancelled", b"whole"))
    store = reopen()
    await store.open()
    for ref in (half, cancelled, whole):
        store.landing(ref.digest).write_bytes(b"h")
    brought = store.landing("by another device")
    brought.write_bytes(b"whole")
    await store.keep_blob(brought, whole)
    store.drop_halves(frozenset({half.digest, whole.digest}))

    assert [True, False, False] == [
        store.landing(ref.digest).exists() for ref in (half, cancelled, whole)
    ]


async def test_one_device_of_a_crew_does_not_drop_what_another_is_about_to_use(
    tmp_path: Path,
) -> None:
    shared = DeviceStores(tmp_path)
    first, second = shared.of("d1"), shared.of("d2")
    needed = blob_ref(b"model")
    asked = replace(command(device="d1"), bundle=needed)
    await first.carry_out([KeepCommand(asked)], None)
    for number in range(SPARE_BLOBS + 1):
        data = b"model" if number == 0 else b"%d" % number
        path = second.landing(f"{number}")
        path.write_bytes(data)
        await second.keep_blob(path, blob_ref(data))
        os.utime(shared.blobs / blob_ref(data).digest, (number, number))
    second.trim(frozenset())

    assert second.blob(needed) is not None
    await shared.close()


async def test_a_runs_secret_stays_until_the_run_is_over(reopen: Reopen) -> None:
    store = reopen()
    await store.open()
    first, second = await store.secret("1-a", 1), await store.secret("2-b", 2)
    again = reopen()
    await again.open()

    assert first != second
    assert 64 == len(first)
    assert first == await again.secret("1-a", 1)
    await again.carry_out([ForgetBelow(2)], None)
    assert first != await again.secret("1-a", 1)
    assert second == await again.secret("2-b", 2)
