"""What a person starts in one seed: on how large a fleet, which runs, when, on which terms."""

from dataclasses import dataclass
from random import Random
from typing import Final

from sim.app import Plan
from windflower.core.policy import RoundPolicy

_LARGE_FLEETS: Final = 0.12
"""The share of the seeds with a large fleet, many rounds and mild weather: one device-round costs
less there, and most device-rounds are theirs. Most mistakes are found in the small ones."""

_FOR_EVER_S: Final = 1e7


@dataclass(frozen=True, slots=True)
class Size:
    """How large a seed is.

    Attributes:
        is_large: whether it is one of the few large ones.
        devices: how many there are.
        rounds: how many a run may have.
        longest_work_s: how long a worker takes at most.
    """

    is_large: bool
    devices: int
    rounds: range
    longest_work_s: float


def draw_size(random: Random) -> Size:
    """Draw how large a seed is."""
    if random.random() < _LARGE_FLEETS:
        return Size(True, random.randint(20, 60), range(5, 16), longest_work_s=4.0)
    return Size(False, random.choice((1, 2, 3, 3, 4, 6)), range(1, 4), longest_work_s=20.0)


def draw_plans(random: Random, size: Size) -> tuple[Plan, ...]:
    """Draw what a person starts: mostly one run, sometimes two or three, together or in turn."""
    devices = tuple(f"d{i}" for i in range(1, size.devices + 1))
    plans = []
    for number in range(1, random.choice((1, 1, 2, 3)) + 1):
        is_strict = random.random() < (0.8 if size.is_large else 0.6)
        starts_at = random.uniform(12.0, 40.0 if number == 1 else 300.0)
        stops_at = starts_at + random.uniform(5.0, 200.0) if random.random() < 0.1 else None
        plans.append(
            Plan(
                run=f"run-{number}",
                devices=devices,
                rounds=random.choice(size.rounds),
                starts_at=starts_at,
                stops_at=stops_at,
                timeout_s=_FOR_EVER_S if is_strict else random.choice((40.0, 150.0, 600.0)),
                policy=RoundPolicy(
                    quorum=random.choice((None, None, 1, 2, 0.5, 1.0)),
                    min_replies=random.choice((0, 0, 1, 2, 0.5)),
                    wait_for_offline=random.random() < 0.3,
                    is_strict=is_strict,
                ),
                has_blobs=random.random() < 0.5,
            )
        )
    return tuple(plans)
