"""Which cases there are: who dies before which effect."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

Role = Literal["gateway", "agent"]
Effects = dict[Role, list[str]]
"""What each role does in a life without a death, in order."""

_RECOVERY: Final = 60
"""A second death is drawn from so many effects after a restart: most of a recovery, some work."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Who is killed when.

    Attributes:
        agent: the effect before which each of its lives ends, the first first; one more life
            follows, which lasts.
        gateway: the same of the gateway.
    """

    agent: tuple[int, ...] = ()
    gateway: tuple[int, ...] = ()

    def kill_at(self, role: Role, life: int) -> int | None:
        """Return the effect before which a life ends, or None."""
        kills = self.agent if role == "agent" else self.gateway
        return kills[life] if life < len(kills) else None

    @property
    def deaths(self) -> int:
        """How many there are to be."""
        return len(self.agent) + len(self.gateway)

    def __str__(self) -> str:
        """Return the plan as the command line takes it."""
        named = (("agent", self.agent), ("gateway", self.gateway))
        return " ".join(f"{role} {' '.join(map(str, kills))}" for role, kills in named if kills)


def plan_of(words: Sequence[str]) -> Plan:
    """Read a plan as it is written: a role, numbers, perhaps the other role, numbers."""
    kills: dict[str, list[int]] = {"agent": [], "gateway": []}
    role = ""
    for word in words:
        if word in kills:
            role = word
        else:
            kills[role].append(int(word))
    return Plan(agent=tuple(kills["agent"]), gateway=tuple(kills["gateway"]))


def every(effects: Effects) -> list[Plan]:
    """Return one death before each effect of each role."""
    return near(effects, "agent", "") + near(effects, "gateway", "")


def near(effects: Effects, role: Role, words: str) -> list[Plan]:
    """Return one death before each effect of a role that begins with these words."""
    kills = [(i,) for i, what in enumerate(effects[role], start=1) if what.startswith(words)]
    return [Plan(agent=k) if role == "agent" else Plan(gateway=k) for k in kills]


def nested(effects: Effects, cases: int, chance: random.Random) -> Iterator[Plan]:
    """Draw different cases with two deaths: of a role and of its next life, or of both roles."""
    seen = set[Plan]()
    while len(seen) < cases:
        plan = _draw(effects, chance)
        if plan not in seen:
            seen.add(plan)
            yield plan


def _draw(effects: Effects, chance: random.Random) -> Plan:
    agent = chance.randint(1, len(effects["agent"]))
    gateway = chance.randint(1, len(effects["gateway"]))
    again = chance.randint(1, _RECOVERY)
    return chance.choice(
        [
            Plan(agent=(agent, again)),
            Plan(gateway=(gateway, again)),
            Plan(agent=(agent,), gateway=(gateway,)),
        ]
    )
