"""A gateway's folder as a long run leaves it: much is settled, one exchange is open."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from scale.asking import TTL_S, command_for
from windflower.adapters.local.journal import open_journal
from windflower.core.gateway_effects import RecordCommands, RecordReply
from windflower.core.ledger import Entry, EpochRecord, PhaseRecord, RunRecord
from windflower.core.policy import RoundPolicy, Terms
from windflower.core.roster import Presence
from windflower.wire.content import Content, blob_ref
from windflower.wire.messages import NO_CONFIG, Command, Reply

PHASES: Final = 20

_PACK: Final = bytes(300)
_ANSWER: Final = Content((("pack", None),), blob_ref(_PACK), _PACK)


async def leave_behind(journal: Path, *, settled: int, waiting: str) -> Command:
    """Write the journal; return the command that is open.

    Args:
        journal: the file.
        settled: how many exchanges of the open run are settled, in `PHASES` closed phases.
        waiting: the device whose exchange is open.
    """
    run = _run()
    devices = [f"past-{number:04}" for number in range(settled // PHASES)]
    written = open_journal(journal)
    now = time.time()
    await written.record([EpochRecord(run.epoch), run, *_presences(devices, now)], at=now)
    for number in range(PHASES):
        await written.record(list(_phase(run, devices, number, now)), at=now)
    command = command_for(run, waiting, "last", _ANSWER)
    terms = Terms(now + TTL_S, waits_for_offline=True)
    await written.record([RecordCommands((command,), "last", terms)], at=now)
    await written.close()
    return command


def _run() -> RunRecord:
    return RunRecord(
        run="1-00000000",
        number=1,
        epoch=1,
        app="scripted",
        folder="",
        bundle=blob_ref(b"no app"),
        config=NO_CONFIG,
        seed=1,
        policy=RoundPolicy(is_strict=True),
        limit=None,
        request="",
        simulated=0,
        crew="",
        state="open",
        created_at=time.time(),
    )


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
