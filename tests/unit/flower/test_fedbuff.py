"""What FedBuff makes of answers, on a Grid that is not ours and keeps no checkpoints."""

from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Error, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import DifferentialPrivacyServerSideFixedClipping

from windflower.flower.private import set_identity
from windflower.strategy import FedBuff

Answer = Callable[[Message], RecordDict | None]
NODES = (11, 12, 13)


class PlainGrid(Grid):
    """A fleet that answers in the order that a test says.

    Args:
        answer: what a device makes of a message; None says that it failed.
        is_ready: whether an answer has come, by node and by how often was looked.
    """

    def __init__(self, answer: Answer, is_ready: Callable[[int, int], bool] | None = None) -> None:
        self.answer = answer
        self.is_ready = is_ready or (lambda _node, _look: True)
        self.sent: dict[str, Message] = {}
        self.pushed: list[tuple[int, int]] = []
        self.looks = 0

    def set_run(self, run: Any) -> None:  # noqa: ANN401 - as Grid
        raise NotImplementedError

    @property
    def run(self) -> Any:  # noqa: ANN401 - as Grid
        return SimpleNamespace(run_id=1)

    def create_message(self, *args: Any, **kwargs: Any) -> Message:  # noqa: ANN401 - as Grid
        raise NotImplementedError

    def get_node_ids(self) -> Iterable[int]:
        return NODES

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        ids = []
        for message in messages:
            id_ = f"m{len(self.pushed)}"
            message.metadata.__dict__["_message_id"] = id_
            self.sent[id_] = message
            number = int(str(message.content.config_records["config"]["server-round"]))
            self.pushed.append((message.metadata.dst_node_id, number))
            ids.append(id_)
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        wanted = list(message_ids)
        self.looks += bool(wanted)
        ready = [
            self.sent.pop(i)
            for i in wanted
            if self.is_ready(self.sent[i].metadata.dst_node_id, self.looks)
        ]
        return [self._reply(message) for message in ready]

    def _reply(self, message: Message) -> Message:
        content = self.answer(message)
        if content is None:
            return Message(Error(1, "told to fail"), reply_to=message)
        return Message(content, reply_to=message)

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        del timeout
        return list(self.pull_messages(self.push_messages(messages)))


def plus(number: float) -> Answer:
    """Answer with the model and a number added."""

    def answer(message: Message) -> RecordDict:
        trained = message.content.array_records["arrays"]["w"].numpy() + np.float32(number)
        metrics = MetricRecord({"num-examples": 1, "node": float(message.metadata.dst_node_id)})
        return RecordDict({"arrays": ArrayRecord({"w": Array(trained)}), "metrics": metrics})

    return answer


def run(strategy: FedBuff, grid: Grid, *, rounds: int, model: np.ndarray | None = None) -> Any:  # noqa: ANN401
    set_identity(1)
    zeros = np.zeros(2, np.float32) if model is None else model
    return strategy.start(grid, ArrayRecord({"w": Array(zeros)}), num_rounds=rounds)


def test_with_a_buffer_of_all_it_is_plain_averaging() -> None:
    answers = {11: plus(1.0), 12: plus(2.0), 13: plus(6.0)}
    grid = PlainGrid(lambda m: answers[m.metadata.dst_node_id](m))
    result = run(FedBuff(buffer_size=3, poll_s=0), grid, rounds=2)

    assert [6.0, 6.0] == result.arrays["w"].numpy().tolist()
    assert np.float32 == result.arrays["w"].numpy().dtype


def test_a_late_change_is_scaled_by_its_age() -> None:
    """Node 13 answers in round 3 to the model of round 1: it is two rounds old."""
    grid = PlainGrid(plus(1.0), lambda node, look: node != 13 or look > 2)
    strategy = FedBuff(buffer_size=2, poll_s=0)
    result = run(strategy, grid, rounds=3)
    mean = (1.0 + 1.0 + 3**-0.5) / 3

    np.testing.assert_allclose(result.arrays["w"].numpy(), [2.0 + mean] * 2, rtol=1e-6)
    assert (13, 1) in grid.pushed
    assert [(13, 1)] == [pushed for pushed in grid.pushed if pushed[0] == 13]


