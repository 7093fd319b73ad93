"""FedAvg as it comes with Flower."""

import numpy as np
from flwr.app import Array, ArrayRecord, Context
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the rounds."""
    config = context.run_config
    print(f"text: {config['text']}")
    weights = np.random.standard_normal(int(config["numbers"])).astype(np.float32)
    strategy = FedAvg(
        fraction_train=float(config["fraction"]),
        fraction_evaluate=float(config["fraction"]),
        min_train_nodes=2,
        min_evaluate_nodes=2,
        min_available_nodes=int(config["min-nodes"]),
    )
    strategy.start(
        grid=grid,
        initial_arrays=ArrayRecord({"weights": Array(weights), "bias": Array(weights[:3].copy())}),
        num_rounds=int(config["num-server-rounds"]),
        timeout=float(config["timeout-s"]),
    )
