"""A device: a disk, the real `Duty`, a worker, a link."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from sim.app import Result, first_state, work
from sim.codec import Parcel
from sim.disk import Disk
from sim.network import GATEWAY, Link
from sim.place import Place
from sim.process import Commit, Process, neighbours
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
from windflower.core.duty import STARTS
from windflower.core.events import Event, MessageRefused
from windflower.core.retention import unneeded
from windflower.wire.blobs import BlobRef, Grant
from windflower.wire.messages import Command, Control, Heartbeat, Reply

_SOON_S: Final = 0.001


_TORN: Final = 0.3
"""How likely a power loss tears what was brought to the cache last."""

_ENDING: Final = (Forget, Drop, ForgetBelow)


@dataclass(frozen=True, slots=True)
class Trim:
    """Drop blobs that no command needs, as an agent does when commands have ended."""


class DeviceNode(Process[Effect | Trim]):
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
        self._inputs: deque[Callable[[float], list[Effect]]] = deque()
        self._moving: dict[str, Fetch | Upload] = {}

    # -------------------------------------------------------------------------------- lives

    def start(self) -> None:
        """Boot."""
        if self.is_alive:
            return
        self.is_alive = True
        if self.place.parts.counts_boots and (first := self.disk.first_unanswered()) is not None:
            first.starts += 1
        self._results, self._moving = {}, {}
        self._inputs.clear()
        self._wake_at = float("inf")
        self._set_clock()
        self._duty = self.place.parts.duty(self.name, interval_s=self.place.heartbeat_s)
        self.world.note(self.name, "boots for the", str(self.life + 1), "time")
        if self.place.parts.checks_cache:
            self._drop(self.disk.torn_blobs())
        if self.place.parts.empties_cache:
            self._drop(list(self.disk.blobs))
        will = self.place.codec.write(self._heartbeat(Beat("gone", None, (), (), ())))
        self.link.start(will=will)
        kept, floor = (
            self.disk.kept(remembers_done=self.place.parts.remembers_done),
            self.disk.floor,
        )
        self._take(lambda now: self._duty.restore(kept, floor=floor, now=now))

    def crash(self) -> None:
        """Lose power."""
        self.stay_off(self.world.between(0.5, self.place.weather.longest_outage_s))

    def stay_off(self, outage_s: float) -> None:
        """Lose power for a given time."""
        if self.is_alive and not self._is_unlucky():
            self.world.note(self.name, "loses power for", outage_s, "s")
            self.die()
            self._tear()
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
        counting = {e.id for e in self.unwritten() if isinstance(e, KeepStart)}
        return any(
            row.reply is None and row.starts + (id_ in counting) >= STARTS
            for id_, row in self.disk.rows.items()
        )

    def _tear(self) -> None:
        """Leave of each transfer what the power loss left, and what was not synced perhaps torn."""
        store = self.place.blobs
        for effect in self._moving.values():
            if isinstance(effect, Upload):
                # What was cancelled on the way is on the disk no more: nothing of it arrives.
                row = self.disk.rows.get(effect.reply.id)
                store.cut_off(effect.grant, (row.pack if row is not None else None) or b"")
                continue
            missing = [ref for ref in effect.blobs if ref.digest not in self.disk.blobs]
            for ref in missing[:1]:
                self.disk.torn[ref.digest] = self._torn(store.blobs.get(ref.key, b""))
        newest = next(reversed(self.disk.blobs), None)
        if newest is not None and self.world.chance(_TORN):
            self.disk.blobs[newest] = self._torn(self.disk.blobs[newest])
            self.place.oracle.lost(self.name, newest)

    def _torn(self, data: bytes) -> bytes:
        """Return a beginning, whose last block may not be what was written."""
        whole = self.world.random.randrange(len(data) + 1)
        return data[:whole] + bytes(self.world.random.choice((0, 4)))

    def _set_clock(self) -> None:
        self._boot_at = self.world.now
        if self.place.weather.clocks_are_wrong:
            self._clock_from = self.world.between(0.0, 2e6)
            self._clock_pace = self.world.between(0.9, 1.1)

    def _clock(self) -> float:
        return self._clock_from + (self.world.now - self._boot_at) * self._clock_pace

    # ------------------------------------------------------------------------------- inputs

    def _take(self, ask: Callable[[float], list[Effect]]) -> None:
        """Take an input: the duty is asked once all is done that it said before."""
        self._inputs.append(ask)
        self.carry_on()

    def next_steps(self) -> list[Effect | Trim | Commit[Effect | Trim]] | None:
        """Ask the duty about the next input."""
        if not self._inputs:
            self._plan_to_wake()
            return None
        effects = self.place.parts.device_filter(self._inputs.popleft()(self._clock()))
        steps: list[Effect | Trim | Commit[Effect | Trim]]
        steps = neighbours(effects, STORING, between=Note)
        if any(isinstance(effect, _ENDING) for effect in effects):
            steps.append(Trim())
        return steps

    def _plan_to_wake(self) -> None:
        delay_s = max(self._duty.next_wake() - self._clock(), 0.0) / self._clock_pace
        wake_at = self.world.now + max(delay_s, _SOON_S)
        if self._wake_at <= self.world.now or wake_at < self._wake_at:
            self._wake_at = wake_at
            self.later(wake_at - self.world.now, self._wake, wake_at)

    def _wake(self, planned_at: float) -> None:
        if planned_at == self._wake_at:
            self._wake_at = float("inf")
            if self.is_idle:
                self._take(self._duty.tick)

    def _came_up(self) -> None:
        self.world.note(self.name, "is connected")
        self._take(self._duty.connected)

    def _receive(self, kind: str, parcel: Parcel) -> None:
        message, grants = self.place.codec.open(parcel)
        self.world.note(self.name, "hears", kind, message.method, *_short(message))
        if isinstance(message, Control) and message.boot == self._boot():
            raise Violation("alone", f"{self.name} is told to stop, and there is no other")
        if isinstance(message, Command):
            self._take(lambda now: self._ordered(message, grants, now))
        else:
            self._take(lambda now: self._controlled(message, grants, now))

    def _ordered(self, command: Command, grants: tuple[Grant, ...], now: float) -> list[Effect]:
        self.place.oracle.command_heard(self.name, command)
        return self._duty.ordered(command, grants, now)

    def _controlled(self, control: Control, grants: tuple[Grant, ...], now: float) -> list[Effect]:
        if control.method == "cancel":
            self.place.oracle.cancel_heard(self.name, control.ids, control.epoch)
        effects = self._duty.controlled(control, grants, now)
        for effect in effects:
            if isinstance(effect, Drop):
                self.place.oracle.cancelled(self.name, effect.ids, effect.epoch)
        return effects

    # ------------------------------------------------------------------------------ records

    def write(self, record: Effect | Trim) -> None:
        match record:
            case KeepCommand(command):
                self.world.note(self.name, "keeps", command.method, command.id)
                self.place.oracle.command_kept(self.name, command, floor=self.disk.floor)
                self.disk.keep_command(command)
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
                raise AssertionError(record)

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
        self.disk.forget(ids, cancelled_by)

    def _write_floor(self, number: int) -> None:
        self.world.note(self.name, "forgets the runs below", str(number))
        self.place.oracle.floor_raised(self.name, number)
        self.disk.forget_below(number)

    # ------------------------------------------------------------------------------ effects

    def carry_out(self, effect: Effect | Trim) -> None:
        match effect:
            case Work(command):
                self._begin(command)
            case StopWork():
                self._job += 1
            case Trim():
                self._trim()
            case Fetch() | Upload():
                self._move(effect)
            case Publish(reply):
                self._publish(reply)
            case Beat():
                self._beat(effect)
            case Note(event):
                self._note(event)
            case _:
                raise AssertionError(effect)

    def _move(self, effect: Fetch | Upload) -> None:
        moves_s = self.world.between(0.02, 3.0)
        if isinstance(effect, Fetch):
            self._moving[effect.id] = effect
            self.later(moves_s, self._fetch, effect)
        else:
            self._moving[effect.reply.id] = effect
            self.later(moves_s, self._upload, effect)

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
        return beat.heartbeat(
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
        self._drop(unneeded(list(self.disk.blobs), self._duty.needed()))

    def _drop(self, digests: list[str]) -> None:
        for digest in digests:
            del self.disk.blobs[digest]

    def _end(self, job: int, id_: str, result: Result, worked_s: float) -> None:
        if job != self._job:
            return
        self.place.oracle.computed(id_, result.answer)
        self._results[id_] = result
        self._take(lambda now: self._duty.worked(id_, result.content, worked_s=worked_s, now=now))

    def _fetch(self, effect: Fetch) -> None:
        self._moving.pop(effect.id, None)
        for ref in effect.blobs:
            is_cached = ref.digest in self.disk.blobs and self.place.parts.uses_cache
            if not is_cached and (problem := self._fetch_one(effect, ref)):
                self._fetch_failed(effect.id, problem)
                return
        self._take(lambda now: self._duty.fetched(effect.id, now))

    def _fetch_one(self, effect: Fetch, ref: BlobRef) -> FetchProblem | None:
        """Download a blob, going on where an earlier download was cut."""
        begun = self.disk.torn.get(ref.digest, b"")
        checks = self.place.parts.checks_downloads
        got = self.place.blobs.get(ref, effect.grants, begun=begun, checks=checks)
        if got == "refused" and ref.key not in self.place.blobs.blobs:
            self.place.oracle.found_gone(effect.id, ref.key)
        if isinstance(got, bytes):
            self.place.oracle.downloaded(self.name, ref.digest)
            self.disk.blobs[ref.digest] = got
        if isinstance(got, bytes) or (got == "damaged" and self.place.parts.drops_damaged):
            self.disk.torn.pop(ref.digest, None)
        return None if isinstance(got, bytes) else got

    def _fetch_failed(self, id_: str, problem: FetchProblem) -> None:
        self.world.note(self.name, "cannot download for", id_, problem)
        self.place.oracle.fetch_failed(id_, problem)
        self._take(lambda now: self._duty.fetch_failed(id_, problem, now))

    def _upload(self, effect: Upload) -> None:
        id_ = effect.reply.id
        self._moving.pop(id_, None)
        row = self.disk.rows.get(id_)
        if row is None or row.pack is None:
            return
        problem = self.place.blobs.put(effect.grant, row.pack)
        self.world.note(self.name, "uploads", id_, problem or "done")
        if problem is None:
            self.place.oracle.uploaded(self.name, id_)
            self._take(lambda now: self._duty.uploaded(id_, now))
        else:
            self._take(lambda now: self._duty.upload_failed(id_, problem, now))


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