def test_a_device_has_as_long_as_start_was_told() -> None:
    lives: set[float] = set()

    def answer(message: Message) -> RecordDict | None:
        lives.add(message.metadata.ttl)
        return plus(1.0)(message)

    set_identity(1)
    arrays = ArrayRecord({"w": Array(np.zeros(2, np.float32))})
    FedBuff(buffer_size=3, poll_s=0).start(PlainGrid(answer), arrays, num_rounds=2, timeout=77)

    assert {77} == lives


@pytest.mark.parametrize(("rate", "exponent", "moved"), [(0.5, 0.5, 0.5), (1.0, 0.0, 1.0)])
def test_the_mean_change_is_multiplied_by_the_rate(
    rate: float, exponent: float, moved: float
) -> None:
    strategy = FedBuff(
        buffer_size=3, poll_s=0, server_learning_rate=rate, staleness_exponent=exponent
    )
    result = run(strategy, PlainGrid(plus(1.0)), rounds=1)

    assert [moved, moved] == result.arrays["w"].numpy().tolist()


def test_who_was_asked_least_often_is_asked_next() -> None:
    grid = PlainGrid(plus(1.0))
    run(FedBuff(buffer_size=1, concurrency=1, poll_s=0), grid, rounds=6)
    asked = [node for node, _ in grid.pushed]

    assert set(NODES) == set(asked[:3]) == set(asked[3:6])


def test_who_failed_is_not_asked_again_in_its_round() -> None:
    grid = PlainGrid(lambda m: None if m.metadata.dst_node_id == 12 else plus(1.0)(m))
    result = run(FedBuff(buffer_size=4, poll_s=0), grid, rounds=2)

    assert [1, 2] == [number for node, number in grid.pushed if node == 12]
    assert [2.0, 2.0] == result.arrays["w"].numpy().tolist()


def test_where_all_fail_it_says_what_the_first_says() -> None:
    with pytest.raises(RuntimeError, match="no device could train; the first says: told to fail"):
        run(FedBuff(buffer_size=2, poll_s=0), PlainGrid(lambda _: None), rounds=1)


def test_an_answer_without_the_model_is_named() -> None:
    def other(message: Message) -> RecordDict:
        del message
        arrays = ArrayRecord({"other": Array(np.zeros(2, np.float32))})
        return RecordDict({"arrays": arrays, "metrics": MetricRecord({"num-examples": 1})})

    with pytest.raises(ValueError, match=r"node 11 answered without the array 'w' of shape \(2,\)"):
        run(FedBuff(buffer_size=3, poll_s=0), PlainGrid(other), rounds=1)


def test_counts_stay_whole_numbers() -> None:
    grid = PlainGrid(plus(1.0))
    result = run(FedBuff(buffer_size=3, poll_s=0), grid, rounds=1, model=np.zeros(1, np.int64))

    assert np.int64 == result.arrays["w"].numpy().dtype
    assert [1] == result.arrays["w"].numpy().tolist()


def test_a_second_start_begins_anew() -> None:
    strategy = FedBuff(buffer_size=3, poll_s=0)
    run(strategy, PlainGrid(plus(1.0)), rounds=2)
    again = run(strategy, PlainGrid(plus(1.0)), rounds=1)

    assert [1.0, 1.0] == again.arrays["w"].numpy().tolist()


def test_a_strategy_around_it_is_refused() -> None:
    around = DifferentialPrivacyServerSideFixedClipping(
        FedBuff(), noise_multiplier=0.1, clipping_norm=1.0, num_sampled_clients=3
    )
    with pytest.raises(RuntimeError, match="rounds of its own"):
        around.start(PlainGrid(plus(1.0)), ArrayRecord({"w": Array(np.zeros(1))}), num_rounds=1)


def test_a_buffer_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        FedBuff(buffer_size=0)
