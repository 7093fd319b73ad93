"""A worker calls the app with what was sent, keeps its state, and makes data of what goes wrong."""

import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict
from samples import command

from windflower.flower.app_bundle import make_bundle
from windflower.flower.app_folder import AppFolder
from windflower.flower.records import from_content, to_content
from windflower.flower.worker import Trainer
from windflower.ports import Job
from windflower.wire.content import Content
from windflower.wire.messages import Failure

APP = Path(__file__).parents[2] / "apps" / "averaging"


@pytest.fixture(autouse=True)
def _own_modules() -> Iterator[None]:
    """A worker is a process of its own; here its app's modules go when the test ends."""
    path = list(sys.path)
    yield
    sys.path[:] = path
    for name in [name for name in sys.modules if name.partition(".")[0] == "averaging"]:
        del sys.modules[name]


def records(size: int = 10) -> RecordDict:
    return RecordDict({"arrays": ArrayRecord({"w": Array(np.zeros(size, dtype=np.float32))})})


def job(folder: Path, *, seed: str | None = "0" * 16, size: int = 10, **options: str) -> Job:
    ref, data = make_bundle(AppFolder.read(APP))
    bundle = folder / "bundle"
    bundle.write_bytes(data)
    pack = folder / "pack"
    content = to_content(records(size), pack)
    return Job(
        command=replace(command(), content=content, bundle=ref, seed=seed),
        bundle=bundle,
        pack=pack if pack.exists() else None,
        state=None,
        node_config=options.get("node_config", "partition-id=3 num-partitions=4"),
        update=folder / "update",
        secret=options.get("secret", "s"),
    )


def arrays_of(
    result: Content | Failure, pack: Path | None = None
) -> np.ndarray[Any, np.dtype[Any]]:
    assert isinstance(result, Content), result
    return from_content(result, pack).array_records["arrays"]["w"].numpy()


def test_a_job_is_done_and_the_app_stays_loaded(tmp_path: Path) -> None:
    trainer = Trainer(tmp_path / "app")
    first = trainer.work(job(tmp_path))
    shutil.rmtree(tmp_path / "app")  # whoever loaded it again would not find it
    second = trainer.work(job(tmp_path))

    assert (10,) == arrays_of(first.result).shape == arrays_of(second.result).shape


def test_the_same_seed_gives_the_same_bits_and_another_does_not(tmp_path: Path) -> None:
    trainer = Trainer(tmp_path / "app")
    first, second = (arrays_of(trainer.work(job(tmp_path)).result) for _ in range(2))
    other = arrays_of(trainer.work(job(tmp_path, seed="1" * 16)).result)

    assert first.tobytes() == second.tobytes() != other.tobytes()


def test_without_a_seed_the_devices_own_secret_decides(tmp_path: Path) -> None:
    trainer = Trainer(tmp_path / "app")
    first = arrays_of(trainer.work(job(tmp_path, seed=None, secret="a")).result)  # noqa: S106 - no password
    other = arrays_of(trainer.work(job(tmp_path, seed=None, secret="b")).result)  # noqa: S106 - no password

    assert first.tobytes() != other.tobytes()


@pytest.mark.parametrize("numbers", [1, 100_000])
def test_the_state_goes_out_and_comes_in_again(numbers: int) -> None:
    from windflower.flower.worker import _read_state, _write_state  # noqa: PLC0415

    state = RecordDict(
        {
            "arrays": ArrayRecord({"w": Array(np.arange(numbers))}),
            "config": ConfigRecord({"name": "x", "key": b"\0", "many": [1.5]}),
        }
    )
    again = _read_state(_write_state(state))

    assert np.arange(numbers).tobytes() == again.array_records["arrays"]["w"].numpy().tobytes()
    assert state["config"] == again["config"]
    assert _write_state(RecordDict()) is None
    assert RecordDict() == _read_state(None)


def test_what_an_app_counts_in_its_state_is_carried_over(tmp_path: Path) -> None:
    trainer = Trainer(tmp_path / "app")
    first = trainer.work(job(tmp_path))
    second = trainer.work(replace(job(tmp_path), state=first.state))

    assert isinstance(second.result, Content)
    assert 2 == from_content(second.result, None).metric_records["metrics"]["rounds-seen"]


def test_a_large_answer_goes_to_the_update_file(tmp_path: Path) -> None:
    made = job(tmp_path, size=50_000)
    done = Trainer(tmp_path / "app").work(made)

    assert made.pack is not None
    assert isinstance(done.result, Content)
    assert done.result.inline is None
    assert (50_000,) == arrays_of(done.result, made.update).shape


def test_a_missing_node_config_is_the_apps_failure_with_its_traceback(tmp_path: Path) -> None:
    done = Trainer(tmp_path / "app").work(job(tmp_path, node_config=""))

    assert isinstance(done.result, Failure)
    assert 2 == done.result.code
    assert "KeyError: 'partition-id'" in done.result.reason
    assert "client_app.py" in done.result.reason
    assert "windflower" not in done.result.reason.partition("client_app.py")[0]


def test_a_pack_that_cannot_be_read_is_said_so(tmp_path: Path) -> None:
    made = job(tmp_path, size=50_000)
    assert made.pack is not None
    made.pack.write_bytes(b"rubbish" * 1000)
    done = Trainer(tmp_path / "app").work(made)

    assert isinstance(done.result, Failure)
    assert (3, True) == (done.result.code, "cannot be read" in done.result.reason)
