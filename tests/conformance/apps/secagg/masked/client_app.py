"""A client whose update is masked; partition 0 drops out in one stage."""

import os
import signal

import numpy as np
from flwr.app import Context, Message
from flwr.client import NumPyClient
from flwr.client.mod import secaggplus_mod
from flwr.clientapp import ClientApp


def dropping(message: Message, context: Context, call_next) -> Message:
    """Die, or fail, in the stage that is named."""
    config = context.run_config
    stages = [record.get("stage") for record in message.content.config_records.values()]
    if config["drops-in"] in stages and context.node_config["partition-id"] == 0:
        if config["dies"]:
            os.kill(os.getpid(), signal.SIGKILL)
        raise RuntimeError("dropped out")
    return call_next(message, context)


class Client(NumPyClient):
    """Answers with its own number."""

    def __init__(self, number):
        self.number = number

    def get_parameters(self, config):
        return [np.zeros(4), np.zeros((2, 2))]

    def fit(self, parameters, config):
        return [p + 1 + self.number for p in parameters], 1 + self.number, {}


def client_fn(context: Context):
    """Make a client."""
    return Client(int(context.node_config["partition-id"])).to_client()


app = ClientApp(client_fn=client_fn, mods=[dropping, secaggplus_mod])
