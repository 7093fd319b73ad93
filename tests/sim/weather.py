"""The faults of one seed: a random subset of kinds, each of a random strength ("swarm testing").

A seed with all faults at once hides what a single one would show, so most seeds have a few.
"""

import dataclasses
from dataclasses import dataclass
from random import Random
from typing import Any, Final

NEVER: Final = float("inf")


@dataclass(frozen=True, slots=True)
class Weather:
    """How likely each fault is.

    Attributes:
        loss: of a message, on its way to or from the broker.
        duplication: of a message.
        jitter_s: messages overtake each other by up to this.
        broker_crash_s: mean seconds between crashes of the broker.
        keeps_sessions: whether the broker keeps messages for a device whose link is down.
        device_power_loss: per effect of a device.
        gateway_power_loss: per effect of the gateway.
        device_crash_s: mean seconds between crashes of some device, whatever it does.
        gateway_crash_s: mean seconds between crashes of the gateway.
        run_crash_s: mean seconds between crashes of a run's process.
        longest_outage_s: how long what is down stays down, at most.
        cut_s: mean seconds between cuts of some device's link.
        gateway_cut_s: mean seconds between cuts of the gateway's link.
        false_will: a last will is published though its device is back.
        zombie: a crashed gateway was only paused, and says later what it was about to say.
        refusal: of a grant that should be good.
        unreachable: the blob store does not answer.
        damage: a download arrives with other bytes.
        rot: a blob that was put is lost or damaged before the gateway looks.
        cut_upload: an upload ends in the middle.
        keeps_halves: what is there of it then stays there under its key.
        grant_s: how long grants live.
        cleaning_s: mean seconds between the gateway's cleanings; no fault, but it must do no harm.
        clock_jump_s: so wrong, at most, is the clock that a gateway finds when it starts, and
            that of the blob store, which is part of it.
        clocks_are_wrong: devices' clocks have another date and another pace.
    """

    loss: float = 0.0
    duplication: float = 0.0
    jitter_s: float = 0.0
    broker_crash_s: float = NEVER
    keeps_sessions: bool = False
    device_power_loss: float = 0.0
    gateway_power_loss: float = 0.0
    device_crash_s: float = NEVER
    gateway_crash_s: float = NEVER
    run_crash_s: float = NEVER
    longest_outage_s: float = 20.0
    cut_s: float = NEVER
    gateway_cut_s: float = NEVER
    false_will: float = 0.0
    zombie: float = 0.0
    refusal: float = 0.0
    unreachable: float = 0.0
    damage: float = 0.0
    rot: float = 0.0
    cut_upload: float = 0.0
    keeps_halves: bool = False
    grant_s: float = 3600.0
    cleaning_s: float = NEVER
    clocks_are_wrong: bool = False
    clock_jump_s: float = 0.0

    @property
    def is_calm(self) -> bool:
        """Whether nothing at all goes wrong."""
        return self == Weather()

    @property
    def is_lossless(self) -> bool:
        """Whether all that is said while both are connected arrives at once."""
        return self.loss == 0 and self.jitter_s == 0


CALM: Final = Weather()

_STRENGTHS: Final[dict[str, tuple[float, ...]]] = {
    "loss": (0.02, 0.1, 0.3, 0.6),
    "duplication": (0.05, 0.3, 0.8),
    "jitter_s": (0.5, 5.0, 90.0),
    "broker_crash_s": (60.0, 300.0),
    "device_power_loss": (0.01, 0.05, 0.2),
    "gateway_power_loss": (0.002, 0.01, 0.05),
    "device_crash_s": (20.0, 100.0),
    "gateway_crash_s": (40.0, 200.0),
    "run_crash_s": (20.0, 100.0),
    "longest_outage_s": (60.0, 400.0, 4000.0),
    "cut_s": (10.0, 60.0),
    "gateway_cut_s": (60.0, 200.0),
    "false_will": (0.5, 1.0),
    "zombie": (1.0,),
    "refusal": (0.1, 0.5, 1.0),
    "unreachable": (0.1, 0.5, 0.9),
    "damage": (0.1, 0.5),
    "rot": (0.1, 0.5, 0.9),
    "cut_upload": (0.1, 0.5),
    "grant_s": (0.5, 20.0, 120.0),
    "cleaning_s": (5.0, 60.0),
    "clock_jump_s": (3600.0,),
}
_MILD: Final[dict[str, tuple[float, ...]]] = {
    "loss": (0.002, 0.02),
    "duplication": (0.01, 0.1),
    "jitter_s": (0.5, 5.0),
    "broker_crash_s": (600.0,),
    "device_power_loss": (0.0003, 0.002),
    "gateway_power_loss": (0.00005, 0.0002),
    "device_crash_s": (10.0, 60.0),
    "gateway_crash_s": (300.0,),
    "run_crash_s": (200.0,),
    "longest_outage_s": (60.0, 200.0),
    "cut_s": (5.0, 60.0),
    "gateway_cut_s": (200.0,),
    "false_will": (0.5,),
    "zombie": (1.0,),
    "refusal": (0.02, 0.1),
    "unreachable": (0.02, 0.1),
    "damage": (0.02,),
    "rot": (0.02, 0.1),
    "cut_upload": (0.02, 0.1),
    "grant_s": (20.0, 120.0),
    "cleaning_s": (60.0,),
    "clock_jump_s": (3600.0,),
}
_CALM_SEEDS: Final = 0.05
_SWITCHES: Final = ("keeps_sessions", "clocks_are_wrong", "keeps_halves")


def forecast(random: Random) -> Weather:
    """Draw the weather of a small seed."""
    return _draw(random, _STRENGTHS, random.choice((0.1, 0.25, 0.5)))


def mild(random: Random) -> Weather:
    """Draw the weather of a large seed, in which a round is mostly undisturbed."""
    return _draw(random, _MILD, random.choice((0.1, 0.25)))


def _draw(random: Random, kinds: dict[str, tuple[float, ...]], share: float) -> Weather:
    if random.random() < _CALM_SEEDS:
        return CALM
    drawn: dict[str, Any] = {
        kind: random.choice(strengths)
        for kind, strengths in kinds.items()
        if random.random() < share
    }
    drawn |= {kind: random.random() < share for kind in _SWITCHES}
    return dataclasses.replace(CALM, **drawn)
