"""A real gateway, which also says how many tasks it has.

python -m scale.gateway STATE BROKER
"""

import asyncio
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

from scale.census import count_tasks
from windflower.cli.serve import serve_gateway
from windflower.settings import load_settings

TASKS: Final = "tasks"
"""The census in the gateway's state folder."""


async def serve(state: Path, broker: str) -> None:
    """Serve as `windflower serve --format json` does, until SIGTERM."""
    settings = load_settings(state=state, broker=broker, blobs="127.0.0.1:0")
    state.mkdir(parents=True, exist_ok=True)
    serving = asyncio.create_task(serve_gateway(settings, is_json=True))
    counting = asyncio.create_task(count_tasks(state / TASKS))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, serving.cancel)
    with suppress(asyncio.CancelledError):
        await serving
    counting.cancel()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), sys.argv[2]))
