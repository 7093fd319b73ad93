"""Asks every device once."""

import signal
from pathlib import Path

import numpy as np
from families.child import leave_behind
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.serverapp import Grid, ServerApp

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Start a process, ask the devices, and end."""
    if context.run_config["ignores-sigterm"]:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    leave_behind(Path(str(context.run_config["folder"])) / "server")
    content = RecordDict({"config": ConfigRecord({})})
    grid.send_and_receive([Message(content, node, "train") for node in grid.get_node_ids()])
    context.state["arrays"] = ArrayRecord({"zeros": Array(np.zeros(3, dtype=np.float32))})
