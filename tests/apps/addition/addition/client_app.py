"""Adds 1 to every float32, as docs/minimal_device does without Flower."""

import time
from pathlib import Path

from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

app = ClientApp()


@app.train()
def train(message: Message, context: Context) -> Message:
    """Answer with the arrays and 1 more."""
    pause = str(context.run_config["pause-file"])
    while pause and Path(pause).exists():  # a test holds the round open
        time.sleep(0.02)
    arrays = {name: Array(array.numpy() + 1) for name, array in message.content["arrays"].items()}
    answer = {"arrays": ArrayRecord(arrays), "metrics": MetricRecord({"num-examples": 1})}
    return Message(RecordDict(answer), reply_to=message)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Answer that it heard."""
    answer = {"metrics": MetricRecord({"num-examples": 1})}
    return Message(RecordDict(answer), reply_to=message)
