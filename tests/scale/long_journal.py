"""A gateway's folder as a long run leaves it: much is settled, one exchange is open."""

import time
from collections.abc import Iterator
from typing import Final

from scale.asking import TTL_S, command_for, strict_request
from windflower.adapters.local.journal import open_journal
from windflower.compose import StateFolder, open_gateway
from windflower.core.gateway_effects import RecordCommands, RecordReply
from windflower.core.ledger import Entry, PhaseRecord, RunRecord
from windflower.core.policy import Terms
from windflower.core.roster import Presence
from windflower.settings import Settings
from windflower.wire.content import Content, blob_ref
from windflower.wire.messages import Command, Reply

PHASES: Final = 20

_PACK: Final = bytes(300)
_ANSWER: Final = Content((("pack", None),), blob_ref(_PACK), _PACK)


async def leave_behind(settings: Settings, *, settled: int, waiting: str) -> Command:
    """Open a run at a real gateway that ends then, and write the rest of its journal.

    Args:
        settings: of the gateway.
        settled: how many exchanges of the open run are settled, in `PHASES` closed phases.
        waiting: the device whose exchange is open.

    Returns:
        The command that is open.
    """
    async with open_gateway(settings) as gateway:
        run = await gateway.desk.open_run(strict_request())
    devices = [f"past-{number:04}" for number in range(settled // PHASES)]
    written = open_journal(StateFolder(settings.state).journal)
    now = time.time()
    await written.record(list(_presences(devices, now)), at=now)
    for number in range(PHASES):
        await written.record(list(_phase(run, devices, number, now)), at=now)
    command = command_for(run, waiting, "last", _ANSWER)
    terms = Terms(now + TTL_S, waits_for_offline=True)
    await written.record([RecordCommands((command,), "last", terms)], at=now)
    await written.close()
    return command


def _presences(devices: list[str], now: float) -> Iterator[Presence]:
    for device in devices:
        yield Presence(device, now, "0" * 16, 60.0, now + 150.0, is_online=True, labels={})


def _phase(run: RunRecord, devices: list[str], number: int, now: float) -> Iterator[Entry]:
    group = str(number)
    commands = tuple(command_for(run, device, group, _ANSWER) for device in devices)
    yield RecordCommands(commands, group, Terms(now + TTL_S, waits_for_offline=True))
    for command in commands:
        yield RecordReply(_reply(command))
    yield PhaseRecord(run.run, group, tuple(command.id for command in commands), number + 1)


def _reply(command: Command) -> Reply:
    return Reply(
        client=command.client,
        id=command.id,
        method=command.method,
        run=command.run,
        epoch=command.epoch,
        content=_ANSWER,
    )
