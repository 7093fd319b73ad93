"""Flower's Grid over a fleet: idempotent, thread-safe, woken by arrival, never polling.

A command's id follows from what is asked of whom for how often, so that a run that starts again
executes its ServerApp from the top: what was settled answers at once, what is open is adopted, what
is new is sent.
"""

import hashlib
import secrets
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

from flwr.app import DEFAULT_TTL, Message, Metadata, RecordDict
from flwr.app import Error as FlowerError
from flwr.serverapp import Grid

from windflower.core.identity import (
    checkpoint_seed,
    command_id,
    device_seed,
    node_of,
    run_integer,
)
from windflower.core.ledger import RunRecord, Settlement
from windflower.errors import (
    ConfigError,
    MalformedMessage,
    NotEnoughDevices,
    RunFailed,
    WindflowerError,
)
from windflower.flower.aggregation import Aggregation
from windflower.flower.checkpoints import Checkpoint, Progress, described, from_pack, to_pack
from windflower.flower.loading import seed_sources
from windflower.flower.private import SUPERLINK_NODE, make_message
from windflower.flower.readiness import Readiness
from windflower.flower.records import (
    from_content,
    on_a_full_disk_suspended,
    to_packing,
    write_pack,
)
from windflower.gateway.line import RunLine
from windflower.wire.content import Content, finish, pack_inline
from windflower.wire.limits import INLINE_PACK_BYTES
from windflower.wire.messages import Command, Failure, method_of

PAUSE_S: Final = 5.0
"""Flower's own wait asks every second: whoever asks more rarely does not wait for the fleet."""

UNREADABLE: Final = 4
UNKNOWN_NODE: Final = 5
"""Flower's error codes (flwr.common.constant.ErrorCode)."""


