"""What runs at the centre: ask who trains, average for some rounds, say how it went."""

import time
from collections.abc import Iterable
from typing import cast

from flwr.app import (
    Array,
    ArrayRecord,
    ConfigRecord,
    Context,
    Message,
    MessageType,
    MetricRecord,
    RecordDict,
)
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg, Result

from smartwatch.model import initial_weights

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Train one model on everybody's watch and print how good it is."""
    config = context.run_config
    timeout_s = int(config["connect-timeout-s"])
    nodes = wait_for_nodes(grid, int(config["min-nodes"]), timeout_s)
    trainers, new_wearers = ask_for_roles(grid, nodes, timeout_s)
    print(f"of {len(nodes)} devices {len(trainers)} train, {len(new_wearers)} evaluate only")
    weights = initial_weights()
    pause_s = float(config["round-pause-s"])
    result = FleetAveraging(trainers, new_wearers, pause_s=pause_s).start(
        grid=grid,
        initial_arrays=ArrayRecord({name: Array(array) for name, array in weights.items()}),
        num_rounds=int(config["num-server-rounds"]),
        timeout=float(config["round-timeout-s"]),
    )
    for line in summary(result):
        print(line)


class FleetAveraging(FedAvg):
    """FedAvg that trains on all trainers and tests on every wearer, in every round.

    FedAvg itself draws a sample of whoever is connected. Here roles are fixed, and no round
    depends on chance. A device that has gone away answers with an error or not at all; FedAvg
    averages the others.
    """

    def __init__(
        self, trainers: list[int], new_wearers: list[int], *, pause_s: float = 0.0
    ) -> None:
        """Fix the roles, by node id, and how long to wait between two rounds."""
        wearers = trainers + new_wearers
        super().__init__(
            min_train_nodes=len(trainers),
            min_evaluate_nodes=len(wearers),
            min_available_nodes=len(wearers),
            evaluate_metrics_aggr_fn=average_by_role,
        )
        self.trainers = trainers
        self.wearers = wearers
        self.pause_s = pause_s

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Send the model to every trainer."""
        del grid
        if server_round > 1:
            time.sleep(self.pause_s)
        return self._to(self.trainers, MessageType.TRAIN, server_round, arrays, config)

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Send the model to every wearer, the new one included."""
        del grid
        return self._to(self.wearers, MessageType.EVALUATE, server_round, arrays, config)

    def _to(
        self,
        nodes: list[int],
        message_type: str,
        server_round: int,
        arrays: ArrayRecord,
        config: ConfigRecord,
    ) -> list[Message]:
        config["server-round"] = server_round
        # One record for all messages: a grid may then encode it once.
        content = RecordDict({self.arrayrecord_key: arrays, self.configrecord_key: config})
        return [Message(content, node, message_type) for node in nodes]


def wait_for_nodes(grid: Grid, min_nodes: int, timeout_s: int) -> list[int]:
    """Return the ids of all connected nodes, in order, once there are enough.

    Raises:
        TimeoutError: There were too few for `timeout_s` seconds.
    """
    nodes: list[int] = []
    # Attempts are counted and no clock is read, so a replayed run asks exactly as often.
    for attempt in range(timeout_s + 1):
        if attempt:
            time.sleep(1)
        nodes = sorted(grid.get_node_ids())
        if len(nodes) >= min_nodes:
            return nodes
    raise TimeoutError(f"needs {min_nodes} devices, {len(nodes)} connected after {timeout_s} s")


def ask_for_roles(grid: Grid, nodes: list[int], timeout_s: float) -> tuple[list[int], list[int]]:
    """Return the ids of the trainers and of the new wearers among `nodes`, in order.

    A node that does not answer in time has no part in the run.

    Raises:
        RuntimeError: Nobody can train.
    """
    questions = [Message(RecordDict(), node, MessageType.QUERY) for node in nodes]
    replies = list(grid.send_and_receive(questions, timeout=timeout_s))
    is_new = {
        reply.metadata.src_node_id: bool(reply.content.config_records["role"]["new-wearer"])
        for reply in replies
        if reply.has_content()
    }
    trainers = sorted(node for node, new in is_new.items() if not new)
    if not trainers:
        raise RuntimeError(
            f"nobody trains: {len(nodes)} devices were asked for their role, {len(is_new)} answered"
        )
    return trainers, sorted(node for node, new in is_new.items() if new)


def average_by_role(contents: list[RecordDict], weighted_by_key: str) -> MetricRecord:
    """Average over people, not over windows: everybody counts the same.

    Returns:
        `accuracy` and `loss` over the trainers, and `accuracy-new-wearer`; each only if somebody
        of that role answered.
    """
    del weighted_by_key
    metrics = [next(iter(content.metric_records.values())) for content in contents]
    own = [m for m in metrics if not m["new-wearer"]]
    new = [m for m in metrics if m["new-wearer"]]
    averages = MetricRecord()
    if own:
        averages["accuracy"] = _mean(own, "accuracy")
        averages["loss"] = _mean(own, "loss")
    if new:
        averages["accuracy-new-wearer"] = _mean(new, "accuracy")
    return averages


def _mean(metrics: list[MetricRecord], key: str) -> float:
    # Flower's metrics may be lists, too; ours are numbers.
    return sum(cast("float", m[key]) for m in metrics) / len(metrics)


def summary(result: Result) -> list[str]:
    """Say in two lines how good the model of the last evaluated round is."""
    rounds = result.evaluate_metrics_clientapp
    last = rounds[max(rounds)] if rounds else MetricRecord()

    def accuracy(key: str) -> str:
        return f"{last[key]:.3f}" if key in last else "no result"

    return [
        f"accuracy on the wearers who trained: {accuracy('accuracy')}",
        f"accuracy on the new wearer: {accuracy('accuracy-new-wearer')}",
    ]
