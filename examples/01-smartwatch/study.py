"""What does the fleet's model give, and to whom? One honest table.

    python study.py [--seeds 3] [--format json]

Each of the ten people is left out in turn: nine train, the tenth is the new wearer. FedAvg is
written here as plain loops over the app's own model, without Flower: an independent twin.
"""

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from prepare import write_folders
from smartwatch.features import Wearer, Windows, load_wearer
from smartwatch.model import Recipe, Weights, evaluate, initial_weights, train

PEOPLE = 10
ROUNDS = 20
# Who trains alone or on pooled data may look at each window as often as a device of the fleet.
EPOCHS = ROUNDS * Recipe().local_epochs

# The rows of the table; under each, one accuracy for each person.
FLEET_ON_NEW = "new wearer: the fleet's model"
ANOTHER_ON_NEW = "new wearer: another wearer's model"
POOLED_ON_NEW = "new wearer: a model of pooled data"
ALONE_ON_OWN = "own wearer: the device alone"
FLEET_ON_OWN = "own wearer: the fleet's model"
Accuracies = dict[str, list[float]]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--format", choices=("text", "json"), default="text")
    arguments = parser.parse_args()
    wearers = load_everybody()
    runs = []
    for seed in range(arguments.seeds):
        np.random.seed(seed)
        runs.append(study(wearers))
    rows = {row: np.mean([run[row] for run in runs], axis=0).tolist() for row in runs[0]}
    print(json.dumps(rows, indent=2) if arguments.format == "json" else table(rows))


def load_everybody() -> list[Wearer]:
    """Load all ten people, through the same files that devices read."""
    with tempfile.TemporaryDirectory() as folder:
        write_folders(Path(folder), PEOPLE)
        return [load_wearer(Path(folder) / f"{person:02}") for person in range(PEOPLE)]


def study(wearers: Sequence[Wearer]) -> Accuracies:
    """Leave out each person in turn. All tests are on a wearer's own last quarter."""
    rows = study_alone(wearers)
    rows[FLEET_ON_NEW], rows[POOLED_ON_NEW] = [], []
    own_accuracies: list[list[float]] = [[] for _ in wearers]
    for left_out, new_wearer in enumerate(wearers):
        others = [person for person in range(len(wearers)) if person != left_out]
        parts = [wearers[person].train for person in others]
        fleet = federated_average(parts)
        rows[FLEET_ON_NEW].append(accuracy(fleet, new_wearer))
        rows[POOLED_ON_NEW].append(accuracy(train_pooled(parts), new_wearer))
        for person in others:
            own_accuracies[person].append(accuracy(fleet, wearers[person]))
    # A person is an own wearer of nine fleets, one for each other person who was left out.
    rows[FLEET_ON_OWN] = [float(np.mean(accuracies)) for accuracies in own_accuracies]
    return rows


def study_alone(wearers: Sequence[Wearer]) -> Accuracies:
    """Let everybody train alone; test each model on its own wearer and on all the others."""
    models = [train(initial_weights(), w.train, Recipe(local_epochs=EPOCHS))[0] for w in wearers]
    matrix = np.array([[accuracy(model, wearer) for model in models] for wearer in wearers])
    own = np.diag(matrix)
    return {
        ALONE_ON_OWN: own.tolist(),
        ANOTHER_ON_NEW: ((matrix.sum(axis=1) - own) / (len(models) - 1)).tolist(),
    }


def federated_average(parts: Sequence[Windows], rounds: int = ROUNDS) -> Weights:
    """Run FedAvg (McMahan et al. 2017) over devices that are all there in every round."""
    weights = initial_weights()
    shares = [len(part) / sum(map(len, parts)) for part in parts]
    for _ in range(rounds):
        updates = [train(weights, part, Recipe())[0] for part in parts]
        weights = weighted_sum(shares, updates)
    return weights


def weighted_sum(shares: Sequence[float], updates: Sequence[Weights]) -> Weights:
    """Add updates up, each times the share of the windows that it was trained on."""
    total = {name: np.zeros_like(array) for name, array in updates[0].items()}
    for share, update in zip(shares, updates, strict=True):
        for name, array in update.items():
            total[name] += array * share
    return total


def train_pooled(parts: Sequence[Windows]) -> Weights:
    """Train one model on everybody's windows in one place, which a fleet never does."""
    everything = Windows(
        np.concatenate([part.features for part in parts]),
        np.concatenate([part.exercises for part in parts]),
    )
    return train(initial_weights(), everything, Recipe(local_epochs=EPOCHS))[0]


def accuracy(weights: Weights, wearer: Wearer) -> float:
    """Test on the wearer's own last quarter."""
    return evaluate(weights, wearer.test)[1]


def table(rows: Accuracies) -> str:
    """Format as a Markdown table: the mean over people, and whom it serves worst and best."""
    lines = ["| accuracy | mean | worst person | best person |", "|---|---|---|---|"]
    for row in (ALONE_ON_OWN, FLEET_ON_OWN, ANOTHER_ON_NEW, FLEET_ON_NEW, POOLED_ON_NEW):
        people = rows[row]
        lines.append(f"| {row} | {np.mean(people):.3f} | {min(people):.3f} | {max(people):.3f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
