"""A device: a disk, the real `Duty`, a worker, a link."""

from dataclasses import dataclass, field
from typing import Final

from sim.app import Result, first_state, work
from sim.codec import Parcel
from sim.network import GATEWAY, Link
from sim.place import Place
from sim.process import Process
from sim.world import Violation, Word
from windflower.core.device_effects import (
    STORING,
    Beat,
    Drop,
    Effect,
    Fetch,
    FetchProblem,
    Forget,
    ForgetBelow,
    KeepCommand,
    KeepReply,
    KeepStart,
    Note,
    Publish,
    StopWork,
    Upload,
    Work,
)
from windflower.core.duty import STARTS, Kept, heartbeat_of
from windflower.core.events import Event, MessageRefused
from windflower.core.retention import unneeded
from windflower.wire.messages import Command, Control, Heartbeat, Reply

_SOON_S: Final = 0.001


@dataclass(slots=True)
class Row:
    """What the disk holds of one command."""

    command: Command
    reply: Reply | None = None
    pack: bytes | None = None
    is_acknowledged: bool = False
    starts: int = 0
    cancelled_by: int | None = None


@dataclass(slots=True)
class Disk:
    """What outlives a crash."""

    rows: dict[str, Row] = field(default_factory=dict)
    states: dict[str, str] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    floor: int = 0

    def first_unanswered(self) -> Row | None:
        """Return what the device would begin with."""
        waiting = (r for r in self.rows.values() if r.reply is None and not r.is_acknowledged)
        return next(waiting, None)

    def is_clear(self) -> bool:
        """Whether nothing is owed to the gateway."""
        return all(row.is_acknowledged for row in self.rows.values())


