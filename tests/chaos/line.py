"""One direction of a bad link: which packets arrive, and when. No I/O, no clock."""

from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from random import Random


class Harm(StrEnum):
    """What is counted of packets."""

    LOSS = "lost"
    CUT = "lost in a cut"
    DUPLICATION = "duplicated"
    REORDERING = "held back"


@dataclass(frozen=True, slots=True)
class Link:
    """What a link does to each packet in one direction.

    Attributes:
        loss: how likely it never arrives.
        delay_s: how long each takes.
        jitter_s: by how much it takes longer, at most; the order is kept.
        duplication: how likely it arrives twice.
        reordering: how likely it is held back while later ones pass.
        reordering_s: for how long.
    """

    loss: float = 0.0
    delay_s: float = 0.0
    jitter_s: float = 0.0
    duplication: float = 0.0
    reordering: float = 0.0
    reordering_s: float = 0.05


class Line:
    """Decides for one packet after the other.

    Args:
        seed: what all decisions derive from.
        link: what happens; may be changed at any time.
    """

    def __init__(self, seed: str, link: Link) -> None:
        self.link = link
        self.counts: Counter[Harm] = Counter()
        self.packets = 0
        self._random = Random(seed)
        self._latest = 0.0
        self._cut_until = 0.0

    def cut(self, until: float) -> None:
        """Lose everything until then."""
        self._cut_until = until

    def arrivals(self, now: float) -> list[float]:
        """Return when the packet that is sent now arrives: never, once or twice.

        The same number of draws for each packet, so that what befalls the tenth does not depend
        on what befell the nine before it.
        """
        loss, jitter, duplication, reordering = (self._random.random() for _ in range(4))
        self.packets += 1
        if now < self._cut_until:
            self.counts[Harm.CUT] += 1
            return []
        if loss < self.link.loss:
            self.counts[Harm.LOSS] += 1
            return []
        due = max(now + self.link.delay_s + self.link.jitter_s * jitter, self._latest)
        if reordering < self.link.reordering:
            self.counts[Harm.REORDERING] += 1
            due += self.link.reordering_s
        else:
            self._latest = due
        if duplication < self.link.duplication:
            self.counts[Harm.DUPLICATION] += 1
            return [due, due]
        return [due]
