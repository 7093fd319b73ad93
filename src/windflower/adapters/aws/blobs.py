"""Blobs in S3, with a folder of those that were needed here.

What is in the folder was compared with S3's size and read to its end; it can go at any time.
"""

import asyncio
import base64
import hashlib
import secrets
import shutil
import time
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import quote

from botocore.exceptions import ClientError

from windflower.adapters.aws.account import Service
from windflower.adapters.aws.names import AwsNames
from windflower.adapters.aws.transfer_role import TransferRole
from windflower.errors import BlobNotFound, BlobsUnavailable
from windflower.wire.blobs import BlobRef, Grant

FRESH_S: Final = 3600.0
"""What was uploaded within the last hour need not be uploaded again to count as new."""

IDLE_S: Final = 3600.0
"""A local copy that nobody asked for in so long goes when blobs are swept."""

_CHUNK_BYTES: Final = 1 << 20
_NOT_THERE: Final = ("404", "NoSuchKey")
_AT_ONCE: Final = 1000
"""Source: DeleteObjects takes at most a thousand keys."""


class S3Blobs:
    """Blobs of one fleet.

    Args:
        service: S3.
        names: the bucket, and the prefix in it.
        role: signs the URLs of devices.
        folder: where copies are kept; leftovers are removed.
    """

    def __init__(self, service: Service, names: AwsNames, role: TransferRole, folder: Path) -> None:
        self._service = service
        self._names = names
        self._role = role
        self._folder = folder
        self._verified: dict[str, BlobRef] = {}
        self._stored_at: dict[str, float] = {}
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        self._base = _address(service.client, names.bucket)

    def __str__(self) -> str:
        """Return where blobs are, for people."""
        return f"s3://{self._names.bucket}/{self._names.prefix}"

    async def open(self) -> None:
        """Be ready to sign; raises RefusedError or BlobsUnavailable."""
        await self._role.open()

    async def close(self) -> None:
        """Sign no more."""
        await self._role.close()

    # ----------------------------------------------------------------------------- the port

    async def adopt(self, path: Path, ref: BlobRef) -> None:
        """Take over a file whose content `ref` names; durable on return. Idempotent."""
        if time.time() - self._stored_at.get(ref.key, 0.0) > FRESH_S:
            await self._upload(path, ref)
        await asyncio.to_thread(shutil.move, path, self._copy(ref.key))
        self._verified[ref.key] = ref

    async def matches(self, key: str, ref: BlobRef) -> bool:
        """Return whether what is stored under `key` is, byte for byte, what `ref` names.

        Its size is looked at first: nobody makes us download more than was announced.
        """
        if key not in self._verified:
            try:
                if await self._size_bytes(key) != ref.size_bytes:
                    return False
                await self._download(key)
            except BlobNotFound:
                return False
        return self._verified[key] == ref

    async def fetch(self, key: str) -> Path:
        """Return a local file with the bytes; raises BlobNotFound."""
        copy = self._copy(key)
        if key not in self._verified or not copy.exists():
            await self._download(key)
        copy.touch()
        return copy

    def grant(
        self, method: Literal["GET", "PUT"], key: str, *, size_bytes: int, ttl_s: float
    ) -> Grant:
        """Return a capability for one key. A PUT creates it, if it is not there.

        S3 cannot be told how much a PUT may bring at most; `matches` refuses what is too large.
        """
        url = f"{self._base}/{quote(self._object(key), safe='/-_.~')}"
        headers = {"If-None-Match": "*"} if method == "PUT" else {}
        signed, left_s = self._role.sign(method, url, ttl_s=ttl_s, headers=headers)
        return Grant(method, key, signed, size_bytes, left_s)

    async def discard(self, key: str) -> None:
        """Drop what is stored under a key, if anything is."""
        self._forget(key)
        await self._service.call("delete_object", **self._where(key))

    def room_bytes(self) -> int:
        """Return how many bytes the folder still takes: S3 takes any number."""
        return shutil.disk_usage(self._folder).free

    async def sweep(self, live: frozenset[str], *, older_than_s: float) -> int:
        """Drop what is stored under other keys than these for so long; return how many went."""
        before = time.time() - older_than_s
        over = [
            key
            async for key, stored_at in self._stored()
            if key not in live and max(stored_at, self._stored_at.get(key, 0.0)) <= before
        ]
        for start in range(0, len(over), _AT_ONCE):
            await self._delete(over[start : start + _AT_ONCE])
        await asyncio.to_thread(_drop_idle, self._folder, time.time() - IDLE_S)
        return len(over)

    # ---------------------------------------------------------------------------- calls to S3

    async def _upload(self, path: Path, ref: BlobRef) -> None:
        """Upload a file; S3 compares it with its digest."""
        checksum = base64.b64encode(bytes.fromhex(ref.digest)).decode()
        with path.open("rb") as file:
            await self._service.call(
                "put_object", **self._where(ref.key), Body=file, ChecksumSHA256=checksum
            )
        self._stored_at[ref.key] = time.time()

    async def _size_bytes(self, key: str) -> int:
        try:
            answer = await self._service.call(
                "head_object", expected=_NOT_THERE, **self._where(key)
            )
        except ClientError as error:
            raise BlobNotFound(f"no blob {key}") from error
        return int(answer["ContentLength"])

    async def _download(self, key: str) -> None:
        try:
            answer = await self._service.call("get_object", expected=_NOT_THERE, **self._where(key))
        except ClientError as error:
            raise BlobNotFound(f"no blob {key}") from error
        part = self._folder / secrets.token_hex(16)
        try:
            ref = await asyncio.to_thread(_receive, answer["Body"], part)
            if ref.size_bytes != answer["ContentLength"]:
                raise BlobsUnavailable(f"the download of {key} broke off")
            part.replace(self._copy(key))
        finally:
            part.unlink(missing_ok=True)
        self._verified[key] = ref

    async def _delete(self, keys: list[str]) -> None:
        for key in keys:
            self._forget(key)
        objects = [{"Key": self._object(key)} for key in keys]
        answer = await self._service.call(
            "delete_objects",
            Bucket=self._names.bucket,
            Delete={"Objects": objects, "Quiet": True},
        )
        if errors := answer.get("Errors"):
            raise BlobsUnavailable(f"{errors[0]['Key']} cannot be deleted: {errors[0]['Message']}")

    async def _stored(self) -> AsyncIterator[tuple[str, float]]:
        """Yield every blob's key, and when it was stored, Unix seconds."""
        for kind in ("blobs/", "out/"):
            start: dict[str, str] = {}
            while True:
                page = await self._service.call(
                    "list_objects_v2",
                    Bucket=self._names.bucket,
                    Prefix=self._names.prefix + kind,
                    **start,
                )
                for found in page.get("Contents", ()):
                    key = found["Key"].removeprefix(self._names.prefix)
                    yield key, found["LastModified"].timestamp()
                if not page.get("IsTruncated"):
                    break
                start = {"ContinuationToken": page["NextContinuationToken"]}

    # ---------------------------------------------------------------------------- for inside

    def _object(self, key: str) -> str:
        return self._names.prefix + key

    def _where(self, key: str) -> dict[str, str]:
        return {"Bucket": self._names.bucket, "Key": self._object(key)}

    def _copy(self, key: str) -> Path:
        return self._folder / hashlib.sha256(key.encode()).hexdigest()

    def _forget(self, key: str) -> None:
        self._verified.pop(key, None)
        self._stored_at.pop(key, None)
        self._copy(key).unlink(missing_ok=True)


def _address(client: Any, bucket: str) -> str:  # noqa: ANN401 - boto3's S3 client
    """Return the URL under which a bucket's objects stand, as boto3 would spell it."""
    url = client.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "-"})
    return str(url.partition("?")[0].removesuffix("/-"))


def _receive(chunks: Any, path: Path) -> BlobRef:  # noqa: ANN401 - botocore's stream
    digest, size = hashlib.sha256(), 0
    with path.open("wb") as file:
        for chunk in _pieces(chunks):
            size += len(chunk)
            digest.update(chunk)
            file.write(chunk)
    return BlobRef(digest.hexdigest(), size)


def _pieces(stream: Any) -> Iterable[bytes]:  # noqa: ANN401 - botocore's stream
    while chunk := stream.read(_CHUNK_BYTES):
        yield chunk


def _drop_idle(folder: Path, before: float) -> None:
    for path in folder.iterdir():
        if path.stat().st_mtime <= before:
            path.unlink(missing_ok=True)
