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
    weights = np.arange(int(config["numbers"]), dtype=np.float32)
    strategy = FedAvg(min_available_nodes=int(config["min-nodes"]))
    arrays = ArrayRecord({"weights": Array(weights), "bias": Array(weights[:3].copy())})
    strategy.start(grid=grid, initial_arrays=arrays, num_rounds=int(config["num-server-rounds"]))
