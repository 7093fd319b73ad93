"""SecAgg+ as it comes with Flower: the server learns the sum of the updates, and none of them."""

from flwr.app import Context
from flwr.server import LegacyContext, ServerConfig
from flwr.server.strategy import FedAvg
from flwr.server.workflow import DefaultWorkflow, SecAggPlusWorkflow
from flwr.serverapp import Grid, ServerApp

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the rounds."""
    rounds = int(context.run_config["num-server-rounds"])
    legacy = LegacyContext(
        context=context,
        config=ServerConfig(num_rounds=rounds),
        strategy=FedAvg(min_available_clients=5, min_fit_clients=5),
    )
    fit = SecAggPlusWorkflow(num_shares=3, reconstruction_threshold=2)
    DefaultWorkflow(fit_workflow=fit)(grid, legacy)
