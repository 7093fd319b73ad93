"""The rules that hold in any weather, checked against what was seen and nothing that the core says.

The oracle sees the disks (what was written, when) and the lips (what was published). It never looks
into an object of `windflower.core`.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Final

from sim.app import Answers, Plan, Question, undisturbed
from sim.world import Violation, World
from windflower.core.duty import FETCHES, MESSAGE_UNAVAILABLE, STARTS, WORKER_CRASHED
from windflower.core.exchange import RETURN_S
from windflower.core.policy import Terms
from windflower.core.roster import GONE_PATIENCE_S, MISSED_BEATS
from windflower.wire.content import Content
from windflower.wire.messages import Command, Failure, Heartbeat, Reply

_ROUNDING_S: Final = 0.001
_SOON_S: Final = 5.0
_COMMIT_S: Final = 1.0
"""What a device heeds is durable within this."""

_MADE_BY_THE_CORE: Final = (f"failed {MESSAGE_UNAVAILABLE} ", f"failed {WORKER_CRASHED} ")


class Oracle:
    """Watches one world; every method raises Violation when a rule is broken."""

    def __init__(self, world: World, *, heartbeat_s: float) -> None:
        self._world = world
        self._heartbeat_s = heartbeat_s
        # What stands on the gateway's disk.
        self.commands: dict[str, Command] = {}
        self.outcomes: dict[str, str] = {}
        self.ended: set[str] = set()
        self._numbers: dict[str, int] = {}
        self._good: set[str] = set()
        self._batch_of: dict[str, str] = {}
        self._batches: defaultdict[str, list[str]] = defaultdict(list)
        self._terms: dict[str, Terms] = {}
        self._asked_for: dict[str, Question] = {}
        self._notified: set[tuple[int, str]] = set()
        # What was seen of the devices.
        self._kept: defaultdict[str, dict[str, Command]] = defaultdict(dict)
        self._kept_at: dict[str, tuple[Command, float]] = {}
        self._answered: dict[str, tuple[Content, Failure | None]] = {}
        self._forgotten: defaultdict[str, set[str]] = defaultdict(set)
        self._dropped: dict[tuple[str, str], int] = {}
        self.revivals = 0
        self.renewed = 0
        self._computed: defaultdict[str, set[str]] = defaultdict(set)
        self._begun: Counter[str] = Counter()
        self._starts: Counter[str] = Counter()
        self._crashes: Counter[str] = Counter()
        self._crashes_when_begun: dict[str, int] = {}
        self._epochs: dict[tuple[str, str], int] = {}
        self._heard_commands: dict[str, Command] = {}
        self._heard: set[tuple[str, str, int]] = set()
        self._last_heard: dict[str, tuple[str, float]] = {}
        self._wills: dict[str, float] = {}
        self._real_fetch_failures: Counter[str] = Counter()
        self._heeded: dict[tuple[str, str], float] = {}
        self._hearings: Counter[str] = Counter()
        self._downloaded: set[tuple[str, str]] = set()
        self._uploaded: dict[str, tuple[int, int]] = {}
        self.damaged_downloads = 0
        self.abandoned = 0

    # --------------------------------------------------------------------- on the gateway

    def command_recorded(self, command: Command, batch: str, terms: Terms) -> None:
        """A command stands in the journal."""
        if command.id in self.commands:
            self._broken("asked-twice", f"{command.id} is recorded again")
        self._batch_of[command.id] = batch
        self._batches[batch].append(command.id)
        self._terms[batch] = terms
        self.commands[command.id] = command
        self._numbers[command.run] = command.number

    def outcome_recorded(self, id_: str, outcome: str, reply: Reply | None) -> None:
        """An exchange's outcome stands in the journal."""
        if id_ in self.outcomes:
            self._broken("settles-once", f"{id_} was settled by {self.outcomes[id_][:40]}")
        command = self.commands.get(id_)
        if command is None:
            self._broken("asked-first", f"{id_} is settled and was never asked")
            return
        if reply is not None:
            self._check_counted(command, reply, outcome)
        self.outcomes[id_] = outcome
        if reply is None:
            self._check_spared(id_, outcome)
        elif reply.failure is None:
            self._good.add(id_)

    def _check_spared(self, id_: str, outcome: str) -> None:
        """A device is given up only if enough others answered, or still may."""
        batch = self._batch_of[id_]
        ids, terms = self._batches[batch], self._terms[batch]
        good = sum(i in self._good for i in ids)
        open_ = sum(i not in self.outcomes for i in ids)
        if good + open_ < terms.minimum:
            self._broken("minimum", f"{id_} is given up: {good} are good, {open_} are open")
        is_quorum = "enough others" in outcome
        if is_quorum and (terms.quorum is None or good < terms.quorum):
            self._broken("quorum", f"{id_} is given up for a quorum of {good}")
        if not is_quorum and terms.quorum is not None and good >= terms.quorum:
            self._broken("quorum", f"{id_} was waited for after {good} good answers")

    def _check_counted(self, command: Command, reply: Reply, outcome: str) -> None:
        names = (reply.client, reply.run, reply.method)
        if names != (command.client, command.run, command.method):
            self._broken("own-reply", f"{reply.id} of {names} counts for {command.run}")
        if outcome not in self._computed[command.id] and not self._was_given_up(command, outcome):
            self._broken("own-reply", f"{reply.id} counts as what no device computed for it")

    def _was_given_up(self, command: Command, outcome: str) -> bool:
        """Whether the device's agent may have said this without having worked."""
        if outcome.startswith(f"failed {WORKER_CRASHED} "):
            begun = self._starts[command.id]
            if begun < STARTS:
                self._broken("blame", f"{command.id} is said to kill its device: begun {begun} x")
            return True
        if outcome.startswith(f"failed {MESSAGE_UNAVAILABLE} "):
            has_tried = self._real_fetch_failures[command.id] >= FETCHES
            # A device's clock may be a tenth too fast.
            kept, kept_at = self._kept_at[command.id]
            return has_tried or kept_at + kept.ttl_s * 0.9 < self._world.now
        return False

    def waited_for(self, command: Command, terms: Terms, *, is_renewed: bool, now: float) -> None:
        """A run that begins again waits for what is open from before."""
        self.renewed += is_renewed
        if terms.deadline <= now and not is_renewed:
            self._broken("deadline", f"{command.id} is waited for, its deadline has passed")

    def heard(self, heartbeat: Heartbeat) -> None:
        """The gateway heard of a device: that it is there, or by its last will that it is gone."""
        device, now = heartbeat.client, self._world.now
        if heartbeat.cause != "gone":
            self._last_heard[device] = (heartbeat.boot, now)
            self._wills.pop(device, None)
        elif self._last_heard.get(device, ("", 0.0))[0] == heartbeat.boot:
            self._wills.setdefault(device, now)

    def heard_by_reply(self, device: str) -> None:
        """The gateway heard a device, which was not gone then."""
        self._wills.pop(device, None)

    def given_up(
        self, command: Command, reason: str, *, listened_s: float, there_s: float, is_lossless: bool
    ) -> None:
        """An exchange is settled without its device.

        Args:
            command: what was asked.
            reason: why it is given up.
            listened_s: for how long the gateway has been connected.
            there_s: for how long the device has been connected.
            is_lossless: whether all that is said arrives, soon.
        """
        patience_s = MISSED_BEATS * self._heartbeat_s
        detail = (
            f"{reason}, but the gateway has listened for {listened_s:.1f} s, and "
            f"{command.client} has been there for {there_s:.1f} s"
        )
        was_told = self._was_told_of_its_end(command.client, listened_s)
        is_deaf = listened_s < patience_s - _ROUNDING_S and not was_told
        if is_deaf and there_s > listened_s and "was not heard" in reason:
            self._broken("deaf", detail)
        is_late = "in time" in reason or "until the deadline" in reason
        if is_late and 0 < listened_s < RETURN_S - _ROUNDING_S:
            self._broken("deaf", detail)
        if "offline" in reason or "was not heard" in reason:
            self.abandoned += 1
            # Who connects while the gateway listens is heard at once.
            if is_lossless and listened_s > patience_s + _SOON_S and there_s > _SOON_S:
                self._broken("there", detail)

    def _was_told_of_its_end(self, device: str, listened_s: float) -> bool:
        """Whether a device, heard since the gateway listens, left a will and stayed away."""
        now = self._world.now
        _, heard_at = self._last_heard.get(device, ("", -math.inf))
        will_s = now - self._wills.get(device, now)
        return now - heard_at <= listened_s and GONE_PATIENCE_S - _ROUNDING_S <= will_s

    def found_gone(self, id_: str, key: str) -> None:
        """A device wants a blob that is not there."""
        if self.is_waited_for(id_):
            self._broken("swept", f"{key} is gone, and {id_} is waited for")

    def fetch_failed(self, id_: str, problem: str) -> None:
        """A device could not download; a dead grant is never its failure."""
        self._real_fetch_failures[id_] += problem != "refused"
        self.damaged_downloads += problem == "damaged"

    def downloaded(self, device: str, digest: str) -> None:
        """A blob was brought to a device, which has to last."""
        if (device, digest) in self._downloaded:
            self._broken("waste", f"{device} downloads {digest[:6]} again, and had it")
        self._downloaded.add((device, digest))

    def lost(self, device: str, digest: str) -> None:
        """A power loss tore a blob on a device's disk."""
        self._downloaded.discard((device, digest))

    def uploaded(self, device: str, id_: str) -> None:
        """A pack is in the store; only who lost power or was asked again may bring it again."""
        excuses = self._crashes[device], self._hearings[id_]
        if self._uploaded.get(id_) == excuses:
            self._broken("waste", f"{device} uploads {id_} again, and nobody asked")
        self._uploaded[id_] = excuses

    def notified(self, life: int, id_: str) -> None:
        """A run was told that an exchange is settled."""
        if id_ not in self.commands or self.is_waited_for(id_):
            self._broken("record-first", f"{id_} is said to be settled before it is recorded")
        if (life, id_) in self._notified:
            self._broken("settles-once", f"{id_} was told twice")
        self._notified.add((life, id_))

    def sent(self, command: Command) -> None:
        """A command leaves for its device."""
        if command.id not in self.commands:
            self._broken("record-first", f"{command.id} is sent before it is recorded")

    def told(self, method: str, ids: Iterable[str]) -> None:
        """A control message leaves for a device."""
        for id_ in ids:
            if method in ("ack", "cancel") and self.is_waited_for(id_):
                self._broken("record-first", f"{method} of {id_}, which the journal holds open")

    def is_waited_for(self, id_: str) -> bool:
        """Whether the journal holds an exchange open."""
        command = self.commands.get(id_)
        return command is not None and id_ not in self.outcomes and command.run not in self.ended

    def aggregated(self, ids: dict[Question, str], answers: Answers) -> None:
        """A run makes something of a phase's answers."""
        for question, id_ in ids.items():
            if self._asked_for.setdefault(id_, question) != question:
                self._broken("own-reply", f"{id_} answers two questions")
            if answers[question] != self.outcomes.get(id_):
                self._broken("same-bits", f"{id_} is not aggregated as it was recorded")

    def run_ended(self, plan: Plan, model: str | None, states: dict[str, str]) -> None:
        """A run's end stands in the journal; a strict one must end as if nothing had happened."""
        outcomes = {i: o for i, o in self.outcomes.items() if self.commands[i].run == plan.run}
        was_disturbed = any(o.startswith(_MADE_BY_THE_CORE) for o in outcomes.values())
        if model is not None and plan.policy.is_strict and not was_disturbed:
            twin = undisturbed(plan)
            if model != twin.model:
                self._broken("twin", f"{plan.run} ended with {model[:8]}, not {twin.model[:8]}")
            if states != twin.states:
                self._broken("twin", f"{plan.run} left other states on its devices")
        self.ended.add(plan.run)

    # --------------------------------------------------------------------- on the devices

    def command_heard(self, device: str, command: Command) -> None:
        """A command arrived; from now on what older gateways sent is refused."""
        self._heard_commands[command.id] = command
        self._hearings[command.id] += 1
        newest = self._epochs.get((device, command.run), 0)
        if command.client == device and command.epoch >= newest:
            self._epochs[device, command.run] = command.epoch
            self._heard.add((device, command.id, command.epoch))

    def command_kept(self, device: str, command: Command, *, floor: int) -> None:
        """A command stands on a device's disk; `floor` is what stands there too."""
        if command.client != device:
            self._broken("own-command", f"{device} keeps a command for {command.client}")
        if (device, command.id, command.epoch) not in self._heard:
            self._broken("fenced", f"{device} keeps a command of an older gateway")
        if command.number < floor:
            self._broken("floor", f"{device} keeps a command of a run that is over")
        if command.id in self._forgotten[device]:
            self._broken("once", f"{device} keeps {command.id}, which it had done")
        self._heeded.pop((device, command.id), None)
        cancelled_by = self._dropped.pop((device, command.id), None)
        if cancelled_by is not None:
            if command.epoch <= cancelled_by:
                self._broken("once", f"{device} keeps {command.id}, which was cancelled")
            self._crashes_when_begun.pop(command.id, None)
            self.revivals += 1
        self._kept[device][command.id] = command
        self._kept_at[command.id] = command, self._world.now

    def start_kept(self, id_: str) -> None:
        """That work begins stands on a device's disk."""
        self._starts[id_] += 1

    def work_begun(self, device: str, command: Command) -> None:
        """A worker begins."""
        if command.id not in self._kept[device]:
            self._broken("keep-first", f"{device} works on {command.id}, which is not kept")
        if command.id in self._answered or command.id in self._forgotten[device]:
            self._broken("once", f"{device} works on {command.id}, which was done")
        if (device, command.id) in self._heeded:
            self._broken("once", f"{device} works on {command.id}, which it had cancelled")
        crashes = self._crashes[device]
        if self._crashes_when_begun.get(command.id) == crashes:
            self._broken("once", f"{device} works on {command.id} again without a crash")
        self._crashes_when_begun[command.id] = crashes
        self._begun[command.id] += 1
        if self._starts[command.id] < self._begun[command.id]:
            self._broken("keep-first", f"{device} works on {command.id} before that is counted")

    def computed(self, id_: str, answer: str) -> None:
        """A worker is done; if it was begun more than once it must come to the same."""
        self._computed[id_].add(answer)
        if len(self._computed[id_]) > 1:
            self._broken("same-bits", f"two attempts at {id_} came to different results")

    def reply_kept(self, reply: Reply) -> None:
        """A reply stands on a device's disk."""
        told = (reply.content, reply.failure)
        if self._answered.setdefault(reply.id, told) != told:
            self._broken("once", f"{reply.client} answers {reply.id} in two ways")

    def published(self, reply: Reply) -> None:
        """A reply leaves for the gateway."""
        if self._answered.get(reply.id) != (reply.content, reply.failure):
            self._broken("keep-first", f"{reply.client} answers {reply.id} before it is kept")

    def rested(self, device: str, queued: Iterable[str]) -> None:
        """A device that has nothing under way says what is queued: does it forget to begin?"""
        held_up: set[str] = set()
        for id_ in queued:
            command = self._kept[device].get(id_)
            if command is None or id_ in self._answered:
                continue
            if not command.blobs and command.run not in held_up:
                self._broken("idle", f"{device} could work on {id_} and does not")
            held_up.add(command.run)

    def forgotten(self, device: str, ids: Iterable[str]) -> None:
        """A device no longer holds commands: nobody may wait for them."""
        for id_ in ids:
            if self.is_waited_for(id_):
                self._broken("outbox", f"{device} forgets {id_}, which the journal holds open")
            self._forgotten[device].add(id_)

    def dropped(self, device: str, ids: Iterable[str], cancelled_by: int) -> None:
        """A device's disk no longer holds these: only an older gateway may have been wrong."""
        for id_ in ids:
            self._dropped[device, id_] = cancelled_by
            for ref in self._kept[device][id_].blobs:
                self._downloaded.discard((device, ref.digest))

    def cancelled(self, device: str, ids: Iterable[str], cancelled_by: int) -> None:
        """A device heeds a cancel."""
        for id_ in ids:
            command = self._heard_commands.get(id_)
            if command and cancelled_by < self._epochs.get((device, command.run), 0):
                self._broken("fenced", f"{device} drops {id_} at an older gateway's word")

    def cancel_heard(self, device: str, ids: Iterable[str], epoch: int) -> None:
        """A device is told to drop commands: what it has not answered must not come back."""
        for id_ in ids:
            command = self._kept[device].get(id_)
            if command is None or id_ in self._answered:
                continue
            if epoch >= self._epochs.get((device, command.run), 0):
                self._heeded[device, id_] = self._world.now

    def floor_raised(self, device: str, floor: int) -> None:
        """A device forgets all runs below a number."""
        for run, number in self._numbers.items():
            if number < floor and run not in self.ended:
                self._broken("floor", f"{device} forgets {run}, which is not over")

    def crashed(self, device: str) -> None:
        """A device lost power, and with it the epochs that it knew beside those on its disk."""
        self._crashes[device] += 1
        # What it heeded just now may not be durable.
        durable_at = self._world.now - _COMMIT_S
        self._heeded = {k: t for k, t in self._heeded.items() if k[0] != device or t < durable_at}
        self._epochs = {key: e for key, e in self._epochs.items() if key[0] != device}
        for command in self._kept[device].values():
            known = self._epochs.get((device, command.run), 0)
            self._epochs[device, command.run] = max(known, command.epoch)

    # ------------------------------------------------------------------------------- sums

    @property
    def crashes(self) -> int:
        """How often any device crashed."""
        return self._crashes.total()

    @property
    def retrainings(self) -> int:
        """How often work was begun again."""
        return sum(times - 1 for times in self._begun.values()) - self.revivals

    @property
    def settled(self) -> int:
        """How many exchanges were settled."""
        return len(self.outcomes)

    @property
    def asked(self) -> int:
        """How many exchanges were opened."""
        return len(self.commands)

    def _broken(self, rule: str, detail: str) -> None:
        raise Violation(rule, f"at {self._world.now:.3f} s: {detail}")
