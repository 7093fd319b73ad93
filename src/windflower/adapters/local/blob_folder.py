"""Blobs as files, and the HTTP endpoint that lets devices reach them by signed URLs.

A key never becomes a path: a file is named by the digest of its key. Whoever holds a URL may do one
thing with one key until it expires; a PUT creates a blob once.
"""

import asyncio
import hashlib
import hmac
import os
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, Literal
from urllib.parse import quote, unquote

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from windflower.adapters.local.files import digest_of, make_durable, move_durably
from windflower.errors import BlobNotFound
from windflower.wire.blobs import BlobRef, Grant

_CHUNK_BYTES: Final = 1 << 20


class BlobFolder:
    """Blobs in a folder.

    Args:
        folder: where they are kept; created where it is missing, leftovers of a crash removed.
        secret: signs the URLs; whoever knows it may make any.
        base_url: how devices reach the endpoint, for example "http://192.0.2.1:8777".
    """

    def __init__(self, folder: Path, *, secret: bytes, base_url: str = "") -> None:
        self._folder = folder
        self._secret = secret
        self.base_url = base_url
        self._verified: dict[str, BlobRef] = {}
        self._landing = folder / "landing"
        self._landing.mkdir(parents=True, exist_ok=True)
        for leftover in self._landing.iterdir():
            leftover.unlink()

    # ----------------------------------------------------------------------------- the port

    async def adopt(self, path: Path, ref: BlobRef) -> None:
        """Take over a file whose content `ref` names; durable on return. Idempotent."""
        if self.path(ref.key).exists():
            await asyncio.to_thread(path.unlink, missing_ok=True)
        else:
            await asyncio.to_thread(move_durably, path, self.path(ref.key))
        self._verified[ref.key] = ref

    async def matches(self, key: str, ref: BlobRef) -> bool:
        """Return whether what is stored under `key` is, byte for byte, what `ref` names."""
        if key not in self._verified:
            path = self.path(key)
            if not path.exists():
                return False
            self._verified[key] = await asyncio.to_thread(digest_of, path)
        return self._verified[key] == ref

    async def fetch(self, key: str) -> Path:
        """Return a local file with the bytes; raises BlobNotFound."""
        path = self.path(key)
        if not path.exists():
            raise BlobNotFound(f"no blob {key}")
        return path

    def grant(
        self, method: Literal["GET", "PUT"], key: str, *, size_bytes: int, ttl_s: float
    ) -> Grant:
        """Return a capability for one key."""
        expires = int(time.time() + ttl_s) + 1
        signature = self._sign(method, key, size_bytes, expires)
        query = f"n={size_bytes}&e={expires}&s={signature}"
        url = f"{self.base_url}/{method.lower()}/{quote(key, safe='/')}?{query}"
        return Grant(method, key, url, size_bytes, ttl_s)

    async def discard(self, key: str) -> None:
        """Drop what is stored under a key, if anything is."""
        self._verified.pop(key, None)
        await asyncio.to_thread(self.path(key).unlink, missing_ok=True)

    # --------------------------------------------------------------------------- for inside

    def path(self, key: str) -> Path:
        """Return where the bytes of a key are."""
        name = hashlib.sha256(key.encode()).hexdigest()
        return self._folder / name[:2] / name

    def is_granted(self, method: str, key: str, *, size: str, expires: str, given: str) -> bool:
        """Return whether a request carries a signature that we made, still in time."""
        if not (size.isascii() and size.isdigit() and expires.isascii() and expires.isdigit()):
            return False
        expected = self._sign(method, key, int(size), int(expires))
        return hmac.compare_digest(expected, given) and time.time() < int(expires)

    @asynccontextmanager
    async def landing(self) -> AsyncIterator[Path]:
        """Yield a path for bytes that are still coming; what is left there is removed."""
        path = self._landing / secrets.token_hex(16)
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)

    async def create(self, key: str, path: Path, ref: BlobRef) -> bool:
        """Store a file under a key that is free; return whether the key now holds `ref`."""
        make_durable(path)
        target = self.path(key)
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(path, target)
        except FileExistsError:
            return await self.matches(key, ref)
        self._verified[key] = ref
        return True

    def _sign(self, method: str, key: str, size_bytes: int, expires: int) -> str:
        text = f"{method}\n{key}\n{size_bytes}\n{expires}".encode()
        return hmac.new(self._secret, text, hashlib.sha256).hexdigest()


def blob_endpoint(blobs: BlobFolder) -> Starlette:
    """Return the web application that serves a folder's grants."""
    return Starlette(
        routes=[
            Route("/get/{key:path}", _Get(blobs), methods=["GET"]),
            Route("/put/{key:path}", _Put(blobs), methods=["PUT"]),
        ]
    )


def _refuse() -> Response:
    return PlainTextResponse("this grant is not valid (any more)\n", status_code=403)


class _Endpoint:
    """An ASGI application for one method."""

    method: str

    def __init__(self, blobs: BlobFolder) -> None:
        self._blobs = blobs

    async def __call__(self, scope, receive, send) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
        request = Request(scope, receive)
        key = unquote(request.path_params["key"])
        query = request.query_params
        granted = self._blobs.is_granted(
            self.method,
            key,
            size=query.get("n", ""),
            expires=query.get("e", ""),
            given=query.get("s", ""),
        )
        response = await self.answer(request, key, int(query["n"])) if granted else _refuse()
        await response(scope, receive, send)

    async def answer(self, request: Request, key: str, size_bytes: int) -> Response:
        raise NotImplementedError


class _Get(_Endpoint):
    method = "GET"

    async def answer(self, request: Request, key: str, size_bytes: int) -> Response:
        del size_bytes
        try:
            path = await self._blobs.fetch(key)
        except BlobNotFound:
            return PlainTextResponse("no such blob\n", status_code=404)
        total = path.stat().st_size
        start = _range_start(request.headers.get("range", ""))
        if start >= total > 0:
            return Response(status_code=416)
        headers = {"content-length": str(total - start)}
        if start:
            headers["content-range"] = f"bytes {start}-{total - 1}/{total}"
        return StreamingResponse(
            _read(path, start), status_code=206 if start else 200, headers=headers
        )


class _Put(_Endpoint):
    method = "PUT"

    async def answer(self, request: Request, key: str, size_bytes: int) -> Response:
        async with self._blobs.landing() as path:
            try:
                ref = await _receive(request, path, size_bytes)
            except ClientDisconnect:
                return Response(status_code=400)
            if ref is None:
                return PlainTextResponse("larger than granted\n", status_code=413)
            is_there = await self._blobs.create(key, path, ref)
        if not is_there:
            return PlainTextResponse("other bytes are there already\n", status_code=409)
        return Response(status_code=201)


async def _receive(request: Request, path: Path, size_bytes: int) -> BlobRef | None:
    """Write a body to a file; None where it is larger than granted."""
    digest, size = hashlib.sha256(), 0
    with path.open("wb", buffering=_CHUNK_BYTES) as file:
        async for chunk in request.stream():
            size += len(chunk)
            if size > size_bytes:
                return None
            digest.update(chunk)
            file.write(chunk)
    return BlobRef(digest.hexdigest(), size)


async def _read(path: Path, start: int) -> AsyncIterator[bytes]:
    with path.open("rb") as file:
        file.seek(start)
        while chunk := file.read(_CHUNK_BYTES):
            yield chunk


def _range_start(header: str) -> int:
    """Read "bytes=N-": the one form that our devices send to go on with a download."""
    start = header.removeprefix("bytes=").removesuffix("-")
    return int(start) if header.startswith("bytes=") and start.isascii() and start.isdigit() else 0
