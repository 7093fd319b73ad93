"""A server_fn."""

from flwr.app import Context
from flwr.server import ServerAppComponents, ServerConfig
from flwr.server.strategy import FedAvg
from flwr.serverapp import ServerApp


def server_fn(context: Context):
    """Make the components."""
    rounds = int(context.run_config["num-server-rounds"])
    strategy = FedAvg(fraction_fit=0.5, min_available_clients=4)
    return ServerAppComponents(strategy=strategy, config=ServerConfig(num_rounds=rounds))


app = ServerApp(server_fn=server_fn)
