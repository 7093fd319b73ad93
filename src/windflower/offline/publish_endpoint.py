"""IoT Core's HTTPS `Publish` played: what is posted goes to the broker. Signatures are not checked.

A message's expiry is taken and not used: our devices keep no session, so nothing waits for them.
"""

from urllib.parse import unquote

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from windflower.adapters.local.mqtt import Connection
from windflower.errors import BrokerUnavailable
from windflower.wire.limits import MESSAGE_BYTES


def publish_endpoint(connection: Connection) -> Starlette:
    """Return the endpoint as an ASGI application.

    Args:
        connection: where to publish.
    """

    async def publish(request: Request) -> Response:
        topic = unquote(request.path_params["topic"])
        payload = await request.body()
        qos = request.query_params.get("qos", "0")
        if qos not in ("0", "1") or len(payload) > MESSAGE_BYTES or not topic:
            return _problem(400, "InvalidRequestException")
        try:
            connection.publish(topic, payload, qos=int(qos))
        except BrokerUnavailable:
            return _problem(503, "ServiceUnavailableException")
        return JSONResponse({"message": "OK"})

    return Starlette(routes=[Route("/topics/{topic:path}", publish, methods=["POST"])])


def _problem(status: int, kind: str) -> Response:
    return JSONResponse({"message": kind}, status_code=status, headers={"x-amzn-ErrorType": kind})
