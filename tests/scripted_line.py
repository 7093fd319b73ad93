"""A gateway that answers by a script, for tests of what a run does with its answers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from flwr.app import Message, MetricRecord, RecordDict
from samples import RUN_RECORD

from windflower.core.identity import node_of
from windflower.core.ledger import Settlement
from windflower.core.policy import RoundPolicy
from windflower.errors import NotEnoughDevices
from windflower.flower.grid import FleetGrid
from windflower.flower.private import set_identity
from windflower.flower.records import to_content
from windflower.wire.blobs import BlobRef
from windflower.wire.messages import Command, Failure, Reply

DEVICES = ("d1", "d2", "d3", "d4")
RUN = replace(RUN_RECORD, number=1, seed=3)


@dataclass
class ScriptedLine:
    """A gateway whose devices answer by a script, in the reverse order of asking."""

    folder: Path
    answer: Callable[[Command], RecordDict | Failure]
    devices: Sequence[str] = DEVICES
    asked: list[Command] = field(default_factory=list)
    adopted: list[BlobRef] = field(default_factory=list)
    timeouts: list[float | None] = field(default_factory=list)
    spares: list[int] = field(default_factory=list)
    settled: dict[str, Settlement] = field(default_factory=dict)
    aggregates: dict[str, BlobRef] = field(default_factory=dict)
    checkpoints: dict[str, BlobRef] = field(default_factory=dict)
    spared: dict[str, bytes] = field(default_factory=dict)
    is_settled: bool = False

    def roster(self, run: str, call: int) -> tuple[str, ...]:
        del run, call
        return tuple(sorted(self.devices))

    def ask(
        self,
        run: str,
        phase: str,
        commands: Sequence[Command],
        *,
        timeout_s: float | None,
        spares: int = 0,
    ) -> list[Settlement]:
        del phase
        self.spares.append(spares)
        self.timeouts.append(timeout_s)
        self.push(run, commands)
        return [self.settled[c.id] for c in reversed(commands)]

    def push(self, run: str, commands: Sequence[Command]) -> None:
        del run
        self.asked += commands
        for command in commands:
            if not self.is_settled:
                self.settled[command.id] = self._settle(command)

    def _settle(self, command: Command) -> Settlement:
        answer = self.answer(command)
        reply = None
        failure = answer if isinstance(answer, Failure) else None
        if isinstance(answer, RecordDict):
            content = to_content(answer, self.folder / command.id)
            reply = Reply(command.client, command.id, command.method, command.run, 1, content)
        return Settlement(
            command.id, command.run, command.client, command.method, "b", reply, failure
        )

    def pull(self, run: str, call: int, ids: Sequence[str]) -> list[Settlement]:
        del run, call
        return [self.settled[i] for i in ids if i in self.settled]

    def adopt(self, path: Path, ref: BlobRef) -> None:
        self.adopted.append(ref)
        path.unlink()

    def aggregate(self, run: str, key: str) -> BlobRef | None:
        del run
        return self.aggregates.get(key)

    def keep_aggregate(self, run: str, key: str, path: Path, ref: BlobRef) -> None:
        del run
        self.aggregates[key] = ref
        path.rename(self.folder / ref.key.rpartition("/")[2])

    def checkpoint(self, run: str, name: str) -> BlobRef | None:
        del run
        return self.checkpoints.get(name)

    def keep_checkpoint(
        self, run: str, name: str, path: Path, ref: BlobRef, waiting_for: Sequence[str]
    ) -> None:
        del run, waiting_for
        self.checkpoints[name] = ref
        path.rename(self.folder / ref.key.rpartition("/")[2])

    def spare(self, run: str, ids: Sequence[str], header: bytes) -> None:
        del run
        self.spared |= dict.fromkeys(ids, header)

    def locate(self, run: str, keys: Sequence[str]) -> list[Path]:
        del run
        return [self.folder / key.rpartition("/")[2] for key in keys]

    def report(self, line: dict[str, Any]) -> None:
        del line

    def wait_for_devices(self, need: int, *, timeout_s: float) -> int:
        del timeout_s
        have = len(self.devices)
        if have >= need:
            return have
        raise NotEnoughDevices(f"needs {need} devices, {have} online", have=have, need=need)


def echo(command: Command) -> RecordDict:
    number = len(command.client)
    return RecordDict({"metrics": MetricRecord({"num-examples": number})})


def grid_of(line: ScriptedLine, **policy: Any) -> FleetGrid:  # noqa: ANN401 - as RoundPolicy
    set_identity(7)
    return FleetGrid(line, replace(RUN, policy=RoundPolicy(**policy)), scratch=line.folder)


def messages(records: RecordDict, *, group: str = "1", devices: Sequence[str] = DEVICES) -> Any:  # noqa: ANN401
    return [Message(records, node_of(d), "train", group_id=group) for d in devices]
