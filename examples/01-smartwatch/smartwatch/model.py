"""The model, 90 -> 32 -> 7 with 12.6 KB of weights, and how one device trains it.

All randomness comes from numpy's global generator, never seeded here: who runs the app decides
whether a run can be repeated.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from smartwatch.features import FEATURE_COUNT, Windows

HIDDEN_UNITS = 32
EXERCISES = 7

Weights = dict[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Recipe:
    """How one device trains in one round; the defaults are those of `pyproject.toml`."""

    local_epochs: int = 2
    learning_rate: float = 0.02
    momentum: float = 0.9
    batch_size: int = 32

    @classmethod
    def from_run_config(cls, run_config: Mapping[str, bool | float | str]) -> Self:
        """Read the recipe from Flower's run config."""
        return cls(
            local_epochs=int(run_config["local-epochs"]),
            learning_rate=float(run_config["learning-rate"]),
            momentum=float(run_config["momentum"]),
            batch_size=int(run_config["batch-size"]),
        )


def initial_weights() -> Weights:
    """Draw new weights (He et al. 2015, for ReLU); biases start at zero."""
    return {
        "hidden.weight": _draw(FEATURE_COUNT, HIDDEN_UNITS),
        "hidden.bias": np.zeros(HIDDEN_UNITS, np.float32),
        "output.weight": _draw(HIDDEN_UNITS, EXERCISES),
        "output.bias": np.zeros(EXERCISES, np.float32),
    }


def _draw(inputs: int, outputs: int) -> NDArray[np.float32]:
    return np.random.normal(0.0, (2 / inputs) ** 0.5, (inputs, outputs)).astype(np.float32)


def train(weights: Weights, windows: Windows, recipe: Recipe) -> tuple[Weights, float]:
    """Run momentum SGD from `weights`, which are left as they are.

    Returns:
        The new weights, and the mean loss over the last epoch, as seen while training.
    """
    weights = {name: array.copy() for name, array in weights.items()}
    # Velocity starts at zero in every round: the fleet averages weights, nobody averages velocity.
    velocity = {name: np.zeros_like(array) for name, array in weights.items()}
    loss_sum = 0.0
    for _ in range(recipe.local_epochs):
        loss_sum = 0.0
        order = np.random.permutation(len(windows))
        for start in range(0, len(order), recipe.batch_size):
            chosen = order[start : start + recipe.batch_size]
            batch = Windows(windows.features[chosen], windows.exercises[chosen])
            loss, gradients = _loss_and_gradients(weights, batch)
            loss_sum += loss * len(batch)
            for name, gradient in gradients.items():
                velocity[name] *= recipe.momentum
                velocity[name] -= recipe.learning_rate * gradient
                weights[name] += velocity[name]
    return weights, loss_sum / len(windows)


def evaluate(weights: Weights, windows: Windows) -> tuple[float, float]:
    """Return mean loss and accuracy over some windows."""
    _, probabilities = _forward(weights, windows.features)
    accuracy = np.mean(probabilities.argmax(axis=1) == windows.exercises)
    return _cross_entropy(probabilities, windows.exercises), float(accuracy)


def _forward(
    weights: Weights, features: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the hidden layer (windows, 32) and the probabilities (windows, 7)."""
    hidden = np.maximum(features @ weights["hidden.weight"] + weights["hidden.bias"], 0)
    scores = hidden @ weights["output.weight"] + weights["output.bias"]
    # Softmax does not change when all scores move together; the largest at 0 cannot overflow.
    exponentials = np.exp(scores - scores.max(axis=1, keepdims=True))
    return hidden, exponentials / exponentials.sum(axis=1, keepdims=True)


def _cross_entropy(probabilities: NDArray[np.float32], exercises: NDArray[np.int64]) -> float:
    of_truth = probabilities[np.arange(len(exercises)), exercises]
    return float(-np.log(np.maximum(of_truth, np.finfo(np.float32).tiny)).mean())


def _loss_and_gradients(weights: Weights, batch: Windows) -> tuple[float, Weights]:
    hidden, probabilities = _forward(weights, batch.features)
    loss = _cross_entropy(probabilities, batch.exercises)
    # The gradient of softmax with cross-entropy is just (probabilities - truth).
    on_scores = probabilities
    on_scores[np.arange(len(batch)), batch.exercises] -= 1
    on_scores /= len(batch)
    on_hidden = (on_scores @ weights["output.weight"].T) * (hidden > 0)
    return loss, {
        "hidden.weight": batch.features.T @ on_hidden,
        "hidden.bias": on_hidden.sum(axis=0),
        "output.weight": hidden.T @ on_scores,
        "output.bias": on_scores.sum(axis=0),
    }
