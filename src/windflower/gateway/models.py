"""Gives the fleet the model that was published last: whoever is heard with another is sent it.

A publication is a run that asks no app: its record names the model, and stays when it is over. It
is opened again, under a new number, whenever a device is heard that has another model. So a device
that slept is sent the model when it wakes, and one that lost it is sent it again.
"""

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

from windflower.core.events import ModelPublished, ModelTaken
from windflower.core.ledger import RunRecord, Settlement
from windflower.core.own_command import own_command
from windflower.core.policy import RoundPolicy, Terms
from windflower.errors import ConfigError, RunFailed
from windflower.gateway.desk import Desk
from windflower.gateway.feed import Feed
from windflower.gateway.fleet import Fleet
from windflower.gateway.request import RunRequest
from windflower.ports import Blobs, Clock, Journal
from windflower.wire.blobs import BlobRef
from windflower.wire.content import Content
from windflower.wire.messages import NO_CONFIG, Command

SET: Final = "set_parameters"

KEPT: Final = 5
"""So many publications can be gone back to: what they rest on is kept."""

PATIENCE_S: Final = 3600.0
"""So long a device may take to fetch a model before it is asked anew."""

_DOUBLINGS: Final = 6


class Models:
    """The fleet's desired model, and who has it.

    Args:
        desk: keeps the records of publications, among those of runs.
        fleet: the devices.
        journal: where answers are.
        blobs: where models are.
        clock: Unix time.
        feed: takes events.
        again_s: a device that could not take a model is sent it again after so many seconds,
            doubled each time.
        together_s: devices that wake within so many seconds are sent it together.
    """

    def __init__(
        self,
        desk: Desk,
        fleet: Fleet,
        *,
        journal: Journal,
        blobs: Blobs,
        clock: Clock,
        feed: Feed,
        again_s: float = 60.0,
        together_s: float = 1.0,
    ) -> None:
        self._desk = desk
        self._fleet = fleet
        self._journal = journal
        self._blobs = blobs
        self._clock = clock
        self._feed = feed
        self._again_s = again_s
        self._together_s = together_s
        self._wanted = asyncio.Event()
        self._taken: dict[str, tuple[str, str]] = {}
        self._retry: dict[str, tuple[float, int]] = {}
        self._open: RunRecord | None = None
        self._asked: set[str] = set()
        self._following: set[asyncio.Task[None]] = set()
        self._sendings = 0

    # -------------------------------------------------------------------------- for people

    def publications(self) -> list[RunRecord]:
        """Return what was published, the latest first; that is what the fleet is to have."""
        found = [r for r in self._desk.runs() if r.publishes]
        return sorted(found, key=lambda record: record.created_at, reverse=True)

    async def publish(self, run: str, path: Path, ref: BlobRef) -> RunRecord:
        """Make a model the one that the fleet is to have; `path` is taken over.

        Args:
            run: whose model it is.
            path: a pack of arrays.
            ref: what it holds.
        """
        await self._blobs.adopt(path, ref)
        return await self._publish(run, ref)

    async def rollback(self, publication: str | None) -> RunRecord:
        """Make an earlier model the one that the fleet is to have.

        Args:
            publication: which; None for the model that was published before the one in use: who
                goes back twice goes back two models.

        Raises:
            ConfigError: there is none, or it is not kept any more.
        """
        kept = [p for p in self.publications() if p.run in self.kept()]
        found = [p for p in kept if p.run == publication] if publication else self._earlier(kept)
        if not found:
            named = ", ".join(p.run for p in kept[1:]) or "none"
            raise ConfigError(
                f"there is no earlier model to go back to; kept are: {named}", key="publication"
            )
        return await self._publish(found[0].publishes, found[0].bundle)

    def _earlier(self, kept: Sequence[RunRecord]) -> list[RunRecord]:
        """Return publications of models that are older than the one in use, the newest first."""
        models = [p.bundle for p in self._by_model()]
        older = models[: models.index(kept[0].bundle)] if kept else []
        return sorted(
            (p for p in kept if p.bundle in older),
            key=lambda p: models.index(p.bundle),
            reverse=True,
        )

    async def _publish(self, run: str, ref: BlobRef) -> RunRecord:
        request = RunRequest(
            app="model", folder="", bundle=ref, config=NO_CONFIG, seed=0, policy=RoundPolicy()
        )
        opened = request.to_record(
            number=self._desk.draw_number(), epoch=self._fleet.epoch, at=self._later()
        )
        result = {"reason": f"the model of run {run}", "model-hash": ref.digest}
        record = replace(
            opened, publishes=run, state="done", ended_at=self._clock.now(), result=dict(result)
        )
        await self._desk.keep(record)
        self._retry.clear()
        self._feed.report(ModelPublished(run=record.run, model=ref.digest, of=run))
        self._wanted.set()
        return record

    def _later(self) -> float:
        """Return the time, or one behind the latest publication's where the clock went back."""
        latest = next(iter(self.publications()), None)
        now = self._clock.now()
        return now if latest is None else max(now, latest.created_at + 0.001)

    def kept(self) -> frozenset[str]:
        """Return the publications that stay, however old they are: of the last few models."""
        models = {p.bundle for p in self._by_model()[-KEPT:]}
        models |= {p.bundle for p in self.publications()[:1]}
        return frozenset(p.run for p in self.publications() if p.bundle in models)

    def _by_model(self) -> list[RunRecord]:
        """Return the first publication of each model, the earliest first."""
        first: dict[BlobRef, RunRecord] = {}
        for publication in reversed(self.publications()):
            first.setdefault(publication.bundle, publication)
        return list(first.values())

    # -------------------------------------------------------------------------- at work

    async def run(self) -> None:
        """Send the model to whoever has another, until cancelled."""
        for record in self.publications():
            if record.state == "open":  # a gateway died: who still needs it is sent it anew
                self._open = record
                await self._close()
        try:
            while True:
                self._wanted.clear()
                await self._look()
                await self._until_somebody_may_need_it()
        finally:
            for task in self._following:
                task.cancel()
            await asyncio.gather(*self._following, return_exceptions=True)

    async def _look(self) -> None:
        desired = next(iter(self.publications()), None)
        if desired is None:
            return
        if self._open is not None and self._open.run != desired.run:
            await self._close()
        behind = self._behind(desired)
        if behind:
            await self._send(self._open or desired, behind)
        elif self._open is not None and not self._asked:
            await self._close()

    async def _until_somebody_may_need_it(self) -> None:
        heard = asyncio.create_task(self._fleet.changed())
        wanted = asyncio.create_task(self._wanted.wait())
        # Whoever is offline is looked at when it is heard, whoever is asked when it answers.
        idle = {d for d in self._retry if self._fleet.roster.is_online(d)} - self._asked
        again = [at for device, (at, _) in self._retry.items() if device in idle]
        wait_s = max(min(again) - self._clock.now(), 0.0) if again else None
        try:
            await asyncio.wait([heard, wanted], timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.sleep(self._together_s)
        finally:
            heard.cancel()
            wanted.cancel()

    def _behind(self, desired: RunRecord) -> list[str]:
        """Return who is online with another model, and was not sent this one in vain just now."""
        now, wanted = self._clock.now(), desired.bundle.digest
        return sorted(
            p.device
            for p in self._fleet.roster.freshest()
            if p.is_online
            and p.model != wanted
            and p.device not in self._asked
            and self._taken.get(p.device) != (p.boot, wanted)
            and self._retry.get(p.device, (0.0, 0))[0] <= now
        )

    async def _send(self, publication: RunRecord, devices: Sequence[str]) -> None:
        record = publication
        if self._open is None:
            number = self._desk.draw_number()
            record = replace(publication, number=number, epoch=self._fleet.epoch, state="open")
            # At once: were a later number opened first, its floor would end this one on devices.
            self._fleet.open_run(record.run, number=number, epoch=record.epoch)
            self._open = record
            await self._desk.keep(record)
        self._sendings += 1
        batch = f"{record.run}-{record.epoch}-{record.number}-{self._sendings}"
        commands = [self._command(record, device) for device in devices]
        terms = Terms(self._clock.now() + PATIENCE_S, waits_for_offline=False)
        self._asked |= set(devices)
        self._fleet.ask(commands, batch=batch, terms=terms)
        for command in commands:
            task = asyncio.create_task(self._follow(record, command, batch))
            self._following.add(task)
            task.add_done_callback(self._following.discard)

    async def _follow(self, record: RunRecord, command: Command, batch: str) -> None:
        """Note what becomes of a command; another publication may end it."""
        with suppress(RunFailed):
            await self._fleet.settled([command.id], batch=batch)
            (settlement,) = await self._journal.settlements([command.id])
            self._note(settlement, record.bundle.digest)
        self._asked.discard(command.client)
        self._wanted.set()

    async def _close(self) -> None:
        record, self._open = self._open, None
        if record is not None:
            self._fleet.end_run(record.run)
            await self._desk.keep(replace(record, state="done"))

    def _command(self, record: RunRecord, device: str) -> Command:
        content = Content((("arrays", None),), record.bundle)
        return own_command(
            *(record, device, SET, content),
            ttl_s=PATIENCE_S,
            at=self._clock.now(),
            mark=f"{record.epoch} {record.number}",
            occurrence=self._sendings,
        )

    def _note(self, settlement: Settlement, digest: str) -> None:
        device = settlement.device
        presence = self._fleet.roster.get(device)
        if settlement.is_good and presence is not None:
            self._taken[device] = (presence.boot, digest)
            self._retry.pop(device, None)
            self._feed.report(ModelTaken(device=device, model=digest))
            return
        times = self._retry.get(device, (0.0, 0))[1]
        at = self._clock.now() + self._again_s * 2 ** min(times, _DOUBLINGS)
        self._retry[device] = (at, times + 1)


def holders(publications: Iterable[RunRecord], models: dict[str, str | None]) -> dict[str, str]:
    """Return which publication each device has: its id, "another" or "none".

    Args:
        publications: the latest first.
        models: by device, the digest that it says it has.
    """
    names: dict[str, str] = {}
    for publication in publications:
        names.setdefault(publication.bundle.digest, publication.run)
    return {
        device: names.get(digest, "another") if digest else "none"
        for device, digest in models.items()
    }
