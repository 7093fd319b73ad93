"""What a device's disk holds."""

from dataclasses import dataclass, field

from windflower.core.duty import Kept
from windflower.wire.content import blob_ref
from windflower.wire.messages import Command, Reply


@dataclass(slots=True)
class Row:
    """What the disk holds of one command."""

    command: Command
    reply: Reply | None = None
    pack: bytes | None = None
    is_acknowledged: bool = False
    starts: int = 0
    cancelled_by: int | None = None


@dataclass(slots=True)
class Disk:
    """What outlives a crash.

    Attributes:
        rows: by command.
        states: the apps' states, by run.
        blobs: the cache, by digest. It is not synced: the newest may be torn after a power loss.
        torn: beginnings of blobs whose download was cut, under names of their own.
        floor: below this run number nothing is kept.
    """

    rows: dict[str, Row] = field(default_factory=dict)
    states: dict[str, str] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    torn: dict[str, bytes] = field(default_factory=dict)
    floor: int = 0

    def first_unanswered(self) -> Row | None:
        """Return what the device would begin with."""
        waiting = (r for r in self.rows.values() if r.reply is None and not r.is_acknowledged)
        return next(waiting, None)

    def is_clear(self) -> bool:
        """Whether nothing is owed to the gateway."""
        return all(row.is_acknowledged for row in self.rows.values())

    def kept(self, *, remembers_done: bool) -> list[Kept]:
        """Return what a duty takes up after a restart."""
        return [
            Kept(r.command, r.reply, r.is_acknowledged, r.starts, r.cancelled_by)
            for r in self.rows.values()
            if remembers_done or not r.is_acknowledged
        ]

    def keep_command(self, command: Command) -> None:
        """Keep a command that is new, or was cancelled by an older gateway."""
        row = self.rows.get(command.id)
        is_revived = row is not None and row.cancelled_by is not None
        if row is None or (is_revived and (row.cancelled_by or 0) < command.epoch):
            self.rows[command.id] = Row(command)

    def forget(self, ids: tuple[str, ...], cancelled_by: int | None) -> None:
        """Keep of commands only that they were done, or cancelled."""
        for id_ in ids:
            row = self.rows[id_]
            row.is_acknowledged, row.reply, row.pack = True, None, None
            row.cancelled_by = cancelled_by

    def forget_below(self, number: int) -> None:
        """Keep nothing of the runs below a number."""
        over = {r.command.run for r in self.rows.values() if r.command.number < number}
        self.floor = number
        self.rows = {i: r for i, r in self.rows.items() if r.command.run not in over}
        self.states = {run: s for run, s in self.states.items() if run not in over}

    def torn_blobs(self) -> list[str]:
        """Return what is in the cache and is not what its name says."""
        return [digest for digest, data in self.blobs.items() if blob_ref(data).digest != digest]
