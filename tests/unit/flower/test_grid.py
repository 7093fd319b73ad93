"""The Grid asks once for each thing, waits without polling, and answers in a fixed order."""

import errno
import threading
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict
from scripted_line import DEVICES, RUN, ScriptedLine, echo, grid_of, messages

from windflower.core.identity import node_of
from windflower.errors import NotEnoughDevices, NotEnoughRoom
from windflower.flower.grid import FleetGrid
from windflower.flower.records import LazyArray
from windflower.wire.messages import Command, Failure


def small() -> RecordDict:
    return RecordDict({"config": ConfigRecord({"lr": 0.1})})


def large(size: int = 100_000) -> RecordDict:
    return RecordDict({"arrays": ArrayRecord({"w": Array(np.zeros(size, dtype=np.float32))})})


def test_node_ids_are_sorted_and_fixed_functions_of_device_ids(tmp_path: Path) -> None:
    grid = grid_of(ScriptedLine(tmp_path, echo))

    assert sorted(node_of(d) for d in DEVICES) == list(grid.get_node_ids())


def test_replies_are_sorted_by_node_whatever_their_order(tmp_path: Path) -> None:
    grid = grid_of(ScriptedLine(tmp_path, echo))
    grid.get_node_ids()
    replies = list(grid.send_and_receive(messages(small()), timeout=5))

    assert sorted(node_of(d) for d in DEVICES) == [r.metadata.src_node_id for r in replies]
    assert {"train"} == {r.metadata.message_type for r in replies}
    assert all(r.has_content() for r in replies)


def test_a_run_that_starts_again_asks_with_the_same_ids(tmp_path: Path) -> None:
    def ids_of_a_start() -> list[str]:
        line = ScriptedLine(tmp_path, echo)
        grid = grid_of(line)
        grid.get_node_ids()
        for group in ("1", "2", "2"):
            list(grid.send_and_receive(messages(small(), group=group)))
        return [command.id for command in line.asked]

    first, second = ids_of_a_start(), ids_of_a_start()

    assert first == second
    assert 12 == len(set(first))  # the third phase asks for the same again, under other ids


def test_seeds_follow_from_the_runs_seed_and_never_repeat(tmp_path: Path) -> None:
    line = ScriptedLine(tmp_path, echo)
    grid = grid_of(line)
    grid.get_node_ids()
    for _ in range(3):
        list(grid.send_and_receive(messages(small())))

    assert 12 == len({command.seed for command in line.asked})


def test_a_place_says_how_much_stands_in_a_command_and_the_ids_are_the_same(
    tmp_path: Path,
) -> None:
    asked = []
    for inline_bytes in (64 * 1024, 100):
        line = ScriptedLine(tmp_path, echo)
        grid = FleetGrid(line, RUN, scratch=tmp_path, inline_bytes=inline_bytes)
        grid.get_node_ids()
        list(grid.send_and_receive(messages(large(100))))
        asked.append(line.asked)

    within, beside = asked
    assert all(command.content.inline is not None for command in within)
    assert all(command.content.inline is None for command in beside)
    assert [c.id for c in within] == [c.id for c in beside]


def test_what_messages_share_is_stored_once(tmp_path: Path) -> None:
    line = ScriptedLine(tmp_path, echo)
    grid = grid_of(line)
    grid.get_node_ids()
    list(grid.send_and_receive(messages(large())))

    assert 1 == len(line.adopted)
    assert 1 == len({id(command.content) for command in line.asked})
    assert {line.adopted[0]} == {c.content.pack for c in line.asked}


def test_arrays_are_read_when_they_are_asked_for(tmp_path: Path) -> None:
    grid = grid_of(ScriptedLine(tmp_path, lambda _: large()))
    grid.get_node_ids()
    (reply,) = grid.send_and_receive(messages(small(), devices=["d1"]))
    array = reply.content["arrays"]["w"]

    assert isinstance(array, LazyArray)
    assert array.data is not array.data
    assert (100_000,) == array.numpy().shape


def test_a_device_that_is_offline_answers_with_an_error(tmp_path: Path) -> None:
    line = ScriptedLine(tmp_path, lambda c: Failure(5, f"{c.client} is offline"))
    grid = grid_of(line)
    grid.get_node_ids()
    (reply,) = grid.send_and_receive(messages(small(), devices=["d1"]))

    assert (5, "d1 is offline") == (reply.error.code, reply.error.reason)


def test_a_device_that_lies_about_its_arrays_answers_with_an_error(tmp_path: Path) -> None:
    def lie(_: Command) -> RecordDict:
        data = Array(np.zeros(4)).data
        lying = Array("float64", (1 << 40,), "numpy.ndarray", data)
        return RecordDict({"arrays": ArrayRecord({"w": lying})})

    grid = grid_of(ScriptedLine(tmp_path, lie))
    grid.get_node_ids()
    (reply,) = grid.send_and_receive(messages(small(), devices=["d1"]))

    assert reply.has_error()
    assert "d1 sent what is no answer" in str(reply.error.reason)


def test_an_unknown_node_answers_with_an_error_and_the_rest_goes_on(tmp_path: Path) -> None:
    grid = grid_of(ScriptedLine(tmp_path, echo))
    grid.get_node_ids()
    both = [*messages(small(), devices=["d1"]), Message(small(), 99, "train")]
    replies = list(grid.send_and_receive(both))

    assert [True, False] == [r.has_error() for r in replies]


def test_push_and_pull_hand_out_what_has_arrived(tmp_path: Path) -> None:
    line = ScriptedLine(tmp_path, echo)
    grid = grid_of(line)
    grid.get_node_ids()
    ids = list(grid.push_messages(messages(small())))
    line.settled.pop(ids[0])
    pulled = list(grid.pull_messages(ids))

    assert set(ids[1:]) == {reply.metadata.reply_to_message_id for reply in pulled}
    assert [] == list(grid.pull_messages([ids[0]]))


def test_the_timeout_is_handed_to_the_gateway(tmp_path: Path) -> None:
    line = ScriptedLine(tmp_path, echo)
    grid = grid_of(line)
    grid.get_node_ids()
    list(grid.send_and_receive(messages(small()), timeout=2.5))
    list(grid.send_and_receive(messages(small())))

    assert [2.5, None] == line.timeouts


def test_threads_may_ask_at_the_same_time(tmp_path: Path) -> None:
    line = ScriptedLine(tmp_path, echo)
    grid = grid_of(line)
    grid.get_node_ids()
    counts: list[int] = []

    def ask(device: str) -> None:
        counts.extend(
            len(list(grid.send_and_receive(messages(small(), devices=[device])))) for _ in range(20)
        )

    threads = [threading.Thread(target=ask, args=(d,)) for d in DEVICES for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [1] * 160 == counts
    assert 160 == len({command.id for command in line.asked})


def test_an_app_that_waits_in_vain_for_devices_is_told_so(tmp_path: Path) -> None:
    grid = grid_of(ScriptedLine(tmp_path, echo), wait_devices_s=0.0)
    grid.get_node_ids()
    with pytest.raises(NotEnoughDevices, match="needs 5 devices, 4 online"):
        grid.get_node_ids()


def test_a_full_disk_suspends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("windflower.flower.grid.write_pack", write)
    grid = grid_of(ScriptedLine(tmp_path, echo))
    grid.get_node_ids()
    with pytest.raises(NotEnoughRoom, match="make room, then resume") as caught:
        grid.send_and_receive(messages(large()), timeout=5)

    assert grid.stopped is caught.value
