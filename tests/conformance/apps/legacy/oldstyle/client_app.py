"""A NumPyClient, and the same as a Client; their numbers are exact whatever the order of sums."""

import time

import numpy as np
from flwr.app import Context, MetricRecord
from flwr.client import Client, NumPyClient
from flwr.clientapp import ClientApp
from flwr.common import (
    Code,
    EvaluateRes,
    FitRes,
    GetParametersRes,
    GetPropertiesRes,
    Status,
    ndarrays_to_parameters,
    parameters_to_ndarrays,
)

from oldstyle.account import plain, write

OK = Status(Code.OK, "")


class Numbers(NumPyClient):
    """Adds its own number."""

    def __init__(self, context):
        self.number = int(context.node_config["partition-id"])
        self.config = context.run_config
        self.seen = context.state

    def note(self, what, config):
        times = self.seen.metric_records.setdefault("times", MetricRecord({"n": 0}))
        times["n"] += 1
        write(self.config["out"], f"client-{self.number}", what=what, config=plain(config), times=times["n"])

    def get_properties(self, config):
        self.note("properties", config)
        return {"parity": "odd" if self.number % 2 else "even", "number": self.number, "share": 0.5, "is-on": True, "raw": b"\xff"}

    def get_parameters(self, config):
        write(self.config["out"], "client-any", what="parameters", config=plain(config))
        return [np.arange(8, dtype=np.float64), np.zeros((2, 2), np.float32)]

    def fit(self, parameters, config):
        self.note("fit", config)
        if self.number == self.config["sleeps"]:
            time.sleep(3600)
        moved = [(p + self.number * config["lr"]).astype(p.dtype) for p in parameters]
        return moved, 1 + self.number, {"number": self.number, "share": 0.1, "is-on": True, "text": "é", "raw": b"\x00"}

    def evaluate(self, parameters, config):
        self.note("evaluate", config)
        return float(parameters[0].sum()) / 8, 1, {"accuracy": 0.5 + self.number}


class Plain(Client):
    """The same without numpy; one of them says that it failed."""

    def __init__(self, inner):
        self.inner = inner

    def get_properties(self, ins):
        return GetPropertiesRes(OK, self.inner.get_properties(ins.config))

    def get_parameters(self, ins):
        return GetParametersRes(OK, ndarrays_to_parameters(self.inner.get_parameters(ins.config)))

    def fit(self, ins):
        arrays, examples, metrics = self.inner.fit(parameters_to_ndarrays(ins.parameters), ins.config)
        return FitRes(OK, ndarrays_to_parameters(arrays), examples, metrics)

    def evaluate(self, ins):
        loss, examples, metrics = self.inner.evaluate(parameters_to_ndarrays(ins.parameters), ins.config)
        status = Status(Code.EVALUATE_NOT_IMPLEMENTED, "not me") if self.inner.number == 3 else OK
        return EvaluateRes(status, loss, examples, metrics)


def client_fn(context: Context):
    """Make a client."""
    numbers = Numbers(context)
    return Plain(numbers) if context.run_config["client"] == "Client" else numbers.to_client()


app = ClientApp(client_fn=client_fn)
