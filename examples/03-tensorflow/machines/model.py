"""A small convolutional network: 66,132 parameters, 265 KB, so its arrays travel as blobs."""

import keras

from machines.vibrations import CONDITIONS, SAMPLES


def new_model(learning_rate: float) -> keras.Model:
    """Return a model with weights from Keras' global source."""
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((SAMPLES, 1)),
            layers.Conv1D(16, 16, strides=2, activation="relu", padding="same"),
            layers.MaxPooling1D(2),
            layers.Flatten(),
            layers.Dense(64, activation="relu"),
            layers.Dense(len(CONDITIONS)),
        ]
    )
    model.compile(
        optimizer=keras.optimizers.SGD(learning_rate),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return model
