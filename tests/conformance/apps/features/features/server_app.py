"""Plays one scene, and writes down every reply."""

import json
import time
from pathlib import Path

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid, ServerApp

from features.account import described, write

app = ServerApp()
lived = []


@app.lifespan()
def lifespan(context: Context):
    """Note when it begins and ends."""
    lived.append("begun")
    yield
    write(context.run_config["out"], "server", lived=[*lived, "ended"])


def to_all(grid: Grid, kind: str, content: RecordDict | None = None, group: str = "") -> list[Message]:
    """Make a message for each node."""
    if content is None:
        content = RecordDict({"config": ConfigRecord({"asked": kind})})
    return [Message(content, node, kind, group_id=group) for node in sorted(grid.get_node_ids())]


def ask(grid: Grid, context: Context, kind: str, content: RecordDict | None = None) -> list[Message]:
    """Ask all nodes for something, and write their replies down."""
    replies = list(grid.send_and_receive(to_all(grid, kind, content), timeout=60))
    tell(context, kind, replies)
    return replies


def tell(context: Context, kind: str, replies: list[Message]) -> None:
    """Write replies down."""
    write(context.run_config["out"], "server", asked=kind, replies=[described(reply) for reply in replies])


def actions(grid: Grid, context: Context) -> None:
    """Each category, with and without an action, and one that nobody registered."""
    for kind in ("train", "train.foo", "evaluate", "evaluate.foo_2", "query", "query.status", "query.nobody"):
        ask(grid, context, kind)


def by_hand(grid: Grid, context: Context) -> None:
    """Push twice, pull as replies come, and pull again what was pulled."""
    first = list(grid.push_messages(to_all(grid, "query", group="one")))
    content = RecordDict({"config": ConfigRecord({"asked": "query.status"})})
    nodes = sorted(grid.get_node_ids())
    if hasattr(grid, "get_nodes"):  # since flwr 1.38
        assert nodes == sorted(node.node_id for node in grid.get_nodes())
    second = list(grid.push_messages([grid.create_message(content, "query.status", node, "two") for node in nodes]))
    waiting, replies = set(first + second), []
    while waiting:
        arrived = list(grid.pull_messages(sorted(waiting)))
        replies += arrived
        waiting -= {reply.metadata.reply_to_message_id for reply in arrived}
        time.sleep(0.01)
    assert len(set(first + second)) == len(replies)
    place = {id_: place for place, id_ in enumerate(first + second)}
    tell(context, "pushed", sorted(replies, key=lambda reply: place[reply.metadata.reply_to_message_id]))
    assert [] == list(grid.pull_messages([])) == list(grid.pull_messages(["nobody-asked"]))


def state(grid: Grid, context: Context) -> None:
    """Let nodes remember, wait while the file `pause` is there, and let them remember more."""
    ask(grid, context, "train.remember")
    while context.run_config["pause"] and Path(str(context.run_config["pause"])).exists():
        time.sleep(0.02)
    ask(grid, context, "train.remember")
    ask(grid, context, "query.memory")


def configs(grid: Grid, context: Context) -> None:
    """Hear what nodes are told of the run and of themselves, and say what we are told."""
    ask(grid, context, "query.configs")
    told = [[k, repr(v)] for k, v in sorted(context.run_config.items()) if k != "out"]
    write(context.run_config["out"], "server", run_config=told)


def records(grid: Grid, context: Context) -> None:
    """Send all kinds of records with all types of values there and back."""
    arrays = {
        "f4": np.arange(6, dtype=np.float32).reshape(2, 3),
        "f8": np.array([np.nan, -0.0, np.inf]),
        "f2": np.array([0.1], dtype=np.float16),
        "i8": np.array([[-(2**63)], [2**63 - 1]]),
        "u1": np.frombuffer(b"\x00\xff", dtype=np.uint8),
        "bool": np.array([True, False]),
        "c16": np.array([1 + 2j]),
        "point": np.array(2.5, dtype=np.float32),
        "none": np.zeros((0, 4), dtype=np.float32),
        "fortran": np.asfortranarray(np.arange(6, dtype=np.int16).reshape(2, 3)),
    }
    content = RecordDict(
        {
            "model": ArrayRecord({name: Array(array) for name, array in arrays.items()}),
            "second model": ArrayRecord([np.ones(3), np.zeros(2, dtype=np.int32)]),
            "large": ArrayRecord({"w": Array(np.arange(40_000, dtype=np.float32))}),
            "no model": ArrayRecord(),
            "metrics": MetricRecord({"int": -(2**63), "float": 0.1, "ints": [1, 2], "floats": [np.pi, float("nan")], "empty": []}),
            "config": ConfigRecord(
                {
                    "int": 2**63 - 1, "float": -0.0, "str": "é\n\x00 日本", "bytes": bytes(range(256)), "bool": True,
                    "ints": [0, -1], "floats": [1e300], "strs": ["", "a"], "bytess": [b"", b"\xff"], "bools": [False, True],
                }
            ),
            "no config": ConfigRecord(),
            "ключ": ConfigRecord({"ключ": "значение"}),
        }
    )
    ask(grid, context, "query.echo", content)
    ask(grid, context, "query.echo", RecordDict())


def errors(grid: Grid, context: Context) -> None:
    """Hear how one node fails, and that the others do not."""
    ask(grid, context, "train.fails")
    ask(grid, context, "query.status")


def living(grid: Grid, context: Context) -> None:
    """Hear how the app's life is told from its calls."""
    ask(grid, context, "query.life")


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Play the scene."""
    print(json.dumps({"scene": context.run_config["scene"]}))
    globals()[str(context.run_config["scene"])](grid, context)
