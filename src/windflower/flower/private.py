"""Every name of Flower that is not public, in one place, with the releases that it was seen in.

Tested on flwr 1.31.0, 1.41.0 and 1.42.0: `tools/flower_releases.py` runs the oldest and the newest.
"""

import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, cast

from flwr.app import ArrayRecord, Message, Metadata, RecordDict
from flwr.app import Error as FlowerError
from flwr.server.client_proxy import ClientProxy
from flwr.server.criterion import Criterion
from flwr.serverapp import ServerApp
from flwr.serverapp.strategy import strategy_utils

__all__ = [
    "SUPERLINK_NODE",
    "Aggregate",
    "ClientProxy",
    "Criterion",
    "aggregating",
    "log_plainly",
    "make_message",
    "server_fn_of",
    "set_identity",
]

Aggregate = Callable[[list[RecordDict], str], ArrayRecord]

_STRATEGIES: Final = "flwr.serverapp.strategy"
_NAME: Final = "aggregate_arrayrecords"

SUPERLINK_NODE = 1
"""`flwr.common.constant.SUPERLINK_NODE_ID`, the sender of every command (1.13 to 1.42)."""


def set_identity(run_id: int) -> None:
    """Tell Flower which run this process is. One process can be one run only.

    From 1.38 on `Message(content, dst_node_id, ...)` reads these class attributes.
    """
    try:
        from flwr.supercore.task_identity import TaskIdentity  # noqa: PLC0415 - absent before 1.38
    except ImportError:
        return
    TaskIdentity.run_id = run_id
    TaskIdentity.node_id = SUPERLINK_NODE
    TaskIdentity.task_id = 1


def log_plainly() -> None:
    """Let Flower's log lines have no colour where nobody sees it, or wants it (NO_COLOR).

    `ConsoleHandler.colored` of the logger `flwr` (1.31 to 1.42).
    """
    if sys.stderr.isatty() and not os.environ.get("NO_COLOR"):
        return
    for console in logging.getLogger("flwr").handlers:
        if hasattr(console, "colored"):
            console.colored = False


def make_message(
    metadata: Metadata, *, content: RecordDict | None = None, error: FlowerError | None = None
) -> Message:
    """Build a message with the metadata that it had elsewhere.

    `Message(metadata=...)` is marked internal, and is there in 1.22 to 1.42.
    """
    make = cast("Callable[..., Message]", Message)
    if error is not None:
        return make(error=error, metadata=metadata)
    return make(content=content, metadata=metadata)


@contextmanager
def aggregating(aggregate: Aggregate) -> Iterator[Aggregate]:
    """Let message-API strategies aggregate updates with another function; yield Flower's own.

    `strategy_utils.aggregate_arrayrecords(records, weighting_metric_name)`, which the modules of
    strategies import by name (1.22 to 1.42).
    """
    plain: Aggregate = strategy_utils.aggregate_arrayrecords
    users = [m for n, m in sys.modules.items() if n.startswith(_STRATEGIES) and _NAME in vars(m)]
    for module in users:
        setattr(module, _NAME, aggregate)
    try:
        yield plain
    finally:
        for module in users:
            setattr(module, _NAME, plain)


def server_fn_of(app: ServerApp) -> Callable[..., Any] | None:
    """Return a legacy app's `server_fn`, None for an app with a main function (1.8 to 1.42)."""
    if getattr(app, "_main", None) is not None:
        return None
    return cast("Callable[..., Any] | None", getattr(app, "_server_fn", None))
