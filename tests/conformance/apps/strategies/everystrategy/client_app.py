"""Moves the model towards its own number, with noise; a mod of Flower's goes around it by name."""

import numpy as np
from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp, mod

from everystrategy.account import digest, plain, write


def named_mod(message: Message, context: Context, call_next) -> Message:
    """Call the mod that the run configuration names."""
    name = context.run_config["mod"]
    if not name or message.metadata.message_type != "train":
        return call_next(message, context)
    if name == "LocalDpMod":
        chosen = mod.LocalDpMod(clipping_norm=1.0, sensitivity=0.1, epsilon=10.0, delta=1e-5)
    else:
        chosen = getattr(mod, str(name))
    return chosen(message, context, call_next)


app = ClientApp(mods=[named_mod])


def note(message: Message, context: Context) -> None:
    """Write down what came."""
    write(
        context.run_config["out"],
        f"client-{context.node_config['partition-id']}",
        type=message.metadata.message_type,
        arrays=digest(message.content["arrays"]),
        config=plain(message.content["config"]),
        run_config={k: v for k, v in context.run_config.items() if k != "out"},
        node_config=dict(context.node_config),
    )


@app.train()
def train(message: Message, context: Context) -> Message:
    """Answer with the arrays, moved."""
    note(message, context)
    number = int(context.node_config["partition-id"])
    rate = float(message.content["config"]["lr"])
    scale = 0.1
    if context.run_config["exact"]:
        number, scale = number**2, 0.0  # Krum then finds no two updates that are equally good
    arrays = ArrayRecord()
    for name, array in message.content["arrays"].items():
        before = array.numpy()
        noise = np.random.standard_normal(before.shape)
        arrays[name] = Array((before + rate * (number - before) + scale * noise).astype(np.float32))
    metrics = MetricRecord({"num-examples": 1 + number, "train_loss": 1.0 + number / 3})
    return Message(RecordDict({"arrays": arrays, "metrics": metrics}), reply_to=message)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Answer with a number made of the arrays."""
    note(message, context)
    total = sum(float(np.abs(a.numpy()).sum()) for a in message.content["arrays"].values())
    metrics = MetricRecord({"num-examples": 1, "total": total, "each": [total, total / 3]})
    return Message(RecordDict({"metrics": metrics}), reply_to=message)
