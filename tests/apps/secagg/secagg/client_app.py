"""A NumPyClient whose updates are masked."""

import numpy as np
from flwr.app import Context
from flwr.client import NumPyClient
from flwr.client.mod import secaggplus_mod
from flwr.clientapp import ClientApp


class Client(NumPyClient):
    """Adds noise."""

    def get_parameters(self, config):
        return [np.zeros(8, dtype=np.float32)]

    def fit(self, parameters, config):
        return [p + np.random.standard_normal(p.shape).astype(p.dtype) for p in parameters], 1, {}

    def evaluate(self, parameters, config):
        return float(np.abs(parameters[0]).sum()), 1, {"accuracy": 0.5}


def client_fn(context: Context):
    """Make a client."""
    return Client().to_client()


app = ClientApp(client_fn=client_fn, mods=[secaggplus_mod])
