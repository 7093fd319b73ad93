"""The world: a clock that jumps, a queue of what will happen, one source of chance, a trace."""

import hashlib
import heapq
import random
from collections.abc import Callable
from typing import Final

Action = Callable[[], None]

EVENTS: Final = 150_000
"""The busiest clean seed needs a tenth of this: more is a storm that feeds itself."""


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
        keeps_trace: whether lines are kept for a person to read; they are hashed either way.
    """

    def __init__(self, seed: int, *, keeps_trace: bool = False) -> None:
        self.now = 0.0
        self.random = random.Random(seed)
        self.lines: list[str] = []
        self.events = 0
        self._keeps_trace = keeps_trace
        self._hash = hashlib.blake2b(digest_size=16)
        self._queue: list[tuple[float, int, Action]] = []
        self._planned = 0

    # --------------------------------------------------------------------------------- time

    def after(self, delay_s: float, action: Action) -> None:
        """Let something happen later; what is planned for one instant keeps its order."""
        self._planned += 1
        heapq.heappush(self._queue, (self.now + delay_s, self._planned, action))

    def run_until(self, is_over: Callable[[], bool], *, end: float) -> bool:
        """Let things happen until `is_over`, which is asked now and then, or until `end`.

        Returns:
            Whether it was over in time.
        """
        ask_at = self.now
        while self._queue and self._queue[0][0] <= end:
            when, _, action = heapq.heappop(self._queue)
            if when >= ask_at:
                if is_over():
                    heapq.heappush(self._queue, (when, 0, action))
                    return True
                ask_at = when + 1.0
            self.now = when
            self.events += 1
            if self.events > EVENTS:
                raise Violation("storm", f"{self.events} events by {self.now:.0f} s")
            action()
        self.now = end
        return is_over()

    # ------------------------------------------------------------------------------- chance

    def chance(self, probability: float) -> bool:
        """Throw a coin; what is impossible takes no draw."""
        return probability > 0 and self.random.random() < probability

    def between(self, low: float, high: float) -> float:
        """Draw a number of seconds."""
        return self.random.uniform(low, high)

    # -------------------------------------------------------------------------------- trace

    def note(self, who: str, what: str) -> None:
        """Write one line of the trace."""
        line = f"{self.now:10.3f} {who:<8} {what}"
        self._hash.update(line.encode())
        if self._keeps_trace:
            self.lines.append(line)

    def trace_hash(self) -> str:
        """Return what two runs of one seed must agree on."""
        return self._hash.hexdigest()
