"""Waits until enough devices are there, and names those that are missed."""

import asyncio

from windflower.errors import NotEnoughDevices
from windflower.gateway.fleet import Fleet
from windflower.ports import Clock


async def wait_for_devices(fleet: Fleet, clock: Clock, need: int, *, timeout_s: float) -> int:
    """Wait until so many devices are online; return how many are.

    Raises:
        NotEnoughDevices: there were fewer for all that time; the message names who is missed.
    """
    try:
        async with asyncio.timeout(timeout_s):
            while (have := _online(fleet)) < need:
                await fleet.changed()
            return have
    except TimeoutError:
        have = _online(fleet)
        if have >= need:
            return have
        shortage = _shortage(fleet, need, have, now=clock.now())
        raise NotEnoughDevices(shortage, have=have, need=need) from None


def _online(fleet: Fleet) -> int:
    return sum(presence.is_online for presence in fleet.roster.freshest(None))


def _shortage(fleet: Fleet, need: int, have: int, *, now: float) -> str:
    missed = [p for p in fleet.roster.freshest(None) if not p.is_online and p.heard_at > 0]
    names = ", ".join(f"{p.device} last heard {_ago(now - p.heard_at)} ago" for p in missed[:5])
    plural = "device" if need == 1 else "devices"
    return f"needs {need} {plural}, {have} online" + (f" ({names})" if names else "")


def _ago(seconds: float) -> str:
    if seconds < 120:  # noqa: PLR2004 - two minutes
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min"
