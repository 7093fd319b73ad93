"""Answers with what it got; Flower's own mod adds the noise."""

import numpy as np
from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.clientapp.mod import LocalDpMod

app = ClientApp()
noise = LocalDpMod(clipping_norm=1000.0, sensitivity=1.0, epsilon=50.0, delta=1e-5)


@app.train(mods=[noise])
def train(message: Message, context: Context) -> Message:
    """Answer with the arrays and a step."""
    arrays = ArrayRecord(
        {
            name: Array(array.numpy() + np.float32(0.1))
            for name, array in message.content["arrays"].items()
        }
    )
    metrics = MetricRecord({"num-examples": 1})
    return Message(RecordDict({"arrays": arrays, "metrics": metrics}), reply_to=message)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Answer with nothing much."""
    return Message(RecordDict({"metrics": MetricRecord({"num-examples": 1})}), reply_to=message)
