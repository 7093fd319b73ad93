"""URLs to S3 live no longer, and reach no further, than they should."""

import asyncio
import time
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from cloud import Cloud

from windflower.adapters.local.http_transfers import HttpTransfers
from windflower.errors import BlobNotFound, GrantRefused
from windflower.wire.blobs import BlobRef
from windflower.wire.content import blob_ref

DATA = b"0123456789" * 100


async def test_a_url_lives_no_longer_than_what_signed_it(objects: Cloud, tmp_path: Path) -> None:
    role = objects.role(life_s=900)
    blobs = objects.blobs(tmp_path / "copies", role=role)
    await blobs.open()
    long, short = (blobs.grant("GET", "blobs/x", size_bytes=1, ttl_s=ttl_s) for ttl_s in (3600, 60))
    await blobs.close()

    assert 60 == short.ttl_s
    assert 890 < long.ttl_s <= 900
    query = parse_qs(urlsplit(long.url).query)
    assert 890 <= int(query["X-Amz-Expires"][0]) <= 900


async def test_the_role_is_assumed_again_at_half_its_life(
    objects: Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    role = objects.role(life_s=900)
    asked, begun = 0, time.time()
    enough = asyncio.Event()
    call = role._service.call

    async def counted(operation: str, **arguments: Any) -> Any:  # noqa: ANN401
        nonlocal asked
        asked += 1
        if asked == 3:
            enough.set()
        answer = await call(operation, **arguments)
        monkeypatch.setattr("time.time", lambda: begun + 451 * asked)
        return answer

    monkeypatch.setattr(role._service, "call", counted)
    blobs = objects.blobs(tmp_path / "copies", role=role)
    await blobs.open()
    async with asyncio.timeout(20):
        await enough.wait()
    monkeypatch.undo()
    await blobs.close()

    assert asked >= 3


async def test_a_url_reaches_only_down_from_blobs_and_up_to_replies(
    objects: Cloud, tmp_path: Path
) -> None:
    blobs, transfers = objects.blobs(tmp_path / "copies"), HttpTransfers()
    await blobs.open()
    file = tmp_path / "file"
    file.write_bytes(DATA)
    ref = blob_ref(DATA)
    up = blobs.grant("PUT", "out/1-a/d1/00", size_bytes=1 << 20, ttl_s=60)
    await transfers.put(up, ref, file)
    down = blobs.grant("GET", "out/1-a/d1/00", size_bytes=1 << 20, ttl_s=60)
    with pytest.raises(GrantRefused):
        await transfers.get(down, ref, tmp_path / "there")
    over = blobs.grant("PUT", ref.key, size_bytes=1 << 20, ttl_s=60)
    with pytest.raises(GrantRefused):
        await transfers.put(over, ref, file)
    await blobs.discard("out/1-a/d1/00")
    transfers.close()
    await blobs.close()


async def test_a_blob_of_another_size_than_announced_is_not_downloaded(
    objects: Cloud, tmp_path: Path
) -> None:
    blobs, transfers, key = objects.blobs(tmp_path / "copies"), HttpTransfers(), "out/1-a/d2/00"
    await blobs.open()
    file = tmp_path / "file"
    file.write_bytes(DATA * 9)
    await transfers.put(
        blobs.grant("PUT", key, size_bytes=1 << 20, ttl_s=60), blob_ref(DATA * 9), file
    )

    assert not await blobs.matches(key, blob_ref(DATA))
    assert [] == list((tmp_path / "copies").iterdir())
    await blobs.discard(key)
    with pytest.raises(BlobNotFound):
        await blobs.fetch(key)
    transfers.close()
    await blobs.close()


async def test_what_is_adopted_again_counts_as_new(objects: Cloud, tmp_path: Path) -> None:
    blobs, ref, path = objects.blobs(tmp_path / "copies"), blob_ref(DATA), tmp_path / "file"
    await blobs.open()
    uploads = []
    for _ in range(2):
        path.write_bytes(DATA)
        await blobs.adopt(path, ref)
        uploads.append(blobs._stored_at[ref.key])
    blobs._stored_at[ref.key] = 0.0
    path.write_bytes(DATA)
    await blobs.adopt(path, ref)

    assert uploads[0] == uploads[1] < blobs._stored_at[ref.key]
    assert 0 == await blobs.sweep(frozenset(), older_than_s=3600.0)
    assert DATA == (await blobs.fetch(ref.key)).read_bytes()
    await blobs.discard(ref.key)
    await blobs.close()


async def test_a_digest_that_lies_is_refused_by_s3(objects: Cloud, tmp_path: Path) -> None:
    blobs = objects.blobs(tmp_path / "copies")
    await blobs.open()
    file = tmp_path / "file"
    file.write_bytes(DATA)
    with pytest.raises(Exception, match="put_object"):
        await blobs.adopt(file, BlobRef("0" * 64, len(DATA)))
    await blobs.close()
