"""Serves a web application inside an event loop that is somebody else's."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import uvicorn

from windflower.adapters.local.tcp_ports import bound, in_url
from windflower.errors import PortTaken

STOP_S: Final = 3


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to the program."""
        yield


class HttpServer:
    """One listening port.

    Args:
        application: an ASGI application.
        host: the address to listen on.
        port: the port; 0 takes a free one.
    """

    def __init__(self, application: Any, *, host: str, port: int) -> None:  # noqa: ANN401 - ASGI
        self._host = host
        self._port = port
        self._server = _Server(
            uvicorn.Config(
                application,
                log_config=None,
                access_log=False,
                lifespan="off",
                ws="none",
                proxy_headers=False,
                server_header=False,
                date_header=False,
                timeout_graceful_shutdown=STOP_S,
            )
        )
        self._task: asyncio.Task[None] | None = None
        self._listener: socket.socket | None = None

    async def start(self) -> int:
        """Listen; return the port.

        Raises:
            PortTaken: the port is in use.
        """
        try:
            listener = self._listener = bound(self._host, self._port)
        except OSError as error:
            raise PortTaken(
                f"cannot listen on {in_url(self._host)}:{self._port}: {error.strerror}"
            ) from error
        self._task = asyncio.create_task(self._server.serve(sockets=[listener]))
        return int(listener.getsockname()[1])

    async def stop(self) -> None:
        """Stop listening, after the transfers that are under way."""
        self._server.should_exit = True
        if self._task is not None:
            await self._task
        if self._listener is not None:
            self._listener.close()
