"""Each strategy that comes with Flower, by its name."""

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, MetricRecord
from flwr.serverapp import Grid, ServerApp, strategy

from everystrategy.account import digest, plain, write

OPTIONS = {
    "FedAvg": {"fraction_train": 0.5},
    "FedAvgM": {"server_momentum": 0.9},
    "FedProx": {"proximal_mu": 0.25},
    "Krum": {"num_malicious_nodes": 1},
    "MultiKrum": {"num_malicious_nodes": 1, "num_nodes_to_select": 3},
    "Bulyan": {"num_malicious_nodes": 0},
    "QFedAvg": {"client_learning_rate": 0.1},
    "DifferentialPrivacyServerSideFixedClipping": {"clipping_norm": 0.5},
    "DifferentialPrivacyClientSideFixedClipping": {"clipping_norm": 0.5},
    "DifferentialPrivacyServerSideAdaptiveClipping": {"initial_clipping_norm": 0.5},
    "DifferentialPrivacyClientSideAdaptiveClipping": {"initial_clipping_norm": 0.5},
}

app = ServerApp()


def make(name: str, nodes: int) -> strategy.Strategy:
    """Make a strategy that waits for so many nodes; noise for privacy goes around FedAvg."""
    options = OPTIONS.get(name, {})
    if name.startswith("DifferentialPrivacy"):
        inner = strategy.FedAvg(min_available_nodes=nodes)
        kind = getattr(strategy, name)
        return kind(inner, noise_multiplier=0.1, num_sampled_clients=nodes, **options)
    return getattr(strategy, name)(min_available_nodes=nodes, **options)


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the rounds, and write down what came of them."""
    config = context.run_config
    weights = np.random.standard_normal(12).astype(np.float32)
    if config["exact"]:  # nothing is drawn, all nodes take part, and only FedAvg evaluates
        weights = np.linspace(-1, 1, 12).astype(np.float32)
        OPTIONS.update(FedAvg={}, FedAdam={"fraction_evaluate": 0.0})
        OPTIONS["Krum"] = {"num_malicious_nodes": 0, "fraction_evaluate": 0.0}

    def evaluate(server_round: int, arrays: ArrayRecord) -> MetricRecord:
        return MetricRecord({"drawn": float(np.random.random()), "norm": float(np.abs(arrays["bias"].numpy()).sum())})

    result = make(str(config["strategy"]), int(config["min-nodes"])).start(
        grid=grid,
        initial_arrays=ArrayRecord({"weights": Array(weights), "bias": Array(weights[:3].copy())}),
        num_rounds=int(config["num-server-rounds"]),
        timeout=60.0,
        train_config=ConfigRecord({"lr": 0.1}),
        evaluate_fn=evaluate,
    )
    stages = {
        "train": result.train_metrics_clientapp,
        "evaluate": result.evaluate_metrics_clientapp,
        "server": result.evaluate_metrics_serverapp,
    }
    metrics = {stage: {n: plain(m) for n, m in rounds.items()} for stage, rounds in stages.items()}
    values = {name: array.numpy().tolist() for name, array in result.arrays.items()}
    write(config["out"], "server", arrays=digest(result.arrays), metrics=metrics, values=values)
