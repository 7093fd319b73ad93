"""What happened lately, in sentences: few, so that each can be read."""

from collections import deque
from typing import Any, Final

from windflower.observe.sentences import sentence

Line = dict[str, Any]

NEWS: Final = 30
"""So much of what happened is told, the latest."""

TOGETHER_S: Final = 10.0
"""What happens to several devices within this time is one thing that happened."""

_CROWDS: Final = {"device-heard": "are back", "device-lost": "are lost"}

_NOT_NEWS: Final = frozenset(
    ("phase-opened", "phase-closed", "round-measured", "model-taken", "waiting-for-devices")
)


class News:
    """Takes events, and keeps a sentence of those that people want to hear of.

    Args:
        at_most: how many are kept, the latest.
    """

    def __init__(self, at_most: int = NEWS) -> None:
        self._items: deque[Line] = deque(maxlen=at_most)

    def take(self, line: Line) -> bool:
        """Take an event; return whether it is news."""
        said = _first(sentence(line)) if _is_news(line) else ""
        if not said:
            return False
        last = self._items[-1] if self._items else None
        if last is not None and _is_one_more(last, line):
            self._items[-1] = _joined(last, line["event"])
        else:
            self._items.append({"at": line["at"], "event": line["event"], "text": said})
        return True

    def latest(self) -> list[Line]:
        """Return what happened, the latest last: `at`, `event`, and `text`."""
        return list(self._items)


def _is_news(line: Line) -> bool:
    if line["event"] == "device-heard":
        return bool(line["again"])
    return line["event"] not in _NOT_NEWS


def _is_one_more(last: Line, line: Line) -> bool:
    """Return whether what happened to a device just happened to another one too."""
    is_alike = line["event"] in _CROWDS and last["event"] == line["event"]
    return is_alike and line["at"] - last["at"] <= TOGETHER_S


def _joined(last: Line, event: str) -> Line:
    first = last.get("first", last["text"].split(" ", 1)[0])
    others = last.get("others", 0) + 1
    text = f"{first} and {others} other{'s' * (others > 1)} {_CROWDS[event]}"
    return {**last, "first": first, "others": others, "text": text}


def _first(said: str) -> str:
    """Return a sentence without what stands below it, such as a traceback."""
    return said.split("\n", 1)[0]
