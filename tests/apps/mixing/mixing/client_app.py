"""Adds noise that depends on the worker's seed."""

import numpy as np
from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

app = ClientApp()


@app.train()
def train(message: Message, context: Context) -> Message:
    """Answer with the arrays and noise."""
    number = int(context.node_config["partition-id"])
    if context.run_config["fails"]:
        raise ValueError("it was told to fail")
    arrays = ArrayRecord(
        {
            name: Array(array.numpy() + np.random.standard_normal(array.shape).astype(np.float32))
            for name, array in message.content["arrays"].items()
        }
    )
    metrics = MetricRecord({"num-examples": 1 + number, "train_loss": 1.0 + number})
    return Message(RecordDict({"arrays": arrays, "metrics": metrics}), reply_to=message)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Answer with a number made of the arrays."""
    total = sum(float(np.abs(a.numpy()).sum()) for a in message.content["arrays"].values())
    metrics = MetricRecord({"num-examples": 1, "total": total})
    return Message(RecordDict({"metrics": metrics}), reply_to=message)
