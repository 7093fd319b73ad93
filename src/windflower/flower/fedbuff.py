"""Buffered asynchronous aggregation: a slow device holds nobody up.

Nguyen, Malik, Zhan, Yousefpour, Rabbat, Malek, Huba: Federated Learning with Buffered Asynchronous
Aggregation, AISTATS 2022 (arXiv:2106.06639), algorithm 1 and the staleness scaling of section 5.
"""

import hashlib
import logging
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from flwr.app import (
    Array,
    ArrayRecord,
    ConfigRecord,
    Message,
    MessageType,
    MetricRecord,
    RecordDict,
)
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg, Result

from windflower.flower.checkpoints import Checkpoint, KeepsCheckpoints

_FLOWER: Final = logging.getLogger("flwr")
_PAUSE_S: Final = 1.0
"""How often a strategy that has nobody to ask looks for somebody."""

EvaluateFn = Callable[[int, ArrayRecord], MetricRecord | None]


@dataclass(frozen=True, slots=True)
class _Update:
    """What a device made of a model.

    Attributes:
        node: the device.
        base: the round for which the model was handed out.
        content: its answer.
    """

    node: int
    base: int
    content: RecordDict


@dataclass(slots=True)
class Ledger:
    """The explicit state: what is known between two rounds.

    Attributes:
        seed: decides whose turn it is.
        done: how many rounds are over.
        arrays: the model after them; None before the first is over.
        turns: how often each device was asked.
        open: by message, the device that trains, and the round of its model.
        models: by round, the models that are trained on.
        metrics: by stage and round, what came out.
    """

    seed: int
    done: int = 0
    arrays: ArrayRecord | None = None
    turns: Counter[int] = field(default_factory=Counter)
    open: dict[str, tuple[int, int]] = field(default_factory=dict)
    models: dict[int, ArrayRecord] = field(default_factory=dict)
    metrics: dict[str, dict[int, dict[str, Any]]] = field(default_factory=dict)

    def turn(self, node: int) -> tuple[int, str]:
        """Return what devices are sorted by: who was asked least often, then by lot."""
        turns = self.turns[node]
        return turns, hashlib.sha256(f"{self.seed} {turns} {node}".encode()).hexdigest()

    def note(self, stage: str, number: int, metrics: MetricRecord | None) -> MetricRecord | None:
        """Remember a round's metrics; return them."""
        if metrics is not None:
            self.metrics.setdefault(stage, {})[number] = dict(metrics)
        return metrics

    def recall(self, stage: str, number: int) -> MetricRecord | None:
        """Return a round's metrics."""
        found = self.metrics.get(stage, {}).get(number)
        return None if found is None else MetricRecord(found)

    def to_checkpoint(self) -> Checkpoint:
        """Return all of it; `arrays` must be there."""
        assert self.arrays is not None  # noqa: S101 - a round is over
        models = {f"model-{base}": model for base, model in self.models.items()}
        notes = {
            "seed": self.seed,
            "done": self.done,
            "turns": list(self.turns.items()),
            "open": self.open,
            "metrics": {stage: list(rounds.items()) for stage, rounds in self.metrics.items()},
        }
        return Checkpoint({"arrays": self.arrays, **models}, notes)

    @classmethod
    def from_checkpoint(cls, kept: Checkpoint) -> "Ledger":
        """Read it again."""
        notes = kept.notes
        return cls(
            seed=notes["seed"],
            done=notes["done"],
            arrays=kept.arrays["arrays"],
            turns=Counter(dict(notes["turns"])),
            open={id_: (node, base) for id_, (node, base) in notes["open"].items()},
            models={
                int(name.removeprefix("model-")): model
                for name, model in kept.arrays.items()
                if name != "arrays"
            },
            metrics={stage: dict(rounds) for stage, rounds in notes["metrics"].items()},
        )


