"""What runs on a watch: say who you are, train on your wearer, test on your wearer."""

from pathlib import Path

from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from smartwatch import model
from smartwatch.features import Wearer, load_wearer

app = ClientApp()

NO_DATA = (
    "{problem}: run `python prepare.py --out devices --devices 10` once and start each device with "
    "--node-config 'partition-id=0 num-partitions=10 data-dir=\"/path/to/devices/00\"'"
)


@app.query()
def query(message: Message, context: Context) -> Message:
    """Tell the server whether this wearer is new, that is, evaluates and never trains."""
    role = ConfigRecord({"new-wearer": _is_new_wearer(context)})
    return Message(RecordDict({"role": role}), reply_to=message)


@app.train()
def train(message: Message, context: Context) -> Message:
    """Train the fleet's model on this wearer's first three quarters."""
    windows = _wearer(context).train
    recipe = model.Recipe.from_run_config(context.run_config)
    weights, loss = model.train(_weights(message), windows, recipe)
    content = RecordDict(
        {
            "arrays": ArrayRecord({name: Array(array) for name, array in weights.items()}),
            "metrics": MetricRecord({"num-examples": len(windows), "train-loss": loss}),
        }
    )
    return Message(content, reply_to=message)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Test the fleet's model on this wearer's last quarter, which nobody ever trains on."""
    windows = _wearer(context).test
    loss, accuracy = model.evaluate(_weights(message), windows)
    metrics = MetricRecord(
        {
            "num-examples": len(windows),
            "loss": loss,
            "accuracy": accuracy,
            "new-wearer": int(_is_new_wearer(context)),
        }
    )
    return Message(RecordDict({"metrics": metrics}), reply_to=message)


def _is_new_wearer(context: Context) -> bool:
    if not context.run_config["new-wearer"]:
        return False
    # A device without a number trains: real fleets need no partitions, and Flower sets none.
    partitions = int(context.node_config.get("num-partitions", 0))
    return partitions > 1 and int(context.node_config.get("partition-id", 0)) == partitions - 1


def _wearer(context: Context) -> Wearer:
    data_dir = context.node_config.get("data-dir")
    if data_dir is None:
        raise LookupError(NO_DATA.format(problem="no data-dir in this device's node config"))
    try:
        return load_wearer(Path(str(data_dir)))
    except FileNotFoundError:
        problem = f"no recordings.npz in {data_dir}"
        raise LookupError(NO_DATA.format(problem=problem)) from None


def _weights(message: Message) -> model.Weights:
    arrays = message.content.array_records["arrays"]
    return {name: array.numpy() for name, array in arrays.items()}
