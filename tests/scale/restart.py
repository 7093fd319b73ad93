"""A restart: a gateway with a long journal takes up the exchange that was open."""

import asyncio
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from processes import Programs, until

from scale.command_watch import CommandWatch
from scale.fleet import BrokerProcess, CrewProcess, GatewayProcess
from scale.long_journal import leave_behind
from scale.vitals import processor_s, vitals_of
from windflower.adapters.local.journal import open_journal
from windflower.compose import StateFolder, open_gateway
from windflower.core.ledger import Tally
from windflower.settings import Settings

_INTERVAL_S: Final = 1.0
_DEADLINE_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class RestartFigures:
    """What came of a restart.

    Attributes:
        settled: how many exchanges the journal held settled.
        recalled: how many of them the journal gives back.
        tally: how the run's exchanges had ended once the open one was answered.
        worked: the commands that the waiting device worked on.
        asked: the command that was open.
        recall_s: reading the journal, alone in a process that is warm.
        open_s: opening a whole gateway in a process that is warm.
        command_s: from the process's start to the first command on the wire.
        serves_s: from the process's start to where runs are served.
        processor_s: what the process had used when the open exchange was settled.
        gateway_mb: its memory then.
    """

    settled: int
    recalled: int
    tally: Tally
    worked: list[str]
    asked: str
    recall_s: float
    open_s: float
    command_s: float
    serves_s: float
    processor_s: float
    gateway_mb: float

    def problems(self) -> list[str]:
        """Return what is not as it has to be."""
        found = []
        if self.recalled != self.settled:
            found.append(f"{self.recalled} of {self.settled} settled exchanges are remembered")
        if self.tally != Tally(ok=self.settled + 1):
            found.append(f"the exchanges ended as {self.tally}")
        if self.worked != [self.asked]:
            found.append(f"{self.asked} was open, and {self.worked} was worked on")
        return found


def restart(programs: Programs, settled: int) -> RestartFigures:
    """Start a gateway on a journal of so many settled exchanges and an open one."""
    broker = BrokerProcess(programs)
    broker.start()
    crew = CrewProcess(programs, broker.address, name="waiting", size=1, interval_s=_INTERVAL_S)
    (device,) = crew.devices
    state = StateFolder(programs.folder / "gateway")
    elsewhere = Settings(  # where the waiting device hears nothing
        state=state.path, broker=f"{broker.address}/elsewhere", blobs="127.0.0.1:0"
    )
    command = asyncio.run(leave_behind(elsewhere, settled=settled, waiting=device))
    recalled, recall_s, open_s = asyncio.run(_alone(elsewhere))
    watch = CommandWatch(broker.port, device)
    began = time.monotonic()
    gateway = GatewayProcess(programs, broker.address)
    command_s = watch.first_command(deadline_s=_DEADLINE_S) - began
    watch.close()
    line = gateway.line()
    serves_s = time.monotonic() - began
    until(lambda: line.tally(command.run).ok > settled, "the open exchange's end")
    figures = RestartFigures(
        settled=settled,
        recalled=recalled,
        tally=line.tally(command.run),
        worked=crew.works,
        asked=command.id,
        recall_s=round(recall_s, 3),
        open_s=round(open_s, 3),
        command_s=round(command_s, 3),
        serves_s=round(serves_s, 3),
        processor_s=round(processor_s(gateway.pid), 2),
        gateway_mb=round(vitals_of(gateway.pid).resident_mb, 1),
    )
    line.close()
    return figures


async def _alone(settings: Settings) -> tuple[int, float, float]:
    """Time a copy of the folder in this process, which has imported everything already."""
    copy = settings.state.with_name("copy")
    shutil.copytree(settings.state, copy)
    recalled, recall_s = await _recall(StateFolder(copy).journal)
    began = time.monotonic()
    async with open_gateway(settings.model_copy(update={"state": copy})):
        open_s = time.monotonic() - began
    return recalled, recall_s, open_s


async def _recall(path: Path) -> tuple[int, float]:
    journal = open_journal(path)
    began = time.monotonic()
    memory = await journal.recall()
    recall_s = time.monotonic() - began
    await journal.close()
    return len(memory.settled), recall_s
