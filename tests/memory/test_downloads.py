"""What of a download is on a device's disk, while it is under way and when nobody needs it."""

import asyncio
from dataclasses import dataclass, field, replace
from pathlib import Path

from samples import command, content

from windflower.adapters.local.model_shelf import FolderShelf
from windflower.adapters.memory.events import EventList
from windflower.adapters.memory.fleet import MemoryFleetLink
from windflower.adapters.memory.store import MemoryStore
from windflower.agent.agent import Agent, AgentSettings, MonotonicClock
from windflower.core.retention import device_needs_bytes
from windflower.errors import BlobsUnavailable
from windflower.ports import Done, Job
from windflower.wire.blobs import BlobRef, Grant
from windflower.wire.content import blob_ref
from windflower.wire.messages import Control, Reply, seal
from windflower.wire.sealing import Signer

APP = b"an app" * 100
HALF = len(APP) // 2
ASKED = replace(command(), bundle=blob_ref(APP))
GRANT = Grant("GET", blob_ref(APP).key, "http://127.0.0.1/", len(APP), 60.0)


@dataclass
class BreaksOff:
    """Brings half of a blob, and the rest when it is asked again and may."""

    may_end: bool
    has_begun: asyncio.Event = field(default_factory=asyncio.Event)

    async def get(self, grant: Grant, ref: BlobRef, path: Path) -> None:
        del grant, ref
        if self.may_end and path.exists():
            path.write_bytes(path.read_bytes() + APP[HALF:])
            return
        path.write_bytes(APP[:HALF])
        self.has_begun.set()
        raise BlobsUnavailable("told to break off")

    async def put(self, grant: Grant, ref: BlobRef, path: Path) -> None:
        raise AssertionError(grant, ref, path)


class Tight(MemoryStore):
    """Has room for the work that is asked, and no more."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._place = folder

    def room_bytes(self) -> int:
        taken = sum(path.stat().st_size for path in self._place.iterdir() if path.is_file())
        return device_needs_bytes(ASKED, ()) - taken


class Answers:
    """A worker that needs no app to answer."""

    async def work(self, job: Job) -> Done:
        assert job.command.bundle is None or job.bundle.read_bytes() == APP
        return Done(content(7), None, 0.1)

    async def stop(self) -> None:
        """There is nothing to stop."""


def device(link: MemoryFleetLink, folder: Path, transfers: BreaksOff) -> Agent:
    return Agent(
        AgentSettings("d1", "memory"),
        link=link.device("d1"),
        store=Tight(folder / "store"),
        worker=Answers(),
        models=FolderShelf(folder / "models"),
        transfers=transfers,
        events=EventList(),
        clock=MonotonicClock(),
    )


async def test_a_download_that_goes_on_needs_no_room_for_what_it_has(tmp_path: Path) -> None:
    link = MemoryFleetLink()
    await link.open()
    agent = device(link, tmp_path, BreaksOff(may_end=True))
    serving = asyncio.create_task(agent.run())
    await link.send("d1", seal(ASKED, Signer(b"k" * 32), (GRANT,)).to_bytes())
    async with asyncio.timeout(10):
        deliveries = await link.replies.take()
    serving.cancel()
    await asyncio.wait([serving])

    assert [None] == [Reply.from_bytes(d.body).failure for d in deliveries]


async def test_what_landed_of_it_goes_with_the_command_that_is_cancelled(tmp_path: Path) -> None:
    link = MemoryFleetLink()
    await link.open()
    transfers, signer, small = BreaksOff(may_end=False), Signer(b"k" * 32), command(2)
    agent = device(link, tmp_path, transfers)
    landed = tmp_path / "store" / f"landing-{blob_ref(APP).digest}"
    serving = asyncio.create_task(agent.run())
    await link.send("d1", seal(ASKED, signer, (GRANT,)).to_bytes())
    async with asyncio.timeout(10):
        await transfers.has_begun.wait()
        assert landed.exists()
        cancel = Control("d1", "cancel", (ASKED.id,), epoch=1)
        await link.send("d1", seal(cancel, signer).to_bytes())
        await link.send("d1", seal(small, signer).to_bytes())
        await link.replies.take()  # what is asked later is answered later
    serving.cancel()
    await asyncio.wait([serving])

    assert not landed.exists()
