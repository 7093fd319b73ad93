"""Commands that windflower itself asks in a run's name, beside those of the app."""

from windflower.core.identity import command_id
from windflower.core.ledger import RunRecord
from windflower.wire.content import Content
from windflower.wire.messages import Command, Method


def own_command(
    run: RunRecord,
    device: str,
    method: Method,
    content: Content,
    *,
    ttl_s: float,
    at: float,
    type_: str | None = None,
    mark: str = "",
    occurrence: int = 1,
) -> Command:
    """Return a command that no app asked for.

    Args:
        run: in whose name it is asked.
        device: who is asked.
        method: what is asked for.
        content: what is sent.
        ttl_s: for how long the device may work on it.
        at: Unix time.
        type_: Flower's message type; None is the method itself.
        mark: tells commands apart that are alike in all else.
        occurrence: how often exactly this was asked before.
    """
    return Command(
        id=command_id(
            run=run.run,
            device=device,
            message_type=type_ or method,
            group=mark,
            content_digest=content.digest,
            occurrence=occurrence,
        ),
        client=device,
        method=method,
        type=type_ or method,
        group="",
        run=run.run,
        number=run.number,
        epoch=run.epoch,
        floor=0,  # the gateway knows
        ttl_s=ttl_s,
        created_at=at,
        content=content,
    )