class FleetGrid(Grid):
    """Lets an unmodified ServerApp work with devices that are reached over a gateway.

    A device that is offline, late or failing answers with a Flower `Error`, so that a strategy
    counts a failure and goes on. Replies come sorted by node id, whatever the order of arrival;
    their arrays are read when they are asked for.

    Args:
        line: the gateway.
        run: the run that the app is executed for.
        scratch: where packs are written; on the gateway's file system, which takes them over.
        inline_bytes: a larger pack travels beside the messages.
        requires: what the app needs that a device may lack.

    Attributes:
        stopped: why the run cannot go on, once that is so. An app may swallow what is raised.
        timeout_s: how long messages are waited for that say nothing of it, and are sent without a
            timeout; None waits for as long as they live.
        aggregation: remembers what becomes of updates.
    """

    def __init__(
        self,
        line: RunLine,
        run: RunRecord,
        *,
        scratch: Path,
        inline_bytes: int = INLINE_PACK_BYTES,
        requires: Sequence[str] = (),
    ) -> None:
        self.stopped: WindflowerError | None = None
        self.timeout_s: float | None = None
        self._scratch = scratch
        self._inline_bytes = inline_bytes
        self.aggregation = Aggregation(line, run.run, scratch=scratch)
        self._line = line
        self._readiness = Readiness(line, run, requires)
        self._record = run
        self._run: Any = SimpleNamespace(run_id=run_integer(run.run), run=run.run)
        self._waits_since: float | None = None
        self._asked_at = 0.0
        self._lock = threading.RLock()
        self._owner = threading.current_thread()
        self._progress = Progress()
        self._devices: dict[int, str] = {}
        self._present: list[int] = []
        self._sent: dict[str, Metadata] = {}
        self._refused: dict[str, str] = {}
        self._first_failure = ""

    # ------------------------------------------------------------------------ Flower's side

    def set_run(self, run: Any) -> None:  # noqa: ANN401 - an int up to 1.27, then a Run
        """Accept what Flower sets; a grid serves the one run that it was made for."""
        self._run = run if hasattr(run, "run_id") else self._run

    @property
    def run(self) -> Any:  # noqa: ANN401 - Flower's Run, of which apps read `run_id`
        """The run, as Flower shows it."""
        return self._run

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """Build a message (deprecated by Flower in favour of its constructor)."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        """Return the node ids of the devices that may be asked, ascending.

        The app's own thread is told the same as when this run was executed before; other threads
        get what that thread got last.

        Raises:
            NotEnoughDevices: the app has waited in vain: it did nothing but ask for the fleet for
                as long as its run may wait. Flower's own wait has no end.
        """
        with self._lock, self._noticing():
            progress = self._progress
            if threading.current_thread() is self._owner or not progress.rosters:
                devices = self._able()
                self._devices = _by_node(devices) | self._devices
                self._present = sorted(node_of(device) for device in devices)
                self._check_patience(len(devices))
            return list(self._present)

    def _able(self) -> list[str]:
        """Return who is there and can run the app; asking them takes time, so look again after."""
        while True:
            there = self._line.roster(self._record.run, self._progress.rosters)
            self._progress.rosters += 1
            asked = len(self._readiness.asked)
            able = self._readiness.of(there)
            if len(self._readiness.asked) == asked:
                return able

    @property
    def known(self) -> int:
        """How many devices the app was told of last."""
        return len(self._present)

    def _check_patience(self, online: int) -> None:
        now = time.monotonic()
        if now - self._asked_at > PAUSE_S:
            self._waits_since = None  # it did something else meanwhile
        self._asked_at = now
        self._waits_since = self._waits_since or now
        if now - self._waits_since > self._record.policy.wait_devices_s:
            self._waits_since = None
            if self._readiness.unfit:
                raise NotEnoughDevices(
                    f"{online} devices can run {self._record.app}, and it waits for more;"
                    f" {self._readiness.first_reason}",
                    have=online,
                    need=online + 1,
                )
            self._line.wait_for_devices(online + 1, timeout_s=0)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Send messages without waiting for answers; return their ids, in order."""
        with self._lock, self._noticing():
            commands, ids = self._commands(messages)
            if commands:
                self._line.push(self._record.run, commands)
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Return the answers that have arrived for these messages; never waits."""
        self._waits_since = None
        wanted = list(message_ids)
        with self._lock, self._noticing():
            answers = [self._refusal(i) for i in wanted if i in self._refused]
            ids = [i for i in wanted if i in self._sent]
            call = self._progress.pulls
            settlements = self._line.pull(self._record.run, call, ids) if ids else []
            self._progress.pulls += bool(settlements)
        return _sorted([*answers, *self._answers(settlements)])

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Send messages and wait until each is answered or given up.

        Args:
            messages: what to send.
            timeout: seconds; what is not answered by then is answered by an Error. None waits for
                as long as the messages live (`ttl`).
        """
        messages = list(messages)
        if timeout is None and all(message.metadata.ttl == DEFAULT_TTL for message in messages):
            timeout = self.timeout_s
        with self._noticing():
            with self._lock:
                commands, ids = self._commands(messages)
                spares = self._spares(commands)
            answers = [self._refusal(i) for i in ids if i in self._refused]
            if commands:
                phase = hashlib.sha256("\n".join(ids).encode()).hexdigest()
                settlements = self._line.ask(
                    self._record.run,
                    phase,
                    [*commands, *spares],
                    timeout_s=timeout,
                    spares=len(spares),
                )
                answers += self._answers(_best(settlements, len(commands)))
        return _sorted(answers)

    # -------------------------------------------------------------- a strategy with checkpoints

    def checkpoint(self, name: str) -> Checkpoint | None:
        """See `KeepsCheckpoints`."""
        with self._lock, self._noticing():
            ref = self._line.checkpoint(self._record.run, name)
            if ref is None:
                return None
            (path,) = self._line.locate(self._record.run, [ref.key])
            kept = from_pack(path, ref)
            mine = kept.notes["grid"]
            self._progress = Progress.from_json(mine["progress"])
            self._devices = _by_node(mine["devices"]) | self._devices
            for id_, sent in mine["waiting"].items():
                self._sent[id_] = self._metadata(id_, sent)
            self._seed_sources()
        return Checkpoint(kept.arrays, kept.notes["strategy"])

    def keep_checkpoint(
        self, name: str, checkpoint: Checkpoint, *, waiting_for: Sequence[str]
    ) -> None:
        """See `KeepsCheckpoints`."""
        path = self._scratch / f"{secrets.token_hex(8)}.pack"
        with self._lock, self._noticing():
            self._progress.checkpoints += 1
            self._progress.asked.clear()
            mine = {
                "progress": self._progress.to_json(),
                "devices": sorted(self._devices.values()),
                "waiting": {id_: described(self._sent[id_]) for id_ in waiting_for},
            }
            notes = {"grid": mine, "strategy": checkpoint.notes}
            try:
                with on_a_full_disk_suspended():
                    ref = write_pack(to_pack(Checkpoint(checkpoint.arrays, notes)), path)
                self._line.keep_checkpoint(self._record.run, name, path, ref, waiting_for)
            finally:
                path.unlink(missing_ok=True)
            self._seed_sources()

    def _seed_sources(self) -> None:
        """Draw alike behind a checkpoint, whatever was drawn before."""
        run, number = self._record, self._progress.checkpoints
        seed = checkpoint_seed(run_seed=run.seed, number=number)
        seed_sources(seed, is_secret=run.is_private)

    def _metadata(self, id_: str, sent: dict[str, Any]) -> Metadata:
        return Metadata(
            run_id=run_integer(self._record.run),
            message_id=id_,
            src_node_id=SUPERLINK_NODE,
            reply_to_message_id="",
            **sent,
        )

    def check_answers(self) -> None:
        """Look back once the app has ended: it may have swallowed all that devices said.

        Raises:
            RunFailed: nobody ever answered well, though the run's policy asks for that.
        """
        progress = self._progress
        if progress.failed and not progress.good and self._record.policy.min_replies:
            raise RunFailed(
                f"no device ever answered well, of {progress.failed} answers; the first says:"
                f" {self._first_failure}"
            )

    @contextmanager
    def _noticing(self) -> Iterator[None]:
        """Keep why the run cannot go on; threads of legacy apps swallow what is raised."""
        try:
            yield
        except WindflowerError as error:
            self.stopped = self.stopped or error
            raise

    # --------------------------------------------------------------------------- to the wire

    def _commands(self, messages: Iterable[Message]) -> tuple[list[Command], list[str]]:
        """Make commands; what several messages share is encoded and stored once."""
        self._waits_since = None
        self.aggregation.spare()
        contents: dict[int, tuple[RecordDict, Content]] = {}
        commands: list[Command] = []
        ids: list[str] = []
        for message in messages:
            records = message.content
            if id(records) not in contents:
                # The records are kept too: their id may not be given to others meanwhile.
                contents[id(records)] = (records, self._content(records))
            content = contents[id(records)][1]
            device = self._device(message.metadata.dst_node_id)
            id_ = self._identify(device or "", message.metadata, content)
            self._sent[id_] = message.metadata
            ids.append(id_)
            if device is None:
                node = message.metadata.dst_node_id
                self._refused[id_] = f"no device of this fleet has the node id {node}"
            else:
                commands.append(self._command(id_, device, message.metadata, content))
        for command in {id(c.content): c for c in commands}.values():
            command.check_sendable()
        return commands, ids

    def _content(self, records: RecordDict) -> Content:
        packing = to_packing(records)
        if packing.size_bytes <= self._inline_bytes:
            return pack_inline(packing)
        path = self._scratch / f"{secrets.token_hex(8)}.pack"
        try:
            with on_a_full_disk_suspended():
                ref = write_pack(packing, path)
            self._line.adopt(path, ref)
        finally:
            path.unlink(missing_ok=True)
        return finish(packing, ref)

    def _identify(self, device: str, metadata: Metadata, content: Content) -> str:
        asked = (device, metadata.message_type, metadata.group_id, content.digest)
        return command_id(
            run=self._record.run,
            device=device,
            message_type=metadata.message_type,
            group=metadata.group_id,
            content_digest=content.digest,
            occurrence=self._progress.occurrence(asked),
        )

    def _command(self, id_: str, device: str, metadata: Metadata, content: Content) -> Command:
        run = self._record
        self._progress.worked[device, metadata.message_type] += 1
        return Command(
            id=id_,
            client=device,
            method=method_of(metadata.message_type),
            type=metadata.message_type,
            group=metadata.group_id,
            run=run.run,
            number=run.number,
            epoch=run.epoch,
            floor=0,  # the gateway knows
            ttl_s=metadata.ttl or DEFAULT_TTL,
            created_at=metadata.created_at,
            content=content,
            bundle=run.bundle,
            config=run.config,
            seed=self._seed(device, metadata.message_type),
        )

    def _seed(self, device: str, message_type: str) -> str | None:
        """Return the seed for a piece of work; None leaves it to the device's own secret."""
        if self._record.is_private:
            return None
        return device_seed(
            run_seed=self._record.seed,
            device=device,
            message_type=message_type,
            occurrence=self._progress.worked[device, message_type],
        )

    def _spares(self, commands: Sequence[Command]) -> list[Command]:
        """Ask more devices for the same, where the app asks all of its devices for the same."""
        wanted = self._record.policy.spares(len(commands))
        asked = {(c.content.digest, c.type, c.group) for c in commands}
        if not wanted or len(asked) != 1:
            return []
        self._progress.spared += 1
        spared = self._progress.spared
        # A roster of its own, journaled as the app's are: a run that starts again chooses alike.
        present = self._line.roster(self._record.run, -spared)
        left = set(self._readiness.of(present)) - {c.client for c in commands}
        first, metadata = commands[0], self._sent[commands[0].id]
        spares = []
        # By what stays the same when a lenient run asks with other values.
        occasion = f"{first.type} {first.group} {spared}"
        for device in sorted(left, key=lambda d: self._draw(d, occasion))[:wanted]:
            self._devices |= _by_node([device])
            id_ = self._identify(device, metadata, first.content)
            self._sent[id_] = metadata
            spares.append(self._command(id_, device, metadata, first.content))
        return spares

    def _draw(self, device: str, occasion: str) -> str:
        return hashlib.sha256(f"{self._record.seed} {occasion} {device}".encode()).hexdigest()

    def _device(self, node: int) -> str | None:
        if node not in self._devices:
            self.get_node_ids()  # an app may keep node ids from elsewhere: look once more
        return self._devices.get(node)

    # ------------------------------------------------------------------------- from the wire

    def _answers(self, settlements: Sequence[Settlement]) -> list[Message]:
        whole = [s.reply for s in settlements if s.reply is not None and s.header is None]
        keys = [reply.path for reply in whole if reply.path]
        paths = self._line.locate(self._record.run, keys) if keys else []
        packs = dict(zip(keys, paths, strict=True))
        return [self._answer(settlement, packs) for settlement in settlements]

    def _answer(self, settlement: Settlement, packs: dict[str, Path]) -> Message:
        reply = settlement.reply
        failure = settlement.failure or (reply.failure if reply is not None else None)
        content: RecordDict | None = None
        if reply is not None and failure is None:
            pack = packs.get(reply.path or "")
            try:
                content = from_content(reply.content, pack, header=settlement.header)
                self.aggregation.follow(settlement, content, pack)
            except MalformedMessage as error:
                failure = Failure(
                    UNREADABLE, f"{settlement.device} sent what is no answer: {error}"
                )
        return self._message(settlement.id, node_of(settlement.device), content, failure)

    def _refusal(self, id_: str) -> Message:
        node = self._sent[id_].dst_node_id
        return self._message(id_, node, None, Failure(UNKNOWN_NODE, self._refused[id_]))

    def _message(
        self, id_: str, node: int, content: RecordDict | None, failure: Failure | None
    ) -> Message:
        sent = self._sent[id_]
        metadata = Metadata(
            run_id=run_integer(self._record.run),
            message_id=f"{id_}-reply",
            src_node_id=node,
            dst_node_id=SUPERLINK_NODE,
            reply_to_message_id=id_,
            group_id=sent.group_id,
            created_at=time.time(),
            ttl=sent.ttl,
            message_type=sent.message_type,
        )
        if failure is not None:
            self._progress.failed += 1
            self._first_failure = self._first_failure or failure.reason
            return make_message(metadata, error=FlowerError(failure.code, failure.reason))
        self._progress.good += 1
        return make_message(metadata, content=content)


def _by_node(devices: Sequence[str]) -> dict[int, str]:
    by_node = {node_of(device): device for device in devices}
    if len(by_node) != len(set(devices)):
        raise ConfigError("two device ids have the same node id: rename one of them", key="device")
    return by_node


def _best(settlements: Sequence[Settlement], count: int) -> list[Settlement]:
    """Return as many as the app asked for: good replies first, then failures, then silence."""
    ranked = sorted(settlements, key=lambda s: (not s.is_good, s.reply is None, node_of(s.device)))
    return ranked[:count]


def _sorted(messages: list[Message]) -> list[Message]:
    """Sort by node id: sums of floats depend on their order."""
    return sorted(messages, key=lambda message: message.metadata.src_node_id)
