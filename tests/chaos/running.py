"""A relay in a thread of its own, for whoever has no event loop."""

import asyncio
import threading
from collections import Counter
from concurrent.futures import Future
from types import TracebackType
from typing import Self

from chaos.faults import Fault, Weather
from chaos.relay import Relay


class RunningRelay:
    """Runs a relay while the block lasts.

    Args:
        broker: the broker's address, mqtt://HOST:PORT or HOST:PORT.
        seed: what all that happens derives from.
        weather: what happens from the start.
        port: where to listen; 0 takes a free port.
        host: the address to listen on.
    """

    def __init__(
        self,
        broker: str,
        *,
        seed: int,
        weather: Weather | None = None,
        port: int = 0,
        host: str = "127.0.0.1",
    ) -> None:
        self._host = host
        where, _, broker_port = broker.removeprefix("mqtt://").rpartition(":")
        self._relay = Relay(
            (where, int(broker_port)), seed=seed, weather=weather, port=port, host=host
        )
        self._loop: asyncio.AbstractEventLoop
        self._stop: asyncio.Event
        self._started: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, name="relay", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._started.result()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    @property
    def url(self) -> str:
        """Where clients find it."""
        return f"mqtt://{self._host}:{self._relay.port}"

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._relay.port

    @property
    def counts(self) -> Counter[Fault]:
        """How many faults of each kind were injected until now."""
        return Counter(self._relay.counts)

    @property
    def messages(self) -> int:
        """How many messages came by until now, harmed or not."""
        return self._relay.messages

    @property
    def problems(self) -> list[str]:
        """What was not understood: traffic that is no MQTT 5."""
        return list(self._relay.problems)

    @property
    def weather(self) -> Weather:
        """What happens to messages from now on."""
        return self._relay.weather

    @weather.setter
    def weather(self, weather: Weather) -> None:
        self._relay.weather = weather

    def cut_all(self) -> None:
        """End every connection by RST."""
        self._loop.call_soon_threadsafe(self._relay.cut_all)

    def half_open_all(self, seconds: float) -> None:
        """Let nothing pass on any connection of now, and end them after a while."""
        self._loop.call_soon_threadsafe(self._relay.half_open_all, seconds)

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        try:
            await self._relay.start()
        except OSError as error:
            self._started.set_exception(error)
            return
        self._started.set_result(None)
        await self._stop.wait()
        await self._relay.stop()
