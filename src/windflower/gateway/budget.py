"""Keeps what an open run holds within a budget, and says when it can no longer be begun again."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from typing import Final

from windflower.core.events import RoomForeseen, RoomNeeded, UpdatesDropped
from windflower.core.ledger import RunRecord, Settlement
from windflower.core.retention import RESERVE_BYTES, Holding, answers_bytes, stored_bytes, to_drop
from windflower.errors import NotEnoughRoom
from windflower.gateway.feed import Feed
from windflower.ports import Blobs, Journal
from windflower.wire.messages import Command

_FULL: Final = 0.75
"""Updates are dropped until this much of the room is taken: not a few in every phase."""


class Budget:
    """The budget of each run of a gateway.

    Args:
        size_bytes: what one open run may hold.
        journal: what is kept of runs.
        blobs: where updates are.
        feed: takes events.
    """

    def __init__(self, size_bytes: int, *, journal: Journal, blobs: Blobs, feed: Feed) -> None:
        self._size_bytes = size_bytes
        self._journal = journal
        self._blobs = blobs
        self._feed = feed
        self._held: dict[str, int] = {}
        self._seen: defaultdict[str, dict[str, int]] = defaultdict(dict)
        self._told: set[str] = set()

    async def foresee(self, record: RunRecord, runs: Iterable[RunRecord]) -> None:
        """Say what a run that begins may come to keep.

        Args:
            record: the run.
            runs: all runs that were; what the last one of the same app kept is said too.
        """
        kept = {past.run: past.size_bytes for past in await self._journal.past()}
        alike = [r for r in runs if r.app == record.app and r.run in kept]
        earlier = max(alike, key=lambda r: r.number, default=None)
        self._feed.report(
            RoomForeseen(
                run=record.run,
                budget_bytes=self._size_bytes,
                free_bytes=self._blobs.room_bytes(),
                earlier=None if earlier is None else earlier.run,
                earlier_bytes=None if earlier is None else kept[earlier.run],
            )
        )

    async def to_drop(
        self, run: str, commands: Sequence[Command], *, read: Collection[str]
    ) -> list[Holding]:
        """Return which updates have to go before a phase, so that its answers fit.

        Args:
            run: the run.
            commands: what is about to be asked.
            read: keys of updates that the run's process has in its hands: they stay readable for
                it, and can go.
        """
        need = self._need(run, commands)
        self._say_what_is_needed(run, need)
        if run not in self._held:
            self._held[run] = sum(h.size_bytes for h in await self._journal.holdings(run))
        if not need or self._held[run] + need <= self._size_bytes:
            return []
        holdings = await self._journal.holdings(run)
        free = [h for h in holdings if h.is_spare or h.is_aggregate or h.key in read]
        self._held[run] = sum(holding.size_bytes for holding in holdings)
        stays = self._held[run] - sum(holding.size_bytes for holding in free)
        room = self._size_bytes - need - stays
        return to_drop(free, room_bytes=room, comfort_bytes=int(room * _FULL))

    async def drop(self, run: str, dropped: Sequence[Holding], *, is_told: bool) -> None:
        """Drop updates that are noted as gone in the journal: nobody looks for them any more.

        Args:
            run: the run.
            dropped: what goes.
            is_told: whether somebody should hear of it.
        """
        for holding in dropped:
            if not holding.is_aggregate:  # such may be the next model too: the sweep knows
                await self._blobs.discard(holding.key)
        size = sum(holding.size_bytes for holding in dropped)
        self._held[run] = self._held.get(run, size) - size
        if not is_told:
            return
        updates = sum(not holding.is_aggregate for holding in dropped)
        is_resumable = all(holding.is_spare for holding in dropped)
        self._feed.report(
            UpdatesDropped(run=run, updates=updates, size_bytes=size, is_resumable=is_resumable)
        )

    def check_disk(self, run: str, commands: Sequence[Command], dropped: Sequence[Holding]) -> None:
        """Raise NotEnoughRoom where the disk has no room for the answers of a phase.

        Args:
            run: the run.
            commands: what is about to be asked.
            dropped: what will go for them.
        """
        need = self._need(run, commands) + RESERVE_BYTES
        room = self._blobs.room_bytes() + sum(holding.size_bytes for holding in dropped)
        if need > room:
            raise NotEnoughRoom(
                f"the answers of {len(commands)} devices may take {need / 1e6:.0f} MB, and"
                f" {room / 1e6:.0f} MB are free on the gateway's disk: make room, then resume"
            )

    def _need(self, run: str, commands: Sequence[Command]) -> int:
        return answers_bytes(commands, self._seen[run])

    def learn(self, run: str, type_: str, size_bytes: int) -> None:
        """Note how large an answer to one type of message was."""
        self._seen[run][type_] = max(self._seen[run].get(type_, 0), size_bytes)

    def add(self, run: str, size_bytes: int) -> None:
        """Note that a run holds so much more."""
        if run in self._held:  # else it is counted when room is made
            self._held[run] += size_bytes

    def take(self, run: str, settlements: Iterable[Settlement]) -> None:
        """Note that a run holds these answers too."""
        self.add(run, sum(stored_bytes(s.reply) for s in settlements if s.reply is not None))

    def forget(self, run: str) -> None:
        """Note that a run is over."""
        self._held.pop(run, None)
        self._seen.pop(run, None)
        self._told.discard(run)

    def _say_what_is_needed(self, run: str, need: int) -> None:
        if not need or run in self._told:
            return
        self._told.add(run)
        free = self._blobs.room_bytes()
        self._feed.report(
            RoomNeeded(run=run, phase_bytes=need, budget_bytes=self._size_bytes, free_bytes=free)
        )
