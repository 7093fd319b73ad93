"""What people of the old kind put together: all of it is optional."""

import hashlib

import numpy as np
from flwr.app import Context
from flwr.common import FitIns, GetPropertiesIns, ndarrays_to_parameters, parameters_to_ndarrays
from flwr.server import Server, ServerAppComponents, ServerConfig, SimpleClientManager
from flwr.server import strategy as strategies
from flwr.server.criterion import Criterion
from flwr.serverapp import ServerApp

from oldstyle.account import plain, write


def hashed(parameters):
    """Return the SHA-256 of parameters."""
    return hashlib.sha256(b"".join(a.tobytes() for a in parameters_to_ndarrays(parameters))).hexdigest()


class Even(Criterion):
    """Takes clients that say that they are even."""

    def select(self, client):
        properties = client.get_properties(GetPropertiesIns({"ask": "parity"}), timeout=30, group_id=0)
        return properties.properties["parity"] == "even"


class Highest(SimpleClientManager):
    """Takes the clients with the highest ids."""

    def sample(self, num_clients, min_num_clients=None, criterion=None):
        self.wait_for(num_clients)
        return [self.clients[cid] for cid in sorted(self.clients, key=int)[-num_clients:]]


class Noting(strategies.FedAvg):
    """FedAvg that writes down what it sees; its criterion chooses who trains."""

    def __init__(self, config, **options):
        super().__init__(
            fraction_fit=0.5,
            min_fit_clients=2,
            min_available_clients=4,
            on_evaluate_config_fn=lambda round_: {"round": round_, "text": "é"},
            evaluate_fn=lambda round_, arrays, _: (float(sum(a.sum() for a in arrays)), {"round": round_}),
            evaluate_metrics_aggregation_fn=lambda all_: {"most": max(m["accuracy"] for _, m in all_)},
            **options,
        )
        self.config = config

    def configure_fit(self, server_round, parameters, client_manager):
        config = {"round": server_round, "lr": 0.5, "text": "two words", "flag": True, "raw": b"\x00\xff"}
        criterion = Even() if not self.config["manager"] else None
        clients = client_manager.sample(2, 4, criterion)
        return [(client, FitIns(parameters, config)) for client in clients]

    def aggregate_fit(self, server_round, results, failures):
        told = sorted([int(proxy.cid), res.num_examples, plain(res.metrics)] for proxy, res in results)
        parameters, metrics = super().aggregate_fit(server_round, results, failures)
        write(self.config["out"], "server", fit=server_round, told=told, failures=len(failures), arrays=parameters and hashed(parameters))
        return parameters, metrics

    def aggregate_evaluate(self, server_round, results, failures):
        told = sorted([int(proxy.cid), res.loss, plain(res.metrics)] for proxy, res in results)
        loss, metrics = super().aggregate_evaluate(server_round, results, failures)
        write(self.config["out"], "server", evaluate=server_round, told=told, failures=len(failures), loss=loss, metrics=plain(metrics))
        return loss, metrics


class Counting(Server):
    """A server of one's own, which notes how many rounds it fitted."""

    out = ""

    def fit(self, num_rounds, timeout):
        history = super().fit(num_rounds, timeout)
        write(self.out, "server", rounds=num_rounds, losses=history[0].losses_distributed)
        return history


def server_fn(context: Context):
    """Make the components."""
    config = context.run_config
    options = {}
    if config["initial"] == "strategy":
        options["initial_parameters"] = ndarrays_to_parameters([np.full(8, 3.0), np.ones((2, 2), np.float32)])
    strategy = Noting(config, **options)
    manager = Highest() if config["manager"] else None
    rounds = ServerConfig(num_rounds=int(config["num-server-rounds"]), round_timeout=float(config["round-timeout"]))
    if config["server"]:
        server = Counting(client_manager=manager or SimpleClientManager(), strategy=strategy)
        server.out = config["out"]
        return ServerAppComponents(server=server, config=rounds)
    return ServerAppComponents(strategy=strategy, config=rounds, client_manager=manager)


app = ServerApp(server_fn=server_fn)
