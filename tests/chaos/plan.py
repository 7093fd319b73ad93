"""What happens to whom in one scenario, and when: all drawn from its seed.

Moments are counted in progress and not in seconds: replies that the gateway accepted.
"""

from dataclasses import dataclass
from random import Random
from typing import Final, Literal

from chaos.faults import Faults, Weather

Victim = Literal["gateway", "broker", "agent"]

DEVICES: Final = 20
STORM: Final = Faults(
    loss=0.3,
    duplication=0.05,
    delay=0.1,
    reordering=0.1,
    cut=0.08,
    half_open=0.003,
    half_open_s=2.0,
)


@dataclass(frozen=True, slots=True, order=True)
class Kill:
    """One process that gets SIGKILL, and is started again at once.

    Attributes:
        after: how many replies are accepted before.
        victim: what it is.
        number: which agent.
    """

    after: int
    victim: Victim
    number: int = 0

    def __str__(self) -> str:
        who = f"agent {self.number}" if self.victim == "agent" else self.victim
        return f"{who} after {self.after}"


@dataclass(frozen=True, slots=True)
class Plan:
    """One scenario.

    Attributes:
        seed: what it was drawn from.
        kills: in the order of their moments.
        weather: between the agents and the broker, from the first command on.
        rounds: how many rounds the run has.
    """

    seed: int
    kills: tuple[Kill, ...]
    weather: Weather
    rounds: int

    @property
    def replies(self) -> int:
        """How many replies the run needs: a round trains and evaluates on every device."""
        return DEVICES * 2 * self.rounds

    @classmethod
    def draw(
        cls, seed: int, *, rounds: int = 1, gateway: int = 3, broker: int = 3, agents: int = 3
    ) -> "Plan":
        """Draw a scenario of so many rounds, with so many kills of each.

        The last tenth of each phase is left alone, so that each kill finds a run that it can harm.
        """
        random = Random(f"plan:{seed}")
        victims: tuple[tuple[Victim, int], ...] = (
            ("gateway", gateway),
            ("broker", broker),
            ("agent", agents),
        )
        kills = [
            Kill(_moment(random, victim, rounds), victim, random.randrange(DEVICES))
            for victim, count in victims
            for _ in range(count)
        ]
        return cls(seed, tuple(sorted(kills)), Weather.both_ways(STORM), rounds)


def _moment(random: Random, victim: Victim, rounds: int) -> int:
    """Draw how many replies are accepted before.

    When a broker died, its clients come back and say what they hold, so that nobody waits for
    what was lost. Late in a phase there is somebody who does.
    """
    phase = random.randrange(2 * rounds)
    earliest = DEVICES * 2 // 3 if victim == "broker" else 0
    return DEVICES * phase + random.randrange(earliest, DEVICES * 9 // 10)
