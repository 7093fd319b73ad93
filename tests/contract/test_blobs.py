"""Every blob store keeps bytes that never change, and lets devices reach them by grants only."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from cloud import Cloud

from windflower.adapters.local.blob_endpoint import blob_endpoint
from windflower.adapters.local.blob_folder import BlobFolder
from windflower.adapters.local.http_server import HttpServer
from windflower.adapters.local.http_transfers import HttpTransfers
from windflower.adapters.memory.blobs import MemoryBlobs, MemoryTransfers
from windflower.errors import (
    BlobNotFound,
    BlobsUnavailable,
    BlobTooLarge,
    GrantRefused,
    MalformedMessage,
)
from windflower.ports import Blobs, Transfers
from windflower.wire.blobs import BlobRef, Grant
from windflower.wire.content import blob_ref

DATA = b"0123456789" * 1000
REF = blob_ref(DATA)
LARGE = bytes(range(256)) * 8192
KEY = "out/1-a/d1/00"
SILENCE_S = 2.0
"""Long enough for this process to answer itself on a machine that has much to do."""


@dataclass
class Place:
    blobs: Blobs
    transfers: Transfers
    folder: Path

    def file(self, data: bytes = DATA, name: str = "file") -> Path:
        path = self.folder / name
        path.write_bytes(data)
        return path


@pytest.fixture(params=["memory", "local", "aws"])
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    if request.param == "aws":
        cloud: Cloud = request.getfixturevalue("objects")
        async for found in on_aws(cloud, tmp_path):
            yield found
        return
    store = tmp_path / "blobs"
    store.mkdir()
    if request.param == "memory":
        blobs = MemoryBlobs(store)
        yield Place(blobs, MemoryTransfers(blobs), tmp_path)
        return
    folder = BlobFolder(store, secret=b"secret")
    server = HttpServer(blob_endpoint(folder), host="127.0.0.1", port=0)
    folder.base_url = f"http://127.0.0.1:{await server.start()}"
    transfers = HttpTransfers()
    yield Place(folder, transfers, tmp_path)
    transfers.close()
    await server.stop()
    await folder.close()


async def on_aws(cloud: Cloud, folder: Path) -> AsyncIterator[Place]:
    s3 = cloud.blobs(folder / "copies")
    await s3.open()
    await s3.sweep(frozenset(), older_than_s=-60.0)
    transfers = HttpTransfers()
    yield Place(s3, transfers, folder)
    transfers.close()
    await s3.close()


def grant(place: Place, method: str, key: str, *, ttl_s: float = 60, size: int = 1 << 20) -> Grant:
    if method == "GET":
        return place.blobs.grant("GET", key, size_bytes=size, ttl_s=ttl_s)
    return place.blobs.grant("PUT", key, size_bytes=size, ttl_s=ttl_s)


async def test_an_adopted_file_can_be_fetched_here_and_downloaded_there(place: Place) -> None:
    await place.blobs.adopt(place.file(), REF)
    await place.blobs.adopt(place.file(), REF)
    there = place.folder / "there"
    await place.transfers.get(grant(place, "GET", REF.key), REF, there)

    assert DATA == (await place.blobs.fetch(REF.key)).read_bytes()
    assert DATA == there.read_bytes()


async def test_an_upload_is_there_and_verified(place: Place) -> None:
    await place.transfers.put(grant(place, "PUT", KEY), REF, place.file())

    assert await place.blobs.matches(KEY, REF)
    assert not await place.blobs.matches(KEY, replace(REF, size_bytes=1))
    assert not await place.blobs.matches(KEY, BlobRef("0" * 64, REF.size_bytes))
    assert DATA == (await place.blobs.fetch(KEY)).read_bytes()


async def test_large_uploads_are_there_too_and_never_change(place: Place) -> None:
    ref = blob_ref(LARGE)
    put = grant(place, "PUT", KEY, size=1 << 30)
    await place.transfers.put(put, ref, place.file(LARGE))
    await place.transfers.put(put, REF, place.file())
    await place.transfers.put(put, blob_ref(LARGE[::-1]), place.file(LARGE[::-1]))

    assert await place.blobs.matches(KEY, ref)
    assert LARGE == (await place.blobs.fetch(KEY)).read_bytes()


async def test_an_upload_again_is_success_and_changes_nothing(place: Place) -> None:
    other = b"other bytes"
    await place.transfers.put(grant(place, "PUT", KEY), REF, place.file())
    await place.transfers.put(grant(place, "PUT", KEY), REF, place.file())
    await place.transfers.put(grant(place, "PUT", KEY), blob_ref(other), place.file(other))

    assert await place.blobs.matches(KEY, REF)


async def test_what_is_discarded_can_be_uploaded_anew(place: Place) -> None:
    await place.transfers.put(grant(place, "PUT", KEY), blob_ref(b"bad"), place.file(b"bad"))
    await place.blobs.discard(KEY)
    assert not await place.blobs.matches(KEY, REF)
    await place.transfers.put(grant(place, "PUT", KEY), REF, place.file())

    assert await place.blobs.matches(KEY, REF)


async def test_what_is_not_there_is_not_found(place: Place) -> None:
    assert not await place.blobs.matches(KEY, REF)
    with pytest.raises(BlobNotFound):
        await place.blobs.fetch(KEY)
    with pytest.raises(GrantRefused):
        await place.transfers.get(grant(place, "GET", KEY), REF, place.folder / "there")


async def test_a_grant_is_for_one_method_one_key_and_a_while(place: Place) -> None:
    await place.blobs.adopt(place.file(), REF)
    get = grant(place, "GET", REF.key)
    there = place.folder / "there"
    with pytest.raises(GrantRefused):
        await place.transfers.put(replace(get, method="PUT"), REF, place.file())
    with pytest.raises(GrantRefused):
        await place.transfers.get(grant(place, "GET", REF.key, ttl_s=-5), REF, there)
    with pytest.raises(GrantRefused):
        await place.transfers.get(replace(get, url=get.url + "0"), REF, there)


async def test_more_than_was_granted_is_refused(place: Place) -> None:
    with pytest.raises(BlobTooLarge):
        await place.transfers.put(grant(place, "PUT", KEY, size=10), REF, place.file())

    assert not await place.blobs.matches(KEY, REF)


async def test_a_file_that_is_gone_is_said_so(place: Place) -> None:
    with pytest.raises(FileNotFoundError):
        await place.transfers.put(grant(place, "PUT", KEY), REF, place.folder / "gone")


async def test_other_bytes_than_named_are_refused_after_a_download(place: Place) -> None:
    await place.blobs.adopt(place.file(), REF)
    named = BlobRef("0" * 64, REF.size_bytes)
    there = place.folder / "there"
    with pytest.raises(MalformedMessage):
        await place.transfers.get(grant(place, "GET", REF.key), named, there)

    assert not there.exists()


async def test_a_download_goes_on_where_it_stopped(tmp_path: Path) -> None:
    served: list[int] = []

    class Counting(BlobFolder):
        async def fetch(self, key: str) -> Path:
            served.append(1)
            return await super().fetch(key)

    (tmp_path / "blobs").mkdir()
    folder = Counting(tmp_path / "blobs", secret=b"secret")
    server = HttpServer(blob_endpoint(folder), host="127.0.0.1", port=0)
    folder.base_url = f"http://127.0.0.1:{await server.start()}"
    transfers = HttpTransfers()
    place = Place(folder, transfers, tmp_path)
    await folder.adopt(place.file(), REF)
    there = tmp_path / "there"
    there.write_bytes(DATA[:4321])
    await place.transfers.get(grant(place, "GET", REF.key), REF, there)
    there.write_bytes(b"wrong" + DATA[5:4321])
    with pytest.raises(MalformedMessage):
        await place.transfers.get(grant(place, "GET", REF.key), REF, there)
    transfers.close()
    await server.stop()
    await folder.close()

    assert 2 == len(served)
    assert not there.exists()


async def test_nobody_there(tmp_path: Path) -> None:
    dead = Grant("GET", "k", "http://127.0.0.1:1/get/k", 1, 60)
    with pytest.raises(BlobsUnavailable):
        await HttpTransfers().get(dead, REF, tmp_path / "there")


async def test_a_download_that_falls_silent_ends_soon_and_goes_on_from_there(
    tmp_path: Path,
) -> None:
    asked: list[bytes] = []
    hangs_up = asyncio.Event()

    async def say_half(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.readuntil(b"\r\n\r\n")
        asked.append(request)
        start = 5000 if b"bytes=5000-" in request else 0
        status, rest = (b"206", DATA[start:]) if start else (b"200", DATA[:5000])
        head = b"HTTP/1.1 %b OK\r\ncontent-length: %d\r\n\r\n" % (status, len(DATA) - start)
        writer.write(head + rest)
        await hangs_up.wait()
        writer.close()

    server = await asyncio.start_server(say_half, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    granted = Grant("GET", REF.key, f"http://127.0.0.1:{port}/get/k", REF.size_bytes, 60)
    transfers, there = HttpTransfers(silence_s=SILENCE_S), tmp_path / "there"
    with pytest.raises(BlobsUnavailable):
        await transfers.get(granted, REF, there)
    half = there.read_bytes()
    await transfers.get(granted, REF, there)
    transfers.close()
    hangs_up.set()
    server.close()

    assert DATA[:5000] == half
    assert DATA == there.read_bytes()
    assert [False, True] == [b"Range" in request for request in asked]


async def test_connections_that_idled_through_a_cut_are_not_tried_one_after_another(
    tmp_path: Path,
) -> None:
    crowd, is_cut = asyncio.Barrier(3), asyncio.Event()
    asked_in_vain: asyncio.Queue[bytes] = asyncio.Queue()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError):
            while request := await reader.readuntil(b"\r\n\r\n"):
                if is_cut.is_set():
                    asked_in_vain.put_nowait(request)
                    break
                await crowd.wait()
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(DATA) + DATA)
        await reader.read()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    granted = Grant("GET", REF.key, f"http://127.0.0.1:{port}/get/k", REF.size_bytes, 60)
    transfers = HttpTransfers(silence_s=SILENCE_S)
    await asyncio.gather(*(transfers.get(granted, REF, tmp_path / f"{n}") for n in range(3)))
    is_cut.set()
    with pytest.raises(BlobsUnavailable):
        await transfers.get(granted, REF, tmp_path / "there")
    async with asyncio.timeout(10):
        for _ in ("one that was idle", "a new one"):
            await asked_in_vain.get()
    server.close()

    assert asked_in_vain.empty()


async def test_a_folder_that_starts_again_trusts_only_what_it_reads(tmp_path: Path) -> None:
    blobs = BlobFolder(tmp_path / "blobs", secret=b"s")
    path = tmp_path / "file"
    path.write_bytes(DATA)
    await blobs.adopt(path, REF)
    assert await blobs.create_small(KEY, DATA)
    (tmp_path / "blobs" / "landing" / "half").write_bytes(b"half")
    await blobs.close()
    again = BlobFolder(tmp_path / "blobs", secret=b"s")
    assert await again.matches(REF.key, REF)
    assert await again.matches(KEY, REF)
    again.path(REF.key).write_bytes(b"rotten")
    await again.close()
    third = BlobFolder(tmp_path / "blobs", secret=b"s")

    assert not await third.matches(REF.key, REF)
    assert [] == list((tmp_path / "blobs" / "landing").iterdir())
    await third.close()


async def test_what_nobody_rests_on_is_swept_and_the_rest_stays(place: Place) -> None:
    await place.blobs.adopt(place.file(), REF)
    update, other = place.file(b"update", "update"), place.file(b"other", "other")
    for key, path in ((KEY, update), ("out/1-a/d2/00", other)):
        await place.transfers.put(grant(place, "PUT", key), blob_ref(path.read_bytes()), path)
    large = place.file(LARGE, "large")
    key = "out/1-a/d3/00"
    await place.transfers.put(grant(place, "PUT", key, size=1 << 30), blob_ref(LARGE), large)
    live = frozenset({KEY, REF.key})

    assert 0 == await place.blobs.sweep(live, older_than_s=3600.0)
    assert 2 == await place.blobs.sweep(live, older_than_s=-1.0)
    assert await place.blobs.matches(KEY, blob_ref(b"update"))
    assert await place.blobs.matches(REF.key, REF)
    for key in ("out/1-a/d2/00", "out/1-a/d3/00"):
        with pytest.raises(BlobNotFound):
            await place.blobs.fetch(key)


async def test_what_is_adopted_again_counts_as_new(tmp_path: Path) -> None:
    """Between a run's adopting and its asking, nothing refers to a blob."""
    blobs = BlobFolder(tmp_path / "blobs", secret=b"s")
    for name in ("first", "second"):
        path = tmp_path / name
        path.write_bytes(DATA)
        await blobs.adopt(path, REF)
        if name == "first":
            os.utime(blobs.path(REF.key), (0, 0))
    swept = await blobs.sweep(frozenset(), older_than_s=3600.0)
    await blobs.close()

    assert (0, REF) == (swept, blob_ref(blobs.path(REF.key).read_bytes()))
