"""Something that carries out effects in order, and can lose power between any two of them."""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from sim.world import Action, World

E = TypeVar("E")


@dataclass(frozen=True, slots=True)
class Commit(Generic[E]):
    """Records that become durable together: after a power loss all are there, or none."""

    records: tuple[E, ...]


def records_first(effects: Iterable[E], kinds: tuple[type, ...]) -> list[E | Commit[E]]:
    """Put all that records into one commit before the rest, as a gateway does."""
    batch = list(effects)
    records = tuple(e for e in batch if isinstance(e, kinds))
    if not records:
        return [*batch]
    return [Commit(records), *(e for e in batch if not isinstance(e, kinds))]


def neighbours(
    effects: Iterable[E], kinds: tuple[type, ...], *, between: type
) -> list[E | Commit[E]]:
    """Put neighbours that store into one commit, as a device does.

    Args:
        effects: in their order.
        kinds: what stores.
        between: what may stand between two that share a commit.
    """
    steps: list[E | Commit[E]] = []
    storing: list[E] = []
    for effect in effects:
        if isinstance(effect, kinds):
            storing.append(effect)
            continue
        if storing and not isinstance(effect, between):
            steps.append(Commit(tuple(storing)))
            storing = []
        steps.append(effect)
    return [*steps, Commit(tuple(storing))] if storing else steps


class Process(ABC, Generic[E]):
    """One life after the other on one disk.

    What is being committed holds up all that comes later. A power loss meanwhile leaves the commit
    whole or not at all.
    """

    def __init__(self, world: World, name: str, *, waits_for_records: bool) -> None:
        self.world = world
        self.name = name
        self.life = 0
        self.is_alive = False
        self.steps: deque[E | Commit[E]] = deque()
        self._writing: Commit[E] | None = None
        self._waits_for_records = waits_for_records

    # ------------------------------------------------------------------------- what differs

    @abstractmethod
    def next_steps(self) -> list[E | Commit[E]] | None:
        """Return what is to be done next, once all before it is done; None where nothing waits."""

    @abstractmethod
    def write(self, record: E) -> None:
        """Make a record durable."""

    @abstractmethod
    def carry_out(self, effect: E) -> None:
        """Do what is not a record."""

    @abstractmethod
    def loses_power(self) -> bool:
        """Return whether the weather strikes before or after a step."""

    @abstractmethod
    def crash(self) -> None:
        """Lose all but the disk, and plan the next life."""

    # ------------------------------------------------------------------------ what is alike

    def later(self, delay_s: float, action: Action, *given: object) -> None:
        """Plan something that happens only if this life lasts until then."""
        self.world.after(delay_s, self._act, self.life, action, given)

    def _act(self, life: int, action: Action, given: tuple[object, ...]) -> None:
        if self.is_alive and self.life == life:
            action(*given)

    @property
    def is_idle(self) -> bool:
        """Whether every step was taken."""
        return not self.steps and self._writing is None

    def unwritten(self) -> Iterator[E]:
        """Yield the records of which nobody knows yet whether they will last."""
        for step in (self._writing, *self.steps):
            if isinstance(step, Commit):
                yield from step.records

    def die(self) -> None:
        """End this life; of a commit that was being written chance decides."""
        if self._writing is not None and self.world.chance(0.5):
            self._write(self._writing)
        self._writing = None
        self.steps.clear()
        self.is_alive = False
        self.life += 1

    def carry_on(self) -> None:
        """Take one step after the other, until one takes time or nothing waits."""
        life = self.life
        while self.is_alive and self._writing is None and self.life == life:
            if not self.steps:
                more = self.next_steps()
                if more is None:
                    return
                self.steps.extend(more)
            elif self.loses_power():
                self.crash()
            else:
                self._take_step(self.steps.popleft())

    def _take_step(self, step: E | Commit[E]) -> None:
        if not isinstance(step, Commit):
            self.carry_out(step)
        elif self._waits_for_records:
            self._writing = step
            self.later(self._writing_s(), self._written)
        else:
            for record in step.records:
                self.later(self._writing_s(), self.write, record)

    def _writing_s(self) -> float:
        return self.world.between(0.001, 0.05)

    def _written(self) -> None:
        if self._writing is not None:
            commit, self._writing = self._writing, None
            self._write(commit)
            self.carry_on()

    def _write(self, commit: Commit[E]) -> None:
        for record in commit.records:
            self.write(record)
