"""What crosses the line between a run's process and its gateway, as JSON."""

from base64 import b64decode, b64encode
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from windflower import errors
from windflower.core.ledger import Settlement
from windflower.core.roster import Presence
from windflower.errors import WindflowerError
from windflower.wire.content import Content
from windflower.wire.messages import NO_CONFIG, NOTHING, Command, Failure, Reply
from windflower.wire.values import Values


def commands_to_json(commands: Sequence[Command]) -> dict[str, Any]:
    """Write commands; a content that a thousand of them share crosses the line once."""
    contents: dict[int, int] = {}
    bodies = []
    shared: list[Any] = []
    for command in commands:
        if id(command.content) not in contents:
            contents[id(command.content)] = len(shared)
            shared.append(command.content.to_json())
        shell = replace(command, content=NOTHING)
        bodies.append([contents[id(command.content)], shell.to_body()])
    return {"contents": shared, "commands": bodies}


def commands_from_json(given: dict[str, Any]) -> list[Command]:
    """Read commands."""
    contents = [Content.from_json(value) for value in given["contents"]]
    return [
        replace(Command.from_body(body), content=contents[index])
        for index, body in given["commands"]
    ]


def settlement_to_json(settlement: Settlement) -> dict[str, Any]:
    """Write how an exchange ended."""
    reply, failure = settlement.reply, settlement.failure
    return {
        "id": settlement.id,
        "run": settlement.run,
        "device": settlement.device,
        "method": settlement.method,
        "batch": settlement.batch,
        "reply": reply.to_bytes().decode() if reply is not None else None,
        "failure": [failure.code, failure.reason] if failure is not None else None,
        "header": b64encode(settlement.header).decode() if settlement.header else None,
    }


def settlement_from_json(value: dict[str, Any]) -> Settlement:
    """Read how an exchange ended."""
    reply, failure, header = value["reply"], value["failure"], value["header"]
    return Settlement(
        value["id"],
        value["run"],
        value["device"],
        value["method"],
        value["batch"],
        Reply.from_bytes(reply.encode()) if reply is not None else None,
        Failure(failure[0], failure[1]) if failure is not None else None,
        b64decode(header) if header is not None else None,
    )


def presence_to_json(presence: Presence) -> dict[str, Any]:
    """Write what is known of a device, in the words of the command line."""
    return {
        "device": presence.device,
        "heard-at": presence.heard_at,
        "online": presence.is_online,
        "interval-s": presence.interval_s,
        "clock-ahead-s": presence.clock_ahead_s,
        "agent": presence.agent,
        "labels": presence.labels,
        "model": presence.model,
    }


def values_to_json(values: Values) -> Any:  # noqa: ANN401 - JSON is any
    """Write a configuration."""
    return Content((("config", values),)).to_json()


def values_from_json(value: Any) -> Values:  # noqa: ANN401 - JSON is any
    """Read a configuration."""
    return Content.from_json(value).records[0][1] or NO_CONFIG


def error_to_json(error: WindflowerError) -> dict[str, Any]:
    """Write an error of ours."""
    numbers = {k: v for k, v in vars(error).items() if isinstance(v, int | str)}
    return {"type": type(error).__name__, "message": str(error), "more": numbers}


def error_from_json(value: dict[str, Any]) -> WindflowerError:
    """Read an error of ours; one that this release does not know becomes the root."""
    kind = getattr(errors, value["type"], WindflowerError)
    try:
        error: WindflowerError = kind(value["message"], **value["more"])
    except TypeError:
        error = WindflowerError(value["message"])
    return error
