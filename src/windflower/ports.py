"""The small interfaces to the world, on one page. An adapter needs to do no more than this.

All methods raise `TransportError` where the world does not answer; each says what else it raises.
Async methods may be cancelled at any await; what they had begun to store is then either whole or
absent.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from windflower.core import device_effects
from windflower.core.duty import Kept
from windflower.core.ledger import (
    CheckpointRecord,
    Entry,
    History,
    Memory,
    PhaseRecord,
    PullRecord,
    RosterRecord,
    Settlement,
    Tally,
)
from windflower.core.retention import Holding, PastRun
from windflower.wire.blobs import BlobRef, Grant
from windflower.wire.content import Content
from windflower.wire.messages import Command, Failure, Method

# ------------------------------------------------------------------------------ both sides


class Clock(Protocol):
    """Time, as an object, so that a test can own it."""

    def now(self) -> float:
        """Return seconds. A gateway's clock is Unix time; a device's never goes back."""
        ...


class Events(Protocol):
    """Takes events, one JSON line each."""

    def write(self, line: dict[str, object]) -> None:
        """Keep or show a line; never blocks for long and never raises."""
        ...


# -------------------------------------------------------------------------- the fleet's side


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message from a device.

    Attributes:
        device: who may have sent it, by the authority of the place: its topic or its row.
        body: the bytes.
        done: removes it from where it came; to be called when it is journaled or refused.
        is_kept: whether the place kept it from before we asked, so that it tells of the past.
    """

    device: str
    body: bytes
    done: Callable[[], Awaitable[None]]
    is_kept: bool = False


@dataclass(frozen=True, slots=True)
class LinkChange:
    """The way to the devices opened or closed."""

    is_up: bool
    reason: str = ""


class Commands(Protocol):
    """The way to the devices: a hint that may get lost, never a promise."""

    async def open(self) -> None:
        """Connect; raises BrokerUnavailable or BrokerRefused where the first try fails."""
        ...

    async def send(self, device: str, message: bytes) -> None:
        """Publish a command to a device; raises BrokerUnavailable while there is no link."""
        ...

    async def tell(self, device: str, message: bytes) -> None:
        """Publish a control message as cheaply as can be: the next heartbeat mends its loss."""
        ...

    async def next_change(self) -> LinkChange:
        """Wait until the link comes up or goes down; the first answer is that it is up."""
        ...

    async def close(self) -> None:
        """Disconnect."""
        ...


class Intake(Protocol):
    """The way from the devices: used for replies, and again for presence."""

    async def take(self) -> Sequence[Delivery]:
        """Wait for messages and return all that are there, oldest first, at least one.

        What was not `done` when the process died may be delivered again.
        """
        ...


class Blobs(Protocol):
    """Bytes that never change, by key."""

    async def adopt(self, path: Path, ref: BlobRef) -> None:
        """Take over a file whose content `ref` names; durable on return. Idempotent.

        What was stored before counts as new from now on: no `sweep` takes it before its time.
        """
        ...

    async def matches(self, key: str, ref: BlobRef) -> bool:
        """Return whether what is stored under `key` is, byte for byte, what `ref` names."""
        ...

    async def fetch(self, key: str) -> Path:
        """Return a local file with the bytes, which the caller must not change.

        Raises:
            BlobNotFound: nothing is stored under the key.
        """
        ...

    def grant(
        self, method: Literal["GET", "PUT"], key: str, *, size_bytes: int, ttl_s: float
    ) -> Grant:
        """Return a capability for one key. A PUT may create it once and never change it."""
        ...

    async def discard(self, key: str) -> None:
        """Drop what is stored under a key, if anything is."""
        ...

    def room_bytes(self) -> int:
        """Return how many bytes can still be stored."""
        ...

    async def sweep(self, live: frozenset[str], *, older_than_s: float) -> int:
        """Drop what is stored under other keys than these for so long; return how many went."""
        ...

    async def close(self) -> None:
        """Let go of what is open."""
        ...


