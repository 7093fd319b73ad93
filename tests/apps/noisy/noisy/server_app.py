"""Server-side differential privacy, or none, for clients that add noise themselves."""

import numpy as np
from flwr.app import Array, ArrayRecord, Context
from flwr.serverapp import Grid, ServerApp, strategy

app = ServerApp()


def make(name: str) -> strategy.Strategy:
    """Make a strategy."""
    plain = strategy.FedAvg()
    if name == "DPServerFixed":
        return strategy.DifferentialPrivacyServerSideFixedClipping(
            plain, noise_multiplier=0.1, clipping_norm=1.0, num_sampled_clients=5
        )
    if name == "DPServerAdaptive":
        return strategy.DifferentialPrivacyServerSideAdaptiveClipping(
            plain, noise_multiplier=0.1, num_sampled_clients=5
        )
    return plain


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the rounds."""
    weights = np.linspace(-1.0, 1.0, 12).astype(np.float32)
    make(str(context.run_config["strategy"])).start(
        grid=grid,
        initial_arrays=ArrayRecord({"weights": Array(weights)}),
        num_rounds=int(context.run_config["num-server-rounds"]),
        timeout=60.0,
    )
