"""What a planted bug is."""

from dataclasses import dataclass

from sim.parts import Parts


@dataclass(frozen=True, slots=True)
class Bug:
    """A mistake, and a simulation's parts with it."""

    mistake: str
    parts: Parts
