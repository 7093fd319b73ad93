"""What runs beside a machine: train on its recordings, test on others of them."""

from functools import cache

import keras
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from machines.model import new_model
from machines.vibrations import record

app = ClientApp()


@app.train()
def train(message: Message, context: Context) -> Message:
    """Train the fleet's model on this machine's recordings."""
    config = context.run_config
    model = _model(message, context)
    recordings, conditions = record(_machine(context), 400, seed=0)
    history = model.fit(
        recordings,
        conditions,
        epochs=int(config["local-epochs"]),
        batch_size=int(config["batch-size"]),
        verbose=0,
    )
    metrics = {"num-examples": len(conditions), "train-loss": float(history.history["loss"][-1])}
    arrays = ArrayRecord(model.get_weights())
    content = RecordDict({"arrays": arrays, "metrics": MetricRecord(metrics)})
    return Message(content, reply_to=message)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Test the fleet's model on recordings of this machine that nobody trains on."""
    recordings, conditions = record(_machine(context), 100, seed=1)
    loss, accuracy = _model(message, context).evaluate(recordings, conditions, verbose=0)
    metrics = {"num-examples": len(conditions), "loss": float(loss), "accuracy": float(accuracy)}
    return Message(RecordDict({"metrics": MetricRecord(metrics)}), reply_to=message)


def _machine(context: Context) -> int:
    return int(context.node_config["partition-id"])


def _model(message: Message, context: Context) -> keras.Model:
    model = _kept_model(float(context.run_config["learning-rate"]))
    model.set_weights(message.content.array_records["arrays"].to_numpy_ndarrays())
    return model


@cache  # a device that stays warm between rounds builds its network once
def _kept_model(learning_rate: float) -> keras.Model:
    return new_model(learning_rate)