class Journal(Protocol):
    """What a gateway must not forget."""

    async def record(self, entries: Sequence[Entry], *, at: float) -> None:
        """Keep all entries or none; durable on return. Idempotent, entry by entry."""
        ...

    async def recall(self) -> Memory:
        """Return what to go on with: every run, and the exchanges of the open ones."""
        ...

    async def history(self, run: str) -> History:
        """Return what a run asked and was told."""
        ...

    async def past(self) -> Sequence[PastRun]:
        """Return the finished runs that are not forgotten, with what they hold."""
        ...

    async def silent_since(self) -> dict[str, float]:
        """Return when each open run last asked for something, Unix seconds."""
        ...

    async def live_keys(self) -> frozenset[str]:
        """Return the keys of all blobs that an open exchange or a run not forgotten needs."""
        ...

    async def tally(self, run: str) -> Tally:
        """Count how the exchanges of a run ended."""
        ...

    async def settlements(self, ids: Sequence[str]) -> Sequence[Settlement]:
        """Return the settlements of those of these commands that are settled."""
        ...

    async def phase(self, run: str, phase: str) -> PhaseRecord | None:
        """Return how a phase closed, if it did."""
        ...

    async def roster(self, run: str, call: int) -> RosterRecord | None:
        """Return what the app was told at its nth question for the fleet, if it asked."""
        ...

    async def pull(self, run: str, call: int) -> PullRecord | None:
        """Return what the app was given at its nth pull, if it was given anything."""
        ...

    async def aggregate(self, run: str, key: str) -> BlobRef | None:
        """Return what was made of updates, if that is kept."""
        ...

    async def checkpoint(self, run: str, name: str) -> CheckpointRecord | None:
        """Return the last checkpoint that a run kept under a name, if it kept any."""
        ...

    async def holdings(self, run: str) -> Sequence[Holding]:
        """Return the updates that a run keeps, the oldest first, then what was made of them."""
        ...

    async def close(self) -> None:
        """Let go of what is open."""
        ...


# ------------------------------------------------------------------------- the device's side


@dataclass(frozen=True, slots=True)
class LinkUp:
    """The device is connected and subscribed."""


@dataclass(frozen=True, slots=True)
class LinkDown:
    """The connection broke; the link goes on trying by itself."""

    reason: str


@dataclass(frozen=True, slots=True)
class Received:
    """A message for the device.

    Attributes:
        body: the bytes.
        done: tells the broker that they need not be sent again.
    """

    body: bytes
    done: Callable[[], None]


class Link(Protocol):
    """A device's way to its gateway, in both directions. It reconnects by itself."""

    async def next(self) -> LinkUp | LinkDown | Received:
        """Wait for what comes next.

        Raises:
            BrokerRefused: the broker does not let this device in.
        """
        ...

    def beat(self, message: bytes) -> None:
        """Publish a heartbeat, or drop it while there is no connection."""
        ...

    def answer(self, method: Method, message: bytes) -> None:
        """Publish a reply, or drop it while there is no connection."""
        ...

    async def close(self) -> None:
        """Disconnect for good; no last will is sent."""
        ...


