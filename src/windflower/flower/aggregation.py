"""Remembers what Flower's own aggregation made of updates, so that they need not be kept for ever.

A run that starts again needs every update of every round. But a strategy that hands them to
`aggregate_arrayrecords` and looks at none of them needs only what came out: the function is pure.
Each reading of an update is noted. Once an update was aggregated, read nowhere else, and can be
read no more because nothing refers to it, it is spare: the gateway may drop it when a run holds too
much. Executed again, the run is given the kept aggregate in its place, with the same bits.
"""

import hashlib
import json
import secrets
import threading
import weakref
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from flwr.app import ArrayRecord, RecordDict

from windflower.core.ledger import Settlement
from windflower.errors import RunDiverged
from windflower.flower.private import Aggregate, aggregating
from windflower.flower.records import (
    LazyArray,
    from_content,
    header_of,
    on_a_full_disk_suspended,
    to_packing,
    write_pack,
)
from windflower.gateway.line import RunLine
from windflower.wire.blobs import BlobRef
from windflower.wire.content import Content, read_pack_header
from windflower.wire.messages import Reply
from windflower.wire.values import Values

_RESULT: Final = "arrays"


@dataclass(slots=True)
class _Readings:
    """How one update was read. It outlives the update."""

    id: str
    header: bytes
    is_aggregated: bool = False
    is_read_elsewhere: bool = False


class _Update:
    """One reply's arrays; lives as long as any of them.

    Args:
        digest: of their pack.
        readings: how they were read; None for those that nobody would drop, or that are gone.
        is_gone: whether only what was made of them is left.
        aggregating: set while the thread that reads is inside Flower's aggregation.
    """

    def __init__(
        self, digest: str, readings: _Readings | None, aggregating: "_Inside", *, is_gone: bool
    ) -> None:
        self.digest = digest
        self.readings = readings
        self.is_gone = is_gone
        self._inside = aggregating

    def __deepcopy__(self, memo: dict[int, object]) -> "_Update":
        """Return the same: a copy of its arrays keeps it alive."""
        del memo
        return self

    def reads(self) -> None:
        """Note that one of the arrays is read."""
        if self.readings is not None and not self._inside.is_true:
            self.readings.is_read_elsewhere = True


class _Inside(threading.local):
    is_true = False


class Aggregation:
    """Flower's aggregation in one execution of one run.

    Args:
        line: the gateway.
        run: the run's id.
        scratch: where packs are written; the gateway takes them over.

    Attributes:
        recalled: how many aggregates were taken as they were kept, because updates were gone.
    """

    def __init__(self, line: RunLine, run: str, *, scratch: Path) -> None:
        self.recalled = 0
        self._line = line
        self._run = run
        self._scratch = scratch
        self._inside = _Inside()
        self._spare: list[_Readings] = []
        self._plain: Aggregate | None = None

    @contextmanager
    def remembering(self) -> Iterator[None]:
        """Remember what strategies aggregate inside."""
        with aggregating(self._aggregate) as self._plain:
            yield

    def follow(self, settlement: Settlement, records: RecordDict, pack: Path | None) -> None:
        """Note from now on how the arrays of a reply are read.

        Args:
            settlement: the reply that they came in.
            records: what it holds.
            pack: the file of its pack, where it has one.
        """
        reply = settlement.reply
        if reply is None or reply.content.pack is None:
            return
        readings = None if pack is None else _readings(reply, header_of(pack))
        update = _Update(
            *(reply.content.pack.digest, readings, self._inside),
            is_gone=settlement.header is not None,
        )
        for array in _arrays(records):
            array.reader = update
        if readings is not None:
            weakref.finalize(update, self._let_go, readings).atexit = False

    def spare(self) -> None:
        """Tell the gateway which updates it may drop."""
        spare, self._spare = self._spare, []
        by_header: defaultdict[bytes, list[str]] = defaultdict(list)
        for readings in spare:
            by_header[readings.header].append(readings.id)
        for header, ids in by_header.items():
            self._line.spare(self._run, ids, header)

    def _let_go(self, readings: _Readings) -> None:
        """Nobody can read this update any more."""
        if readings.is_aggregated and not readings.is_read_elsewhere:
            self._spare.append(readings)

    # ----------------------------------------------------------------------------- inside

    def _aggregate(self, records: list[RecordDict], weighting_metric_name: str) -> ArrayRecord:
        """Take the place of Flower's `aggregate_arrayrecords`; the same bits come out."""
        assert self._plain is not None  # noqa: S101 - nobody calls it outside of `remembering`
        updates = _updates(records)
        if updates is None or not any(u.is_gone or u.readings for u in updates):
            return self._plain(records, weighting_metric_name)
        key = _key(records, weighting_metric_name)
        kept = self._line.aggregate(self._run, key)
        if any(update.is_gone for update in updates):
            return self._recall(kept)
        self._inside.is_true = True
        try:
            result = self._plain(records, weighting_metric_name)
        finally:
            self._inside.is_true = False
        if kept is None:
            self._keep(key, result)
        for update in updates:
            if update.readings is not None:
                update.readings.is_aggregated = True
        return result

    def _recall(self, kept: BlobRef | None) -> ArrayRecord:
        if kept is None:
            raise RunDiverged(
                "updates that were dropped are aggregated in another way than before: only what"
                " was made of them then is kept"
            )
        self.recalled += 1
        content = Content(((_RESULT, None),), kept)
        (path,) = self._line.locate(self._run, [kept.key])
        return from_content(content, path).array_records[_RESULT]

    def _keep(self, key: str, result: ArrayRecord) -> None:
        path = self._scratch / f"{secrets.token_hex(8)}.pack"
        try:
            with on_a_full_disk_suspended():
                ref = write_pack(to_packing(RecordDict({_RESULT: result})), path)
            self._line.keep_aggregate(self._run, key, path, ref)
        finally:
            path.unlink(missing_ok=True)


def _readings(reply: Reply, header: bytes) -> _Readings | None:
    """Return what notes how a reply is read; None where its pack holds more than arrays."""
    assert reply.content.pack is not None  # noqa: S101 - it has a header
    records = read_pack_header(header, pack_bytes=reply.content.pack.size_bytes)
    has_values = any(isinstance(record, Values) for record in records.values())
    return None if has_values else _Readings(reply.id, header)


def _arrays(records: RecordDict) -> Iterable[LazyArray]:
    for record in records.array_records.values():
        yield from (array for array in record.values() if isinstance(array, LazyArray))


def _updates(records: list[RecordDict]) -> list[_Update] | None:
    """Return the updates that all arrays are of; None where some were made by somebody else."""
    found: dict[int, _Update] = {}
    for record in records:
        for arrays in record.array_records.values():
            for array in arrays.values():
                if not isinstance(array, LazyArray) or not isinstance(array.reader, _Update):
                    return None
                found[id(array.reader)] = array.reader
    return list(found.values())


def _key(records: list[RecordDict], weighting_metric_name: str) -> str:
    """Name all that the result depends on: weights, and which bytes stand under which names."""
    told = []
    for record in records:
        metrics = next(iter(record.metric_records.values()), None)
        weight = None if metrics is None else metrics.get(weighting_metric_name)
        arrays = [
            [name, array.dtype, list(array.shape), array.stype, array.reader.digest, array.offset]
            for arrays in record.array_records.values()
            for name, array in arrays.items()
            if isinstance(array, LazyArray) and isinstance(array.reader, _Update)
        ]
        told.append([repr(weight), arrays])
    return hashlib.sha256(json.dumps([weighting_metric_name, told]).encode()).hexdigest()
