"""What may happen to a message on its way, how likely, and what was decided."""

import dataclasses
from dataclasses import dataclass
from enum import StrEnum
from random import Random


class Fault(StrEnum):
    """The kinds that are counted."""

    LOSS = "lost"
    DUPLICATION = "duplicated"
    DELAY = "delayed"
    REORDERING = "reordered"
    CUT = "cut"
    HALF_OPEN = "half-open"


@dataclass(frozen=True, slots=True)
class Faults:
    """How likely each fault is for each PUBLISH that passes in one direction.

    Attributes:
        loss: it never arrives.
        duplication: it arrives twice.
        delay: it waits, and all that follows it waits too.
        delay_s: for so long at most.
        reordering: it is held back while later messages pass.
        overtaken_by: it goes on after so many.
        reordering_s: or after so long, if fewer follow.
        cut: the connection ends with it, by RST or by FIN.
        half_open: from it on nothing passes in either direction, and both ends look open.
        half_open_s: after so long the connection ends by RST.
    """

    loss: float = 0.0
    duplication: float = 0.0
    delay: float = 0.0
    delay_s: float = 0.2
    reordering: float = 0.0
    overtaken_by: int = 2
    reordering_s: float = 0.5
    cut: float = 0.0
    half_open: float = 0.0
    half_open_s: float = 3.0


CALM = Faults()


@dataclass(frozen=True, slots=True)
class Weather:
    """The faults of both directions.

    Attributes:
        up: from a client to the broker.
        down: from the broker to a client.
    """

    up: Faults = CALM
    down: Faults = CALM

    @classmethod
    def both_ways(cls, faults: Faults) -> "Weather":
        """Return the same weather in both directions."""
        return cls(faults, faults)


@dataclass(frozen=True, slots=True)
class Fate:
    """What was decided for one message.

    Attributes:
        cut: "RST" or "FIN" where the connection ends with it.
        is_half_open: whether nothing passes from it on.
        is_lost: whether it never arrives.
        is_doubled: whether it arrives twice.
        delay_s: how long it and what follows it waits.
        is_held: whether later messages pass it.
    """

    cut: str | None = None
    is_half_open: bool = False
    is_lost: bool = False
    is_doubled: bool = False
    delay_s: float = 0.0
    is_held: bool = False

    @classmethod
    def draw(cls, faults: Faults, random: Random) -> "Fate":
        """Decide for the next message.

        The same number of draws each time: what befalls the tenth message of a seed does not
        depend on what was switched on for the nine before it.
        """
        cut, half_open, loss, duplication, delay, reordering, strength, way = (
            random.random() for _ in range(8)
        )
        if cut < faults.cut:
            return cls(cut="RST" if way < 0.5 else "FIN")
        if half_open < faults.half_open:
            return cls(is_half_open=True)
        if loss < faults.loss:
            return cls(is_lost=True)
        return cls(
            is_doubled=duplication < faults.duplication,
            delay_s=faults.delay_s * strength if delay < faults.delay else 0.0,
            is_held=reordering < faults.reordering,
        )


def names() -> list[tuple[str, type, object]]:
    """Return each setting of `Faults` with its type and what it is by default."""
    return [(f.name, type(f.default), f.default) for f in dataclasses.fields(Faults)]
