"""What runs on a device: train on its images, test on its images."""

from functools import cache
from pathlib import Path

from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from cifar10 import model
from cifar10.images import Data, load
from cifar10.partition import share_of

app = ClientApp()


@app.train()
def train(message: Message, context: Context) -> Message:
    """Train the fleet's model on this device's images."""
    net, images, config = _net(message), _data(context).train, context.run_config
    loss = model.train(
        net,
        images,
        epochs=int(config["local-epochs"]),
        batch_size=int(config["batch-size"]),
        learning_rate=float(config["learning-rate"]),
    )
    metrics = MetricRecord({"num-examples": len(images), "train-loss": loss})
    content = RecordDict({"arrays": ArrayRecord(net.state_dict()), "metrics": metrics})
    return Message(content, reply_to=message)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Test the fleet's model on images that nobody trains on."""
    images = _data(context).test
    loss, accuracy = model.evaluate(_net(message), images)
    metrics = {"num-examples": len(images), "loss": loss, "accuracy": accuracy}
    return Message(RecordDict({"metrics": MetricRecord(metrics)}), reply_to=message)


def _net(message: Message) -> model.Net:
    net = model.Net()
    net.load_state_dict(message.content.array_records["arrays"].to_torch_state_dict())
    return net


def _data(context: Context) -> Data:
    node, config = context.node_config, context.run_config
    if "data-dir" in node:
        return _own(str(node["data-dir"]))
    numbers = int(node["partition-id"]), int(node["num-partitions"])
    return _part(*numbers, str(config["data"]), str(config["partition"]), float(config["alpha"]))


@cache  # a device that stays warm between rounds reads its images once
def _own(data_dir: str) -> Data:
    return load(str(Path(data_dir) / "images.npz"))


@cache
def _part(device: int, devices: int, path: str, partition: str, alpha: float) -> Data:
    return share_of(device, devices, load(path), partition=partition, alpha=alpha)
