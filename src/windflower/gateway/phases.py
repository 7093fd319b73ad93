"""One phase from its opening to its end: everybody is asked, and whoever answers is waited for."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from functools import partial

from windflower.core.events import PhaseClosed, PhaseOpened
from windflower.core.ledger import PhaseRecord, Settlement, Tally
from windflower.core.policy import Terms
from windflower.core.retention import stored_bytes
from windflower.errors import RunFailed
from windflower.gateway.budget import Budget
from windflower.gateway.feed import Feed
from windflower.gateway.fleet import Fleet
from windflower.gateway.traffic import Traffic
from windflower.ports import Clock, Journal
from windflower.wire.messages import Command


class Phases:
    """Runs phases, and tells of each when it opens and when it closes.

    Args:
        fleet: the devices.
        journal: what was asked and told.
        clock: Unix time.
        feed: takes events.
        budget: learns how large answers are.
    """

    def __init__(
        self, fleet: Fleet, *, journal: Journal, clock: Clock, feed: Feed, budget: Budget
    ) -> None:
        self._fleet = fleet
        self._journal = journal
        self._clock = clock
        self._feed = feed
        self._budget = budget

    async def run(
        self,
        phase: PhaseRecord,
        commands: Sequence[Command],
        terms: Terms,
        *,
        round_: int,
        spares: int,
    ) -> None:
        """Ask devices, wait for them, and journal the phase; cut off, it is held open.

        Args:
            phase: what is written down when it closes.
            commands: what is asked, at least one; they may have been asked before.
            terms: what is waited for.
            round_: how many phases trained until now, this one included.
            spares: how many of the commands are for devices beside those that the app chose.

        Raises:
            NotEnoughReplies: too few came in time.
            RunFailed: all devices answered, and too few of them well.
        """
        run, type_ = phase.run, commands[0].type
        begun, before = self._clock.now(), self._fleet.traffic.copy()
        again = any(map(self._fleet.knows, phase.ids))
        earlier = await self._settled_until_now(phase.ids)
        self._feed.report(
            PhaseOpened(
                run=run,
                phase=phase.number,
                type=type_,
                round=round_,
                devices=len(commands),
                timeout_s=round(terms.deadline - begun, 3),
                spares=spares,
                minimum=terms.minimum,
                quorum=terms.quorum,
                waits_for_offline=terms.waits_for_offline,
                **asdict(Tally.of(earlier)),
            )
        )
        telling = partial(self._close, phase, type_, begun=begun, before=before, again=again)
        self._fleet.ask(commands, batch=phase.phase, terms=terms)
        try:
            await self._fleet.settled(phase.ids, batch=phase.phase)
        except RunFailed:
            telling(await self._journal.settlements(phase.ids), "the run was ended")
            raise
        settlements = await self._journal.settlements(phase.ids)
        self._budget.take(run, settlements)
        for settlement in settlements:
            if settlement.is_good and settlement.reply is not None:
                self._budget.learn(run, type_, stored_bytes(settlement.reply))
        tally, now = Tally.of(settlements), self._clock.now()
        why = terms.why_closed(ok=tally.ok, late=tally.late, now=now)
        if tally.ok < terms.minimum:
            telling(settlements, why)
            raise _too_few(settlements, terms)
        await self._journal.record([phase], at=now)
        telling(settlements, why)

    def _close(
        self,
        phase: PhaseRecord,
        type_: str,
        settlements: Sequence[Settlement],
        reason: str,
        *,
        begun: float,
        before: Traffic,
        again: bool,
    ) -> None:
        """Tell that a phase is over, with these answers and no others."""
        tally = Tally.of(settlements)
        self._feed.report(
            PhaseClosed(
                run=phase.run,
                phase=phase.number,
                type=type_,
                ok=tally.ok,
                failed=tally.failed,
                late=len(phase.ids) - tally.ok - tally.failed,
                seconds=round(self._clock.now() - begun, 4),
                worked_s=_worked_s(settlements),
                failed_s=_worked_s(s for s in settlements if not s.is_good),
                reason=reason,
                traffic=self._fleet.traffic.since(before),
                again=again,
            )
        )

    async def _settled_until_now(self, ids: Sequence[str]) -> Sequence[Settlement]:
        """Return what of these is settled; nothing was settled between the look and the return."""
        found: list[Settlement] = []
        while len(found) < sum(map(self._fleet.is_settled, ids)):
            known = await self._journal.settlements(ids)
            found = [settlement for settlement in known if self._fleet.is_settled(settlement.id)]
        return found


def _worked_s(settlements: Iterable[Settlement]) -> float:
    return round(sum(s.reply.worked_s for s in settlements if s.reply is not None), 4)


def _too_few(settlements: Sequence[Settlement], terms: Terms) -> RunFailed:
    """Return what to raise where nothing is open any more and too few answered well.

    Its first line names the cause: below it is what the first device said, if that is longer.
    """
    good = sum(s.is_good for s in settlements)
    said = f"{good} of {len(settlements)} devices answered well, at least {terms.minimum} must"
    device, failure = next(
        (s.device, s.reply.failure) for s in settlements if s.reply and s.reply.failure
    )
    lines = failure.reason.splitlines() or [""]
    below = lines if len(lines) > 1 else []
    return RunFailed("\n".join([f"{said} (min_replies); {device} failed: {lines[-1]}", *below]))
