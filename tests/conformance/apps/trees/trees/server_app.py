"""Flower's two strategies for xgboost."""

import numpy as np
from flwr.app import ArrayRecord, Context
from flwr.serverapp import Grid, ServerApp, strategy

from trees.account import digest, plain, write

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Begin without a tree."""
    config = context.run_config
    kind = getattr(strategy, str(config["strategy"]))
    result = kind(min_available_nodes=int(config["min-nodes"])).start(
        grid=grid,
        initial_arrays=ArrayRecord([np.frombuffer(b"", dtype=np.uint8)]),
        num_rounds=int(config["num-server-rounds"]),
        timeout=60.0,
    )
    metrics = {n: plain(m) for n, m in result.evaluate_metrics_clientapp.items()}
    write(config["out"], "server", arrays=digest(result.arrays), metrics=metrics)
