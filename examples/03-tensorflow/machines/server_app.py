"""What runs beside the gateway: plain FedAvg."""

from flwr.app import ArrayRecord, Context
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

from machines.model import new_model

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Train one network on everybody's machine, and print how good it is."""
    config = context.run_config
    nodes = int(config["min-nodes"])
    strategy = FedAvg(min_train_nodes=nodes, min_evaluate_nodes=nodes, min_available_nodes=nodes)
    result = strategy.start(
        grid=grid,
        initial_arrays=ArrayRecord(new_model(float(config["learning-rate"])).get_weights()),
        num_rounds=int(config["num-server-rounds"]),
    )
    for number, metrics in result.evaluate_metrics_clientapp.items():
        print(f"round {number}: accuracy {metrics['accuracy']:.3f}, loss {metrics['loss']:.3f}")
