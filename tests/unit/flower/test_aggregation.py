"""An update can go once it was aggregated, and only if nobody read it or can read it otherwise."""

import copy
import gc
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
from flwr.serverapp.strategy import FedAvg
from flwr.serverapp.strategy import fedavg as module
from scripted_line import DEVICES, ScriptedLine, grid_of, messages

from windflower.errors import RunDiverged
from windflower.flower.grid import FleetGrid
from windflower.wire.messages import Command

SIZE = 20_000

Aggregated = ArrayRecord | None


def update(command: Command, *, size: int = SIZE) -> RecordDict:
    number = DEVICES.index(command.client)
    weights = np.random.default_rng(number).standard_normal(size).astype(np.float32)
    metrics = MetricRecord({"num-examples": 1 + number, "train_loss": 0.1})
    return RecordDict({"arrays": ArrayRecord({"w": Array(weights)}), "metrics": metrics})


def small_update(command: Command) -> RecordDict:
    return update(command, size=10)


def asked(grid: FleetGrid, group: str = "1") -> list[Message]:
    """Ask all devices, and tell the gateway what has become spare before."""
    return list(grid.send_and_receive(messages(RecordDict(), group=group), timeout=5))


def aggregated(replies: Iterable[Message]) -> Aggregated:
    return FedAvg().aggregate_train(1, replies)[0]


def bits(arrays: Aggregated) -> bytes:
    assert arrays is not None
    return b"".join(array.data for array in arrays.values())


def weights(reply: Message) -> Any:  # noqa: ANN401 - an array of numpy
    return reply.content.array_records["arrays"]["w"].numpy()


@pytest.fixture
def line(tmp_path: Path) -> ScriptedLine:
    return ScriptedLine(tmp_path, update)


def one_round(line: ScriptedLine, work: Callable[[list[Message]], Any]) -> FleetGrid:
    """Let a run work on one phase, forget it and ask again; keeps what `work` returns."""
    grid = grid_of(line)
    grid.get_node_ids()
    with grid.aggregation.remembering():
        replies = asked(grid)
        kept = work(replies)
        del replies
        gc.collect()
        asked(grid, "2")
        del kept
    return grid


def test_what_was_only_aggregated_is_spare(line: ScriptedLine) -> None:
    one_round(line, aggregated)

    assert [c.id for c in line.asked[:4]] == sorted(line.spared, key=list(line.settled).index)
    assert 1 == len(set(line.spared.values())) == len(line.aggregates)


def test_what_was_looked_at_before_or_after_is_not(line: ScriptedLine) -> None:
    def look(replies: list[Message]) -> None:
        weights(replies[0])
        aggregated(replies)
        weights(replies[1])

    one_round(line, look)

    assert 2 == len(line.spared)


def test_what_is_still_in_somebodys_hands_is_not(line: ScriptedLine) -> None:
    def hold(replies: list[Message]) -> Any:  # noqa: ANN401 - kept for its life only
        aggregated(replies)
        return [replies[0].content, copy.deepcopy(replies[1].content)]

    one_round(line, hold)

    assert 2 == len(line.spared)


def test_what_was_never_aggregated_is_not(line: ScriptedLine) -> None:
    one_round(line, lambda replies: aggregated(replies[1:]))

    assert 3 == len(line.spared)


def test_what_travels_in_messages_is_left_alone(tmp_path: Path) -> None:
    line = ScriptedLine(tmp_path, small_update)
    one_round(line, aggregated)

    assert ({}, {}) == (line.spared, line.aggregates)


def test_arrays_of_the_apps_own_are_aggregated_as_ever(line: ScriptedLine) -> None:
    def clip(replies: list[Message]) -> None:
        for reply in replies:
            reply.content["arrays"] = ArrayRecord({"w": Array(weights(reply) / 2)})
        aggregated(replies)

    one_round(line, clip)

    assert ({}, {}) == (line.spared, line.aggregates)


def dropped(line: ScriptedLine) -> None:
    """Let the gateway drop what is spare."""
    for id_, header in line.spared.items():
        settlement = line.settled[id_]
        (line.folder / id_).unlink()
        line.settled[id_] = replace(settlement, header=header)


def again(line: ScriptedLine, work: Callable[[list[Message]], Any]) -> Any:  # noqa: ANN401
    """Let another execution of the run ask for what was asked before."""
    line.is_settled = True
    grid = grid_of(line)
    grid.get_node_ids()
    with grid.aggregation.remembering():
        return work(asked(grid))


def test_a_kept_aggregate_is_given_in_place_of_updates_that_are_gone(line: ScriptedLine) -> None:
    before: list[bytes] = []
    one_round(line, lambda replies: before.append(bits(aggregated(replies))))
    dropped(line)

    assert before == [bits(again(line, aggregated))]


def test_an_update_that_is_gone_and_looked_at_stops_the_run(line: ScriptedLine) -> None:
    one_round(line, aggregated)
    dropped(line)
    with pytest.raises(RunDiverged, match="of an update that was dropped are read now"):
        again(line, lambda replies: weights(replies[0]))


def test_updates_that_are_gone_and_aggregated_otherwise_stop_the_run(line: ScriptedLine) -> None:
    one_round(line, aggregated)
    dropped(line)
    with pytest.raises(RunDiverged, match="aggregated in another way"):
        again(line, lambda replies: aggregated(replies[1:]))


def test_flowers_function_is_put_back(line: ScriptedLine) -> None:
    plain = vars(module)["aggregate_arrayrecords"]
    one_round(line, aggregated)

    assert plain is vars(module)["aggregate_arrayrecords"]
