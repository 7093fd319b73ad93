"""Boosts the trees that came, as Flower's own example does."""

import numpy as np
import xgboost as xgb
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from trees.account import digest, write

PARAMS = {"objective": "binary:logistic", "max_depth": 3, "tree_method": "exact", "nthread": 1, "seed": 1}

app = ClientApp()


def data(number: int) -> xgb.DMatrix:
    """Return this device's rows."""
    source = np.random.default_rng(number)
    rows = source.standard_normal((60, 4))
    return xgb.DMatrix(rows, label=(rows[:, 0] * rows[:, 1] + 0.1 * number > 0).astype(int))


def loaded(message: Message) -> xgb.Booster:
    """Return the trees that came."""
    trees = xgb.Booster(params=PARAMS)
    trees.load_model(bytearray(message.content["arrays"]["0"].numpy().tobytes()))
    return trees


@app.train()
def train(message: Message, context: Context) -> Message:
    """Add a tree."""
    number = int(context.node_config["partition-id"])
    rows = data(number)
    write(context.run_config["out"], f"client-{number}", arrays=digest(message.content["arrays"]))
    if int(message.content["config"]["server-round"]) == 1:
        trees = xgb.train(PARAMS, rows, num_boost_round=1)
    else:
        trees = loaded(message)
        trees.update(rows, trees.num_boosted_rounds())
        if context.run_config["strategy"] == "FedXgbBagging":
            trees = trees[trees.num_boosted_rounds() - 1 : trees.num_boosted_rounds()]
    model = np.frombuffer(trees.save_raw("json"), dtype=np.uint8)
    metrics = MetricRecord({"num-examples": 60})
    return Message(RecordDict({"arrays": ArrayRecord([model]), "metrics": metrics}), reply_to=message)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Measure the trees."""
    rows = data(int(context.node_config["partition-id"]))
    right = float(((loaded(message).predict(rows) > 0.5) == rows.get_label()).mean())
    metrics = MetricRecord({"accuracy": right, "num-examples": 60})
    return Message(RecordDict({"metrics": metrics}), reply_to=message)
