"""What a strategy with explicit state goes on from when its run begins again.

Other strategies are told all again. One that keeps checkpoints is not: it says what it would miss,
and the updates that it has used may go.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol, runtime_checkable

import numpy as np
from flwr.app import Array, ArrayRecord, Metadata, RecordDict

from windflower.flower.records import from_content, header_of, to_packing
from windflower.wire.blobs import BlobRef
from windflower.wire.content import Content, Packing, read_pack_header

_NOTES: Final = "windflower-notes"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """All that a strategy needs to go on.

    Attributes:
        arrays: by name.
        notes: whatever else; JSON.
    """

    arrays: Mapping[str, ArrayRecord]
    notes: Mapping[str, Any]


@runtime_checkable
class KeepsCheckpoints(Protocol):
    """A Grid that keeps checkpoints; Flower's own does not."""

    def checkpoint(self, name: str) -> Checkpoint | None:
        """Return what was kept last under a name, where this run was begun before; else None.

        After it, nothing that was sent before that checkpoint may be sent again. The random
        sources are as they were behind it.
        """
        ...

    def keep_checkpoint(
        self, name: str, checkpoint: Checkpoint, *, waiting_for: Sequence[str]
    ) -> None:
        """Keep a checkpoint instead of the last one under this name; durable on return.

        `random` and `numpy.random` are seeded anew, so that whoever goes on from here draws alike.

        Args:
            name: which strategy of the run.
            checkpoint: what it will go on from.
            waiting_for: ids of messages that were pushed before and will be pulled after it.
        """
        ...


@dataclass(slots=True)
class Progress:
    """How far a Grid's conversation with its gateway has come.

    Attributes:
        rosters: how often the app asked for the fleet.
        pulls: how many pulls gave something.
        spared: how often more devices were asked than the app wanted.
        checkpoints: how many were kept.
        good: answers without an error.
        failed: answers with one.
        worked: by device and type, how much work was handed out.
        asked: by what is asked of whom, how often it was since the last checkpoint.
    """

    rosters: int = 0
    pulls: int = 0
    spared: int = 0
    checkpoints: int = 0
    good: int = 0
    failed: int = 0
    worked: Counter[tuple[str, str]] = field(default_factory=Counter)
    asked: Counter[tuple[str, ...]] = field(default_factory=Counter)

    def occurrence(self, asked: tuple[str, ...]) -> int:
        """Count one more time that something is asked, and return which time it is.

        No number comes twice, though what was asked before a checkpoint is not counted any more.
        """
        self.asked[asked] += 1
        return (self.checkpoints << 32) + self.asked[asked]

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form, as it is at a checkpoint."""
        counts = asdict(self)
        del counts["asked"]
        return counts | {"worked": [[*key, count] for key, count in self.worked.items()]}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Progress":
        """Read the JSON form."""
        worked = Counter({(device, type_): count for device, type_, count in value["worked"]})
        return cls(**{**value, "worked": worked})


def to_pack(checkpoint: Checkpoint) -> Packing:
    """Return a pack that holds a checkpoint."""
    notes = np.frombuffer(json.dumps(checkpoint.notes).encode(), dtype=np.uint8)
    records = {**checkpoint.arrays, _NOTES: ArrayRecord({"json": Array(notes)})}
    return to_packing(RecordDict(dict(records)))


def from_pack(path: Path, ref: BlobRef) -> Checkpoint:
    """Read a pack that holds a checkpoint; its file must stay while the arrays are used."""
    names = read_pack_header(header_of(path), pack_bytes=ref.size_bytes)
    records = from_content(Content(tuple((name, None) for name in names), ref), path)
    arrays = dict(records.array_records)
    notes = arrays.pop(_NOTES)["json"].numpy().tobytes()
    return Checkpoint(arrays, json.loads(notes))


def described(sent: Metadata) -> dict[str, Any]:
    """Return what has to be known of a message that waits for its answer; JSON."""
    return {
        "dst_node_id": sent.dst_node_id,
        "group_id": sent.group_id,
        "created_at": sent.created_at,
        "ttl": sent.ttl,
        "message_type": sent.message_type,
    }
