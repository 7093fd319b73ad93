"""A device's shelf of models: whole or not at all, and readable without us."""

import os
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, MetricRecord, RecordDict

from windflower.adapters.local.files import digest_of
from windflower.adapters.local.model_shelf import KEPT, FolderShelf, write_arrays
from windflower.errors import MalformedMessage
from windflower.flower.records import to_packing, write_pack
from windflower.wire.blobs import BlobRef


def pack(path: Path, number: int) -> BlobRef:
    arrays = {"w": Array(np.full((2, 3), number, np.float32)), "b/1": Array(np.array(number))}
    return write_pack(to_packing(RecordDict({"arrays": ArrayRecord(arrays)})), path)


async def test_a_model_is_there_for_numpy_and_as_it_came(tmp_path: Path) -> None:
    shelf = FolderShelf(tmp_path / "models")
    assert (None, None, None) == (shelf.current(), shelf.file(), shelf.pack())
    ref = pack(tmp_path / "one", 1)
    await shelf.put(ref, tmp_path / "one")
    file, kept = shelf.file(), shelf.pack()

    assert file is not None
    with np.load(file) as arrays:
        assert {"w", "b/1"} == set(arrays)
        assert np.array_equal(np.full((2, 3), 1, np.float32), arrays["w"])
    assert kept is not None
    assert ref == kept[1] == digest_of(kept[0])
    assert ref.digest == FolderShelf(tmp_path / "models").current()


async def test_going_back_to_a_model_that_is_kept_needs_no_file(tmp_path: Path) -> None:
    shelf = FolderShelf(tmp_path / "models")
    refs = [pack(tmp_path / str(n), n) for n in range(KEPT + 1)]
    for number, ref in enumerate(refs):
        await shelf.put(ref, tmp_path / str(number))
    await shelf.put(refs[1], None)

    assert [False, True, True, True] == [shelf.holds(ref.digest) for ref in refs]
    assert refs[1].digest == shelf.current()


async def test_a_power_cut_leaves_the_old_model_or_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf = FolderShelf(tmp_path / "models")
    old, new = pack(tmp_path / "old", 1), pack(tmp_path / "new", 2)
    await shelf.put(old, tmp_path / "old")
    names = ("move_durably", "shutil.copyfile")
    for name in names:
        with monkeypatch.context() as patch:
            patch.setattr(f"windflower.adapters.local.model_shelf.{name}", _cut)
            with pytest.raises(SystemExit):
                await shelf.put(new, tmp_path / "new")
        assert old.digest == FolderShelf(tmp_path / "models").current()
        assert not shelf.holds(new.digest)
    await shelf.put(new, tmp_path / "new")

    assert new.digest == shelf.current()


async def test_a_clock_that_is_wrong_takes_no_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf = FolderShelf(tmp_path / "models")
    for number in range(KEPT):
        await shelf.put(pack(tmp_path / str(number), number), tmp_path / str(number))
    new = pack(tmp_path / "new", 9)
    monkeypatch.setattr("time.time", lambda: 1000.0)  # 1970: before what a zip can say
    monkeypatch.setattr("os.utime", partial(os.utime, times=(1000.0, 1000.0)))
    await shelf.put(new, tmp_path / "new")
    kept = shelf.pack()

    assert kept is not None
    assert new == kept[1]
    assert shelf.holds(new.digest)


def _cut(*_: object) -> None:
    raise SystemExit


async def test_what_holds_no_arrays_is_no_model(tmp_path: Path) -> None:
    metrics = RecordDict({"m": MetricRecord({f"a{n}": 1.0 for n in range(5000)})})
    ref = write_pack(to_packing(metrics), tmp_path / "metrics")
    with pytest.raises(MalformedMessage, match="without arrays"):
        await FolderShelf(tmp_path / "models").put(ref, tmp_path / "metrics")
    (tmp_path / "noise").write_bytes(b"noise")
    with pytest.raises(MalformedMessage, match="not a pack"):
        write_arrays(tmp_path / "noise", tmp_path / "out")
