"""A scripted run: asks all devices together, again and again, over a real line to a gateway."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from windflower.core.identity import command_id
from windflower.core.ledger import RunRecord, Settlement
from windflower.core.policy import RoundPolicy
from windflower.gateway.line import SocketLine
from windflower.gateway.request import RunRequest
from windflower.wire.content import Content, blob_ref
from windflower.wire.messages import NO_CONFIG, Command

TTL_S: Final = 600.0

_BUNDLE: Final = blob_ref(b"no app: the workers are scripted, and no command names this")


@dataclass(frozen=True, slots=True)
class ScriptedRun:
    """A run of one script, strict: it waits for every device that it asks.

    Attributes:
        line: the way to its gateway.
        record: what the gateway knows of it.
        devices: whom it asks.
    """

    line: SocketLine
    record: RunRecord
    devices: Sequence[str]

    @classmethod
    def begin(cls, line: SocketLine, devices: Sequence[str]) -> "ScriptedRun":
        """Open a run."""
        record = line.open_run(strict_request())
        return cls(line, line.begin(record.run, record.epoch), devices)

    def ask(self, group: str, content: Content) -> Sequence[Settlement]:
        """Ask every device for the same, and wait for all."""
        commands = [command_for(self.record, device, group, content) for device in self.devices]
        return self.line.ask(self.record.run, group, commands, timeout_s=None)

    def end(self) -> None:
        """End it well."""
        self.line.end_run(self.record.run, success=True, reason="finished", result={})


def command_for(run: RunRecord, device: str, group: str, content: Content) -> Command:
    """Return what a run asks of a device."""
    return Command(
        id=command_id(
            run=run.run,
            device=device,
            message_type="train",
            group=group,
            content_digest=content.digest,
            occurrence=1,
        ),
        client=device,
        method="fit",
        type="train",
        group=group,
        run=run.run,
        number=run.number,
        epoch=run.epoch,
        floor=0,  # the gateway knows
        ttl_s=TTL_S,
        created_at=time.time(),
        content=content,
    )


def strict_request() -> RunRequest:
    """Return what opens a run that waits for every device that it asks."""
    return RunRequest(
        app="scripted",
        folder="",
        bundle=_BUNDLE,
        config=NO_CONFIG,
        seed=1,
        policy=RoundPolicy(is_strict=True),
    )
