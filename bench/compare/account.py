"""What the app wrote down, and what it comes to. No processes."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Account:
    """What became of the trainings.

    Attributes:
        begun: the latest round that a device trained for; 0 before the first.
        finished: how many rounds the model is made of.
        executed: how many trainings devices did.
        lost: how many of them the model is not made of.
        is_over: whether the app ran to its end.
    """

    begun: int = 0
    finished: int = 0
    executed: int = 0
    lost: int = 0
    is_over: bool = False


def read_account(folder: Path) -> Account:
    """Read the files of `tests/apps/counted`."""
    trainings = [line for path in folder.glob("trainings-*.jsonl") for line in _lines(path)]
    rounds = _lines(folder / "rounds.jsonl")
    used = used_by_round(rounds)
    useful = {(device, training) for pairs in used.values() for device, training in pairs}
    return Account(
        begun=max((line["round"] for line in trainings), default=0),
        finished=len(used),
        executed=len(trainings),
        lost=len(trainings) - len(useful),
        is_over=any("end" in line for line in rounds),
    )


def used_by_round(lines: list[dict[str, Any]]) -> dict[int, list[tuple[int, int]]]:
    """Return which trainings, as device and number, the model is made of.

    A run that begins again writes its rounds again. Where it is told the same as before, nothing
    changes. Else a line replaces what is known of its round and of all rounds behind it: the model
    is not made of those any more.
    """
    used: dict[int, list[tuple[int, int]]] = {}
    for line in lines:
        if "round" not in line:
            continue
        pairs = [(device, training) for device, training in line["used"]]
        if used.get(line["round"]) != pairs:
            used = {number: known for number, known in used.items() if number < line["round"]}
            used[line["round"]] = pairs
    return used


def _lines(path: Path) -> list[dict[str, Any]]:
    """Return the complete lines of a file that somebody may be writing to."""
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in text.rpartition("\n")[0].splitlines()]
