"""SecAgg+ as it comes with Flower: the server learns the mean of the updates, and none of them."""

from flwr.app import Context
from flwr.common import parameters_to_ndarrays
from flwr.server import LegacyContext, ServerConfig
from flwr.server.strategy import FedAvg
from flwr.server.workflow import DefaultWorkflow, SecAggPlusWorkflow
from flwr.serverapp import Grid, ServerApp

from masked.account import write

app = ServerApp()


class Noting(FedAvg):
    """FedAvg that writes down what it gets."""

    def __init__(self, out):
        super().__init__(fraction_evaluate=0.0, min_available_clients=4, min_fit_clients=4)
        self.out = out

    def aggregate_fit(self, server_round, results, failures):
        parameters, metrics = super().aggregate_fit(server_round, results, failures)
        arrays = [a.tolist() for a in parameters_to_ndarrays(parameters)] if parameters else None
        write(self.out, "server", round=server_round, mean=arrays, results=len(results), failures=len(failures))
        return parameters, metrics


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the rounds."""
    config = context.run_config
    legacy = LegacyContext(
        context=context,
        config=ServerConfig(num_rounds=int(config["num-server-rounds"])),
        strategy=Noting(config["out"]),
    )
    fit = SecAggPlusWorkflow(num_shares=3, reconstruction_threshold=2, timeout=120.0)
    DefaultWorkflow(fit_workflow=fit)(grid, legacy)
