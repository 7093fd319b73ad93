"""Each strategy that comes with Flower, by its name."""

import time
import uuid

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, MetricRecord
from flwr.serverapp import Grid, ServerApp, strategy

from windflower.strategy import FedBuff

app = ServerApp()

def make(name: str) -> strategy.Strategy:
    """Make a strategy."""
    options = {}
    if name == "FedAvgM":
        options["server_momentum"] = 0.9
    if name in ("Krum", "MultiKrum", "Bulyan"):
        options["num_malicious_nodes"] = 1
    if name == "MultiKrum":
        options["num_nodes_to_select"] = 3
    if name == "QFedAvg":
        options["client_learning_rate"] = 0.1
    if name == "FedAvg":
        options["fraction_train"] = 0.5
    if name == "FedBuff":
        return FedBuff(buffer_size=3, fraction_evaluate=1.0, poll_s=0.01)
    return getattr(strategy, name)(**options)


def whim(name: str) -> ConfigRecord:
    """Return what another execution would not return again."""
    if name == "clock":
        return ConfigRecord({"lr": 0.1, "started-at": time.time()})
    if name == "entropy":
        return ConfigRecord({"lr": 0.1, "token": uuid.uuid4().hex})
    return ConfigRecord({"lr": 0.1})


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the rounds."""
    config = context.run_config
    weights = np.random.standard_normal(int(config["weights"])).astype(np.float32)

    def evaluate(server_round: int, arrays: ArrayRecord) -> MetricRecord:
        del arrays
        return MetricRecord({"drawn": float(np.random.random()), "round": server_round})

    make(str(config["strategy"])).start(
        grid=grid,
        initial_arrays=ArrayRecord({"weights": Array(weights), "bias": Array(weights[:3].copy())}),
        num_rounds=int(config["num-server-rounds"]),
        timeout=60.0,
        train_config=whim(str(config["whim"])),
        evaluate_fn=evaluate,
    )
