"""What a gateway shows over HTTP to whoever may look: its numbers, for Prometheus.

On loopback everybody on this machine may look. Elsewhere a token is asked for.
"""

import hmac
from collections.abc import Awaitable, Callable

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from windflower.observe.metrics import Metrics

Answer = Callable[[Request], Awaitable[Response]]


def endpoint(metrics: Metrics, *, token: str | None) -> Starlette:
    """Return the application.

    Args:
        metrics: the numbers.
        token: who asks has to know it (`Authorization: Bearer TOKEN`); None asks for none.
    """

    async def numbers(request: Request) -> Response:
        del request
        return Response(metrics.text(), media_type=CONTENT_TYPE_LATEST)

    return Starlette(routes=[Route("/metrics", _guarded(numbers, token))])


def _guarded(answer: Answer, token: str | None) -> Answer:
    async def guarded(request: Request) -> Response:
        given = request.headers.get("authorization", "").removeprefix("Bearer ")
        if token is not None and not hmac.compare_digest(given.encode(), token.encode()):
            return PlainTextResponse("a token is needed: Authorization: Bearer TOKEN\n", 401)
        return await answer(request)

    return guarded