class FedBuff(FedAvg):
    """A round ends when enough answers are there, whichever model they began with.

    The model of round t is that of the round before plus the mean of what the devices changed,
    each scaled by (1 + staleness) ** -staleness_exponent. Staleness is how many rounds older the
    model was that the device began with. A device that has answered is given the newest model at
    once. Who has not answered within the `timeout` has failed. With all of `buffer_size`,
    `concurrency` and the fleet equal it is FedAvg without weights.

    On windflower it keeps a checkpoint after each round, and goes on from there: a run that begins
    again is not told old rounds again, and their updates need not be kept. On Flower's own Grid it
    runs too, without checkpoints.

    Args:
        buffer_size: how many answers make a new model, at least; all that came by then are used.
        concurrency: how many devices train at a time; None lets all.
        server_learning_rate: by how much the mean change is multiplied.
        staleness_exponent: 0 does not scale; the paper has 0.5.
        poll_s: seconds between two looks for answers.
        fraction_evaluate: of the devices, to evaluate each new model; they do it after what they
            are at, and the round waits for them. By default none.
        **fedavg: what else `FedAvg` takes.
    """

    def __init__(
        self,
        *,
        buffer_size: int = 10,
        concurrency: int | None = None,
        server_learning_rate: float = 1.0,
        staleness_exponent: float = 0.5,
        poll_s: float = 0.2,
        fraction_evaluate: float = 0.0,
        **fedavg: Any,  # noqa: ANN401 - as FedAvg
    ) -> None:
        super().__init__(fraction_evaluate=fraction_evaluate, **fedavg)
        if buffer_size < 1 or (concurrency is not None and concurrency < 1):
            raise ValueError("buffer_size and concurrency are at least 1")
        self.buffer_size = buffer_size
        self.concurrency = concurrency
        self.server_learning_rate = server_learning_rate
        self.staleness_exponent = staleness_exponent
        self.poll_s = poll_s
        self._starts = 0

    def start(  # noqa: D102 - as Strategy
        self,
        grid: Grid,
        initial_arrays: ArrayRecord,
        num_rounds: int = 3,
        timeout: float = 3600,
        train_config: ConfigRecord | None = None,
        evaluate_config: ConfigRecord | None = None,
        evaluate_fn: EvaluateFn | None = None,
    ) -> Result:
        self._starts += 1
        self._name = f"fedbuff-{self._starts}"
        self._answer_s = timeout
        self._grid = grid
        self._ledger = self._recall() or Ledger(random.getrandbits(64))
        result = super().start(
            grid,
            initial_arrays,
            num_rounds,
            timeout,
            train_config,
            evaluate_config,
            evaluate_fn and self._remembering(evaluate_fn),
        )
        self._keep(num_rounds, result.arrays)
        return result

    # ------------------------------------------------------------------------------ a round

    def configure_train(  # noqa: D102 - as Strategy
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        del grid
        if not self._starts:
            raise RuntimeError("FedBuff has rounds of its own: no other strategy can be put around")
        if server_round > self._ledger.done:
            self._keep(server_round - 1, arrays)
            config["server-round"] = server_round
            self._content = RecordDict(
                {self.arrayrecord_key: arrays, self.configrecord_key: config}
            )
            self._ledger.models[server_round] = arrays
            self._failed: dict[int, str] = {}
            self._present = list(self._grid.get_node_ids())
            self._hand_out(server_round)
        return []  # answers come when they come: `aggregate_train` waits for them

    def aggregate_train(  # noqa: D102 - as Strategy
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        del replies
        ledger = self._ledger
        if server_round <= ledger.done:
            return ledger.arrays if server_round == ledger.done else None, ledger.recall(
                "train", server_round
            )
        updates = self._gather(server_round)
        contents = [update.content for update in updates]
        metrics = self.train_metrics_aggr_fn(contents, self.weighted_by_key)
        return self._merge(server_round, updates), ledger.note("train", server_round, metrics)

    def configure_evaluate(  # noqa: D102 - as Strategy
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        if server_round <= self._ledger.done:
            return []
        return super().configure_evaluate(server_round, arrays, config, grid)

    def aggregate_evaluate(  # noqa: D102 - as Strategy
        self, server_round: int, replies: Iterable[Message]
    ) -> MetricRecord | None:
        if server_round <= self._ledger.done:
            return self._ledger.recall("evaluate", server_round)
        metrics = super().aggregate_evaluate(server_round, replies)
        return self._ledger.note("evaluate", server_round, metrics)

    def _remembering(self, evaluate_fn: EvaluateFn) -> EvaluateFn:
        """Call the app's function once a round, however often the run begins again."""

        def evaluate(server_round: int, arrays: ArrayRecord) -> MetricRecord | None:
            if self._ledger.arrays is not None and server_round <= self._ledger.done:
                return self._ledger.recall("server", server_round)
            return self._ledger.note("server", server_round, evaluate_fn(server_round, arrays))

        return evaluate

    # -------------------------------------------------------------------------- the devices

    def _hand_out(self, server_round: int) -> None:
        """Give the newest model to those who do nothing, whoever was asked least often first."""
        ledger = self._ledger
        busy = {node for node, _ in ledger.open.values()} | self._failed.keys()
        room = (self.concurrency or len(self._present)) - len(ledger.open)
        free = sorted((node for node in self._present if node not in busy), key=ledger.turn)
        chosen = free[: max(room, 0)]
        messages = [
            Message(
                self._content,
                dst_node_id=node,
                message_type=MessageType.TRAIN,
                ttl=self._answer_s,
                group_id=str(server_round),
            )
            for node in chosen
        ]
        ids = list(self._grid.push_messages(messages)) if messages else []
        ledger.turns.update(chosen)
        ledger.open |= {id_: (node, server_round) for id_, node in zip(ids, chosen, strict=True)}

    def _gather(self, server_round: int) -> list[_Update]:
        """Wait until so many have answered well that a new model can be made.

        Whoever does not answer within its message's time is answered for by the fleet, with an
        error: the wait is no longer than that.

        Returns:
            their updates, in an order that does not depend on when they came. They are fewer than
            `buffer_size` where all others have failed.

        Raises:
            RuntimeError: all who are there have failed.
        """
        updates: list[_Update] = []
        while self._ledger.open or self._find_others(server_round, updates):
            arrived = list(self._grid.pull_messages(list(self._ledger.open)))
            updates += self._sort_out(arrived)
            if len(updates) >= self.buffer_size:
                break
            if arrived:
                self._hand_out(server_round)
            else:
                time.sleep(self.poll_s)
        return sorted(updates, key=lambda update: (update.base, update.node))

    def _sort_out(self, arrived: Iterable[Message]) -> Iterable[_Update]:
        for message in arrived:
            node, base = self._ledger.open.pop(message.metadata.reply_to_message_id)
            if message.has_error():
                self._failed[node] = str(message.error.reason)
                _FLOWER.info("\t> node %d failed: %s", node, message.error.reason)
            else:
                yield _Update(node, base, message.content)

    def _find_others(self, server_round: int, updates: Sequence[_Update]) -> bool:
        """Look for devices while nobody trains; return whether the round goes on.

        The grid ends a look that is in vain for as long as the run may wait.
        """
        while not self._ledger.open:
            self._present = list(self._grid.get_node_ids())
            self._hand_out(server_round)
            if self._ledger.open:
                break
            if self._failed and not updates:
                reason = next(iter(self._failed.values()))
                raise RuntimeError(f"no device could train; the first says: {reason}")
            if self._failed:
                return False
            time.sleep(_PAUSE_S)
        return True

    # ---------------------------------------------------------------------------- the model

    def _merge(self, server_round: int, updates: Sequence[_Update]) -> ArrayRecord:
        """Return the new model: array by array, so that one of each update is in memory."""
        models = self._ledger.models
        scales = [(1 + server_round - u.base) ** -self.staleness_exponent for u in updates]
        step = self.server_learning_rate / len(updates)
        merged = ArrayRecord()
        for name, array in models[server_round].items():
            current = array.numpy()
            change = np.zeros(current.shape, np.float64)
            for update, scale in zip(updates, scales, strict=True):
                trained = _trained(update, self.arrayrecord_key, name, current.shape)
                change += scale * (trained - models[update.base][name].numpy())
            moved = current + step * change
            if not np.issubdtype(current.dtype, np.inexact):
                moved = np.rint(moved)
            merged[name] = Array(np.asarray(moved, dtype=current.dtype))
        return merged

    # ----------------------------------------------------------------------- the checkpoint

    def _keep(self, done: int, arrays: ArrayRecord | None) -> None:
        """Keep what is needed to go on with the round after this one."""
        ledger = self._ledger
        if not done or done <= ledger.done or arrays is None:
            return
        ledger.done, ledger.arrays = done, arrays
        in_use = {base for _, base in ledger.open.values()}
        ledger.models = {base: model for base, model in ledger.models.items() if base in in_use}
        if isinstance(self._grid, KeepsCheckpoints):
            self._grid.keep_checkpoint(
                self._name, ledger.to_checkpoint(), waiting_for=list(ledger.open)
            )

    def _recall(self) -> Ledger | None:
        if not isinstance(self._grid, KeepsCheckpoints):
            return None
        kept = self._grid.checkpoint(self._name)
        return None if kept is None else Ledger.from_checkpoint(kept)


def _trained(update: _Update, record: str, name: str, shape: tuple[int, ...]) -> Any:  # noqa: ANN401 - an array
    arrays = update.content.array_records.get(record)
    if arrays is None or name not in arrays or tuple(arrays[name].shape) != shape:
        raise ValueError(
            f"node {update.node} answered without the array {name!r} of shape {shape} in {record!r}"
        )
    return arrays[name].numpy()
