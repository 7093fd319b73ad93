"""When a round goes on without some of its devices: what a person decides about waiting.

A phase is closed when enough devices have answered, or at its deadline with those that have. What
was decided is a settlement like any other, so that a run that starts again is told the same.
"""

import math
from dataclasses import dataclass

Count = int | float
"""A number of devices (int), or a share of those that were asked (float from 0 to 1)."""


@dataclass(frozen=True, slots=True)
class Terms:
    """On which terms some devices were asked together.

    Attributes:
        deadline: the gateway's clock at which what is open is given up.
        waits_for_offline: whether a device that is offline is waited for until then.
        quorum: after so many good replies the rest is given up; None waits for all.
        minimum: with fewer good replies nothing is given up: what is open is held open.
    """

    deadline: float
    waits_for_offline: bool
    quorum: int | None = None
    minimum: int = 0

    def why_closed(self, *, ok: int, late: int, now: float) -> str:
        """Say what closed a phase that ended with so many replies, for people."""
        if not late:
            return "all answered"
        if self.quorum is not None and ok >= self.quorum:
            return "enough had answered well"
        if now >= self.deadline:
            return "its time was over"
        return "who had not answered was offline"


@dataclass(frozen=True, slots=True)
class RoundPolicy:
    """What a person decides for every phase of a run.

    Attributes:
        deadline_s: no phase waits longer; None leaves it to the app's own timeout.
        quorum: so many good replies close a phase; None waits for all.
        over_select: ask so many more devices than the app does, as a share, where it asks all of
            them for the same; the first to answer count.
        min_replies: with fewer good replies a phase does not close, and the run is suspended. A
            device that is asked alone may fail alone.
        wait_devices_s: for how long a run waits for devices that it lacks.
        wait_for_offline: whether a device that is known to be offline is waited for.
        is_strict: every chosen device is waited for, and none of the above applies.
    """

    deadline_s: float | None = None
    quorum: Count | None = None
    over_select: float = 0.0
    min_replies: Count = 1
    wait_devices_s: float = 60.0
    wait_for_offline: bool = False
    is_strict: bool = False

    def terms(self, asked: int, *, now: float, patience_s: float) -> Terms:
        """Return the terms of one phase.

        Args:
            asked: how many devices the app asked, without those that were asked beside them.
            now: the gateway's clock.
            patience_s: for how long the app itself would wait.
        """
        if self.is_strict:
            return Terms(now + patience_s, waits_for_offline=True)
        quorum = None if self.quorum is None else max(_of(self.quorum, asked), 1)
        if quorum is None and self.over_select > 0:
            quorum = asked
        # Apps of the old kind ask each device alone: then one that fails is theirs to count.
        minimum = _of(self.min_replies, asked) if asked > 1 else 0
        return Terms(
            deadline=now + min(patience_s, self.deadline_s or math.inf),
            waits_for_offline=self.wait_for_offline,
            quorum=quorum,
            minimum=minimum if quorum is None else min(minimum, quorum),
        )

    def spares(self, asked: int) -> int:
        """Return how many devices to ask beside those that the app asks."""
        return 0 if self.is_strict else math.ceil(self.over_select * asked)


def _of(count: Count, asked: int) -> int:
    """Return a number of devices, never more than were asked."""
    wanted = count if isinstance(count, int) else math.ceil(count * asked)
    return min(wanted, asked)
