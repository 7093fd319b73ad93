"""`windflower serve`: the gateway in the foreground."""

import asyncio
import json
import sys
from contextlib import AsyncExitStack
from typing import Any

from windflower.cli.patience import patience
from windflower.cli.run import say
from windflower.compose import RunningGateway, StateFolder, open_gateway, serve_until
from windflower.errors import WindflowerError
from windflower.settings import Settings


async def _tell(gateway: RunningGateway, *, is_json: bool) -> None:
    """Say on standard error what happens: sentences for people, lines for programs."""
    with gateway.feed.watch() as lines:
        async for line in lines:
            if is_json:
                sys.stderr.write(json.dumps(line) + "\n")
            else:
                say(line)


def _introduced(card: dict[str, Any]) -> str:
    """Return what a person needs to know of a gateway that serves."""
    return (
        "The gateway serves. Ctrl-C ends it.\n"
        f"  broker  {card['broker']} ({card['broker-name']})\n"
        f"  blobs   {card['blobs']}\n"
        f"  page    {card['page']}\n"
        f"  key     {card['key']}, which agents are given as --gateway-key\n"
    )


async def serve_gateway(settings: Settings, *, is_json: bool) -> None:
    """Serve until cancelled; says that it serves and where, or why it does not."""
    try:
        async with AsyncExitStack() as stack:
            with patience("starting: the broker, the journal"):
                gateway = await stack.enter_async_context(open_gateway(settings))
            state = StateFolder(settings.state)
            sys.stdout.write(state.card.read_text() if is_json else _introduced(state.gateway()))
            sys.stdout.flush()
            telling = asyncio.create_task(_tell(gateway, is_json=is_json))
            await serve_until(gateway, asyncio.Event())
            telling.cancel()
    except WindflowerError as error:
        if not is_json:
            raise
        answer = {
            "success": False,
            "error-type": type(error).__name__,
            "error-message": str(error),
        }
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.exit(error.exit_code)
