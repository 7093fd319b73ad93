"""What devices say that they are at with their commands: told to people, decides nothing."""

from collections.abc import Callable

from windflower.core.events import CommandProgressed
from windflower.wire.messages import Heartbeat


class Stages:
    """Remembers of each device what it said last, so that only what is new is told."""

    def __init__(self) -> None:
        self._told: dict[str, frozenset[tuple[str, str]]] = {}

    def news(
        self, heartbeat: Heartbeat, run_of: Callable[[str], str | None]
    ) -> list[CommandProgressed]:
        """Return what a heartbeat says that its device did not say with the one before.

        Args:
            heartbeat: what the device says.
            run_of: returns a command's run; None where the command is not known.
        """
        device = heartbeat.client
        told = self._told.get(device, frozenset())
        self._told[device] = frozenset((row.id, row.stage) for row in heartbeat.progress)
        return [
            CommandProgressed(
                run=run,
                device=device,
                command=row.id,
                stage=row.stage,
                waiting_s=row.waiting_s,
                fetching_s=row.fetching_s,
                working_s=row.working_s,
                uploading_s=row.uploading_s,
            )
            for row in heartbeat.progress
            if (row.id, row.stage) not in told and (run := run_of(row.id)) is not None
        ]
