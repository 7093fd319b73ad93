"""What may go: finished runs after a while, and blobs that nothing refers to any more.

A live exchange is never touched. What a finished run rests on is kept for as long as it can be
verified; the record of what it came to is kept for good.
"""

from collections.abc import Iterable, Mapping, Sequence
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


def answers_bytes(commands: Iterable[Command], seen: Mapping[str, int]) -> int:
    """Return how much the answers of a phase may take: they are as large as the questions.

    What travels in messages does not count.

    Args:
        commands: what is about to be asked.
        seen: by type, how large answers have been; where all were nothing, so will these be.
    """
    return sum(_answer_bytes(command, seen.get(command.type)) for command in commands)


def _answer_bytes(command: Command, seen: int | None) -> int:
    content = command.content
    if seen == 0 or content.pack is None or content.inline is not None:
        return seen or 0
    return max(content.pack.size_bytes, seen or 0)


@dataclass(frozen=True, slots=True)
class Retention:
    """For how long finished runs can be verified.

    Attributes:
        days: after so many days what they rest on goes.
        size_bytes: together they hold no more than this; the oldest go first.
    """

    days: float = 30.0
    size_bytes: int = 20 << 30


OPEN_RUN_BYTES: Final = 20 << 30
"""What an open run keeps so that it can be begun again; see `to_drop`."""


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


def keys_asked(command: Command) -> frozenset[str]:
    """Return the keys of the blobs that an open exchange needs; its device may be about to upload.

    Once it is settled, nobody downloads what was asked: a run that begins again brings it again.
    """
    return frozenset({command.reply_key, *(ref.key for ref in command.blobs)})


def keys_answered(reply: Reply) -> frozenset[str]:
    """Return the keys of the blobs that a settled exchange rests on."""
    return frozenset() if reply.path is None else frozenset({reply.path})


def stored_bytes(reply: Reply) -> int:
    """Return how much a reply takes beside the journal."""
    pack = reply.content.pack
    return pack.size_bytes if reply.path is not None and pack is not None else 0


@dataclass(frozen=True, slots=True)
class Holding:
    """An update that a run keeps, or what was made of many.

    Attributes:
        id: the exchange that it settled, or the key of an aggregate.
        key: under which it is stored.
        size_bytes: how much it takes.
        is_spare: whether nobody reads it any more: what was made of it is kept, or a checkpoint is.
        is_aggregate: whether it was made of updates.
    """

    id: str
    key: str
    size_bytes: int
    is_spare: bool = False
    is_aggregate: bool = False


def to_drop(holdings: Sequence[Holding], *, room_bytes: int, comfort_bytes: int) -> list[Holding]:
    """Return which updates go so that the rest fits: spare ones first, the oldest first.

    Args:
        holdings: the oldest first.
        room_bytes: how much they may take together; only for this others go than spare ones.
        comfort_bytes: less: when any go, so many go that the next few phases need not ask again.
    """
    left = sum(holding.size_bytes for holding in holdings)
    dropped: list[Holding] = []
    for holding in sorted(holdings, key=lambda h: not h.is_spare):  # stable: the oldest first
        is_first_other = not holding.is_spare and (not dropped or dropped[-1].is_spare)
        if left <= (room_bytes if is_first_other else comfort_bytes):
            break
        dropped.append(holding)
        left -= holding.size_bytes
    return dropped


def unneeded(held: Sequence[str], needed: Iterable[str]) -> list[str]:
    """Return what a device's cache can drop.

    Args:
        held: the digests in the cache, the one that was used longest ago first.
        needed: the digests that commands which are not done name.
    """
    kept = frozenset(needed)
    idle = [digest for digest in held if digest not in kept]
    return idle[: max(len(idle) - SPARE_BLOBS, 0)]
