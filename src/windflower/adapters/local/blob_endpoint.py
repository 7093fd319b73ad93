"""The web application through which devices reach blobs: one GET or one PUT by each signed URL."""

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final
from urllib.parse import unquote

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from windflower.adapters.local.blob_folder import SMALL_BYTES, BlobFolder
from windflower.errors import BlobNotFound
from windflower.wire.blobs import BlobRef

_CHUNK_BYTES: Final = 1 << 20


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
        status = 206 if start else 200
        if total <= SMALL_BYTES:
            return Response(path.read_bytes()[start:], status_code=status, headers=headers)
        return StreamingResponse(_read(path, start), status_code=status, headers=headers)


class _Put(_Endpoint):
    method = "PUT"

    async def answer(self, request: Request, key: str, size_bytes: int) -> Response:
        length = request.headers.get("content-length", "")
        if length.isascii() and length.isdigit() and int(length) > size_bytes:
            return _TOO_LARGE
        try:
            if length.isascii() and length.isdigit() and int(length) <= SMALL_BYTES:
                is_there = await self._blobs.create_small(key, await request.body())
            else:
                is_there = await self._large(request, key, size_bytes)
        except ClientDisconnect:
            return Response(status_code=400)
        except _LargerThanGranted:
            return _TOO_LARGE
        if not is_there:
            return PlainTextResponse("other bytes are there already\n", status_code=409)
        return Response(status_code=201)

    async def _large(self, request: Request, key: str, size_bytes: int) -> bool:
        async with self._blobs.landing() as path:
            ref = await _receive(request, path, size_bytes)
            return await self._blobs.create_large(key, path, ref)


_TOO_LARGE = PlainTextResponse("larger than granted\n", status_code=413)


class _LargerThanGranted(Exception):  # noqa: N818 - named after what it reports
    """A body is longer than its grant allows; the rest of it is not read."""


async def _receive(request: Request, path: Path, size_bytes: int) -> BlobRef:
    """Write a body to a file."""
    digest, size = hashlib.sha256(), 0
    with path.open("wb", buffering=_CHUNK_BYTES) as file:
        async for chunk in request.stream():
            size += len(chunk)
            if size > size_bytes:
                raise _LargerThanGranted
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