class Store(Protocol):
    """What a device must not forget. Every method that keeps something is durable on return."""

    async def open(self) -> tuple[Sequence[Kept], int]:
        """Return the commands in the order in which they came, and the floor."""
        ...

    async def carry_out(
        self, effects: Sequence[device_effects.Effect], state: bytes | None
    ) -> None:
        """Commit all storing effects among these, with the app's new state, in one transaction."""
        ...

    async def state(self, run: str) -> bytes | None:
        """Return the app's state on this device, as the worker wrote it."""
        ...

    async def secret(self, run: str, number: int) -> str:
        """Return what only this device knows of a run: drawn at the first call, gone with the run.

        Args:
            run: the run.
            number: its number; when the floor has passed it, the secret is deleted.
        """
        ...

    async def fact(self, name: str) -> str | None:
        """Return a small thing that was remembered, such as the gateway's key."""
        ...

    async def remember(self, name: str, value: str) -> None:
        """Remember a small thing."""
        ...

    def blob(self, ref: BlobRef) -> Path | None:
        """Return a whole and verified blob of the cache."""
        ...

    def landing(self, name: str) -> Path:
        """Return a path for a file that is not whole yet; leftovers are removed at `open`."""
        ...

    async def keep_blob(self, path: Path, ref: BlobRef) -> None:
        """Move a whole and verified file into the cache."""
        ...

    def drop_halves(self, needed: frozenset[str]) -> None:
        """Drop what landed in part and no command needs, or is whole in the cache by now.

        Not while this device downloads: what it writes into would be dropped too.

        Args:
            needed: the digests of the blobs that commands still need.
        """
        ...

    def room_bytes(self) -> int:
        """Return how many bytes can still be stored."""
        ...

    def trim(self, needed: frozenset[str]) -> None:
        """Drop blobs of the cache whose digests no command needs, but for the last few."""
        ...

    def update(self, command: str) -> Path:
        """Return where the pack of a reply to this command is kept until it is acknowledged."""
        ...

    async def close(self) -> None:
        """Let go of what is open."""
        ...


class Models(Protocol):
    """The models that a fleet's owner has published to this device."""

    def current(self) -> str | None:
        """Return the digest of the model in use."""
        ...

    def holds(self, digest: str) -> bool:
        """Return whether a model is here."""
        ...

    def file(self) -> Path | None:
        """Return the model in use as a file that numpy reads."""
        ...

    def pack(self) -> tuple[Path, BlobRef] | None:
        """Return the model in use as it came."""
        ...

    async def put(self, ref: BlobRef, pack: Path | None) -> None:
        """Use a model from now on; durable on return, and nothing is between the old and the new.

        Args:
            ref: which.
            pack: its bytes, verified; None where it is here already.

        Raises:
            MalformedMessage: this is no pack of arrays.
        """
        ...


class Transfers(Protocol):
    """Moves bytes by grants."""

    async def get(self, grant: Grant, ref: BlobRef, path: Path) -> None:
        """Download to a file and verify; go on where an earlier try stopped.

        Raises:
            GrantRefused: the grant is dead.
            BlobsUnavailable: nobody answers, or the connection broke.
            MalformedMessage: the bytes are not what `ref` names; the file is gone.
        """
        ...

    async def put(self, grant: Grant, ref: BlobRef, path: Path) -> None:
        """Upload a file; that it is there already, with these bytes, is success.

        Raises:
            FileNotFoundError: there is no such file.
            GrantRefused: the grant is dead.
            BlobTooLarge: no grant would help.
            BlobsUnavailable: nobody answers, or the connection broke.
        """
        ...


@dataclass(frozen=True, slots=True)
class Job:
    """One call of the user's ClientApp.

    Attributes:
        command: what was asked; an inline pack stands in its content.
        bundle: the app, a zip file that was verified.
        pack: the pack's file where it is not inline.
        state: the app's state on this device.
        node_config: what the device tells the app about itself, as Flower spells it.
        update: where to write the pack of the answer, where it is too large for a message.
        secret: of this device and run; seeds the random sources where the command has no seed.
        model: the model that was published to this device, as a file that numpy reads.
        may_install: whether packages that the app lacks may be installed.
    """

    command: Command
    bundle: Path
    pack: Path | None
    state: bytes | None
    node_config: str
    update: Path
    secret: str
    model: Path | None = None
    may_install: bool = False


@dataclass(frozen=True, slots=True)
class Done:
    """What the ClientApp made of a job.

    Attributes:
        result: what it answered, or why it did not.
        state: the app's new state on this device.
        worked_s: seconds inside the app.
    """

    result: Content | Failure
    state: bytes | None
    worked_s: float


class Worker(Protocol):
    """Holds the user's ClientApp, warm between calls."""

    async def work(self, job: Job) -> Done:
        """Call the app. What the app does wrong is a Failure in the answer.

        Raises:
            WorkerDied: the process that held the app ended; the next call starts another.
        """
        ...

    async def stop(self) -> None:
        """End what is under way, without a result. The next call starts afresh."""
        ...
