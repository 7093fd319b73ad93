"""Answers once it may."""

import time
from pathlib import Path

from families.child import leave_behind
from flwr.app import Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

app = ClientApp()


@app.train()
def train(message: Message, context: Context) -> Message:
    """Start a process, wait while a test says so, and answer."""
    folder = Path(str(context.run_config["folder"]))
    leave_behind(folder / f"device-{context.node_config['partition-id']}")
    while (folder / "pause").exists():
        time.sleep(0.02)
    metrics = MetricRecord({"num-examples": 1})
    return Message(RecordDict({"metrics": metrics}), reply_to=message)
