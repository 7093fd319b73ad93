"""Cleans up: finished runs whose time is over, runs that nobody resumes, blobs of neither."""

import asyncio
from typing import Final

from windflower.core.events import RunForgotten
from windflower.core.ledger import ForgetRecord
from windflower.core.retention import DAY_S, ORPHANED_S, Retention, outlived
from windflower.gateway.desk import Desk
from windflower.gateway.feed import Feed
from windflower.gateway.models import Models
from windflower.ports import Blobs, Clock, Journal

EVERY_S: Final = 3600.0


class Housekeeping:
    """Looks after what a gateway keeps, now and then.

    Args:
        desk: knows which runs are executed.
        models: knows which publications are to stay.
        journal: what is kept of runs.
        blobs: what runs rest on.
        clock: Unix time.
        feed: takes events.
        retention: for how long finished runs can be verified.
    """

    def __init__(
        self,
        desk: Desk,
        models: Models,
        *,
        journal: Journal,
        blobs: Blobs,
        clock: Clock,
        feed: Feed,
        retention: Retention,
    ) -> None:
        self._desk = desk
        self._models = models
        self._journal = journal
        self._blobs = blobs
        self._clock = clock
        self._feed = feed
        self._retention = retention

    async def run(self) -> None:
        """Clean up at once and then every hour, until cancelled."""
        while True:
            await self.clean()
            await asyncio.sleep(EVERY_S)

    async def clean(self) -> None:
        """Clean up once; what an exchange that is open needs stays."""
        await self._end_abandoned()
        now = self._clock.now()
        kept = self._models.kept()
        past = [run for run in await self._journal.past() if run.run not in kept]
        for run in outlived(past, self._retention, now=now):
            await self._journal.record([ForgetRecord(run)], at=now)
            self._desk.forget(run)
            self._feed.report(RunForgotten(run=run))
        await self._blobs.sweep(await self._journal.live_keys(), older_than_s=ORPHANED_S)

    async def _end_abandoned(self) -> None:
        """End runs that nobody has resumed for so long: they hold what devices could forget."""
        before = self._clock.now() - self._retention.days * DAY_S
        for run, since in (await self._journal.silent_since()).items():
            if since <= before and not self._desk.is_executed(run):
                reason = f"nobody resumed it for {self._retention.days:.0f} days"
                await self._desk.end_run(run, success=False, reason=reason, result={})
