"""Who was heard, and when: by the gateway's clock, whatever the devices' clocks say."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Final

from windflower.core.events import DeviceHeard, DeviceLost, Event
from windflower.wire.messages import Heartbeat

MISSED_BEATS: Final = 2.5
"""A device that missed so many heartbeats counts as offline."""

RETURNS: Final = 4
"""So many times must an earlier start of an agent come back before two are said to run."""

USUAL_INTERVAL_S: Final = 60.0
"""How often devices are heard that nothing is known of."""

GONE_PATIENCE_S: Final = 10.0
"""A last will shortens the patience to this: a will may be wrong, and then the device is heard."""


@dataclass(frozen=True, slots=True)
class Presence:
    """What is known of one device.

    Attributes:
        device: its id.
        heard_at: when it was last heard, seconds of the gateway's clock.
        boot: which start of its agent that was.
        interval_s: how often it promised to be heard.
        overdue_at: when it counts as offline unless it is heard before.
        is_online: whether it counts as online.
        labels: what its owner tells devices apart by.
        model: digest of the published model that it uses, None where it has none.
        clock_ahead_s: by how much its clock was ahead of the gateway's when it last was heard, the
            way between them left in; for people only, and forgotten with the gateway.
        agent: what it said that its agent is; likewise.
    """

    device: str
    heard_at: float
    boot: str
    interval_s: float
    overdue_at: float
    is_online: bool
    labels: dict[str, str]
    model: str | None = None
    clock_ahead_s: float | None = None
    agent: str | None = None


JudgedAt = Callable[[Presence], float]


@dataclass(slots=True)
class _Boots:
    """Which starts of a device's agent took turns, and what each last said its clock shows."""

    latest: str
    before: str = ""
    rightful: str = ""
    returns: int = 0
    said_at: dict[str, float] = field(default_factory=dict)


class Roster:
    """Keeps the presence of every device that was ever heard.

    Args:
        known: what a gateway remembers from before it was restarted.
    """

    def __init__(self, known: Iterable[Presence] = ()) -> None:
        self._presences = {presence.device: presence for presence in known}
        self._boots: dict[str, _Boots] = {}

    def get(self, device: str) -> Presence | None:
        """Return what is known of a device."""
        return self._presences.get(device)

    def is_online(self, device: str) -> bool:
        """Return whether a device counts as online."""
        presence = self._presences.get(device)
        return presence is not None and presence.is_online

    def named(self, heartbeat: Heartbeat, now: float) -> None:
        """Note that a device exists, without counting it as online."""
        if heartbeat.client not in self._presences:
            self._presences[heartbeat.client] = Presence(
                device=heartbeat.client,
                heard_at=0.0,
                boot="",
                interval_s=heartbeat.interval_s,
                overdue_at=now,
                is_online=False,
                labels=heartbeat.labels,
            )

    def heard(self, heartbeat: Heartbeat, now: float) -> list[Event]:
        """Note a heartbeat; a last will only shortens the patience."""
        before = self._presences.get(heartbeat.client)
        if heartbeat.cause == "gone":
            return self._gone(before, heartbeat.boot, now)
        self._presences[heartbeat.client] = Presence(
            device=heartbeat.client,
            heard_at=now,
            boot=heartbeat.boot,
            interval_s=heartbeat.interval_s,
            overdue_at=now + MISSED_BEATS * heartbeat.interval_s,
            is_online=True,
            labels=heartbeat.labels,
            model=heartbeat.model,
            clock_ahead_s=round(heartbeat.time - now, 3),
            agent=heartbeat.agent or _agent_of(before, heartbeat.boot),
        )
        if before is not None and before.is_online:
            return []
        was_heard = before is not None and before.heard_at > 0
        return [DeviceHeard(device=heartbeat.client, again=was_heard)]

    def is_rival(self, heartbeat: Heartbeat) -> bool:
        """Return whether this is the later one of two agents that run under one id.

        A device that is started again never speaks as its earlier start. Where two starts take
        turns with connecting, each time with news, two agents run, and the later one has to stop.
        A few returns may be messages that were late.
        """
        if heartbeat.cause != "connect":
            return False
        boots = self._boots.setdefault(heartbeat.client, _Boots(heartbeat.boot))
        is_news = heartbeat.time > boots.said_at.get(heartbeat.boot, -math.inf)
        if heartbeat.boot == boots.latest or not is_news:
            boots.said_at.setdefault(heartbeat.boot, heartbeat.time)
            return False
        boots.said_at[heartbeat.boot] = heartbeat.time
        is_return = heartbeat.boot == boots.before
        boots.before, boots.latest = boots.latest, heartbeat.boot
        if not is_return:
            boots.returns, boots.rightful = 0, boots.before
            boots.said_at = {b: boots.said_at[b] for b in (boots.before, boots.latest)}
            return False
        boots.returns += 1
        return boots.returns >= RETURNS and heartbeat.boot != boots.rightful

    def _gone(self, before: Presence | None, boot: str, now: float) -> list[Event]:
        # A will of an earlier start says nothing about the agent that runs now.
        if before is not None and before.boot == boot:
            overdue_at = min(before.overdue_at, now + GONE_PATIENCE_S)
            self._presences[before.device] = replace(before, overdue_at=overdue_at)
        return []

    def answered(self, device: str, now: float) -> None:
        """Note that a device was heard by a reply, which earns it as much patience."""
        before = self._presences.get(device)
        if before is not None:
            overdue_at = now + MISSED_BEATS * before.interval_s
            self._presences[device] = replace(before, heard_at=now, overdue_at=overdue_at)

    def lose(self, now: float, judged_at: JudgedAt = lambda _: -math.inf) -> list[DeviceLost]:
        """Count as offline whoever is overdue, and return who just became so.

        Args:
            now: the gateway's clock.
            judged_at: from when on a device that is overdue may count as lost.
        """
        overdue = (p for p in self._presences.values() if p.is_online and p.overdue_at <= now)
        lost = [presence for presence in overdue if judged_at(presence) <= now]
        for presence in lost:
            self._presences[presence.device] = replace(presence, is_online=False)
        return [DeviceLost(device=p.device, silent_s=round(now - p.heard_at, 3)) for p in lost]

    def next_wake(self, judged_at: JudgedAt = lambda _: -math.inf) -> float | None:
        """Return when `lose` may have something to say."""
        there = (p for p in self._presences.values() if p.is_online)
        return min((max(p.overdue_at, judged_at(p)) for p in there), default=None)

    def longest_interval_s(self) -> float:
        """Return the longest interval of the devices that were there when any was last heard.

        Those that were lost long before do not count: nobody waits for them.
        """
        last = max((p.heard_at for p in self._presences.values()), default=0.0)
        there = (p.interval_s for p in self._presences.values() if p.overdue_at >= last)
        return max(there, default=USUAL_INTERVAL_S)

    def freshest(self, limit: int | None = None) -> list[Presence]:
        """Return devices by their last heartbeat, the most recent first.

        Ties go by id, descending, as in the original's query (`ORDER BY MAX(time), client DESC`),
        whose first key was ascending by mistake and so chose the ten that were silent longest.
        """
        ordered = sorted(
            self._presences.values(), key=lambda p: (p.heard_at, p.device), reverse=True
        )
        return ordered[:limit]


def _agent_of(presence: Presence | None, boot: str) -> str | None:
    """Return what an agent said that it is, if it is the same start that speaks now."""
    return presence.agent if presence is not None and presence.boot == boot else None
