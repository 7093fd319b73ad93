"""Answers each scene."""

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

app = ClientApp()
lived = []


@app.lifespan()
def lifespan(context: Context):
    """Note around each call when it begins and ends."""
    lived.append(f"begun on {context.node_config['partition-id']}")
    yield
    lived.append("ended")


def says(message: Message, **values) -> Message:
    """Answer with values."""
    return Message(RecordDict({"config": ConfigRecord(values)}), reply_to=message)


def answering(name):
    """Make a function that answers with its name, and with what it was asked."""

    def answer(message: Message, context: Context) -> Message:
        return says(message, name=name, asked=message.content["config"]["asked"], node=context.node_id)

    return answer


app.train()(answering("train"))
app.train("foo")(answering("train.foo"))
app.evaluate()(answering("evaluate"))
app.evaluate("foo_2")(answering("evaluate.foo_2"))
app.query()(answering("query"))
app.query("status")(answering("query.status"))


@app.train("remember")
def remember(message: Message, context: Context) -> Message:
    """Keep all three kinds of records, and add to them."""
    arrays = context.state.array_records.setdefault("arrays", ArrayRecord({"sum": Array(np.zeros(20_000))}))
    arrays["sum"] = Array(arrays["sum"].numpy() + np.arange(20_000))
    metrics = context.state.metric_records.setdefault("metrics", MetricRecord({"times": 0}))
    metrics["times"] += 1
    config = context.state.config_records.setdefault("config", ConfigRecord({"notes": [], "raw": b""}))
    config["notes"] = [*config["notes"], f"time {metrics['times']}"]
    config["raw"] = config["raw"] + b"\x00\xff"
    return says(message, times=metrics["times"])


@app.query("memory")
def memory(message: Message, context: Context) -> Message:
    """Answer with all that was kept."""
    return Message(RecordDict(dict(context.state.items())), reply_to=message)


@app.query("configs")
def configs(message: Message, context: Context) -> Message:
    """Answer with what this node is told of itself and of the run."""
    told = {"node_config": context.node_config, "run_config": context.run_config}
    return says(message, **{name: [f"{k} = {v!r}" for k, v in sorted(c.items()) if k != "out"] for name, c in told.items()})


@app.query("echo")
def echo(message: Message, context: Context) -> Message:
    """Answer with what came."""
    return Message(message.content, reply_to=message)


@app.train("fails")
def fails(message: Message, context: Context) -> Message:
    """Fail on one node."""
    if context.node_config["partition-id"] == 2:
        raise LookupError("the data of node 2 is not there")
    return says(message, well=True)


@app.query("life")
def life(message: Message, context: Context) -> Message:
    """Answer with the life of this app so far, on this node."""
    return says(message, lived=list(lived)[-1:])
