"""The fleet's half of the protocol at work: carries out what the exchanges say.

One task carries out effects, in batches: all that records in one commit, then the rest in order.
Whatever arrives during a commit waits for the next one, so that a busy fleet shares the disk.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final

from windflower.core import gateway_effects
from windflower.core.events import BrokerConnected, BrokerLost, MessageRefused
from windflower.core.exchange import Exchanges
from windflower.core.gateway_effects import RECORDS, Effect
from windflower.core.ledger import EpochRecord, Memory
from windflower.core.policy import Terms
from windflower.core.roster import Presence, Roster
from windflower.errors import BrokerUnavailable, MalformedMessage, NotEnoughReplies, RunFailed
from windflower.gateway.feed import Feed
from windflower.gateway.traffic import Traffic
from windflower.ports import Blobs, Clock, Commands, Delivery, Intake, Journal
from windflower.wire.blobs import Grant
from windflower.wire.messages import Command, Control, Heartbeat, Reply, seal
from windflower.wire.sealing import Signer

TOGETHER_S: Final = 0.1
"""What a thousand devices say within this is judged once."""

GRANT_S: Final = 3600.0
"""How long a URL lives; a device whose URL died asks for another."""

UPDATE_BYTES: Final = 4 << 30
"""The largest pack that a device may upload."""


class SystemClock:
    """Unix time."""

    def now(self) -> float:
        """Return seconds since 1970."""
        return time.time()


@dataclass(frozen=True, slots=True)
class FleetPorts:
    """What a fleet needs of the world."""

    commands: Commands
    replies: Intake
    presence: Intake
    blobs: Blobs
    journal: Journal
    clock: Clock


class Fleet:
    """Asks devices and settles their answers.

    Args:
        ports: the world.
        signer: signs what devices are told.
        feed: takes events.
        broker: the broker's address, for messages to people.

    Attributes:
        roster: who is there.
        traffic: what was sent and heard since it began.
    """

    def __init__(self, ports: FleetPorts, *, signer: Signer, feed: Feed, broker: str) -> None:
        self._ports = ports
        self._signer = signer
        self._feed = feed
        self._broker = broker
        self.roster = Roster()
        self.traffic = Traffic()
        self._exchanges = Exchanges(self.roster)
        self._pending: list[Effect | _Finish | _KeepPresence] = []
        self._is_pending = asyncio.Event()
        self._is_due = asyncio.Event()
        self._settled: dict[str, str] = {}
        self._waiting: defaultdict[str, list[_Wait]] = defaultdict(list)
        self._open_commands: dict[str, Command] = {}
        self._kept: dict[str, Presence] = {}
        self._changed = asyncio.Condition()
        self._tasks: list[asyncio.Task[None]] = []
        self._inspections: set[asyncio.Task[None]] = set()

    # ------------------------------------------------------------------------- life cycle

    async def start(self) -> Memory:
        """Take up what the journal holds, connect, and begin to serve.

        Raises:
            BrokerUnavailable: no broker answers.
            BrokerRefused: the broker does not let us in.
        """
        self._broken = asyncio.get_running_loop().create_future()
        memory = await self._take_over(await self._ports.journal.recall())
        self._restore(memory)
        await self._ports.commands.open()
        for serve in (self._carry_out, self._hear, self._collect, self._follow_link, self._tick):
            self._tasks.append(asyncio.create_task(serve()))
        return memory

    async def _take_over(self, memory: Memory) -> Memory:
        """Go on with the open runs in an epoch of our own: what is older is not obeyed any more."""
        epoch = memory.last_epoch + 1
        taken = [replace(r, epoch=epoch) for r in memory.runs if r.state == "open"]
        await self._ports.journal.record([EpochRecord(epoch), *taken], at=self._ports.clock.now())
        runs = {r.run: r for r in (*memory.runs, *taken)}
        return replace(memory, runs=tuple(runs.values()), last_epoch=epoch)

    async def stop(self) -> None:
        """End all tasks and disconnect; what is not durable was not acknowledged."""
        everything = [*self._tasks, *self._inspections]
        for task in everything:
            task.cancel()
        await asyncio.gather(*everything, return_exceptions=True)
        await self._ports.commands.close()
        await self._ports.journal.close()

    async def failed(self) -> BaseException:
        """Wait until one of the tasks dies of a bug or a full disk, and return why."""
        watched: list[asyncio.Future[None]] = [*self._tasks, self._broken]
        done, _ = await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
        return next(iter(done)).exception() or RuntimeError("a task of the gateway ended")

    def _restore(self, memory: Memory) -> None:
        # Nobody is online until heard: heartbeats that the broker kept name the devices, and each
        # is called at once.
        self.roster = Roster(replace(p, is_online=False) for p in memory.presences)
        self._exchanges = Exchanges(self.roster)
        self._exchanges.begin(epoch=memory.last_epoch, last_number=memory.last_number)
        for run in memory.runs:
            if run.state == "open":
                self._exchanges.open_run(run.run, number=run.number, epoch=run.epoch)
        for opened in memory.open:
            self._open_commands[opened.command.id] = opened.command
            self._exchanges.restore_open(
                opened.command,
                batch=opened.batch,
                terms=opened.terms,
                asked_at=opened.asked_at,
            )
        for settled in memory.settled:
            self._settled[settled.id] = settled.run
            self._exchanges.restore_settled(
                settled.id,
                run=settled.run,
                batch=settled.batch,
                is_answered=settled.is_answered,
                is_good=settled.is_good,
            )

    # --------------------------------------------------------------------------- for runs

    def open_run(self, run: str, *, number: int, epoch: int) -> None:
        """Begin a run, or go on with it under a higher epoch."""
        self._exchanges.open_run(run, number=number, epoch=epoch)

    @property
    def epoch(self) -> int:
        """The highest epoch that this gateway has used."""
        return self._exchanges.epoch

    def next_epoch(self) -> int:
        """Return an epoch that nobody has used; to be journaled before anybody is told of it."""
        self._exchanges.begin(epoch=self._exchanges.epoch + 1, last_number=0)
        return self._exchanges.epoch

    def end_run(self, run: str) -> None:
        """Forget a run; its devices are told to stop."""
        self._apply(self._exchanges.end_run(run, self._ports.clock.now()))
        over = RunFailed(f"run {run} was ended")
        for id_ in [i for i, c in self._open_commands.items() if c.run == run]:
            for wait in self._waiting.pop(id_, []):
                if not wait.over.done():
                    wait.over.set_exception(over)
        self._settled = {i: r for i, r in self._settled.items() if r != run}
        self._open_commands = {i: c for i, c in self._open_commands.items() if c.run != run}

    def ask(self, commands: Sequence[Command], *, batch: str, terms: Terms) -> None:
        """Ask devices together; what was asked before is adopted."""
        for command in commands:
            if command.id not in self._settled:
                self._open_commands[command.id] = command
        effects = self._exchanges.ask(
            commands, batch=batch, terms=terms, now=self._ports.clock.now()
        )
        self._apply(effects)
        self._is_due.set()

    def is_settled(self, id_: str) -> bool:
        """Return whether the journal holds how an exchange ended."""
        return id_ in self._settled

    def knows(self, id_: str) -> bool:
        """Return whether a command was asked before, whatever became of it."""
        return id_ in self._settled or id_ in self._open_commands

    async def settled(self, ids: Iterable[str], *, batch: str) -> None:
        """Wait until all these exchanges are settled; their deadline bounds the wait.

        Raises:
            NotEnoughReplies: it passed with fewer good replies than their terms ask for.
            RunFailed: the run was ended meanwhile.
        """
        left = {i for i in ids if i not in self._settled}
        if not left:
            return
        wait = _Wait(left, batch, asyncio.get_running_loop().create_future())
        for id_ in left:
            self._waiting[id_].append(wait)
        await wait.over

    async def changed(self) -> None:
        """Wait until a device was heard or lost."""
        async with self._changed:
            await self._changed.wait()

    # ----------------------------------------------------------------------------- inputs

    async def _hear(self) -> None:
        """Take heartbeats."""
        while True:
            deliveries = await self._ports.presence.take()
            for delivery in deliveries:
                self._heard(delivery)
            async with self._changed:
                self._changed.notify_all()
            self._is_due.set()

    def _heard(self, delivery: Delivery) -> None:
        now = self._ports.clock.now()
        try:
            heartbeat = Heartbeat.from_bytes(delivery.body)
            _check_sender(delivery, heartbeat.client)
        except MalformedMessage as refusal:
            self._refuse(delivery, refusal)
        else:
            self.traffic.heartbeat(delivery.body)
            hear = self._exchanges.named if delivery.is_kept else self._exchanges.heard
            self._apply(hear(heartbeat, now))
            self._keep_presence(heartbeat.client)
        self._pending.append(_Finish(delivery))
        self._is_pending.set()

    def _keep_presence(self, device: str) -> None:
        """Journal a presence that says something new; when it was heard need not be exact."""
        presence = self.roster.get(device)
        before = self._kept.get(device)
        if presence is None:
            return
        if before is not None and _without_times(before) == _without_times(presence):
            is_fresh = presence.heard_at - before.heard_at < presence.interval_s / 2
            if is_fresh:
                return
        self._kept[device] = presence
        self._pending.append(_KeepPresence(presence))

    async def _collect(self) -> None:
        """Take replies."""
        while True:
            for delivery in await self._ports.replies.take():
                try:
                    reply = Reply.from_bytes(delivery.body)
                    _check_sender(delivery, reply.client)
                except MalformedMessage as refusal:
                    self._refuse(delivery, refusal)
                else:
                    self.traffic.reply(reply, delivery.body)
                    self._apply(self._exchanges.replied(reply, self._ports.clock.now()))
                self._pending.append(_Finish(delivery))
                self._is_pending.set()

    async def _follow_link(self) -> None:
        problem = None
        while True:
            change = await self._ports.commands.next_change()
            if change.is_up:
                again, problem = problem is not None, None
                self._feed.report(BrokerConnected(broker=self._broker, again=again))
                self._apply(self._exchanges.connected(self._ports.clock.now()))
            else:
                self._exchanges.disconnected()
                if change.reason != problem:  # each try in vain is a change, and no news
                    self._feed.report(BrokerLost(broker=self._broker, reason=change.reason))
                problem = change.reason
            self._is_due.set()  # when there is something to judge has changed

    async def _tick(self) -> None:
        """Sleep until the next deadline, or until there is a nearer one."""
        while True:
            self._is_due.clear()
            wake = self._exchanges.next_wake()
            wait = None if wake is None else max(wake - self._ports.clock.now(), 0.0)
            with suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._is_due.wait()
                    await asyncio.sleep(TOGETHER_S)
                    continue
            self._apply(self._exchanges.tick(self._ports.clock.now()))
            async with self._changed:
                self._changed.notify_all()

    def _refuse(self, delivery: Delivery, refusal: MalformedMessage) -> None:
        self._feed.report(MessageRefused(reason=refusal.reason, device=delivery.device))

    # ---------------------------------------------------------------------------- effects

    def _apply(self, effects: Iterable[Effect]) -> None:
        self._pending += effects
        self._is_pending.set()

    async def _carry_out(self) -> None:
        while True:
            await self._is_pending.wait()
            self._is_pending.clear()
            batch, self._pending = self._pending, []
            records = [e for e in batch if isinstance(e, RECORDS)]
            presences = {
                e.presence.device: e.presence for e in batch if isinstance(e, _KeepPresence)
            }
            if records or presences:
                await self._ports.journal.record(
                    [*records, *presences.values()], at=self._ports.clock.now()
                )
            for effect in batch:
                await self._do(effect)

    async def _do(self, effect: "Effect | _Finish | _KeepPresence") -> None:
        match effect:
            case gateway_effects.Send(command):
                await self._send(command)
            case gateway_effects.Tell():
                await self._tell(effect)
            case gateway_effects.Inspect(reply):
                task = asyncio.create_task(self._inspect(reply))
                self._inspections.add(task)
                task.add_done_callback(self._inspected)
            case gateway_effects.Settle(id_):
                self._settle(id_)
            case gateway_effects.Hold():
                self._hold(effect)
            case gateway_effects.Report(event):
                self._feed.report(event)
            case _Finish(delivery):
                await delivery.done()
            case _:
                pass

    async def _send(self, command: Command) -> None:
        # While there is no link nothing is lost: after the next connection the roll is called.
        with suppress(BrokerUnavailable):
            message = seal(command, self._signer, self._grants(command)).to_bytes()
            await self._ports.commands.send(command.client, message)
            self.traffic.command(command, message)

    async def _tell(self, tell: gateway_effects.Tell) -> None:
        grants: tuple[Grant, ...] = ()
        if tell.method == "grant":
            commands = (self._open_commands.get(id_) for id_ in tell.ids)
            grants = tuple(g for c in commands if c is not None for g in self._grants(c))
        control = Control(
            tell.device, tell.method, tell.ids, tell.boot, epoch=tell.epoch, floor=tell.floor
        )
        with suppress(BrokerUnavailable):
            message = seal(control, self._signer, grants).to_bytes()
            await self._ports.commands.tell(tell.device, message)
            self.traffic.control(message)

    def _grants(self, command: Command) -> tuple[Grant, ...]:
        blobs = self._ports.blobs
        gets = (
            blobs.grant("GET", ref.key, size_bytes=ref.size_bytes, ttl_s=GRANT_S)
            for ref in command.blobs
        )
        put = blobs.grant("PUT", command.reply_key, size_bytes=UPDATE_BYTES, ttl_s=GRANT_S)
        return (*gets, put)

    def _inspected(self, task: asyncio.Task[None]) -> None:
        """A disk that cannot be read fails the gateway: its exchange would wait for ever."""
        self._inspections.discard(task)
        problem = None if task.cancelled() else task.exception()
        if problem is not None and not self._broken.done():
            self._broken.set_exception(problem)

    async def _inspect(self, reply: Reply) -> None:
        pack = reply.content.pack
        key = reply.path
        is_sound = False
        if pack is not None and key is not None:
            is_sound = await self._ports.blobs.matches(key, pack)
            if not is_sound:
                await self._ports.blobs.discard(key)
        now = self._ports.clock.now()
        self._apply(self._exchanges.inspected(reply, is_sound=is_sound, now=now))

    def _settle(self, id_: str) -> None:
        command = self._open_commands.pop(id_, None)
        if command is not None:
            self._settled[id_] = command.run
        for wait in self._waiting.pop(id_, []):
            wait.left.discard(id_)
            if not wait.left and not wait.over.done():
                wait.over.set_result(None)

    def _hold(self, hold: gateway_effects.Hold) -> None:
        """Tell who waits for a batch that it stays open; a run that is resumed waits anew."""
        waits = [w for waits in self._waiting.values() for w in waits if w.batch == hold.batch]
        for wait in waits:
            if not wait.over.done():
                reason = f"{hold.good} devices answered well in time, at least {hold.minimum} must"
                wait.over.set_exception(NotEnoughReplies(reason))


def _without_times(presence: Presence) -> Presence:
    return replace(presence, heard_at=0.0, overdue_at=0.0, clock_ahead_s=None)


def _check_sender(delivery: Delivery, client: str) -> None:
    """A device may speak only for itself: its topic, or its row, says who it is."""
    if client != delivery.device:
        raise MalformedMessage("a message in another device's name")


@dataclass(slots=True)
class _Wait:
    left: set[str]
    batch: str
    over: asyncio.Future[None]


@dataclass(frozen=True, slots=True)
class _Finish:
    """Remove a message from where it came, once all before it is durable."""

    delivery: Delivery


@dataclass(frozen=True, slots=True)
class _KeepPresence:
    """Journal what is known of a device."""

    presence: Presence
