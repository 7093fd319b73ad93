"""Something that carries out effects in order, and can lose power between any two of them."""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable
from typing import Generic, TypeVar

from sim.world import Action, World

E = TypeVar("E")


class Process(ABC, Generic[E]):
    """One life after the other on one disk.

    Effects wait in one queue across all inputs: a record that is being written holds up whatever
    a later input would publish. A power loss while it is written leaves it whole or not at all.
    """

    def __init__(self, world: World, name: str, *, waits_for_records: bool) -> None:
        self.world = world
        self.name = name
        self.life = 0
        self.is_alive = False
        self.effects: deque[E] = deque()
        self._writing: E | None = None
        self._waits_for_records = waits_for_records

    # ------------------------------------------------------------------------- what differs

    @abstractmethod
    def is_record(self, effect: E) -> bool:
        """Return whether an effect must be durable before the next begins."""

    @abstractmethod
    def write(self, effect: E) -> None:
        """Make a record durable."""

    @abstractmethod
    def carry_out(self, effect: E) -> None:
        """Do what is not a record."""

    @abstractmethod
    def loses_power(self) -> bool:
        """Return whether the weather strikes before or after an effect."""

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

    def enact(self, effects: Iterable[E]) -> None:
        """Put effects behind those that wait, and carry out what can be."""
        if self.is_alive:
            self.effects.extend(effects)
            self._carry_on()

    @property
    def is_idle(self) -> bool:
        """Whether every effect was carried out."""
        return not self.effects and self._writing is None

    def die(self) -> None:
        """End this life; of a record that was being written chance decides."""
        if self._writing is not None and self.world.chance(0.5):
            self.write(self._writing)
        self._writing = None
        self.effects.clear()
        self.is_alive = False
        self.life += 1

    def _carry_on(self) -> None:
        life = self.life
        while self.effects and self._writing is None and self.life == life:
            if self.loses_power():
                self.crash()
                return
            effect = self.effects.popleft()
            if not self.is_record(effect):
                self.carry_out(effect)
            elif self._waits_for_records:
                self._begin_to_write(effect)
            else:
                self.later(self._writing_s(), self.write, effect)

    def _begin_to_write(self, effect: E) -> None:
        self._writing = effect
        self.later(self._writing_s(), self._written)

    def _writing_s(self) -> float:
        return self.world.between(0.001, 0.05)

    def _written(self) -> None:
        if self._writing is not None:
            effect, self._writing = self._writing, None
            self.write(effect)
            self._carry_on()
