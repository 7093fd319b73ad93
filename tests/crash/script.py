"""The scripted app: what a run asks of two devices, and what a device makes of it.

Pure functions of everything that went before, so that one answer that is lost, doubled or changed
changes the last model. Nothing depends on a run's id, a device's full name, or the time.
"""

import functools
import hashlib
from collections.abc import Generator
from dataclasses import dataclass
from typing import Final

from windflower.wire.content import Content, blob_ref
from windflower.wire.limits import INLINE_PACK_BYTES

DEVICES: Final = 2
ROUNDS: Final = 4
BUNDLE: Final = b"the app, as devices get it" * 40

FILE_BYTES: Final = (1 << 20) + 5000
"""More than the gateway keeps as a row."""

BUDGET_BYTES: Final = 2_500_000
"""What the run may keep: in its last round earlier answers go, what was made of them stays."""

SIZES: Final = {
    "train 1": (200, 100),
    "evaluate 1": (60, 60),
    "train 2": (80_000, 90_000),
    "evaluate 2": (80_000, 60),
    "train 3": (3000, FILE_BYTES),
    "evaluate 3": (3000, 60),
    "train 4": (70_000, 100),
    "evaluate 4": (60, 70_000),
}
"""How many bytes a phase sends, and how many are answered: both ways in the message, as a blob that
the gateway keeps as a row, as one that it keeps as a file, and mixed."""


@dataclass(frozen=True, slots=True)
class Phase:
    """What is asked of each device."""

    type: str
    group: str
    pack: bytes

    @property
    def name(self) -> str:
        """What it is called."""
        return f"{self.type} {self.group}"


Script = Generator[Phase, list[bytes], str]
"""Yields phases, takes the digests of the answers in the order of the devices, returns the last
model."""


def script() -> Script:
    """Run the app."""
    model = hashlib.sha256(b"model").digest()
    for number in range(1, ROUNDS + 1):
        group = str(number)
        for type_ in ("train", "evaluate"):
            size_bytes, _ = SIZES[f"{type_} {group}"]
            answers = yield Phase(type_, group, _expand(size_bytes, model))
            model = hashlib.sha256(b"".join([model, *answers])).digest()
    return model.hex()


def work(phase: Phase, device: int, state: bytes) -> tuple[bytes, bytes]:
    """Return what a device answers, and its new state; only training changes that.

    Args:
        phase: what it was asked, with the pack as it arrived.
        device: which one it is, from 0 on.
        state: what its earlier work left behind; empty at first.
    """
    told = (phase.type.encode(), phase.group.encode(), bytes([device]), phase.pack, state)
    made = b"".join(map(digest, told))
    _, size_bytes = SIZES[phase.name]
    if device > 0 and size_bytes == FILE_BYTES:
        size_bytes = 100  # one file is enough: it costs as much time as all the rest
    answer = _expand(size_bytes, made)
    return answer, digest(made + b"after") if phase.type == "train" else state


def content_of(data: bytes) -> Content:
    """Return a content with these bytes as its pack, in the message where it is small enough."""
    is_inline = len(data) <= INLINE_PACK_BYTES
    return Content((("pack", None),), blob_ref(data), data if is_inline else None)


@dataclass(frozen=True, slots=True)
class Ending:
    """How it ends: the last model, and the state of each device."""

    model: str
    states: tuple[bytes, ...]


@functools.cache
def undisturbed() -> Ending:
    """Run the app in a plain loop: no process, no network, no disk."""
    states = [b""] * DEVICES
    running = script()
    phase = next(running)
    while True:
        answers = []
        for device in range(DEVICES):
            answer, states[device] = work(phase, device, states[device])
            answers.append(digest(answer))
        try:
            phase = running.send(answers)
        except StopIteration as ended:
            return Ending(str(ended.value), tuple(states))


def digest(data: bytes) -> bytes:
    """Return 32 bytes that say which bytes these are."""
    return hashlib.sha256(data).digest()


def _expand(size: int, *seeds: bytes) -> bytes:
    return hashlib.shake_256(b"".join(seeds)).digest(size)
