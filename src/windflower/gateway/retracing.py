"""A run that starts again asks for what it asked before: here the two are held against each other.

Nothing is guessed. A command that was not recorded, while a recorded one is not asked for, means
that the app depends on something that changed: the time, a file, a random source of its own.
"""

from collections.abc import Sequence

from windflower.core.ledger import History, PhaseRecord
from windflower.errors import RunDiverged
from windflower.wire.content import Content
from windflower.wire.messages import Command

NO_HISTORY = History((), (), ())


class Retracing:
    """What a run asked before, and what of it was not asked for again yet.

    Args:
        history: what the journal holds of the run.
        is_lenient: whether other values in configs of closed phases are accepted.
    """

    def __init__(self, history: History, *, is_lenient: bool = False) -> None:
        self._phases = {phase.number: phase for phase in history.phases}
        self._recorded = {command.id: command for command in history.commands}
        self._unasked = dict(self._recorded)
        self._closed = {id_ for phase in history.phases for id_ in phase.ids}
        self._passed = history.passed
        self._is_lenient = is_lenient

    @property
    def is_behind(self) -> bool:
        """Whether it has asked for more before than it did again."""
        return bool(self._unasked)

    def pass_over(self) -> None:
        """Note that a strategy goes on from its checkpoint: what it asked before it need not."""
        for id_ in self._passed:
            self._unasked.pop(id_, None)

    def ask(self, commands: Sequence[Command]) -> None:
        """Note that a phase asks for these.

        A lenient run that asks otherwise in the phase that was open when it died asks anew: what
        it had asked there is answered in vain.

        Raises:
            RunDiverged: some are new, although others were recorded and are not asked for.
        """
        new = self._new(commands)
        if new and self._is_lenient and not self._closed & self._unasked.keys():
            self._unasked.clear()
        if new and self._unasked:
            raise RunDiverged(_said(new[0], self._counterpart(new[0])))

    def push(self, commands: Sequence[Command]) -> None:
        """Note that these are pushed; threads may push in another order than before.

        Raises:
            RunDiverged: one is new, although another was recorded for the same device.
        """
        for command in self._new(commands):
            recorded = self._counterpart(command)
            if recorded is not None and recorded.client == command.client:
                raise RunDiverged(_said(command, recorded))

    def similar_phase(self, number: int, commands: Sequence[Command]) -> PhaseRecord | None:
        """Return the closed phase that these stand for, if they differ from it in values only.

        Returns:
            its record, with the ids in the order of `commands`; None where the run is not lenient.
        """
        phase = self._phases.get(number)
        if not self._is_lenient or phase is None or len(phase.ids) != len(commands):
            return None
        recorded = {_place(self._recorded[i]): self._recorded[i] for i in phase.ids}
        pairs = [(command, recorded.get(_place(command))) for command in commands]
        if not all(r is not None and _is_similar(c.content, r.content) for c, r in pairs):
            return None
        for id_ in phase.ids:
            self._unasked.pop(id_, None)
        ids = tuple(r.id for _, r in pairs if r is not None)
        return PhaseRecord(phase.run, phase.phase, ids, number)

    def end(self) -> None:
        """Note that the app ended; raises RunDiverged where it did not ask for all again."""
        if self._unasked:
            left = next(iter(self._unasked.values()))
            raise RunDiverged(
                f"it ended without asking {left.client} for {left.type} (group {left.group!r}),"
                " which it did before"
            )

    def _new(self, commands: Sequence[Command]) -> list[Command]:
        for command in commands:
            self._unasked.pop(command.id, None)
        return [command for command in commands if command.id not in self._recorded]

    def _counterpart(self, command: Command) -> Command | None:
        """Return the recorded command that this one takes the place of, if one does."""
        same_device = [c for c in self._unasked.values() if c.client == command.client]
        alike = [c for c in same_device if (c.type, c.group) == (command.type, command.group)]
        return next(iter([*alike, *same_device]), None)


def _place(command: Command) -> tuple[str, str, str]:
    return (command.client, command.type, command.group)


def _is_similar(asked: Content, recorded: Content) -> bool:
    """Whether two contents have the same arrays, and records of the same names and kinds."""
    shapes = [
        [(name, record.kind if record is not None else None) for name, record in content.records]
        for content in (asked, recorded)
    ]
    return shapes[0] == shapes[1] and asked.pack == recorded.pack


def _said(asked: Command, recorded: Command | None) -> str:
    where = f"{asked.client} ({asked.type}, group {asked.group!r})"
    if recorded is None:
        return f"{where} is asked for something, and was not before"
    if _place(asked) != _place(recorded):
        return f"{where} is asked, before it was {recorded.type}, group {recorded.group!r}"
    return f"{where} is asked for something else than before: {_difference(asked, recorded)}"


def _difference(asked: Command, recorded: Command) -> str:
    """Say the first thing in which two contents differ."""
    now, before = dict(asked.content.records), dict(recorded.content.records)
    if list(now) != list(before):
        return f"records {', '.join(now)}, before {', '.join(before)}"
    for name, record in now.items():
        old = before[name]
        if record is None or old is None or record == old:
            continue
        values, old_values = dict(record.items), dict(old.items)
        for key in [*values, *old_values]:
            if key not in values or key not in old_values:
                return f"only one of the two has {key!r} in {name!r}"
            if repr(values[key]) != repr(old_values[key]):
                return f"{key!r} in {name!r} is {values[key]!r}, was {old_values[key]!r}"
    if asked.content.pack != recorded.content.pack:
        arrays = [name for name, record in now.items() if record is None]
        return f"the arrays of {', '.join(map(repr, arrays))} have other bits"
    return "the same content, once more or once less often"
