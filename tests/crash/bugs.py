"""Planted bugs: each is a small, tempting mistake about order or durability, and must be found.

Crash points that find nothing prove nothing. A bug is planted in the processes of a case only.
"""

import shutil
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from crash.deaths import Role
from windflower.adapters.local import blob_folder
from windflower.adapters.local.device_store import DeviceStore
from windflower.agent.agent import Agent
from windflower.core.device_effects import KeepReply, Publish
from windflower.core.duty import Kept
from windflower.core.gateway_effects import Tell
from windflower.gateway.fleet import Fleet


@dataclass(frozen=True, slots=True)
class Bug:
    """A mistake.

    Attributes:
        mistake: what it is.
        plant: makes it, in this process.
        role: whose deaths show it.
        near: what the effects begin with before which they may.
    """

    mistake: str
    plant: Callable[[], None]
    role: Role
    near: str


def _answer_first() -> None:
    real = Agent._carry_out

    async def carry_out(self: Agent, effects: list[Any], state: bytes | None) -> None:
        answers = [e for e in effects if isinstance(e, Publish)]
        await real(self, answers + [e for e in effects if e not in answers], state)

    Agent._carry_out = carry_out  # type: ignore[method-assign]


def _keep_state_apart() -> None:
    real = DeviceStore.carry_out

    async def carry_out(self: DeviceStore, effects: Sequence[Any], state: bytes | None) -> None:
        await real(self, effects, None)
        if state is not None:
            await real(self, [e for e in effects if isinstance(e, KeepReply)], state)

    DeviceStore.carry_out = carry_out  # type: ignore[method-assign]


def _forget_answers() -> None:
    real = DeviceStore.open

    async def open_(self: DeviceStore) -> tuple[Sequence[Kept], int]:
        kept, floor = await real(self)
        return [replace(row, reply=None) for row in kept], floor

    DeviceStore.open = open_  # type: ignore[method-assign]


def _acknowledge_first() -> None:
    real = Fleet._apply

    def apply(self: Fleet, effects: Iterable[Any]) -> None:
        listed = list(effects)
        acks = [e for e in listed if isinstance(e, Tell) and e.method == "ack"]
        for ack in acks:
            with suppress(StopIteration):  # it is over at once: it waits for nothing
                self._do(ack).send(None)
        real(self, [e for e in listed if e not in acks])

    Fleet._apply = apply  # type: ignore[method-assign]


def _copy_into_place() -> None:
    def move(source: Path, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        with source.open("rb") as given, target.open("wb") as taken:
            shutil.copyfileobj(given, taken)
        source.unlink()

    blob_folder.move_durably = move  # type: ignore[attr-defined]


BUGS: Final = {
    "answers-first": Bug(
        "a device answers before its answer is durable", _answer_first, "agent", "commit"
    ),
    "state-apart": Bug(
        "the app's state is committed after the reply", _keep_state_apart, "agent", "commit"
    ),
    "forgets-answers": Bug(
        "a device that starts does not see what it answered",
        _forget_answers,
        "agent",
        "publish reply",
    ),
    "acknowledges-first": Bug(
        "a reply is acknowledged before it is journaled", _acknowledge_first, "gateway", "commit"
    ),
    "copies-into-place": Bug(
        "a blob that was cut in its middle counts as whole", _copy_into_place, "gateway", "write"
    ),
}
