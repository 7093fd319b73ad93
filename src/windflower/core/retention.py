"""What may go: finished runs after a while, and blobs that nothing refers to any more.

A live exchange is never touched. What a finished run rests on is kept for as long as it can be
verified; the record of what it came to is kept for good.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from windflower.wire.messages import Command, Reply

DAY_S: Final = 86400.0

ORPHANED_S: Final = DAY_S
"""A blob to which nothing refers may be on its way into a journal: it goes after this."""

SPARE_BLOBS: Final = 4
"""So many blobs that nothing needs stay in a device's cache: the next command may name them."""


RESERVE_BYTES: Final = 8 << 20
"""So much room stays for journals: with less, what was done could not be kept."""


def device_needs_bytes(command: Command, cached: Iterable[str]) -> int:
    """Return how much room a device needs for a command, from download to answer.

    Args:
        command: what it is asked; the answer is taken to be as large as what came, once while the
            app has it and once as it is kept.
        cached: digests that it has already.
    """
    have = frozenset(cached)
    downloads = sum(ref.size_bytes for ref in command.blobs if ref.digest not in have)
    pack = command.content.pack
    return downloads + 2 * (pack.size_bytes if pack is not None else 0) + RESERVE_BYTES


def phase_needs_bytes(commands: Iterable[Command]) -> int:
    """Return how much room a gateway needs for a phase: answers are as large as questions."""
    packs = (command.content.pack for command in commands)
    return sum(pack.size_bytes for pack in packs if pack is not None) + RESERVE_BYTES


@dataclass(frozen=True, slots=True)
class Retention:
    """For how long finished runs can be verified.

    Attributes:
        days: after so many days what they rest on goes.
        size_bytes: together they hold no more than this; the oldest go first.
    """

    days: float = 30.0
    size_bytes: int = 20 << 30


@dataclass(frozen=True, slots=True)
class PastRun:
    """A finished run that can still be verified.

    Attributes:
        run: its id.
        ended_at: Unix seconds.
        size_bytes: of the packs that it holds.
    """

    run: str
    ended_at: float
    size_bytes: int


def outlived(runs: Sequence[PastRun], retention: Retention, *, now: float) -> list[str]:
    """Return the finished runs whose time is over, the oldest first."""
    oldest_first = sorted(runs, key=lambda past: (past.ended_at, past.run))
    left = sum(past.size_bytes for past in oldest_first)
    over = []
    for past in oldest_first:
        is_old = past.ended_at + retention.days * DAY_S <= now
        if is_old or left > retention.size_bytes:
            over.append(past.run)
            left -= past.size_bytes
    return over


def keys_of(command: Command, reply: Reply | None) -> frozenset[str]:
    """Return the keys of the blobs that an exchange rests on.

    Args:
        command: what was asked.
        reply: what settled it; None while it is open, when the device may be about to upload.
    """
    keys = {ref.key for ref in command.blobs}
    if reply is None:
        keys.add(command.reply_key)
    elif reply.path is not None:
        keys.add(reply.path)
    return frozenset(keys)


def unneeded(held: Sequence[str], needed: Iterable[str]) -> list[str]:
    """Return what a device's cache can drop.

    Args:
        held: the digests in the cache, the one that was used longest ago first.
        needed: the digests that commands which are not done name.
    """
    kept = frozenset(needed)
    idle = [digest for digest in held if digest not in kept]
    return idle[: max(len(idle) - SPARE_BLOBS, 0)]
