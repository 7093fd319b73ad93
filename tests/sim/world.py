"""The world: a clock that jumps, a queue of what will happen, one source of chance, a trace."""

import hashlib
import heapq
import marshal
import random
from collections.abc import Callable
from typing import Final

Action = Callable[..., None]

Word = str | float | tuple[str, ...] | None

EVENTS: Final = 150_000
"""The busiest clean seed of a small fleet needs a tenth of this: more is a storm that feeds
itself."""

_TOGETHER: Final = 2048
"""So many lines of the trace are hashed at once."""

_PLAIN: Final = 2
"""The marshal format in which equal values are equal bytes, whoever else refers to them."""


class Violation(AssertionError):  # noqa: N818 - it is what was found, the test makes it an error
    """A rule that must hold in any weather was broken.

    Attributes:
        rule: its short name.
    """

    def __init__(self, rule: str, detail: str) -> None:
        super().__init__(f"{rule}: {detail}")
        self.rule = rule


class World:
    """Everything that happens, happens here, one thing after the other.

    Args:
        seed: decides every chance; nothing else does.
        keeps_trace: whether lines are kept for a person to read; what they say is hashed either
            way.
    """

    def __init__(self, seed: int, *, keeps_trace: bool = False) -> None:
        self.now = 0.0
        self.random = random.Random(seed)
        self.events = 0
        self.most_events = EVENTS
        self._keeps_trace = keeps_trace
        self._lines: list[str] = []
        self._notes: list[tuple[float, str, tuple[Word, ...]]] = []
        self._hash = hashlib.blake2b(digest_size=16)
        self._queue: list[tuple[float, int, Action, tuple[object, ...]]] = []
        self._planned = 0

    # --------------------------------------------------------------------------------- time

    def after(self, delay_s: float, action: Action, *given: object) -> None:
        """Let something happen later; what is planned for one instant keeps its order."""
        self._planned += 1
        heapq.heappush(self._queue, (self.now + delay_s, self._planned, action, given))

    def run_until(self, is_over: Callable[[], bool], *, end: float) -> bool:
        """Let things happen until `is_over`, which is asked now and then, or until `end`.

        Returns:
            Whether it was over in time.
        """
        ask_at = self.now
        queue = self._queue
        while queue and queue[0][0] <= end:
            if queue[0][0] >= ask_at:
                if is_over():
                    return True
                ask_at = queue[0][0] + 1.0
            when, _, action, given = heapq.heappop(queue)
            self.now = when
            self.events += 1
            if self.events > self.most_events:
                raise Violation("storm", f"{self.events} events by {self.now:.0f} s")
            action(*given)
        self.now = end
        return is_over()

    # ------------------------------------------------------------------------------- chance

    def chance(self, probability: float) -> bool:
        """Throw a coin; what is impossible takes no draw."""
        return probability > 0 and self.random.random() < probability

    def between(self, low: float, high: float) -> float:
        """Draw a number of seconds."""
        return low + (high - low) * self.random.random()

    # -------------------------------------------------------------------------------- trace

    def note(self, who: str, *what: Word) -> None:
        """Write one line of the trace; it becomes text only if somebody wants to read it."""
        self._notes.append((self.now, who, what))
        if len(self._notes) >= _TOGETHER:
            self._take_notes()

    def lines(self) -> list[str]:
        """Return the trace so far, if it is kept."""
        self._take_notes()
        return self._lines

    def trace_hash(self) -> str:
        """Return what two runs of one seed must agree on."""
        self._take_notes()
        return self._hash.hexdigest()

    def _take_notes(self) -> None:
        self._hash.update(marshal.dumps(self._notes, _PLAIN))
        if self._keeps_trace:
            for when, who, what in self._notes:
                said = " ".join(text for word in what if (text := _text(word)))
                self._lines.append(f"{when:10.3f} {who:<8} {said}")
        self._notes.clear()


def _text(word: Word) -> str:
    """Spell a word; an id is told apart by its beginning."""
    if isinstance(word, tuple):
        return " ".join(_text(part) for part in word)
    if isinstance(word, float):
        return f"{word:.1f}"
    if word is None:
        return ""
    return word[:6] if len(word) in (32, 64) and word.isalnum() else word
