"""An own loop: each update is mixed in when it comes, and its device is asked again at once."""

import random
import time

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.serverapp import Grid, ServerApp

app = ServerApp()


def ask(weights: np.ndarray, node: int, turn: int) -> Message:
    """Make a message."""
    content = RecordDict(
        {
            "arrays": ArrayRecord({"weights": Array(weights.copy())}),
            "config": ConfigRecord({"lr": random.random()}),
        }
    )
    return Message(content, node, "train", group_id=str(turn))


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Mix updates in until each device was asked as often as there are rounds."""
    nodes = sorted(grid.get_node_ids())
    weights = np.random.standard_normal(8).astype(np.float32)
    left = len(nodes) * int(context.run_config["num-server-rounds"])
    waiting = set(grid.push_messages([ask(weights, node, 0) for node in nodes]))
    turn = 0
    while waiting:
        replies = list(grid.pull_messages(sorted(waiting)))
        for reply in replies:
            waiting.discard(reply.metadata.reply_to_message_id)
            if reply.has_content():
                weights = 0.7 * weights + 0.3 * reply.content["arrays"]["weights"].numpy()
            left -= 1
            turn += 1
            if left >= len(nodes):
                waiting |= set(
                    grid.push_messages([ask(weights, reply.metadata.src_node_id, turn)])
                )
        if not replies:
            time.sleep(0.005)
    context.state["arrays"] = ArrayRecord({"weights": Array(weights)})
