"""Trains for a second, and writes down each time that it did."""

import json
import time
from pathlib import Path

from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

app = ClientApp()


@app.train()
def train(message: Message, context: Context) -> Message:
    """Answer with arrays that no other device sends, and the number of this training."""
    device = int(context.node_config["partition-id"])
    config = message.content["config"]
    round_number = int(config["rounds-before"]) + int(config["server-round"])
    diary = Path(str(context.run_config["folder"])) / f"trainings-{device}.jsonl"
    training = len(diary.read_text().splitlines()) if diary.exists() else 0
    with diary.open("a") as file:
        file.write(json.dumps({"training": training, "round": round_number}) + "\n")
    time.sleep(float(context.run_config["seconds"]))
    arrays = message.content["arrays"].items()
    moved = ArrayRecord({name: Array(a.numpy() + 0.001 * (device + 1)) for name, a in arrays})
    numbers = {"round": round_number, "device": device, "training": training}
    metrics = MetricRecord({"num-examples": 1, **numbers})
    return Message(RecordDict({"arrays": moved, "metrics": metrics}), reply_to=message)
