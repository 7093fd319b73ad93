"""Answers a run from what its journal holds, without a fleet: the same ServerApp, the same bits."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from windflower.core.ledger import RunRecord, Settlement
from windflower.errors import NotEnoughDevices, RunDiverged
from windflower.gateway.retracing import Retracing
from windflower.ports import Journal
from windflower.wire.blobs import BlobRef
from windflower.wire.messages import Command


class BlobSource(Protocol):
    """Where recorded packs are."""

    async def fetch(self, key: str) -> Path:
        """Return a local file with the bytes; raises BlobNotFound."""
        ...


class RecordedDesk:
    """A desk that has all answers already, or none.

    Args:
        journal: what was asked and answered.
        blobs: the packs of the answers.
        retracing: notices whatever was not asked before.
        asked: told how many phases were asked.
    """

    def __init__(
        self,
        journal: Journal,
        blobs: BlobSource,
        retracing: Retracing,
        asked: Callable[[int], None],
    ) -> None:
        self._journal = journal
        self._blobs = blobs
        self._retracing = retracing
        self._asked = asked
        self._phases = 0

    def end(self) -> None:
        """Note that the app ended; raises RunDiverged where it did not ask for all again."""
        self._retracing.end()

    async def roster(self, run: str, call: int) -> tuple[str, ...]:
        """Return what the app was told; raises RunDiverged where it asks more often."""
        found = await self._journal.roster(run, call)
        if found is None:
            raise RunDiverged("it asks for the fleet more often than before")
        return found.devices

    async def ask(
        self,
        run: str,
        phase: str,
        commands: Sequence[Command],
        *,
        timeout_s: float | None,
        spares: int = 0,
    ) -> Sequence[Settlement]:
        """Return how each exchange ended; raises RunDiverged where it was not asked before."""
        del timeout_s, spares
        self._retracing.ask(commands)
        if await self._journal.phase(run, phase) is None:
            raise RunDiverged("it asks for a phase that was never closed")
        self._phases += 1
        self._asked(self._phases)
        return await self._in_order([command.id for command in commands])

    async def push(self, run: str, commands: Sequence[Command]) -> None:
        """Note what is pushed; raises RunDiverged where it was not pushed before."""
        del run
        self._retracing.push(commands)

    async def pull(self, run: str, call: int, ids: Sequence[str]) -> Sequence[Settlement]:
        """Return what the app was given at its nth pull that gave something."""
        del ids
        found = await self._journal.pull(run, call)
        return await self._in_order(found.ids if found is not None else ())

    async def adopt(self, path: Path, ref: BlobRef) -> None:
        """Nobody is going to fetch it."""

    async def locate(self, run: str, keys: Sequence[str]) -> list[Path]:
        """Return the files of blobs; raises BlobNotFound."""
        del run
        return [await self._blobs.fetch(key) for key in keys]

    async def aggregate(self, run: str, key: str) -> BlobRef | None:
        """Return what was made of updates, if it is kept."""
        return await self._journal.aggregate(run, key)

    async def keep_aggregate(self, run: str, key: str, path: Path, ref: BlobRef) -> None:
        """Keep nothing: it was kept, or is made again."""

    async def checkpoint(self, run: str, name: str) -> None:
        """Return nothing: a run that is verified begins at its top."""

    async def keep_checkpoint(
        self, run: str, name: str, path: Path, ref: BlobRef, waiting_for: Sequence[str]
    ) -> None:
        """Keep nothing."""

    async def spare(self, run: str, ids: Sequence[str], header: bytes) -> None:
        """Note nothing: nothing goes while a run is only read."""

    async def wait_for_devices(self, need: int, *, timeout_s: float) -> int:
        """There are no devices."""
        del timeout_s
        raise NotEnoughDevices("this run is only read", have=0, need=need)

    def report(self, line: dict[str, Any]) -> None:
        """All of it was reported before."""

    async def _in_order(self, ids: Sequence[str]) -> Sequence[Settlement]:
        found = {s.id: s for s in await self._journal.settlements(ids)}
        return [found[id_] for id_ in ids]


async def recorded_desk(
    journal: Journal,
    blobs: BlobSource,
    run: RunRecord,
    told: Callable[[int, int], None] = lambda _, __: None,
) -> RecordedDesk:
    """Return a desk that answers one run; `told` is told which phase is asked, of how many."""
    history = await journal.history(run.run)
    phases = len(history.phases)
    return RecordedDesk(journal, blobs, Retracing(history), lambda phase: told(phase, phases))
