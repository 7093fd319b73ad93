"""What a device must not forget, in dictionaries; files go to a folder."""

import secrets
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from windflower.core import device_effects
from windflower.core.duty import Kept
from windflower.core.retention import unneeded
from windflower.wire.blobs import BlobRef
from windflower.wire.messages import NOTHING, Command


class MemoryStore:
    """One device's store.

    Args:
        folder: for blobs and updates.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._kept: dict[str, Kept] = {}
        self._states: dict[str, tuple[int, bytes]] = {}
        self._facts: dict[str, str] = {}
        self._cached: list[str] = []
        self._secrets: dict[str, tuple[int, str]] = {}

    async def open(self) -> tuple[Sequence[Kept], int]:
        """Return the commands in the order in which they came, and the floor."""
        return list(self._kept.values()), int(self._facts.get("floor", "0"))

    async def carry_out(  # noqa: C901 - one case a kind
        self, effects: Sequence[device_effects.Effect], state: bytes | None
    ) -> None:
        """Keep what these effects say."""
        for effect in effects:
            match effect:
                case device_effects.KeepCommand(command):
                    self._keep(command)
                case device_effects.KeepReply(reply, number):
                    self._kept[reply.id] = replace(self._kept[reply.id], reply=reply)
                    if state is not None and reply.failure is None:
                        self._states[reply.run] = (number, state)
                case device_effects.KeepStart(id_):
                    row = self._kept[id_]
                    self._kept[id_] = replace(row, starts=row.starts + 1)
                case device_effects.Forget(ids):
                    self._forget(ids, None)
                case device_effects.Drop(ids, epoch):
                    self._forget(ids, epoch)
                case device_effects.ForgetBelow(number):
                    self._forget_below(number)
                case _:
                    pass

    def _keep(self, command: Command) -> None:
        before = self._kept.get(command.id)
        if before is None or (before.cancelled_by or command.epoch) < command.epoch:
            self._kept[command.id] = Kept(command)

    def _forget(self, ids: Iterable[str], cancelled_by: int | None) -> None:
        for id_ in self._kept.keys() & ids:
            shell = replace(self._kept[id_].command, content=NOTHING)
            self._kept[id_] = Kept(shell, is_acknowledged=True, cancelled_by=cancelled_by)
            self.update(id_).unlink(missing_ok=True)

    def _forget_below(self, number: int) -> None:
        for kept in self._kept.values():
            if kept.command.number < number:
                self.update(kept.command.id).unlink(missing_ok=True)
        self._kept = {i: k for i, k in self._kept.items() if k.command.number >= number}
        self._states = {r: s for r, s in self._states.items() if s[0] >= number}
        self._secrets = {r: s for r, s in self._secrets.items() if s[0] >= number}
        self._facts["floor"] = str(number)

    async def state(self, run: str) -> bytes | None:
        """Return the app's state on this device."""
        return self._states.get(run, (0, None))[1]

    async def secret(self, run: str, number: int) -> str:
        """Return what only this device knows of a run, drawn at the first call."""
        return self._secrets.setdefault(run, (number, secrets.token_hex(32)))[1]

    async def fact(self, name: str) -> str | None:
        """Return a small thing that was remembered."""
        return self._facts.get(name)

    async def remember(self, name: str, value: str) -> None:
        """Remember a small thing."""
        self._facts[name] = value

    def blob(self, ref: BlobRef) -> Path | None:
        """Return a whole and verified blob of the cache."""
        path = self._folder / ref.digest
        if not path.exists():
            return None
        self._cached.remove(ref.digest)
        self._cached.append(ref.digest)
        return path

    def landing(self, name: str) -> Path:
        """Return a path for a file that is not whole yet."""
        return self._folder / f"landing-{name}"

    async def keep_blob(self, path: Path, ref: BlobRef) -> None:
        """Move a whole and verified file into the cache."""
        path.replace(self._folder / ref.digest)
        if ref.digest not in self._cached:
            self._cached.append(ref.digest)

    def drop_halves(self, needed: frozenset[str]) -> None:
        """Drop what landed in part for nothing."""
        for path in self._folder.glob("landing-*"):
            digest = path.name.removeprefix("landing-")
            if digest not in needed or digest in self._cached:
                path.unlink()

    def room_bytes(self) -> int:
        """Return how many bytes can still be stored: here as many as a file may have."""
        return 1 << 40

    def trim(self, needed: frozenset[str]) -> None:
        """Drop blobs of the cache that no command needs, but for the last few."""
        for digest in unneeded(self._cached, needed):
            self._cached.remove(digest)
            (self._folder / digest).unlink(missing_ok=True)

    def update(self, command: str) -> Path:
        """Return where the pack of a reply is kept until it is acknowledged."""
        return self._folder / f"update-{command}"

    async def close(self) -> None:
        """Forget nothing: whoever opens it again goes on."""
