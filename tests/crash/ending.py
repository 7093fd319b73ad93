"""What must hold when a run has ended and both processes have stopped in good order."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final

from crash import disk
from crash.ledger import lines_of
from crash.place import Place
from crash.script import DEVICES, ROUNDS, undisturbed

_EXCHANGES: Final = 2 * ROUNDS * DEVICES
_RUN_NUMBER: Final = 1


@dataclass(slots=True)
class Past:
    """What was true for good when somebody died.

    Attributes:
        answered: the commands that the devices had answered, each with the number of lines that the
            ledger of work had then.
        settled: how exchanges were settled.
        agent_deaths: how often the agent died.
    """

    answered: dict[str, int] = field(default_factory=dict)
    settled: dict[str, Any] = field(default_factory=dict)
    agent_deaths: int = 0


def problems_in(place: Place, model: str | None, past: Past) -> list[str]:
    """Return what is wrong; nothing where all is well."""
    problems = _journal(place, past) + _states(place) + _work_in_vain(place, past)
    if model != undisturbed().model:
        problems.append(f"the model is {model}, not {undisturbed().model}")
    databases = [*place.folder.glob("*/*.db"), *place.folder.glob("*/*/*.db")]
    problems += [damage for damage in map(disk.damage, databases) if damage is not None]
    return problems + [f"left over: {name}" for name in disk.leftovers(place.folder)]


def differences(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Return the exchanges that were settled, and are not any more, or in another way."""
    return [f"{id_} was settled otherwise" for id_, how in before.items() if after.get(id_) != how]


def begun_in(place: Place) -> Counter[str]:
    """Return how often work on each command was begun."""
    words = (line.split() for line in lines_of(place.work))
    return Counter(id_ for what, id_ in words if what == "begin")


def _journal(place: Place, past: Past) -> list[str]:
    settled = disk.settled(place.gateway_state / "journal.db")
    problems = differences(past.settled, settled)
    if len(settled) != _EXCHANGES:
        problems.append(f"{len(settled)} of {_EXCHANGES} exchanges are settled")
    without = [id_ for id_, (reply, *_) in settled.items() if reply is None]
    return problems + [f"{id_} was settled without its device" for id_ in without]


def _states(place: Place) -> list[str]:
    """Return the devices whose state is not what their work makes of it.

    A device may have been told already that the run is over: then its state is gone.
    """
    database = place.device_state / "device.db"
    states, floors = disk.states(database), disk.floors(database)
    over = {device for device, floor in floors.items() if floor > _RUN_NUMBER}
    return [
        f"the state of {device} is not what its work makes of it"
        for device, state in zip(place.devices, undisturbed().states, strict=True)
        if states.get(device) != state and not (device in over and device not in states)
    ]


def _work_in_vain(place: Place, past: Past) -> list[str]:
    """Return work that was begun after it was answered, or more often than devices died."""
    most = 1 + past.agent_deaths
    often = [f"{i} was begun {n} times" for i, n in begun_in(place).items() if n > most]
    lines = lines_of(place.work)
    return often + [
        f"{id_} was begun again after it was answered"
        for id_, until in past.answered.items()
        if f"begin {id_}" in lines[until:]
    ]