class DeviceNode(Process[Effect]):
    """Carries out what `Duty` decides."""

    def __init__(self, place: Place, name: str) -> None:
        super().__init__(place.world, name, waits_for_records=place.parts.waits_for_records)
        self.place = place
        self.disk = Disk()
        self.link = Link(place.network, name, came_up=self._came_up, receive=self._receive)
        self.works = 0
        self._duty = place.parts.duty(name, interval_s=place.heartbeat_s)
        self._boot_at = 0.0
        self._clock_from = 0.0
        self._clock_pace = 1.0
        self._wake_at = float("inf")
        self._job = 0
        self._results: dict[str, Result] = {}

    # -------------------------------------------------------------------------------- lives

    def start(self) -> None:
        """Boot."""
        if self.is_alive:
            return
        self.is_alive = True
        if self.place.parts.counts_boots and (first := self.disk.first_unanswered()) is not None:
            first.starts += 1
        self._results = {}
        self._wake_at = float("inf")
        self._set_clock()
        self._duty = self.place.parts.duty(self.name, interval_s=self.place.heartbeat_s)
        self.world.note(self.name, "boots for the", str(self.life + 1), "time")
        will = self.place.codec.write(self._heartbeat(Beat("gone", None, (), (), ())))
        self.link.start(will=will)
        remembers = self.place.parts.remembers_done
        kept = [
            Kept(r.command, r.reply, r.is_acknowledged, r.starts, r.cancelled_by)
            for r in self.disk.rows.values()
            if remembers or not r.is_acknowledged
        ]
        self._take(self._duty.restore(kept, floor=self.disk.floor, now=self._clock()))

    def crash(self) -> None:
        """Lose power."""
        self.stay_off(self.world.between(0.5, self.place.weather.longest_outage_s))

    def stay_off(self, outage_s: float) -> None:
        """Lose power for a given time."""
        if self.is_alive and not self._is_unlucky():
            self.world.note(self.name, "loses power for", outage_s, "s")
            self.die()
            self.place.oracle.crashed(self.name)
            self.link.stop()
            self.world.after(outage_s, self.start)

    def loses_power(self) -> bool:
        strikes = self.world.chance(self.place.weather.device_power_loss)
        return strikes and not self._is_unlucky()

    def _is_unlucky(self) -> bool:
        """Whether one more crash would make the agent give up what it works on."""
        if not self.place.spares_the_unlucky:
            return False
        # What is being written may be durable after the crash.
        counting = self._writing.id if isinstance(self._writing, KeepStart) else None
        return any(
            row.reply is None and row.starts + (id_ == counting) >= STARTS
            for id_, row in self.disk.rows.items()
        )

    def _set_clock(self) -> None:
        self._boot_at = self.world.now
        if self.place.weather.clocks_are_wrong:
            self._clock_from = self.world.between(0.0, 1e6)
            self._clock_pace = self.world.between(0.9, 1.1)

    def _clock(self) -> float:
        return self._clock_from + (self.world.now - self._boot_at) * self._clock_pace

    # ------------------------------------------------------------------------------- inputs

    def _take(self, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Drop):
                self.place.oracle.cancelled(self.name, effect.ids, effect.epoch)
        self.enact(self.place.parts.device_filter(effects))
        if self.is_alive:
            self._plan_to_wake()

    def _plan_to_wake(self) -> None:
        delay_s = max(self._duty.next_wake() - self._clock(), 0.0) / self._clock_pace
        wake_at = self.world.now + max(delay_s, _SOON_S)
        if self._wake_at <= self.world.now or wake_at < self._wake_at:
            self._wake_at = wake_at
            self.later(wake_at - self.world.now, self._wake, wake_at)

    def _wake(self, planned_at: float) -> None:
        if planned_at == self._wake_at:
            self._wake_at = float("inf")
            self._take(self._duty.tick(self._clock()))

    def _came_up(self) -> None:
        self.world.note(self.name, "is connected")
        self._take(self._duty.connected(self._clock()))

    def _receive(self, kind: str, parcel: Parcel) -> None:
        message, grants = self.place.codec.open(parcel)
        self.world.note(self.name, "hears", kind, message.method, *_short(message))
        if isinstance(message, Control) and message.boot == self._boot():
            raise Violation("alone", f"{self.name} is told to stop, and there is no other")
        if isinstance(message, Command):
            self.place.oracle.command_heard(self.name, message)
            self._take(self._duty.ordered(message, grants, self._clock()))
        else:
            self._take(self._duty.controlled(message, grants, self._clock()))

    # ------------------------------------------------------------------------------ records

    def is_record(self, effect: Effect) -> bool:
        return isinstance(effect, STORING)

    def write(self, effect: Effect) -> None:
        match effect:
            case KeepCommand(command):
                self.world.note(self.name, "keeps", command.method, command.id)
                self.place.oracle.command_kept(self.name, command, floor=self.disk.floor)
                self._write_command(command)
            case KeepReply(reply, _):
                self._write_reply(reply)
            case KeepStart(id_) if id_ in self.disk.rows:
                self.place.oracle.start_kept(id_)
                self.disk.rows[id_].starts += 1
            case KeepStart():
                pass  # a planted bug works before it keeps the command
            case Forget(ids):
                self._write_forget(ids, None)
            case Drop(ids, epoch):
                self._write_forget(ids, epoch)
            case ForgetBelow(number):
                self._write_floor(number)
            case _:
                raise AssertionError(effect)

    def _write_command(self, command: Command) -> None:
        row = self.disk.rows.get(command.id)
        is_revived = row is not None and row.cancelled_by is not None
        if row is None or (is_revived and (row.cancelled_by or 0) < command.epoch):
            self.disk.rows[command.id] = Row(command)

    def _write_reply(self, reply: Reply) -> None:
        self.world.note(self.name, "keeps its reply", reply.id)
        self.place.oracle.reply_kept(reply)
        row = self.disk.rows[reply.id]
        row.reply = reply
        result = self._results.pop(reply.id, None)
        if result is None:
            return
        row.pack = result.pack
        if self.place.parts.commits_state == "with":
            self._write_state(reply.run, result.state)
        elif self.place.parts.commits_state == "after":
            self.later(0.5, self._write_state, reply.run, result.state)

    def _write_state(self, run: str, state: str) -> None:
        self.disk.states[run] = state

    def _write_forget(self, ids: tuple[str, ...], cancelled_by: int | None) -> None:
        self.world.note(self.name, "forgets", ids)
        if cancelled_by is None:
            self.place.oracle.forgotten(self.name, ids)
        else:
            self.place.oracle.dropped(self.name, ids, cancelled_by)
        for id_ in ids:
            row = self.disk.rows[id_]
            row.is_acknowledged, row.reply, row.pack = True, None, None
            row.cancelled_by = cancelled_by
        self._trim()

    def _write_floor(self, number: int) -> None:
        self.world.note(self.name, "forgets the runs below", str(number))
        self.place.oracle.floor_raised(self.name, number)
        over = {r.command.run for r in self.disk.rows.values() if r.command.number < number}
        self.disk.floor = number
        self.disk.rows = {i: r for i, r in self.disk.rows.items() if r.command.run not in over}
        self.disk.states = {run: s for run, s in self.disk.states.items() if run not in over}
        self._trim()

    # ------------------------------------------------------------------------------ effects

    def carry_out(self, effect: Effect) -> None:
        match effect:
            case Work(command):
                self._begin(command)
            case StopWork():
                self._job += 1
            case Fetch():
                self.later(self.world.between(0.02, 3.0), self._fetch, effect)
            case Upload():
                self.later(self.world.between(0.02, 3.0), self._upload, effect)
            case Publish(reply):
                self._publish(reply)
            case Beat():
                self._beat(effect)
            case Note(event):
                self._note(event)
            case _:
                raise AssertionError(effect)

    def _note(self, event: Event) -> None:
        if isinstance(event, MessageRefused):
            self.world.note(self.name, "refuses:", event.reason)

    def _publish(self, reply: Reply) -> None:
        self.world.note(self.name, "replies", reply.id)
        self.place.oracle.published(reply)
        self.link.send(GATEWAY, "reply", self.place.codec.write(reply))

    def _beat(self, beat: Beat) -> None:
        self.world.note(self.name, "beats:", beat.cause, *_held(beat))
        is_settled = self.world.now > self._boot_at + self.place.heartbeat_s
        if beat.cause == "interval" and beat.running is None and is_settled:
            self.place.oracle.rested(self.name, beat.queued)
        parcel = self.place.codec.write(self._heartbeat(beat))
        self.link.send(GATEWAY, "heartbeat", parcel)

    def _boot(self) -> str:
        return f"{self.name}-{self.life}"

    def _heartbeat(self, beat: Beat) -> Heartbeat:
        return heartbeat_of(
            beat,
            device=self.name,
            time=self._clock(),
            boot=self._boot(),
            interval_s=self.place.heartbeat_s,
            labels={},
        )

    def _begin(self, command: Command) -> None:
        self.world.note(self.name, "works on", command.id)
        self.place.oracle.work_begun(self.name, command)
        self.works += 1
        self._job += 1
        job = self._job
        pack = None
        if command.content.pack is not None:
            pack = self._cached(command, command.content.pack.digest)
        state = self.disk.states.get(command.run, first_state(self.name, command.run))
        result = work(command, pack, state)
        if self.place.parts.commits_state == "before":
            self._write_state(command.run, result.state)
        worked_s = self.world.between(0.1, self.place.longest_work_s)
        self.later(worked_s, self._end, job, command.id, result, worked_s)

    def _cached(self, command: Command, digest: str) -> bytes:
        if digest not in self.disk.blobs:
            raise Violation("cache", f"{self.name} dropped what {command.id} needs")
        # What was used last is kept longest.
        data = self.disk.blobs[digest] = self.disk.blobs.pop(digest)
        return data

    def _trim(self) -> None:
        """Drop blobs that no command needs, as an agent does when commands end."""
        for digest in unneeded(list(self.disk.blobs), self._duty.needed()):
            del self.disk.blobs[digest]

    def _end(self, job: int, id_: str, result: Result, worked_s: float) -> None:
        if job != self._job:
            return
        self.place.oracle.computed(id_, result.answer)
        self._results[id_] = result
        now = self._clock()
        self._take(self._duty.worked(id_, result.content, worked_s=worked_s, now=now))

    def _fetch(self, effect: Fetch) -> None:
        for ref in effect.blobs:
            if ref.digest in self.disk.blobs:
                continue
            got = self.place.blobs.get(ref, effect.grants, checks=self.place.parts.checks_downloads)
            if got == "refused" and ref.key not in self.place.blobs.blobs:
                self.place.oracle.found_gone(effect.id, ref.key)
            if isinstance(got, str):
                self._fetch_failed(effect.id, got)
                return
            self.disk.blobs[ref.digest] = got
        self._take(self._duty.fetched(effect.id, self._clock()))

    def _fetch_failed(self, id_: str, problem: FetchProblem) -> None:
        self.world.note(self.name, "cannot download for", id_, problem)
        self.place.oracle.fetch_failed(id_, problem)
        self._take(self._duty.fetch_failed(id_, problem, self._clock()))

    def _upload(self, effect: Upload) -> None:
        id_ = effect.reply.id
        row = self.disk.rows.get(id_)
        if row is None or row.pack is None:
            return
        problem = self.place.blobs.put(effect.grant, row.pack)
        self.world.note(self.name, "uploads", id_, problem or "done")
        if problem is None:
            self._take(self._duty.uploaded(id_, self._clock()))
        else:
            self._take(self._duty.upload_failed(id_, problem, self._clock()))


def _short(message: Command | Control) -> tuple[Word, ...]:
    if isinstance(message, Command):
        return message.id, "of", message.run, "epoch", str(message.epoch)
    return (message.ids,)


def _held(beat: Beat) -> tuple[Word, ...]:
    return (
        beat.running,
        "queued" if beat.queued else None,
        beat.queued,
        "outbox" if beat.outbox else None,
        beat.outbox,
        "need" if beat.need else None,
        beat.need,
    )
